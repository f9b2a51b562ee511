import pytest

from punie.evals.sandbox import Execution, Sandbox
from punie.evals.scorers import TAXONOMY, Score, keyword, strict, taxonomy
from punie.evals.scores import heading
from punie.evals.suite import Expectation, Sample, load_suite
from punie.formats import Block, Call, Completion
from punie.formats.code_mode import parse, wrap
from punie.formats.tools import CATEGORIES, REQUIRED, TOOLS, read_tools
from punie.util.paths import resource

ALL_TOOLS = ", ".join(TOOLS)
SAMPLE = Sample("x", "text_tools", "Show src/app.py.", (Expectation("read_file", {"path": "src/app.py"}),))
BOTH = (Expectation("git_status"), Expectation("git_log", {"count": 3}))


@pytest.fixture(scope="module")
def core27():
    return load_suite(resource("data/suites/core27.jsonl"))


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as running:
        yield running


OPEN_BLOCK = "<tool_call>\n<function=execute_code>\n<parameter=code>\n"


@pytest.mark.parametrize(
    ("answer", "percent"),
    [
        (lambda tool: f"You want {tool} for that.", 49),
        (lambda tool: f"I have {ALL_TOOLS}.", 52),
        (lambda tool: f"<tool_call># {ALL_TOOLS}</tool_call>", 100),
        (lambda tool: f"{OPEN_BLOCK}{tool}(", 98),
        (lambda tool: "Sorry.", 0),
        (lambda tool: "<tool_call></tool_call>", 10),
    ],
)
def test_keyword_anchors(core27, answer, percent):
    """The keyword rule pays what the published harness paid, prose and broken blocks included."""
    values = [keyword(sample, parse(answer(sample.expect[0].tool))).value for sample in core27]
    assert round(100 * sum(values) / len(values)) == percent


def test_published_score(core27):
    """The published 82.4 %, with its categories, is 21 × 1.0, 1 × 0.5, 4 × 0.1 and 1 × 0.35."""
    seen = dict.fromkeys(CATEGORIES, 0)
    scores = {category: [] for category in CATEGORIES}
    for sample in core27:
        tool, place = sample.expect[0].tool, seen[sample.category]
        seen[sample.category] += 1
        if sample.category == "lsp" and place == 4:
            text = f"{tool}()"
        elif sample.category == "domain" and place >= 5:
            text = wrap("print(1)")
        else:
            text = wrap(f"{tool}()")
        scores[sample.category].append(keyword(sample, parse(text)).value)
    means = {category: round(100 * sum(values) / len(values), 6) for category, values in scores.items()}
    assert list(means.values()) == [100, 100, 90, 100, 100, 60, 35]
    assert round(100 * sum(map(sum, scores.values())) / 27, 1) == 82.4


def test_strict_pays_none_of_the_tricks(core27, sandbox):
    """What the keyword rule pays without any call is worth nothing to the strict score."""
    for sample in core27:
        for text in (
            f"I have {ALL_TOOLS}.",
            f"<tool_call># {ALL_TOOLS}</tool_call>",
            wrap(f"# {ALL_TOOLS}"),
            f"{sample.expect[0].tool}()",
        ):
            assert judge(sample, text, sandbox)[0].value == 0.0


def judge(sample, text, sandbox, *, truncated=False):
    completion = parse(text, truncated=truncated)
    execution = None if completion.code is None else sandbox.run(completion.code)
    return strict(sample, completion, execution), taxonomy(sample, completion, execution)


def test_the_right_calls_are_worth_everything(core27, sandbox):
    """The calls that a suite's item expects, made through the wrapper, score 1.0 by both rules."""
    for sample in core27:
        lines = [
            f"{each.tool}({', '.join(f'{name}={value!r}' for name, value in full(each).items())})"
            for each in sample.expect
        ]
        text = wrap("\n".join(f"print({line}.success)" for line in lines))
        assert keyword(sample, parse(text)).value == 1.0
        assert judge(sample, text, sandbox) == (Score(1.0, "correct"), "correct")


def full(expectation):
    """The expected arguments, with the required ones that the suite leaves free."""
    fillers = {"str": "x", "int": 1}
    required = [each for each in TOOLS[expectation.tool].parameters if each.default is REQUIRED]
    return {each.name: fillers[each.type] for each in required} | dict(expectation.arguments)


