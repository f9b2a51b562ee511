"""Child processes that end with their parent."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from punie.util.errors import PunieError
from punie.util.streams import unbroken

_LOOK = 0.2
"""Seconds between checks whether the parent lives."""
_GRACE = 10.0
"""Seconds a process has to end before it is killed."""


def run_alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own, and return its result.

    The process frees its memory when it ends, can abort without ending this one, and never outlives this one.

    Raises:
        PunieError: The process ended without a result.
        BaseException: What the function raised.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, os.getpid(), function, arguments))
    process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        process.join()
        raise PunieError(
            "A stage's process ended without a result.",
            found=f"exit code {process.exitcode}" + (" (killed)" if (process.exitcode or 0) < 0 else ""),
            next_step="check that memory suffices; the same command continues from the finished stages",
        ) from None
    except BaseException:
        process.terminate()
        process.join(_GRACE)
        process.kill()
        raise
    process.join()
    if isinstance(result, BaseException):
        raise result
    return result


def end_with(pid: int, grace: float = 0.0) -> None:
    """End this process as soon as another one has ended, or so many seconds later."""
    import psutil

    def lives() -> bool:
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def watch() -> None:
        while lives():
            time.sleep(_LOOK)
        time.sleep(grace)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _child(sender: Connection, parent: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    end_with(parent)
    try:
        with unbroken():
            result = function(*arguments)
    except BaseException as error:  # raised again by run_alone
        result = error
    try:
        sender.send(result)
    except OSError:
        raise
    except Exception:  # an exception that cannot be pickled
        sender.send(RuntimeError(f"{type(result).__name__}: {result}"))
