"""Processes that live and die with the one that started them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from punie.util.errors import PunieError

_LOOK = 0.2
"""Seconds between looks at whether the parent lives."""
_GRACE = 10.0
"""Seconds that a process is given to end before it is killed."""


def run_alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own, and return what it returns.

    The process gives its memory back and can abort without taking this one along; it ends with this one,
    however this one ends.

    Raises:
        PunieError: The process ended without an answer.
        BaseException: What the function raised.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, os.getpid(), function, arguments))
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        process.join()
        raise PunieError(
            "A stage's process ended without an answer.",
            found=f"exit code {process.exitcode}" + (" (killed)" if (process.exitcode or 0) < 0 else ""),
            next_step="look for a shortage of memory; the same command goes on from what is finished",
        ) from None
    except BaseException:
        process.terminate()
        process.join(_GRACE)
        process.kill()
        raise
    process.join()
    if isinstance(answer, BaseException):
        raise answer
    return answer


def end_with(pid: int) -> None:
    """End this process as soon as another one is gone."""
    import psutil

    def lives() -> bool:
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def watch() -> None:
        while lives():
            time.sleep(_LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _child(sender: Connection, parent: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    end_with(parent)
    try:
        answer = function(*arguments)
    except BaseException as error:  # it is raised again on the other side
        answer = error
    try:
        sender.send(answer)
    except (TypeError, AttributeError, ValueError):  # an exception that cannot be pickled
        sender.send(RuntimeError(f"{type(answer).__name__}: {answer}"))