NATIVE = "<function=read_file>\n<parameter=path>\nsrc/app.py\n</parameter>\n</function>\n"
CASES = {
    "correct": wrap("print(read_file('src/app.py').content)"),
    "no call": "The file is about apps; read_file would show it.",
    "direct call": "```python\nread_file('src/app.py')\n```",
    "malformed wrapper": "<tool_call>read_file('src/app.py')</tool_call>",
    "syntax error": wrap("read_file('src/app.py'"),
    "unknown tool": wrap("cat('src/app.py')"),
    "wrong tool": wrap("typecheck('src/app.py')"),
    "wrong arguments": wrap("read_file('src/other.py')"),
    "runtime error": wrap("read_file('src/app.py').text"),
    "limit hit": wrap("while True:\n    read_file('src/app.py')"),
}


@pytest.mark.parametrize(("expected", "text"), CASES.items())
def test_taxonomy(sandbox, expected, text):
    """Each way to answer has its name, and only a correct one scores 1.0."""
    score, failure = judge(SAMPLE, text, sandbox)
    assert failure == expected
    assert score.value == float(expected == "correct")
    assert score.reason.startswith(heading(expected))


def test_taxonomy_is_complete():
    """The cases above, truncation, unwanted calls, counts and orders below are all the names there are."""
    named = {*CASES, "truncated", "unwanted call", "wrong count", "wrong order"}
    assert named == set(TAXONOMY)


@pytest.mark.parametrize(
    ("text", "truncated", "expected"),
    [
        (wrap("x")[:-5], True, "truncated"),
        (wrap("x")[:-5], False, "malformed wrapper"),
        ("<think>hm", True, "truncated"),
        (f"<tool_call>\n{NATIVE}</tool_call>", False, "direct call"),
        (NATIVE, False, "direct call"),
        ("<tool_call><function=cat></function></tool_call>", False, "unknown tool"),
        (wrap("read_file('src/app.py')").removeprefix("<tool_call>"), False, "malformed wrapper"),
        (wrap("# read_file('src/app.py')"), False, "no call"),
        (wrap("read_file()"), False, "wrong arguments"),
        ("", False, "no call"),
    ],
)
def test_taxonomy_borders(sandbox, text, truncated, expected):
    """Cases that lie near a border fall on the documented side."""
    score, failure = judge(SAMPLE, text, sandbox, truncated=truncated)
    assert (failure, score.value) == (expected, 0.0)


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        ({"path": "src/a.py"}, {"path": "./src/a.py"}, True),
        ({"path": "src/"}, {"path": "src"}, True),
        ({"path": "src/a.py"}, {"path": "lib/a.py"}, False),
        ({"file": "src/a.py"}, {"file": "src//a.py"}, True),
        ({"query": "./x"}, {"query": "x"}, False),
        ({"count": 1}, {"count": 1}, True),
        ({"count": 1}, {"count": "1"}, False),
        ({"count": 1}, {"count": 1.0}, False),
        ({"count": 1}, {"count": True}, False),
        ({"staged": True}, {"staged": 1}, False),
        ({"args": ["a", "b"]}, {"args": ["a", "b"]}, True),
        ({"args": ["a", "b"]}, {"args": ["b", "a"]}, False),
        ({"args": ["1"]}, {"args": [1]}, False),
        ({}, {"path": "anything"}, True),
        ({"path": "x"}, {}, False),
    ],
)
def test_arguments(expected, actual, same):
    """Arguments are equal in type and value, paths however they are spelled, and unlisted ones are free."""
    sample = Sample("x", "git", "?", (Expectation("git_log", expected),))
    execution = Execution((Call("git_log", actual),), "ok")
    assert strict(sample, parse(wrap("x")), execution).value == float(same)


