import json

import pytest

from punie.evals.suite import Expectation, Sample, load_suite
from punie.formats.tools import CATEGORIES
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


def expect(tool, **arguments):
    return {"expect": [{"tool": tool, "arguments": arguments}]}


@pytest.mark.parametrize(
    ("change", "what", "expected"),
    [
        ({"promt": "x"}, "Unknown field: 'promt'.", "'prompt', perhaps"),
        ({"category": "git_tools"}, "Unknown category: 'git_tools'.", "'text_tools', perhaps"),
        ({"category": 3}, "The field 'category' is wrong.", "some text"),
        ({"prompt": "  "}, "The field 'prompt' is wrong.", "some text"),
        ({"match": "both"}, "The field 'match' is wrong.", "'any' or 'all'"),
        ({"max_tokens": 0}, "The field 'max_tokens' is wrong.", "a whole number of tokens, at least 1"),
        ({"max_tokens": True}, "The field 'max_tokens' is wrong.", "a whole number of tokens, at least 1"),
        (
            {"expect": []},
            "The field 'expect' is wrong.",
            'a list such as [{"tool": "git_status", "arguments": {}}]',
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
    assert (problem.what, problem.where, problem.expected) == (what, f"{suite}:2", expected)


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


def test_empty_and_missing(tmp_path):
    """An empty suite and a missing one are refused in words."""
    with pytest.raises(DataError, match="The suite is empty"):
        load_suite(write(tmp_path))
    with pytest.raises(DataError, match="cannot be read"):
        load_suite(tmp_path / "none.jsonl")


@pytest.mark.parametrize(("name", "count"), [("core27", 1), ("wide270", 10)])
def test_shipped_suites(name, count):
    """The shipped suites load and have the categories' published sizes."""
    samples = load_suite(resource(f"data/suites/{name}.jsonl"))
    sizes = [sum(sample.category == category for sample in samples) for category in CATEGORIES]
    assert sizes == [count * size for size in (3, 3, 5, 3, 3, 9, 1)]
