import json
import os

import numpy as np
import pytest

from punie import formats
from punie.data.load import Row, check_row, read_row
from punie.data.overlap import SIMILAR, Request, find_overlaps
from punie.data.rows import Check
from punie.data.similar import PIECE, VALUES, nearest, normal, signature
from punie.data.validate import check
from punie.evals.suite import load_suite
from punie.formats.chat import Chat
from punie.formats.code_mode import FORMAT, wrap
from punie.formats.tools import TOOLS as EMBEDDED
from punie.formats.tools import own_tools
from punie.util.errors import DataError, PunieError
from punie.util.paths import resource
from tests.unit.formats.templates import TEMPLATES, tokenizer
from tests.unit.formats.templates import turns as template

SHAPE = Check(FORMAT)
"""The check without a tokenizer, as of a model that is not here."""
PLAIN = template("{{- '' }}")
"""A template that writes every turn, and no call."""


def turns(answer, request="Show me src/app.py", system="You help."):
    roles = {"system": system, "user": request, "assistant": answer}
    return [{"role": role, "content": text} for role, text in roles.items()]


def write(folder, name="train", *rows):
    path = folder / f"{name}.jsonl"
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps({"messages": row})) + "\n" for row in rows)
    )
    return path


def check_of(template=PLAIN, form="code_mode", **options):
    """A check by a template of ours and the tiny model's tokenizer."""
    loaded = tokenizer(template)
    found = formats.build(form, loaded)
    return Check(found, Chat(loaded, found), **options)


@pytest.fixture(scope="module")
def plain():
    return check_of()


def found(checks, messages):
    findings = checks.row(Row(tuple(messages), 7)).findings
    return [(each.severity, each.kind) for each in findings]


@pytest.mark.parametrize(
    "answer",
    [
        "Hello",
        "`read_file()` wants a path.",
        wrap("result = read_file('a')\nprint(result.content)"),
        wrap("read_file(*paths)\nread_file(**options)"),
        wrap("def read_file():\n    pass\nread_file()"),
        wrap("for check in (typecheck, ruff_check):\n    check('src')"),
        wrap("from json import dumps as text\nprint(text(git_status().files))"),
        wrap("run_command('ls', ['-l'], cwd='src')"),
        wrap("import re\nre.match('\\d', 'x')"),
    ],
)
def test_good_rows(plain, answer):
    """What is right is not complained of."""
    assert found(plain, turns(answer)) == []


@pytest.mark.parametrize(
    ("answer", "finding"),
    [
        (" \n", "no supervised tokens"),
        ("<tool_call>read_file('a')</tool_call>", "malformed wrapper"),
        (wrap("x")[:-3], "malformed wrapper"),
        (wrap("x").removeprefix("<tool_call>"), "malformed wrapper"),
        (wrap("read_file("), "code does not parse"),
        (wrap("x = '\x00'"), "code does not parse"),
        (wrap("(" * 1000), "code does not parse"),
        (wrap("readfile('a')"), "unknown tool"),
        (wrap("x").replace("execute_code", "read_file"), "unknown tool"),
        (wrap("read_file()"), "wrong arguments"),
        (wrap("read_file('a', 'b')"), "wrong arguments"),
        (wrap("print(git_log(count=3, branch='main').commits)"), "wrong arguments"),
    ],
)
def test_bad_answers(plain, answer, finding):
    """Each fault of an answer is found once, and nothing else with it."""
    assert found(plain, turns(answer)) == [("error", finding)]


def test_doubtful_turns(plain):
    """Empty turns ahead of the answer and a late system turn are warnings."""
    messages = [*turns("Hello", request=""), *turns("Hello")]
    assert found(plain, messages) == [("warning", "empty turn"), ("warning", "turn order")]


TALK = turns("Hello there, my friend")
WHOLE = check_of().row(Row(tuple(TALK), 1)).examples[0]
LENGTH, START = len(WHOLE.tokens), WHOLE.spans[0][0]


