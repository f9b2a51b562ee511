"""Runs punie in forks of a process that has imported everything.

Starting Python and importing mlx and transformers takes longer than a run of the embedded model. Every fork
has a process group of its own, so that a kill hits its children, too.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from punie.store.artifact import verified

TIMEOUT = 300.0
"""Seconds after which a run counts as stuck: the machine may be busy with other work."""
_LOOK = 0.0005


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    code: int
    """Its exit code; negative for the signal that ended it."""
    text: str
    """Its stdout and stderr together."""


@dataclass(frozen=True)
class Attempt:
    """A running process."""

    pid: int
    output: Path

    def wait(self, timeout: float = TIMEOUT) -> Ended:
        """Wait for its end.

        Raises:
            TimeoutError: It did not, and was killed.
        """
        deadline = time.monotonic() + timeout
        while (ended := self.poll()) is None:
            if time.monotonic() > deadline:
                self.signal(signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise TimeoutError(f"still running after {timeout:g} s: {self.output.read_text()[-500:]}")
            time.sleep(0.002)
        return ended

    def poll(self) -> Ended | None:
        """Its end, or None while it runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        return Ended(os.waitstatus_to_exitcode(status), self.output.read_text(errors="replace"))

    def wait_until(self, sign: Callable[[], bool]) -> Ended | None:
        """Wait until a condition holds; returns the end of the process if that comes first."""
        while not sign():
            if (ended := self.poll()) is not None:
                return ended
            time.sleep(_LOOK)
        return None

    def signal(self, number: int) -> None:
        """Send a signal to its whole group."""
        os.killpg(self.pid, number)


def preload() -> None:
    """Import all that a run will need; nothing is computed yet, since threads do not survive a fork."""
    for name in [name for name in os.environ if name.startswith(("PUNIE_", "HYDRA_"))]:
        del os.environ[name]
    importlib.import_module("tests.warm")


def start(work: Callable[[], int], cwd: Path, output: Path) -> Attempt:
    """Call a function in a forked process; what it returns is the exit code."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        os.setpgid(pid, pid)  # here and there: whoever is first
        return Attempt(pid, output)
    code = 1
    try:
        os.setpgid(0, 0)
        handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.chdir(cwd)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        verified.clear()  # what a new process starts with
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def front_door(*arguments: str) -> Callable[[], int]:
    """``python -m punie`` with these arguments, to be called in a fork."""

    def work() -> int:
        from punie.__main__ import main

        sys.argv = ["punie", *arguments]
        return main(list(arguments))

    return work
