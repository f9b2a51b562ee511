"""Small files: whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from punie.util import files


def test_the_bytes_are_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is flushed before it takes its name, so that a crash of the machine cannot leave it empty."""
    path, events = tmp_path / "status.json", []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: events.append(path.exists()) or fsync(handle))
    files.write_json(path, {"status": "running"})
    assert events == [False]
    assert path.read_text() == '{\n "status": "running"\n}\n'


def test_what_a_killed_process_was_writing_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-written file that was left behind is recognised, and nothing else is deleted."""
    files.write_text(tmp_path / ".hidden", "kept")
    (tmp_path / "notes.tmp").write_text("kept")
    before = set(tmp_path.iterdir())
    with monkeypatch.context() as killed:
        killed.setattr(Path, "unlink", lambda *_, **__: None)  # nobody cleans up after kill -9
        killed.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            files.write_text(tmp_path / "status.json", "half")
    assert set(tmp_path.iterdir()) != before
    files.sweep(tmp_path)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_a_file_gets_the_permissions_of_the_umask(tmp_path: Path, umask: int) -> None:
    """A group that shares a folder can write what is in it, and a private umask keeps it private."""
    before = os.umask(umask)
    try:
        files.write_json(tmp_path / "status.json", {})
    finally:
        os.umask(before)
    assert (tmp_path / "status.json").stat().st_mode & 0o777 == 0o666 & ~umask
