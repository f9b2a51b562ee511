"""Rows of every chat format, read or refused."""

import json

import pytest

from punie.data.load import Row, load_rows, unused_keys
from punie.util.errors import DataError, Problems
from punie.util.jsonl import SHOWN
from punie.util.paths import resource

USER, HI = {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}
GOOD = [USER, HI]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]


def write(folder, *rows, end="\n"):
    path = folder / "train.jsonl"
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"".join(line + end.encode() for line in lines))
    return path


def calling(arguments, **turn):
    """A turn that calls the tool, in OpenAI's form."""
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    return {"role": "assistant", **turn, "tool_calls": [call]}


@pytest.fixture
def read(tmp_path):
    """Reads one row, a list being its turns."""

    def load(row):
        (found,) = load_rows(write(tmp_path, {"messages": row} if isinstance(row, list) else row))
        return found

    return load


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_rows(tmp_path, end):
    """Rows come in order with their lines, whichever way lines end."""
    path = write(tmp_path, {"messages": GOOD}, {"messages": GOOD[1:]}, end=end)
    assert load_rows(path) == [Row(tuple(GOOD), 1), Row((GOOD[1],), 2)]


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}, {"content": []}])
@pytest.mark.parametrize("arguments", [{"city": "Rome"}, '{"city": "Rome"}'])
def test_a_call_needs_no_content(read, content, arguments):
    """Beside calls, content may be null, empty or missing; arguments are an object or its JSON text."""
    (_, turn) = read([USER, calling(arguments, **content)]).messages
    assert turn["content"] == ""
    assert [each["function"] for each in turn["tool_calls"]] == [
        {"name": "weather", "arguments": {"city": "Rome"}}
    ]


