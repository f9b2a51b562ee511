import json
from collections import Counter

import pytest

from punie.evals.suite import Expectation, Sample, load_suite
from punie.formats.tools import CATEGORIES, read_tools
from punie.util.errors import DataError, Problems
from punie.util.paths import resource

ITEM = {
    "id": "text-01",
    "category": "text_tools",
    "prompt": "Show me src/app.py.",
    "expect": [{"tool": "read_file", "arguments": {"path": "src/app.py"}}],
    "match": "any",
    "max_tokens": 96,
}


def write(path, *items, end="\n"):
    suite = path / "suite.jsonl"
    lines = [item if isinstance(item, str) else json.dumps(item) for item in items]
    suite.write_bytes("".join(line + end for line in lines).encode())
    return suite


def problems_of(path):
    with pytest.raises(Problems) as raised:
        load_suite(path)
    return raised.value.problems


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_load(tmp_path, end):
    """An item becomes a sample with all its fields, whichever way lines end."""
    expect = (Expectation("read_file", {"path": "src/app.py"}),)
    sample = Sample("text-01", "text_tools", "Show me src/app.py.", expect, "any", 96)
    assert load_suite(write(tmp_path, ITEM, end=end)) == [sample]


def test_defaults(tmp_path):
    """Match, token limit and arguments may be left out."""
    item = {key: ITEM[key] for key in ("id", "category", "prompt")} | {"expect": [{"tool": "git_status"}]}
    (sample,) = load_suite(write(tmp_path, item))
    assert (sample.match, sample.max_tokens, sample.expect) == ("any", None, (Expectation("git_status"),))


AREA = {"name": "area", "parameters": {"type": "object", "properties": {"width": {"type": "number"}}}}
USER = {"role": "user", "content": "Wide?"}


def test_tools_of_ones_own(tmp_path):
    """Any category; an item's tools win over the run's, and those over the embedded ones."""
    own = {
        "id": "a",
        "category": "maths",
        "prompt": "?",
        "expect": [{"tool": "area", "arguments": {"width": 3}}],
    }
    lines = [{**own, "tools": [AREA]}, {**own, "id": "b"}]
    first, second = load_suite(
        write(tmp_path, *lines), read_tools([{**AREA, "description": "The run's."}], "x")
    )
    assert (first.category, first.known["area"].description) == ("maths", "")
    assert second.known["area"].description == "The run's."
    with pytest.raises(Problems, match="Unknown tool: 'area'"):
        load_suite(write(tmp_path, own))


def test_a_conversation(tmp_path):
    """An item may go on with a conversation: calls in any form, its prompt the user's last turn."""
    call = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "area", "arguments": "{}"}}],
    }
    item = {
        "id": "a",
        "category": "c",
        "messages": [USER, call, {"role": "tool", "content": "3"}],
        "expect": [],
    }
    (sample,) = load_suite(write(tmp_path, item))
    assert (sample.prompt, sample.expect, len(sample.messages)) == ("Wide?", (), 3)
    assert sample.messages[1]["tool_calls"][0]["function"]["arguments"] == {}


@pytest.mark.parametrize(
    ("messages", "what"),
    [
        ([], "The field 'messages' is wrong."),
        (["x"], "The field 'messages' is wrong."),
        ([{"role": "human", "content": "x"}], "Turn 1 has an unknown role."),
        (
            [USER, {"role": "assistant", "content": "3"}],
            "The last turn is the assistant's, so there is nothing to respond to.",
        ),
    ],
)
def test_wrong_conversation(tmp_path, messages, what):
    """Turns of an item are checked as those of training data, and the assistant's is the next one."""
    (problem,) = problems_of(
        write(tmp_path, {"id": "a", "category": "c", "messages": messages, "expect": []})
    )
    assert problem.what == what


UNIT = {"type": "object", "properties": {"unit": {"enum": ["celsius", "fahrenheit"]}}}


def expect(tool, **arguments):
    return {"expect": [{"tool": tool, "arguments": arguments}]}