@pytest.mark.parametrize(
    ("limit", "too_long", "finding", "kept"),
    [
        (LENGTH, "refuse", [], [LENGTH]),
        (LENGTH - 1, "truncate", [("warning", "over-long")], [LENGTH - 1]),
        (START + 1, "truncate", [("warning", "over-long")], [START + 1]),
        (LENGTH - 1, "drop", [("warning", "dropped")], []),
        (LENGTH - 1, "refuse", [("error", "too long")], []),
        (START, "truncate", [("error", "no supervised tokens")], []),
        (3, "drop", [("warning", "dropped")], []),
        (3, "refuse", [("error", "too long")], []),
    ],
)
def test_length(limit, too_long, finding, kept):
    """A row over the limit is cut, left out or refused; one whose response is lost is an error."""
    checked = check_of(limit=limit, too_long=too_long).row(Row(tuple(TALK), 7))
    assert [(each.severity, each.kind) for each in checked.findings] == finding
    assert [len(each.tokens) for each in checked.examples] == kept
    assert all(end <= limit for each in checked.examples for _, end in each.spans)
    assert checked.length == LENGTH


def test_template_refuses():
    """A row that the chat template refuses is an error in the template's words."""
    checks = check_of("{{- raise_exception('after the user must come the assistant') }}")
    (finding,) = checks.row(Row(tuple(turns("Hello")), 7)).findings
    assert finding.kind == "cannot be rendered"
    assert "after the user" in finding.what
    assert finding.where == "line 7"


CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"name": "weather", "description": "The weather of a city.", "parameters": CITY}]
ONE = TEMPLATES["object"].replace("m.tool_calls or []", "(m.tool_calls or [])[:1]")
"""A template that writes one call of several."""


def calls(*arguments, name="weather", **row):
    """A row whose assistant makes calls."""
    made = [{"function": {"name": name, "arguments": each}} for each in arguments]
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": None, "tool_calls": made}]
    row = {"messages": messages, "tools": TOOLS, **row}
    assert not list(check_row(row, "here"))
    return read_row(row, 1)


ROME = {"city": "Rome"}


@pytest.mark.parametrize(
    ("template", "row", "kinds"),
    [
        (TEMPLATES["object"], calls(ROME), []),
        (TEMPLATES["tagged"], calls(ROME, {"city": "Oslo"}), []),
        (TEMPLATES["tagged"], calls('{"city": "Rome"}'), []),
        (TEMPLATES["object"], calls(ROME, name="wether"), ["unknown tool"]),
        (TEMPLATES["object"], calls(ROME, tools=None), ["unknown tool"]),
        (TEMPLATES["object"], calls({"city": 3}), ["wrong arguments"]),
        (TEMPLATES["object"], calls({"town": "Rome"}), ["wrong arguments"]),
        (TEMPLATES["object"], calls({}), ["wrong arguments"]),
        (ONE, calls(ROME), []),
        (ONE, calls(ROME, {"city": "Oslo"}), ["calls not readable"]),
        (PLAIN.replace("tools | tojson", "tools[:0] | tojson"), calls(ROME), []),
        (
            TEMPLATES["object"].replace("tools | tojson", "tools[:1] | tojson"),
            calls(ROME, tools=[*TOOLS, {"name": "unseen"}]),
            ["tool not shown"],
        ),
        (
            TEMPLATES["object"].replace(
                "tools | tojson", "tools | tojson | replace('The weather of a city.', '')"
            ),
            calls(ROME),
            ["tool not shown"],
        ),
        (
            TEMPLATES["object"],
            calls(ROME, tools=[{**TOOLS[0], "description": 'Caf\u00e9 "weather"\n  <b>.'}]),
            [],
        ),
    ],
)
def test_calls(template, row, kinds):
    """Calls are checked by the row's own tools, and by what comes back of them from the template."""
    assert [each.kind for each in check_of(template, "native").row(row).findings] == kinds


@pytest.mark.parametrize(
    ("row", "kinds"),
    [
        (calls(ROME, tools=None), ["undeclared tool"]),
        (calls('{"city": 3}', tools=None), ["undeclared tool"]),
        (calls(ROME, name="wether"), ["unknown tool"]),
    ],
)
def test_calls_of_tools_that_nothing_declares(row, kinds):
    """Where no example declares tools, calls are trained on with a warning; an example's own tools count."""
    checked = check_of(TEMPLATES["object"], "native", declared=False).row(row)
    assert [each.kind for each in checked.findings] == kinds
    trained = [example.text[a:b] for example in checked.examples for a, b in example.ranges]
    assert bool(trained) == (kinds == ["undeclared tool"])
    assert all("weather" in each for each in trained)


