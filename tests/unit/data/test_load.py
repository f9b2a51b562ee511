import json

import pytest

from punie.data.load import Row, load_rows
from punie.util.errors import DataError, Problems
from punie.util.jsonl import SHOWN
from punie.util.paths import resource

GOOD = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]


def write(folder, *rows, end="\n"):
    path = folder / "train.jsonl"
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"".join(line + end.encode() for line in lines))
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_rows(tmp_path, end):
    """Rows come in order with their lines, whichever way lines end."""
    path = write(tmp_path, {"messages": GOOD}, {"messages": GOOD[1:]}, end=end)
    assert load_rows(path) == [Row(tuple(GOOD), 1), Row((GOOD[1],), 2)]


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
        ({"text": "x"}, "The row has no 'messages'."),
        ({"messages": []}, "'messages' is not a list of turns."),
        ({"messages": "x"}, "'messages' is not a list of turns."),
        ({"messages": ["x", *GOOD]}, "Turn 1 is not an object."),
        ({"messages": [{"role": "human", "content": "x"}, *GOOD]}, "Turn 1 has an unknown role."),
        ({"messages": [{"content": "x"}, *GOOD]}, "Turn 1 has no role."),
        ({"messages": [{"role": ["user"], "content": "x"}, *GOOD]}, "Turn 1 has an unknown role."),
        ({"messages": [{"role": "user"}, *GOOD]}, "The content of turn 1 is missing."),
        ({"messages": [{"role": "user", "content": None}, *GOOD]}, "The content of turn 1 is not text."),
        (
            {"messages": [{"role": "user", "content": "\ud800"}, *GOOD]},
            "The content of turn 1 is not valid text.",
        ),
        ({"messages": GOOD[:1]}, "The last turn is not the assistant's, so there is nothing to learn."),
    ],
)
def test_wrong_row(tmp_path, row, what):
    """Each fault of a row is named with its file and line."""
    path = write(tmp_path, row) if isinstance(row, bytes) else write(tmp_path, {"messages": GOOD}, row)
    with pytest.raises(Problems) as raised:
        load_rows(path)
    (problem,) = raised.value.problems
    assert problem.what == what
    assert problem.where == f"{path}:{1 if isinstance(row, bytes) else 2}"


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
