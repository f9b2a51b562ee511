"""Locks: one process at a time for a name, whatever happens to the file."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from punie.util.locks import empty_file, empty_folder, locked


@pytest.mark.parametrize("make", [empty_file, empty_folder])
def test_a_lock_is_held_by_one(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A second holder waits or is refused; several may share one."""
    path = tmp_path / "folder" / "lock"
    with locked(path, make=make), pytest.raises(BlockingIOError), locked(path, wait=False):
        pytest.fail("held twice")
    with (
        locked(path, make=make, shared=True),
        locked(path, shared=True, wait=False),
        pytest.raises(BlockingIOError),
        locked(path, wait=False),
    ):
        pytest.fail("held beside others")
    with locked(path, wait=False):
        pass


def test_what_nothing_makes_must_be_there(tmp_path: Path) -> None:
    """Without something that makes it, a file that is not there is an error."""
    with pytest.raises(FileNotFoundError), locked(tmp_path / "lock"):
        pytest.fail("locked nothing")


@pytest.mark.parametrize("there", [True, False])
def test_a_waiting_process_gets_the_lock_of_the_name(tmp_path: Path, there: bool) -> None:
    """Where the file was deleted, or replaced, while somebody waited for it, the lock is on the new one."""
    path, entered = tmp_path / "lock", threading.Event()

    def wait() -> None:
        with locked(path, make=empty_file):
            with pytest.raises(BlockingIOError), locked(path, wait=False):
                pass
            entered.set()

    waiting = threading.Thread(target=wait)
    with locked(path, make=empty_file):
        waiting.start()
        assert not entered.wait(0.1)
        path.unlink()
        if there:
            path.touch()
    waiting.join(10)
    assert entered.is_set()


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can be another user")
def test_a_lock_needs_no_permission_to_write(tmp_path: Path) -> None:
    """A lock file of another user, who has a strict umask, can be locked."""
    (tmp_path / "lock").touch(0o644)
    tmp_path.chmod(0o755)

    def take(folder: int) -> None:
        os.fchdir(folder)  # the folders above are root's alone
        os.setuid(64001)
        with locked(Path("lock"), make=empty_file):
            pass

    folder = os.open(tmp_path, os.O_RDONLY)
    worker = multiprocessing.get_context("fork").Process(target=take, args=(folder,))
    worker.start()
    worker.join()
    os.close(folder)
    assert worker.exitcode == 0
