"""Rows as tokens, on the disk."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from punie.train.batches import Row, load_rows, save_rows

ROWS = [Row("train.jsonl:1", [1, 2, 3], ((1, 3),)), Row("train.jsonl:4", [4, 5], ((1, 2),))]


def test_rows_come_back(tmp_path: Path) -> None:
    """Names, tokens and spans are read as they were written."""
    save_rows(tmp_path / "rows.safetensors", ROWS)
    read = load_rows(tmp_path / "rows.safetensors", "train.jsonl")
    assert [(row.name, list(row.tokens), row.spans) for row in read] == [
        (row.name, list(row.tokens), row.spans) for row in ROWS
    ]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_disk_is_an_error_of_the_system() -> None:
    """Rows that do not fit raise what any write does, so that the store can say what helps."""
    with pytest.raises(OSError, match="No space left") as caught:
        save_rows(Path("/dev/full"), ROWS)
    assert caught.value.errno == errno.ENOSPC