DEVELOPER = {"role": "developer", "content": "Be short."}


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ([{**USER, "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]}, HI], GOOD),
        ([DEVELOPER, *GOOD], [DEVELOPER, *GOOD]),
        ([{**USER, "name": "ann"}, HI], [{**USER, "name": "ann"}, HI]),
        ([USER, {**HI, "reasoning_content": "Easy."}], [USER, {**HI, "reasoning_content": "Easy."}]),
        ({"system": "Be short.", "messages": GOOD}, [{"role": "system", "content": "Be short."}, *GOOD]),
        ({"prompt": "Hello", "completion": "Hi"}, GOOD),
        ({"prompt": [USER], "completion": [HI]}, GOOD),
        ({"prompt": [USER], "completion": "Hi"}, GOOD),
        ({"system": "S", "prompt": "Hello", "completion": "Hi"}, [{"role": "system", "content": "S"}, *GOOD]),
    ],
)  # fmt: skip
def test_turns(read, row, messages):
    """Parts, developer turns, names, thoughts, a top-level system and pairs all become turns."""
    assert read(row).messages == tuple(messages)


def test_a_result_answers_its_call(read):
    """Ids become the nine letters that every template takes, the same in the call and in its result."""
    result = {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": "Sunny."}
    _, call, answer, _ = read([USER, calling({}), result, HI]).messages
    assert answer == {**result, "tool_call_id": call["tool_calls"][0]["id"]}
    assert len(answer["tool_call_id"]) == 9


def test_function_calls_of_the_old_api(read):
    """function_call becomes a call, and the function role its result."""
    called = {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}}
    _, call, answer, _ = read(
        [USER, called, {"role": "function", "name": "weather", "content": "1"}, HI]
    ).messages
    (made,) = call["tool_calls"]
    assert made["function"] == {"name": "weather", "arguments": {}}
    assert (answer["role"], answer["tool_call_id"]) == ("tool", made["id"])


@pytest.mark.parametrize("tools", [TOOLS, json.dumps(TOOLS), [TOOLS[0]["function"]]])
@pytest.mark.parametrize("key", ["tools", "functions"])
def test_tools_of_the_row(read, key, tools):
    """A row's tools, or functions, are a list in OpenAI's schema, wrapped or bare, or its JSON text."""
    (tool,) = read({"messages": GOOD, key: tools}).tools
    assert (tool.name, tool.schema) == ("weather", SCHEMA)


def test_options_of_the_template(read):
    """chat_template_kwargs are the row's options; null is none."""
    row = {"messages": GOOD, "chat_template_kwargs": {"enable_thinking": False}, "tools": None}
    assert read(row).options == {"enable_thinking": False}
    assert read({"messages": GOOD, "chat_template_kwargs": None}).options == {}


@pytest.mark.parametrize("key", [{"weight": 0}, {"train": False}, {"training": False}, {"loss": False}])
def test_silent_turns(read, key):
    """weight 0 and train false take the loss from a turn, the last one or any."""
    row = read([USER, {**HI, **key}, USER, {**HI, "weight": 1}])
    assert (row.silent, row.turns(every=True), row.turns(every=False)) == ({1}, [3], [3])
    assert read([USER, HI, USER, {**HI, **key}]).turns(every=False) == []


def test_text(read):
    """A text is an example without turns."""
    row = read({"text": "Once.", "id": 3})
    assert (row.text, row.messages, row.unused) == ("Once.", (), ("id",))


def test_unused_keys_are_counted(tmp_path):
    """Keys that nothing reads are counted over the rows, those of turns under messages."""
    turns = [USER, {**HI, "refusal": None}]
    rows = load_rows(
        write(tmp_path, {"messages": turns, "id": 1}, {"messages": GOOD, "id": 2}, {"messages": GOOD})
    )
    assert unused_keys(rows) == {"id": 2, "messages.refusal": 1}


IMAGE = {"type": "image_url", "image_url": {"url": "a.png"}}
SHAREGPT = [{"from": "human", "value": "Hi"}]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (b"{nope", "The line is not JSON."),
        (b"", "The line is empty."),
        (b"[]", "The line is not a JSON object."),
        (b"1" * 5000, "The line is not JSON that can be read."),
        (b"[" * 100_000, "The line is not JSON that can be read."),
        (b'{"messages": "\xff"}', "The line is not valid UTF-8."),
        (b"\xef\xbb\xbf{}", "The file begins with a byte order mark."),
        ({"input": "x"}, "The row has no 'messages'."),
        ({"messages": None}, "The row has no 'messages'."),
        (
            {"conversations": SHAREGPT},
            "The row has no 'messages'; 'conversations' is ShareGPT's: rename it to messages, from to role "
            "(human: user, gpt: assistant), value to content.",
        ),
        (
            {"instruction": "x", "output": "y"},
            "The row has no 'messages'; 'instruction' is Alpaca's: make instruction and input the prompt, "
            "and output the completion.",
        ),
        ({"messages": []}, "'messages' is not a list of turns."),
        ({"messages": "x"}, "'messages' is not a list of turns."),
        ({"messages": 0, "system": "x"}, "'messages' is not a list of turns."),
        ({"messages": ["x", *GOOD]}, "Turn 1 is not an object."),
        ([{"role": "human", "content": "x"}, *GOOD], "Turn 1 has an unknown role."),
        ([{"content": "x"}, *GOOD], "Turn 1 has no role."),
        ([{"role": ["user"], "content": "x"}, *GOOD], "Turn 1 has an unknown role."),
        ([{"role": "user"}, *GOOD], "The content of turn 1 is missing."),
        ([{"role": "user", "content": None}, *GOOD], "The content of turn 1 is not text."),
        ([USER, {"role": "assistant", "content": None}], "The content of turn 2 is not text."),
        ([{**USER, "content": [IMAGE]}, HI], "Turn 1 has a part that is not text."),
        ([{"role": "user", "content": "\ud800"}, *GOOD], "The content of turn 1 is not valid text."),
        (
            [USER, {**HI, "weight": 0.5}],
            "'weight' of turn 2 is neither 0 nor 1, and loss has no other weights.",
        ),
        (
            [USER, {**HI, "train": "no"}],
            "'train' of turn 2 is neither 0 nor 1, and loss has no other weights.",
        ),
        ({"messages": GOOD, "images": ["a.png"]}, "Nothing reads 'images': punie reads text alone."),
        (
            {"messages": GOOD, "label": False},
            "'label' says that the example must not be learned; leave it out.",
        ),
        (GOOD[:1], "The last turn is not the assistant's, so there is nothing to learn."),
        ([USER, calling("{nope")], "Turn 2: the arguments of 'weather' are not JSON."),
        (
            [USER, calling('{"a":' * 900 + "1" + "}" * 900)],
            "Turn 2: the arguments of 'weather' are not JSON.",
        ),
        ([USER, calling("[1]")], "Turn 2: the arguments of 'weather' are not an object."),
        ([USER, calling({"a": "\ud800"})], "Turn 2: the arguments of 'weather' are not valid text."),
        (
            [USER, {**HI, "tool_calls": [{"function": {"arguments": {}}}]}],
            "Turn 2 has a call without a name.",
        ),
        ([USER, {**HI, "tool_calls": {"name": "f"}}], "'tool_calls' of turn 2 is not a list."),
        ([USER, {**calling({}), "function_call": "f"}], "Turn 2 has a call without a name."),
        ([{**USER, "function_call": {"name": "f"}}, HI], "Turn 1 has calls and is not the assistant's."),
        ({"messages": GOOD, "tools": "[nope"}, "The tools are not JSON."),
        ({"messages": GOOD, "tools": {"name": "f"}}, "The tools are not a list."),
        ({"messages": GOOD, "tools": [{"name": "\ud800"}]}, "The tools are not valid text."),
        ({"messages": GOOD, "tools": [{"function": {}}]}, "The tool has no name."),
        (
            {"messages": GOOD, "tools": [{"name": "f", "parameters": {"type": "array"}}]},
            "The parameters are not the schema of an object.",
        ),
        ({"messages": GOOD, "chat_template_kwargs": []}, "'chat_template_kwargs' is not an object."),
        ({"messages": GOOD, "system": 3}, "'system' is not text."),
        ({"prompt": "x", "completion": None}, "'completion' is neither text nor a list of turns."),
        ({"text": " \n"}, "The text is empty, so there is nothing to learn."),
        ({"text": "\ud800"}, "The text is not valid."),
    ],
)
def test_wrong_row(tmp_path, row, what):
    """Each fault of a row is named with its file and line."""
    row = {"messages": row} if isinstance(row, list) else row
    path = write(tmp_path, row) if isinstance(row, bytes) else write(tmp_path, {"messages": GOOD}, row)
    with pytest.raises(Problems) as raised:
        load_rows(path)
    (problem,) = raised.value.problems
    assert problem.what == what
    assert str(problem.where).split(", ")[0] == f"{path}:{1 if isinstance(row, bytes) else 2}"


def test_many_problems_are_counted(tmp_path):
    """The first twenty problems are listed and the rest are counted."""
    with pytest.raises(Problems) as raised:
        load_rows(write(tmp_path, *[{"messages": []}] * 1050))
    assert len(raised.value.problems) == SHOWN + 1
    assert "1,030 more" in str(raised.value)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.touch()])
def test_nothing_there(tmp_path, make):
    """A missing file, a folder in its place and an empty file each say which key to set or what to run."""
    path = tmp_path / "train.jsonl"
    make(path)
    with pytest.raises(DataError, match="punie data build") as raised:
        load_rows(path)
    assert "data.path" in str(raised.value)


def test_shipped_data():
    """The shipped data set loads and has the published number of rows."""
    counts = [len(load_rows(resource(f"data/code_mode/{split}.jsonl"))) for split in ("train", "valid")]
    assert counts == [1159, 123]