@pytest.mark.parametrize(
    ("match", "code", "expected"),
    [
        ("all", "git_log(count=3)\ngit_status()", "correct"),
        ("all", "git_status()", "wrong tool"),
        ("all", "git_status()\ngit_log()", "wrong arguments"),
        ("all", "git_status()\nfor n in (1, 2, 3):\n    git_log(count=n)", "correct"),
        ("any", "git_status()", "correct"),
        ("any", "git_log()", "wrong arguments"),
        ("any", "git_diff()", "wrong tool"),
        ("exactly", "git_log(count=3)\ngit_status()", "correct"),
        ("exactly", "git_status()\ngit_log(count=3)\ngit_status()", "wrong count"),
        ("exactly", "git_status()\ngit_log(count=3)\nread_file('a.py')", "wrong count"),
        ("exactly", "git_status()\ngit_log(count=4)", "wrong arguments"),
        ("exactly", "git_status()", "wrong tool"),
        ("in_order", "git_status()\nread_file('a.py')\ngit_log(count=3)", "correct"),
        ("in_order", "git_log(count=3)\ngit_status()", "wrong order"),
        ("in_order", "git_log(count=3)\ngit_status()\ngit_log(count=3)", "correct"),
        ("in_order", "git_status()\ngit_log(count=4)", "wrong arguments"),
    ],
)
def test_match(sandbox, match, code, expected):
    """any: one call is enough. all: each is made. exactly: and no other. in_order: one after the other."""
    sample = Sample("y", "multi_tool", "Status, then 3 commits.", BOTH, match)
    assert judge(sample, wrap(code), sandbox)[1] == expected


def test_each_expected_call_has_a_call_of_its_own():
    """With exactly, the call that fits several expectations serves the one that no other call serves."""
    either = Expectation("git_log", {"count": {"any_of": [3, 4]}})
    three = Expectation("git_log", {"count": 3})

    def judged(*counts):
        calls = tuple(Call("git_log", {"path": ".", "count": count}) for count in counts)
        sample = Sample("e", "git", "?", (either, three), "exactly")
        return taxonomy(sample, parse(wrap("x")), Execution(calls, "ok"))

    assert [judged(3, 4), judged(4, 3), judged(3, 3)] == ["correct"] * 3
    assert [judged(4, 4), judged(3), judged(3, 3, 3)] == ["wrong arguments", "wrong count", "wrong count"]


@pytest.mark.parametrize("match", ["any", "all", "exactly", "in_order"])
def test_no_call_is_expected_however_calls_match(sandbox, match):
    """An item without expected calls is right without any, whatever its match."""
    sample = Sample("n", "chat", "How are you?", (), match)
    assert judge(sample, "Fine.", sandbox)[1] == "correct"
    assert judge(sample, wrap("git_status()"), sandbox)[1] == "unwanted call"


LEAVABLE = {"any_of": [3, 4], "optional": True}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("git_log()", "correct"),
        ("git_log(count=3)", "correct"),
        ("git_log(count=4)", "correct"),
        ("git_log(count=10)", "correct"),
        ("git_log(count=5)", "wrong arguments"),
    ],
)
def test_an_optional_argument_in_code(sandbox, code, expected):
    """It may be left out, which is the same as its default, 10, or it has one of the acceptable values."""
    sample = Sample("o", "git", "?", (Expectation("git_log", {"count": LEAVABLE}),))
    assert TOOLS["git_log"].bind()["count"] == 10
    assert judge(sample, wrap(code), sandbox)[1] == expected


def test_calling_everything_is_not_an_answer(sandbox):
    """A look around is allowed, but not calling every tool so that one is right."""
    domain = [name for name, tool in TOOLS.items() if tool.family == "domain"]
    sample = Sample("d", "domain", "?", (Expectation(domain[0], {"file": "a.py"}),))
    looked = "read_file('a.py')\ngit_status()\n" + f"{domain[0]}('a.py')"
    assert judge(sample, wrap(looked), sandbox)[1] == "correct"
    assert judge(sample, wrap("\n".join(f"{name}('a.py')" for name in domain)), sandbox)[1] == "wrong tool"


def test_missing_execution():
    """Code that was never run cannot be scored by mistake."""
    with pytest.raises(ValueError, match="execution is missing"):
        strict(SAMPLE, parse(CASES["correct"]), None)


MATH = read_tools(
    [
        {
            "name": "math.area",
            "parameters": {
                "type": "dict",
                "properties": {
                    "width": {"type": "float"},
                    "count": {"type": "integer", "default": 1},
                    "sides": {"type": "array", "items": {"type": "float"}},
                    "unit": {"type": "string"},
                },
                "required": ["width"],
            },
        }
    ],
    "a test",
)