@pytest.mark.parametrize(
    ("change", "what", "expected"),
    [
        ({"promt": "x"}, "Unknown field: 'promt'.", "'prompt', perhaps"),
        ({"category": 3}, "The field 'category' is wrong.", "some text"),
        ({"prompt": "  "}, "The field 'prompt' is wrong.", "some text"),
        ({"match": "both"}, "The field 'match' is wrong.", "one of any, all, exactly, in_order"),
        ({"max_tokens": 0}, "The field 'max_tokens' is wrong.", "a whole number of tokens, at least 1"),
        ({"max_tokens": True}, "The field 'max_tokens' is wrong.", "a whole number of tokens, at least 1"),
        (
            {"expect": {}},
            "The field 'expect' is wrong.",
            'a list such as [{"tool": "git_status", "arguments": {}}]; [] for no call',
        ),
        (
            expect("git_log", count={"any_of": [3, "4"]}),
            "The argument 'count' of git_log has the wrong type.",
            "int",
        ),
        (
            expect("git_log", count={"any_of": []}),
            "The acceptable values of the argument 'count' of git_log are wrong.",
            '{"any_of": [3, 4]}; with "optional": true, it may also be left out',
        ),
        (
            expect("git_log", count={"any_of": [3], "optional": "yes"}),
            "The acceptable values of the argument 'count' of git_log are wrong.",
            '{"any_of": [3, 4]}; with "optional": true, it may also be left out',
        ),
        (
            expect("git_log", count={"any_of": ["3"], "optional": True}),
            "The argument 'count' of git_log has the wrong type.",
            "int",
        ),
        (
            expect("read_file", path={"any_of": ["a"], "optional": True}),
            "The argument 'path' of read_file is optional here, but its schema requires it.",
            None,
        ),
        (
            {"expect": [{"tool": "git_status"}, None]},
            "The item expects a call and none.",
            "calls, or [] for none",
        ),
        ({"messages": [USER]}, "The item has a prompt and messages.", "one of the two"),
        (
            {"tools": "[nope"},
            "The tools are not JSON.",
            'a list: [{"type": "function", "function": {"name": …, "parameters": {…}}}, …]',
        ),
        (
            expect("f", unit="kelvin") | {"tools": [{"name": "f", "parameters": UNIT}]},
            "The argument 'unit' of f is not what its schema allows: "
            '"kelvin" is not one of "celsius" or "fahrenheit".',
            None,
        ),
        ({"tools": [{"name": "f"}]}, "Unknown tool: 'read_file'.", "one of f"),
        (
            {"tools": [{"name": "f", "parameters": {"type": "string"}}]},
            "The parameters are not the schema of an object.",
            '{"type": "object", "properties": {…}, "required": […]}',
        ),
        ({"expect": ["read_file"]}, "An expected call names no tool.", '{"tool": …}'),
        (expect("readfile"), "Unknown tool: 'readfile'.", "'read_file', perhaps"),
        (
            expect("read_file", pth="a"),
            "Unknown argument of read_file(path: str) -> FileContent: 'pth'.",
            "'path', perhaps",
        ),
        (expect("git_log", count="3"), "The argument 'count' of git_log has the wrong type.", "int"),
        (expect("git_log", count=True), "The argument 'count' of git_log has the wrong type.", "int"),
        (
            expect("run_command", args="x"),
            "The argument 'args' of run_command has the wrong type.",
            "list[str]",
        ),
        (
            {"expect": [{"tool": "read_file", "arguments": []}]},
            "The field 'arguments' is wrong.",
            "an object of argument names and values",
        ),
    ],
)
def test_wrong_item(tmp_path, change, what, expected):
    """Each fault of an item is named with its file, its line and what would be right."""
    suite = write(tmp_path, ITEM | {"id": "other"}, ITEM | change)
    (problem,) = problems_of(suite)
    assert (problem.what, problem.where.split(", ")[0], problem.expected) == (what, f"{suite}:2", expected)


@pytest.mark.parametrize("field", ["id", "category", "prompt", "expect"])
def test_missing_field(tmp_path, field):
    """A field that every item needs is named when it is missing."""
    (problem,) = problems_of(write(tmp_path, {key: value for key, value in ITEM.items() if key != field}))
    assert problem.what == f"The field '{field}' is missing."