def test_a_call_in_another_spelling():
    """A call that the format cannot read is an error that shows how the format writes calls."""
    checks = check_of(
        TEMPLATES["object"], "native", tools={tool.name: tool for tool in own_tools({"tools": TOOLS})}
    )
    (finding,) = checks.row(Row(tuple(turns("<tool_call>\nweather(city='Rome')\n</tool_call>")), 7)).findings
    assert finding.kind == "unreadable call"
    assert "its calls begin with '<tool_call>" in finding.what


def test_values_of_undeclared_tools_are_compared_as_text():
    """Without a schema a value of tagged calls has no type, so a digit may be read as a number."""
    checks = check_of(TEMPLATES["tagged"], "native", declared=False)
    (finding,) = checks.row(calls({"code": "5"}, {"code": 5}, tools=None)).findings
    assert finding.kind == "undeclared tool"


def test_what_a_row_gives_in_vain():
    """An option that the template does not use and a result of no call, with an id or not, are warnings."""
    result = {"role": "tool", "tool_call_id": "call00009", "content": "Sunny."}
    bare = read_row({"messages": [*turns("Hello"), {"role": "tool", "content": "1"}, turns("Hello")[-1]]}, 1)
    assert [each.kind for each in check_of(form="native").row(bare).findings] == ["stray result"]
    talk = [*turns("Hello"), result, turns("Hello")[-1]]
    row = Row(tuple(talk), 1, options={"enable_thinkin": False})
    assert [each.kind for each in check_of(form="native").row(row).findings] == [
        "stray result",
        "unused option",
    ]


def test_tools_of_the_run_serve_rows_without_their_own():
    """Where a row declares no tools, those of the run count, and the template shows them."""
    tools = {tool.name: tool for tool in own_tools({"tools": TOOLS})}
    checked = check_of(TEMPLATES["object"], "native", tools=tools).row(calls(ROME, tools=None))
    assert checked.findings == []
    assert "The weather of a city." in checked.examples[0].text


def test_calls_are_code_in_code_mode(plain):
    """code_mode does not render tool_calls, so they are an error that names the format to set."""
    (finding,) = plain.row(calls(ROME)).findings
    assert finding.kind == "tool calls"
    assert "Set format=native." in finding.what


def test_a_token_without_an_embedding():
    """A token that the model has no row for is an error, whose id and text are shown."""
    used = max(WHOLE.tokens)
    (finding,) = check_of(vocabulary=used).row(Row(tuple(TALK), 1)).findings
    assert (finding.kind, f"({used})" in finding.what) == ("token out of vocabulary", True)
    assert check_of(vocabulary=used + 1).row(Row(tuple(TALK), 1)).findings == []


def test_a_control_token_in_the_content(plain):
    """Content that the tokenizer reads as a control token is a warning."""
    assert found(plain, turns("Hello", request="Say <|im_end|>.")) == [("warning", "control token")]


def test_a_response_that_never_ends():
    """A template that does not end the response with a token that stops generation is a warning."""
    assert found(check_of(PLAIN.replace("<|im_end|>", "")), turns("Hello")) == [("warning", "never ends")]


@pytest.mark.parametrize(
    ("silent", "every_turn", "kinds"),
    [
        ({3}, False, ["no supervised tokens"]),
        ({3}, True, []),
        ({1, 3}, True, ["no supervised tokens"]),
        ({1}, False, []),
    ],
)
def test_silent_turns(silent, every_turn, kinds):
    """A row is an error only if weight 0 leaves no turn with loss."""
    talk = turns("One.")[1:] + turns("Two.")[1:]
    row = Row(tuple(talk), 1, silent=frozenset(silent))
    checked = check_of(every_turn=every_turn).row(row)
    assert [each.kind for each in checked.findings] == kinds
    learned = {example.text[a:b] for example in checked.examples for a, b in example.ranges}
    assert learned == (set() if kinds else {("One." if 3 in silent else "Two.") + "<|im_end|>\n"})


