"""What would be left of a file after a crash of the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


class Flushed:
    """Remembers what was flushed to disk, from here on.

    Args:
        monkeypatch: Of the test.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._sizes: dict[int, int] = {}
        real = os.fsync

        def fsync(handle: int) -> None:
            real(handle)
            about = os.fstat(handle)
            self._sizes[about.st_ino] = about.st_size

        monkeypatch.setattr(os, "fsync", fsync)

    def whole(self, path: Path) -> bool:
        """Whether all of a file was flushed."""
        return self._sizes.get(path.stat().st_ino) == path.stat().st_size