def test_all_problems_at_once(tmp_path):
    """One reading reports the problems of all lines: bad JSON, a duplicate id and two faults of one item."""
    suite = write(tmp_path, ITEM, "{nope", ITEM, ITEM | {"id": "x", "match": 1, "max_tokens": -1})
    found = [(problem.where.rpartition(":")[2], problem.what) for problem in problems_of(suite)]
    assert found == [
        ("2", "The line is not JSON."),
        ("3", "The line repeats another."),
        ("4", "The field 'match' is wrong."),
        ("4", "The field 'max_tokens' is wrong."),
    ]


def test_no_call_and_optional_arguments(tmp_path):
    """`exactly` and `in_order` are loaded as they stand, with and without calls."""
    optional = {"count": {"any_of": [3], "optional": True}}
    calls = [{"tool": "git_status"}, {"tool": "git_log", "arguments": optional}]
    lines = [
        {**ITEM, "id": match, "match": match, "expect": each}
        for match, each in (("exactly", []), ("in_order", calls))
    ]
    none, both = load_suite(write(tmp_path, *lines))
    assert (none.match, none.expect) == ("exactly", ())
    assert (both.match, both.expect[1]) == ("in_order", Expectation("git_log", optional))


FIRST = {"prompt": "Status?", "expect": [{"tool": "git_status"}]}
RESULT = {"tool": "git_status", "content": "clean"}
FOLLOWED = {**FIRST, "results": [RESULT], "reply": "Clean."}
LAST = {"prompt": "Thanks!", "expect": [], "max_tokens": 9}
TALK = {"id": "talk", "category": "c"}
PATH = {"type": "object", "properties": {"path": {"type": "string"}}}
OWN = [{"name": "git_status"}, {"name": "read_file", "parameters": PATH}]


def test_turns(tmp_path):
    """A conversation is its first turn, with the others behind it; a result stands with its call, of several
    calls of a tool in their order."""
    reads = [{"tool": "read_file", "arguments": {"path": each}} for each in "ab"]
    results = [{"tool": "read_file", "content": "A"}, RESULT, {"tool": "read_file", "content": "B"}]
    first = {
        "messages": [USER, {"role": "assistant", "content": "Yes."}, USER],
        "expect": [{"tool": "git_status"}, *reads],
        "match": "all",
        "results": results,
        "reply": "Read.",
    }
    (talk,) = load_suite(write(tmp_path, {**TALK, "turns": [first, FOLLOWED, LAST], "tools": OWN}))
    assert [(turn.prompt, turn.results, turn.reply) for turn in talk.turns] == [
        ("Wide?", ("clean", "A", "B"), "Read."), ("Status?", ("clean",), "Clean."), ("Thanks!", (), ""),
    ]  # fmt: skip
    assert (len(talk.messages), talk.match, talk.later[1].max_tokens) == (3, "all", 9)
    assert all((turn.id, turn.category, turn.tools) == ("talk", "c", talk.tools) for turn in talk.turns)
    assert [name for name, _ in talk.named_turns] == ["talk", "talk, turn 2", "talk, turn 3"]


@pytest.mark.parametrize(
    ("turns", "place", "what"),
    [
        (
            [{**FOLLOWED, "results": [RESULT, {"tool": "git_log", "content": ""}]}, LAST],
            ", turn 1",
            "A recorded result belongs to no expected call of its turn: 'git_log'.",
        ),
        (
            [{**FOLLOWED, "results": [RESULT, RESULT]}, LAST],
            ", turn 1",
            "A recorded result belongs to no expected call of its turn: 'git_status'.",
        ),
        (
            [FIRST, LAST],
            ", turn 1",
            "An expected call has no recorded result, and a turn follows: 'git_status'.",
        ),
        ([FOLLOWED, FOLLOWED], ", turn 2", "The last turn has 'results', which no turn follows."),
        (
            [{**LAST, "reply": "x"}, LAST],
            ", turn 1",
            "The turn has a reply and no expected call: the model's own response is the reply.",
        ),
        (
            [{**FOLLOWED, "results": [{"tool": "git_status"}]}, LAST],
            ", turn 1",
            "The field 'results' is wrong.",
        ),
        ([{**FOLLOWED, "reply": 3}, LAST], ", turn 1", "The field 'reply' is wrong."),
        ([FOLLOWED, {"expect": []}], ", turn 2", "The field 'prompt' is missing."),
        ([FOLLOWED, {**LAST, "match": "x"}], ", turn 2", "The field 'match' is wrong."),
        ([FOLLOWED, {"prompt": "x"}], ", turn 2", "The field 'expect' is missing."),
        ([FOLLOWED, {**LAST, "expect": [{"tool": "x"}]}], ", turn 2", "Unknown tool: 'x'."),
        ([FOLLOWED, {"messages": [USER], "expect": []}], ", turn 2", "Unknown field of a turn: 'messages'."),
        ([FIRST], "", "The field 'turns' is wrong."),
        ([FOLLOWED, None], "", "The field 'turns' is wrong."),
        ([LAST] * 101, "", "The field 'turns' is wrong."),
    ],
)
def test_wrong_turns(tmp_path, turns, place, what):
    """A fault of a conversation is named with its line and its turn."""
    path = write(tmp_path, {**TALK, "turns": turns})
    found = {(problem.what, problem.where) for problem in problems_of(path)}
    assert (what, f"{path}:1{place}") in found
    assert len(found) == 1 + what.startswith("The last turn has")  # results, and a reply


