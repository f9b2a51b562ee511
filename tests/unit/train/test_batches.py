"""Tokenized rows and their file."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from punie.train.batches import Row, load_rows, save_rows

ROWS = [
    Row("train.jsonl:1", [1, 2, 3], ((1, 3),)),
    Row("train.jsonl:4", [1, 2, 3, 4, 5, 6], ((1, 2), (4, 6))),
]


def test_rows_come_back(tmp_path: Path) -> None:
    """Names, tokens and spans are read as they were written."""
    save_rows(tmp_path / "rows.safetensors", ROWS)
    assert load_rows(tmp_path / "rows.safetensors", "train.jsonl") == ROWS


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_disk_is_an_error_of_the_system() -> None:
    """Rows that do not fit on the disk raise an OSError, as any other file does."""
    with pytest.raises(OSError, match="No space left") as caught:
        save_rows(Path("/dev/full"), ROWS)
    assert caught.value.errno == errno.ENOSPC
