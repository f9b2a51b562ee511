import itertools

import pytest

from punie.util import jsonl
from punie.util.errors import DataError, Problems


def test_long_line_is_passed_over(tmp_path):
    """A line over the limit is named with its size, the lines behind it are read, and all sizes add up."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n' + b"x" * 1000 + b'\n{"b": 2}')
    lines = list(jsonl.read(path, max_line=100))
    assert [line.value for line in lines] == [{"a": 1}, {}, {"b": 2}]
    assert [line.number for line in lines] == [1, 2, 3]
    assert lines[1].problem is not None
    assert lines[1].problem.found == "1,001 bytes"
    assert sum(line.size for line in lines) == path.stat().st_size


@pytest.mark.parametrize("text", ['[{"a": 1}, {"a": 2}]', '[\n {"a": 1},\n {"a": 2}\n]'])
def test_a_json_array_is_named_once(text, tmp_path):
    """A file that is one JSON array gets one problem, which says how to make lines of it."""
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    (line,) = jsonl.read(path)
    assert line.problem is not None
    assert (line.problem.what, line.size) == ("The file is a JSON array.", path.stat().st_size)
    assert line.problem.next_step == "jq -c '.[]' a.jsonl > lines.jsonl"


def test_excerpt():
    """An excerpt is one short line."""
    assert jsonl.excerpt("a\n  b" + "c" * 100, 10) == "a bcccccc…"
    assert jsonl.excerpt([1]) == "[1]"


def test_problems_are_not_looked_for_without_end(tmp_path):
    """Of a line with a million problems, no more are looked for than a message could tell."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{}\n")
    looked = itertools.count()
    with pytest.raises(Problems) as raised:
        jsonl.load(
            path,
            lambda _, where: (DataError(f"Problem {next(looked)}.", where=where) for _ in range(10**6)),
            kind="The file",
            expected="",
            next_step="",
        )
    assert next(looked) == jsonl.MOST
    assert raised.value.problems[-1].what == f"… and {jsonl.MOST - jsonl.SHOWN:,} more problems in this file."
