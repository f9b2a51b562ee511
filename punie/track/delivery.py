"""Delivers what a run tells to a tracker in a process of its own, which cannot stop, slow or change the run.

The libraries of trackers take seconds to import, start threads and exit handlers that wait for a network, and
catch signals. Here they do so elsewhere: the run puts a message into a queue and goes on.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from punie.config.schema import TrackConfig
from punie.results.run import read_status
from punie.results.sweep import PLAN
from punie.track.packages import chosen
from punie.track.tracker import Message
from punie.train.callbacks import CALLBACKS, Callback, Record
from punie.util.jsonl import excerpt
from punie.util.printable import printable, without_passwords

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

BACKLOG = 10_000
"""Most messages that wait for a tracker; further metrics are left out, and counted."""
PATIENCE = 30.0
"""Seconds that the end of a run waits for a tracker which takes nothing."""
LONGEST = 60.0
"""Seconds that it waits at most."""
GRACE = 60.0
"""Seconds that a tracker has to end what it is at after the run: killed while MLflow makes its tables in a
SQLite file, it would leave a file that no later run can use."""
UNREACHED = "the sweep did not reach it"
_NICE = 10
_SHORTEST_SECRET = 6
_SECRET = re.compile("KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
log = logging.getLogger(__name__)


class Delivery(Callback):
    """One tracker of one run: a callback that only queues; ``lost`` says in the end what did not arrive.

    Args:
        name: The tracker's, in ``CALLBACKS``.
        project: Of ``track.project``.
        off: Why nothing is sent; None to send.
    """

    def __init__(self, name: str, project: str | None = None, off: str | None = None) -> None:
        self.name, self.error = name, off
        self.told = self.taken = self.left_out = 0
        """Messages of the run, those that the tracker took, and those that found no place in the queue."""
        self._answered = 0
        self._queue: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._entry = (CALLBACKS[name], project)
        self._heard = time.monotonic()
        self._off = off is not None
        self._process: BaseProcess | None = None
        self._thread = threading.Thread(target=self._feed, daemon=True)

    @property
    def lost(self) -> int:
        """Messages that the tracker did not take."""
        return self.told - self.taken

    @property
    def _waiting(self) -> int:
        return self.told - self.left_out - self._answered

    def run_started(self, **arguments: Any) -> None:
        """Start the tracker's process, and tell it."""
        if not self._off:
            try:
                self._start()
            except Exception as error:  # such as too many processes; nothing of a tracker may end the run
                self.error, self._off = problem(error), True
        self._tell("run_started", arguments)

    def _start(self) -> None:
        from multiprocessing import get_context, process  # a plan, which must be quick, needs none of it

        context = get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, os.getpid(), *self._entry))
        self._process.start()
        process._children.discard(self._process)  # ty: ignore[missing-attribute] - Python waits for these
        other.close()
        self._thread.start()

    def stage_ended(self, **arguments: Any) -> None:
        """Tell it."""
        self._tell("stage_ended", arguments)

    def metrics(self, record: Record) -> None:
        """Tell it, unless too many messages wait."""
        if self._waiting < BACKLOG:
            self._tell("metrics", {"record": record})
        else:
            self.told += 1
            self.left_out += 1

    def run_ended(self, *, status: str, folder: Path) -> None:
        """Tell it, wait for a limited time until it has taken everything, and say what it has not."""
        self._tell("run_ended", {"status": status, "folder": folder})
        self._queue.put(None)
        if self._process is not None:
            self._wait(LONGEST)
            if not self._thread.is_alive():
                self._process.join(1.0)
        if self.lost:
            log.log(
                logging.INFO if self.error == UNREACHED else logging.WARNING,  # the sweep says it once
                "%s did not take %d of %d messages: %s; to send them again: punie track %s",
                self.name,
                self.lost,
                self.told,
                self.error or "too many were waiting",
                os.path.relpath(folder),
            )

    def reached(self) -> bool:
        """Whether the tracker has taken the start of the run; waits for it."""
        while not self._off and not self._answered and self._thread.is_alive() and not self._silent():
            self._thread.join(0.02)
        return bool(self.taken)

    def _tell(self, method: str, arguments: Mapping[str, Any]) -> None:
        if self._waiting == 0:
            self._heard = time.monotonic()  # it was not silent: nobody told it anything
        self.told += 1
        self._queue.put((method, arguments))

    def _silent(self) -> bool:
        if time.monotonic() - self._heard <= PATIENCE:
            return False
        self.error = self.error or f"it took nothing for {PATIENCE:g} s"
        return True

    def _wait(self, longest: float) -> None:
        until = time.monotonic() + longest
        while self._thread.is_alive() and not self._silent():
            self._thread.join(0.02)
            if time.monotonic() > until:
                self.error = self.error or f"it was not done {longest:g} s after the run"
                return

    def _feed(self) -> None:
        """Send the queue, one message at a time; in a thread, since a process may take its time."""
        try:
            while (message := self._queue.get()) is not None:
                self._pipe.send(message)
                problem = self._pipe.recv()
                self._answered += 1
                if problem is None:
                    self.taken += 1
                    self._heard = time.monotonic()
                else:
                    self.error = self.error or problem
            self._pipe.send(None)
        except (EOFError, OSError):
            self.error = self.error or "its process ended"


def begin(options: TrackConfig, folder: Path) -> list[Delivery]:
    """A delivery to each tracker that a run in a folder reports to.

    A job does not try one that its sweep could not reach.
    """
    sweep = folder.parent.parent
    unreached = read_status(sweep).untracked if (sweep / PLAN).exists() else ()
    return [
        Delivery(name, options.project, UNREACHED if name in unreached else None) for name in chosen(options)
    ]


def problem(error: BaseException) -> str:
    """An error of a tracker's library in a line, without the secrets that it may quote."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "***")
    return printable(excerpt(without_passwords(text), 300))


def _serve(pipe: Connection, parent: int, entry: str, project: str | None) -> None:
    """Be a tracker's process: answer each message with None, or with what went wrong."""
    from punie.util.processes import end_with

    for number in (signal.SIGINT, signal.SIGTERM):  # its parent ends it, when all is delivered
        signal.signal(number, signal.SIG_IGN)
    end_with(parent, GRACE)
    os.nice(_NICE)
    if os.environ.get("PUNIE_DEBUG") != "1":
        quiet = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(quiet, stream)
    callback: Callback | None = None
    failed: str | None = None
    while (message := pipe.recv()) is not None:
        method, arguments = message
        answer = failed
        if failed is None:
            try:
                callback = callback or resolve_name(entry)(project)
                getattr(callback, method)(**arguments)
            except Exception as error:
                answer = problem(error)
                failed = answer if method == "run_started" else None
        pipe.send(answer)
