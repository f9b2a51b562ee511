"""punie's command line in a process of its own, forked from a server that has imported everything.

A new process needs two seconds of imports; a fork of ``tests.warm`` needs none.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path

ROOT = Path(__file__).parents[1]
TIMEOUT = 300.0
_CONTEXT = multiprocessing.get_context("forkserver")
_FORKS = sys.platform == "linux"
"""Elsewhere a process that has loaded the GPU's libraries cannot be forked."""


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def run_directory(self) -> Path:
        """The folder that a run names in the end, relative to its working folder."""
        return Path(
            next(line for line in self.out.splitlines() if line.startswith("run directory: ")).split(": ")[1]
        )


@dataclass(frozen=True)
class Started:
    """A running command, in a session of its own."""

    process: multiprocessing.process.BaseProcess
    outputs: tempfile.TemporaryDirectory[str] = field(repr=False)

    @property
    def pid(self) -> int:
        """Of the process, and of its group."""
        assert self.process.pid
        return self.process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, negative for the signal that ended it; None while it runs."""
        return self.process.exitcode

    def signal(self, number: int, *, group: bool = True) -> None:
        """Send a signal to it and to the processes that it started, or to it alone."""
        (os.killpg if group else os.kill)(self.pid, number)

    def wait(self, timeout: float = TIMEOUT) -> Finished:
        """Wait for its end; it is killed, and the test fails, if that does not come."""
        self.process.join(timeout)
        ended = self.code is not None
        self.end()
        out, err = (Path(self.outputs.name, name).read_text(errors="replace") for name in ("out", "err"))
        self.outputs.cleanup()
        assert ended, f"still running after {timeout:g} s: {err[-500:]}"
        assert self.code is not None
        return Finished(self.code, out, err)

    def end(self) -> None:
        """Kill it, if it still runs."""
        if self.code is None:
            self.signal(signal.SIGKILL)
            self.process.join()
        atexit.unregister(self.end)


def punie(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, new: bool | None = None
) -> Finished:
    """Run a command to its end.

    Args:
        *arguments: punie's command line.
        cwd: The working folder.
        env: Variables to add.
        new: Start a new process, ``python -m punie``, instead of forking one; by default if there are
            variables to add, since some are read at import.
    """
    if not (bool(env) if new is None else new):
        return start(*arguments, cwd=cwd, env=env).wait()
    done = subprocess.run(
        [sys.executable, "-m", "punie", *arguments],
        cwd=cwd,
        env=_environment() | dict(env or {}),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def start(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, together: bool = False
) -> Started:
    """Begin a command; ``together``, what it prints is all in ``out``, in its order."""
    outputs = tempfile.TemporaryDirectory(prefix="punie-output-")
    given = (arguments, cwd, _environment() | dict(env or {}), Path(outputs.name), together)
    context = _CONTEXT if _FORKS else multiprocessing.get_context("spawn")
    if _FORKS:
        _CONTEXT.set_forkserver_preload(["tests.warm"])
        with contextlib.chdir(ROOT):  # from where it imports tests
            forkserver.ensure_running()
    process = context.Process(target=_call, args=given)
    process.start()
    started = Started(process, outputs)
    atexit.register(started.end)
    return started


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("PUNIE_", "HYDRA_"))}


def _call(
    arguments: tuple[str, ...], cwd: Path, environment: dict[str, str], outputs: Path, together: bool
) -> None:
    """In the process: become what ``python -m punie`` would be."""
    assert "tests.warm" in sys.modules or not _FORKS, "the server could not import tests.warm"
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for handle, name in ((1, "out"), (2, "err")):
        with (outputs / name).open("ab") as stream:
            os.dup2(1 if together and handle == 2 else stream.fileno(), handle)
    random.seed()  # or each fork would draw the same ports
    sys.argv = ["punie", *arguments]
    from punie.__main__ import main

    try:
        code = main(list(arguments))
    finally:  # what ends pools of workers: multiprocessing leaves it out, and would wait for them
        threading._shutdown()  # ty: ignore[missing-attribute]
        atexit._run_exitfuncs()
    sys.exit(code)
