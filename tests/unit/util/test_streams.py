"""Printing ends no work: neither for the terminal's encoding, nor when the reader has gone."""

from __future__ import annotations

import io
import os
import sys

import pytest

from punie.util.streams import Unbroken, unbroken, wrapped


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_encoding_prints_what_it_can(encoding: str) -> None:
    """A character that the encoding lacks is a question mark, on a descriptor and on any other stream."""
    reader, writer = os.pipe()
    with open(writer, "w", encoding=encoding) as stream:
        out = wrapped(stream, stream)
        out.write("0.5 ✓ – é\n")
        out.flush()
    with open(reader, "rb") as found:
        assert found.read().decode(encoding) == "0.5 ✓ – é\n".encode(encoding, "replace").decode(encoding)
    other = io.TextIOWrapper(raw := io.BytesIO(), encoding=encoding)
    assert wrapped(other, None) is other
    print("✓", file=other, flush=True)
    assert raw.getvalue() in (b"?\n", "✓\n".encode())


def test_a_reader_that_goes_is_noted_once(caplog: pytest.LogCaptureFixture) -> None:
    """Writes into a closed pipe are counted as done; the log says once that they are lost."""
    caplog.set_level("INFO")
    reader, writer = os.pipe()
    with open(writer, "w") as stream:
        out = wrapped(stream, stream)
        os.close(reader)
        for line in range(3):
            print(line, file=out, flush=True)
    assert [record.message for record in caplog.records] == [
        "nobody reads what is printed any more (Broken pipe); the work goes on"
    ]


def test_another_error_is_raised() -> None:
    """A descriptor that cannot be written to is no reader that went."""
    raw = Unbroken(os.open(os.devnull, os.O_RDONLY), "wb")
    with pytest.raises(OSError, match="Bad file descriptor"):
        raw.write(b"x")


def test_the_streams_come_back() -> None:
    """After the block sys.stdout and sys.stderr are what they were."""
    before = sys.stdout, sys.stderr
    with unbroken():
        print("✓")
    assert (sys.stdout, sys.stderr) == before
