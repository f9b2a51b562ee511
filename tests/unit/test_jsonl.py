from punie import jsonl


def test_long_line_is_passed_over(tmp_path):
    """A line over the limit is named with its size, and the lines behind it are read."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n' + b"x" * 1000 + b'\n{"b": 2}')
    lines = list(jsonl.read(path, max_line=100))
    assert [line.value for line in lines] == [{"a": 1}, {}, {"b": 2}]
    assert [line.number for line in lines] == [1, 2, 3]
    assert lines[1].problem is not None
    assert lines[1].problem.found == "1,001 bytes"


def test_sizes_add_up(tmp_path):
    """The sizes of the lines add up to the file's, so that progress can be shown."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\r\n' + b"x" * 250 + b"\n\nnope")
    assert sum(line.size for line in jsonl.read(path, max_line=100)) == path.stat().st_size


def test_excerpt():
    """An excerpt is one short line."""
    assert jsonl.excerpt("a\n  b" + "c" * 100, 10) == "a bcccccc…"
    assert jsonl.excerpt([1]) == "[1]"