@pytest.mark.parametrize(
    ("expected", "actual", "failure"),
    [
        ({"width": 3}, {"width": 3.0}, "correct"),
        ({"width": 3.0}, {"width": 3}, "correct"),
        ({"width": 3}, {"width": 3.5}, "wrong arguments"),
        ({"width": 3}, {"width": "3"}, "wrong arguments"),
        ({"width": 1}, {"width": True}, "wrong arguments"),
        ({"sides": [1, 2]}, {"width": 1, "sides": [1.0, 2.0]}, "correct"),
        ({"count": 3}, {"width": 1, "count": 3}, "correct"),
        ({"count": 3}, {"width": 1, "count": 3.0}, "wrong arguments"),
        ({"count": 1}, {"width": 1}, "correct"),
        ({"unit": {"any_of": ["m", "metre"]}}, {"width": 1, "unit": "metre"}, "correct"),
        ({"unit": {"any_of": ["m", "metre"]}}, {"width": 1, "unit": "km"}, "wrong arguments"),
        ({"width": {"any_of": [1, 2]}}, {"width": 2.0}, "correct"),
        ({"unit": {"any_of": ["m"], "optional": True}}, {"width": 1}, "correct"),
        ({"unit": {"any_of": ["m"], "optional": True}}, {"width": 1, "unit": "km"}, "wrong arguments"),
        ({"unit": {"any_of": ["m"], "optional": False}}, {"width": 1}, "wrong arguments"),
        ({"count": {"any_of": [3], "optional": True}}, {"width": 1}, "correct"),
        ({"count": {"any_of": [3], "optional": True}}, {"width": 1, "count": 2}, "wrong arguments"),
        ({}, {"count": 1}, "wrong arguments"),
        ({}, {"width": 1, "height": 2}, "wrong arguments"),
    ],
)
def test_arguments_by_schema(expected, actual, failure):
    """Calls of a tool of one's own are judged by its schema: types, defaults, any of several values."""
    sample = Sample("m", "maths", "?", (Expectation("math.area", expected),), tools=tuple(MATH))
    completion = Completion("…", (Block("math.area", actual),), has_block=True)
    assert taxonomy(sample, completion, None) == failure


@pytest.mark.parametrize(
    ("completion", "failure", "published"),
    [
        (Completion("It rains.", before="It rains."), "correct", 1.0),
        (Completion("…", (Block("math.area", {"width": 1}),), has_block=True), "unwanted call", 0.0),
        (Completion("…", (Block("nope"),), has_block=True), "unwanted call", 0.0),
        (Completion("…", (Block(problem="malformed"),), has_block=True), "malformed wrapper", 0.0),
        (Completion("<think>", unfinished_thought=True), "truncated", 1.0),
    ],
)
def test_no_call_can_be_right(completion, failure, published):
    """Where nothing is to be called, prose is correct and a call is unwanted."""
    sample = Sample("n", "chat", "How are you?", (), tools=tuple(MATH))
    assert taxonomy(sample, completion, None) == failure
    assert strict(sample, completion, None).value == float(failure == "correct")
    assert keyword(sample, completion).value == published


def test_no_call_in_code(sandbox):
    """In code mode, code that calls nothing is no call; code that calls a tool is unwanted, and code that
    fails is not right either."""
    sample = Sample("n", "chat", "How are you?", ())
    assert judge(sample, "Fine.", sandbox)[1] == "correct"
    assert judge(sample, wrap("print(1)"), sandbox)[1] == "correct"
    assert judge(sample, wrap("git_status()"), sandbox)[1] == "unwanted call"
    assert judge(sample, wrap("git_status()\n1 / 0"), sandbox)[1] == "unwanted call"
    assert judge(sample, wrap("git_status("), sandbox)[1] == "syntax error"
    assert judge(sample, wrap("git_state()"), sandbox)[1] == "unknown tool"


def test_keyword_reason():
    """A keyword score says what was found."""
    assert keyword(SAMPLE, parse("read_file")) == Score(0.5, "no tool-call block, names read_file")