@pytest.mark.parametrize(
    ("beside", "what"),
    [
        ({"prompt": "x"}, "The item has turns, and 'prompt' beside them."),
        ({"expect": []}, "The item has turns, and 'expect' beside them."),
        ({"rules": "bfcl"}, "BFCL's rules are for items of one turn."),
    ],
)
def test_turns_stand_alone(tmp_path, beside, what):
    """What a turn says is not said beside the turns."""
    (problem,) = problems_of(write(tmp_path, {**TALK, "turns": [LAST, LAST], **beside}))
    assert problem.what == what


def test_the_suites_of_conversations():
    """turns12 has 12 conversations of 2 to 4 turns, one of which asks for two calls; in four a turn calls
    nothing. The native ones are the same with 3 to 6 tools."""
    plain, native = (
        load_suite(resource(f"data/suites/{name}.jsonl")) for name in ("turns12", "turns12_native")
    )
    assert len(plain) == len(native) == 12
    assert {len(item.turns) for item in plain} == {2, 3, 4}
    expected = [[len(turn.expect) for turn in item.turns] for item in plain]
    assert sum(2 in each for each in expected) == 2
    assert sum(0 in each for each in expected) == 4
    for one, other in zip(plain, native, strict=True):
        assert [(t.prompt, t.expect, t.results, t.reply) for t in one.turns] == [
            (t.prompt, t.expect, t.results, t.reply) for t in other.turns
        ]
        assert 3 <= len(other.tools) <= 6


def test_empty_and_missing(tmp_path):
    """An empty suite and a missing one are refused in words."""
    with pytest.raises(DataError, match="The suite is empty"):
        load_suite(write(tmp_path))
    with pytest.raises(DataError, match="cannot be read"):
        load_suite(tmp_path / "none.jsonl")


def test_the_suites_of_no_call():
    """abstain60 has 30 prompts that need no tool, 20 without their tool and 10 look-alikes; mixed is core27
    and abstain60. The native ones are the same with 3 to 6 tools, a look-alike with its own."""
    core, plain, mixed, native, native27, mixed_native = (
        load_suite(resource(f"data/suites/{name}.jsonl"))
        for name in ("core27", "abstain60", "mixed", "abstain60_native", "native27", "mixed_native")
    )
    sizes = Counter((sample.category, len(sample.expect)) for sample in plain)
    assert sizes == {("no_tool", 0): 30, ("missing_tool", 0): 20, ("lookalike", 0): 10}
    assert mixed == core + plain
    assert mixed_native == native27 + native
    assert [sample.prompt for sample in native] == [sample.prompt for sample in plain]
    assert {len(sample.tools) for sample in native} <= {3, 4, 5, 6}
    for sample in native[-10:]:
        assert sample.id.removeprefix("lookalike-") in sample.known


@pytest.mark.parametrize(("name", "count"), [("core27", 1), ("wide270", 10)])
def test_shipped_suites(name, count):
    """The shipped suites load and have the categories' published sizes."""
    samples = load_suite(resource(f"data/suites/{name}.jsonl"))
    sizes = [sum(sample.category == category for sample in samples) for category in CATEGORIES]
    assert sizes == [count * size for size in (3, 3, 5, 3, 3, 9, 1)]