def test_the_prompt_can_have_loss():
    """Without mask_prompt every token but the first has loss, and so has a text."""
    (talk,) = check_of(mask_prompt=False).row(Row(tuple(TALK), 1)).examples
    assert talk.spans == [(1, LENGTH)]
    (text,) = check_of().row(Row((), 1, text="Hello.")).examples
    assert text.spans == [(1, len(text.tokens))]


def test_planted_faults(tmp_path):
    """A folder with five planted faults gets exactly those five, each with its line."""
    good = [turns(wrap(f"read_file('{name}.py')"), f"Show me {name}.py") for name in ("app", "core", "main")]
    human = [{"role": "human", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    unknown = turns(wrap("cat('a.py')"), "What is in a.py?")
    open_ = turns("<tool_call>read_file('b.py')", "And in b.py?")
    train = write(tmp_path, "train", good[0], "{not json", human, good[1], unknown, open_)
    valid = write(tmp_path, "valid", good[2], turns(wrap("print('x'"), "Print x"))
    report = check(tmp_path, SHAPE)
    assert [(each.where, each.kind) for each in report.errors] == [
        (f"{train}:2", "cannot be read"),
        (f"{train}:3", "not an example"),
        (f"{train}:5", "unknown tool"),
        (f"{train}:6", "malformed wrapper"),
        (f"{valid}:2", "code does not parse"),
    ]
    assert (report.warnings, report.overlaps) == ([], [])


LONG = "Please rename the method load_settings to read_settings in src/config/loader.py for me"


def test_overlaps(tmp_path):
    """Overlaps are found within a file, across files and against a suite, and distinguished by kind."""
    rows = [turns("a", LONG), turns("a", LONG), turns("b", LONG), turns("c", "What is a monad?")]
    write(tmp_path, "train", *rows)
    write(tmp_path, "valid", turns("c", f" {LONG.upper()}\n"), turns("d", "Sing a song"))
    prompts = [LONG + ".", "what is  a monad?", LONG + ".", "Tell the time"]
    report = check(
        tmp_path, SHAPE, suites={"core27": {f"x-0{number}": text for number, text in enumerate(prompts, 1)}}
    )
    seen = {(each.relation, each.later.place.rpartition("/")[2], each.kind) for each in report.overlaps}
    assert seen == {
        ("train.jsonl", "train.jsonl:2", "same conversation"),
        ("train.jsonl", "train.jsonl:3", "same request"),
        ("train.jsonl – valid.jsonl", "valid.jsonl:1", "same request"),
        ("train.jsonl – core27", "core27[x-01]", "similar request"),
        ("train.jsonl – core27", "core27[x-02]", "same request"),
        ("train.jsonl – core27", "core27[x-03]", "similar request"),
    }
    assert report.errors == []


def test_several_processes(tmp_path, monkeypatch):
    """The report is the same whatever the number of processes, for examples of every kind; and tools that
    were in use before arrive there as they are."""
    monkeypatch.setattr("punie.data.validate._CHUNK", 3)
    good = turns(wrap("print(read_file('a').content)"))
    rows = [good, "nonsense", good, turns(" "), {"text": 1}, turns(wrap("read_file(1, 2)")), good[1:]]
    write(tmp_path, "train", *rows, *rows)
    write(tmp_path, "valid", good)
    checks = check_of(tools=EMBEDDED)
    alone = check(tmp_path, checks, workers=1)
    assert len(alone.errors) >= 6
    assert check(tmp_path, checks, workers=2) == alone


class Killing:
    """What ends the process that reads it."""

    def __reduce__(self):
        return os._exit, (9,)


def test_killed_process(tmp_path):
    """A process that is killed ends the check with an error that says so."""
    write(tmp_path, "train", turns("Hello"))
    with pytest.raises(PunieError, match="was killed"):
        check(tmp_path, Check(FORMAT, tools={"x": Killing()}), workers=2)  # ty: ignore[invalid-argument-type]


def test_exact_twin_among_many():
    """A suite's prompt is found in the data however many near kin stand around it."""
    rows = [Request("train", str(number), f"{LONG} {number}", str(number)) for number in range(2000)]
    found = find_overlaps([*rows, Request("suite", "x", rows[1234].text)])
    (overlap,) = [each for each in found if each.later.source == "suite"]
    assert (overlap.kind, overlap.earlier.place) == ("same request", "1234")


def pieces(text):
    return {text[start : start + PIECE] for start in range(len(text) - PIECE + 1)}


def test_similarity_is_the_jaccard_index():
    """The estimate agrees with the exact index within four standard errors, for like and unlike texts."""
    texts = [normal(item.prompt) for item in load_suite(resource("data/suites/wide270.jsonl"))][:40]
    texts += [text + " please" for text in texts]
    for one in texts:
        for other in texts:
            exact = len(pieces(one) & pieces(other)) / len(pieces(one) | pieces(other))
            estimate = (signature(one) == signature(other)).mean()
            assert abs(estimate - exact) <= 4 * (exact * (1 - exact) / VALUES) ** 0.5 + 1 / VALUES


def test_nearest():
    """Each text gets its nearest earlier text of every source, and none where nothing is near."""
    texts = [LONG, "Sing a song about the sea", LONG + " now", LONG + " today"]
    similarities, indices = nearest(np.stack([signature(text) for text in texts]), np.array([0, 0, 1, 1]))
    assert (similarities >= SIMILAR).tolist() == [[False, False], [False, False], [True, False], [True, True]]
    assert (indices[2, 0], indices[3, 0], indices[3, 1]) == (0, 0, 2)


@pytest.mark.parametrize("text", ["", "a", "é", "\ud800"])
def test_tiny_texts(text):
    """A text shorter than a piece has a signature, too."""
    assert signature(text).shape == (VALUES,)


def test_report(tmp_path):
    """The report shows counts, places, system prompts and lengths; more than twenty of a kind are counted."""
    rows = [turns("", f"Request {word}") for word in range(25)]
    train = write(tmp_path, "train", *rows, turns("x", system="Be brief."), turns("y")[1:])
    report = check(tmp_path, SHAPE)
    assert report.system_prompts == {"You help.": 25, "Be brief.": 1, "": 1}
    text = report.render()
    assert "rows 27, errors 25, warnings 0" in text
    assert f"{train}:20  The last response is empty" in text
    assert f"{train}:21  The last response is empty" not in text
    for part in ("… and 5 more", "Be brief.", "(none)", "≤ 32"):
        assert part in text


def test_lengths_in_tokens(tmp_path, plain):
    """With a tokenizer the lengths are in tokens; unused keys are counted."""
    path = write(tmp_path, "train", TALK, json.dumps({"messages": TALK, "id": 1}))
    report = check(path, plain)
    assert (report.unit, report.lengths) == ("tokens", {"train.jsonl": [LENGTH, LENGTH]})
    assert report.unused == {"id": 1}
    assert "key that nothing reads" in report.render()


def test_progress(tmp_path):
    """Progress is told in bytes and ends at the whole."""
    path = write(tmp_path, "train", *[turns("Hi", str(number)) for number in range(1200)])
    seen = []
    check(tmp_path, SHAPE, progress=lambda done, total: seen.append((done, total)))
    size = path.stat().st_size
    assert {total for _, total in seen} == {size}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[0][0] < seen[-1][0] == size


def test_nothing_to_check(tmp_path):
    """A missing path and a folder without data are refused in words; an empty file is an error of its own."""
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match="nothing to check"):
            check(path, SHAPE)
    (tmp_path / "train.jsonl").touch()
    (finding,) = check(tmp_path, SHAPE).errors
    assert finding.kind == "no rows"


def test_shipped_data_is_clean():
    """The shipped data set has no error, no warning, and nothing of the shipped suites in it."""
    suites = {
        name: {
            key: turn.prompt
            for item in load_suite(resource(f"data/suites/{name}.jsonl"))
            for key, turn in item.named_turns
        }
        for name in ("core27", "wide270", "abstain60", "turns12")
    }
    report = check(resource("data/code_mode"), SHAPE, suites=suites)
    assert report.findings == []
    assert {each.relation for each in report.overlaps} <= {"train.jsonl", "valid.jsonl"}
