"""The sandbox that runs a model's code: a separate interpreter with stub tools, limits, no files, no network.

The interpreter is pydantic-monty, in a worker process that can crash without harm. Clock, sleep and random
numbers are fixed, so that the same code has the same outcome every time. Each tool is a stub that records
what it was called with and returns a small, plausible result: a flat frozen dataclass of plain values, which
the sandbox can copy across its border, so that ``result.success`` or ``len(result.errors)`` works.
"""

from __future__ import annotations

import builtins
import copy
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, make_dataclass
from datetime import datetime
from typing import Any, Literal, Self

from pydantic_monty import (
    ClassInstance,
    CollectString,
    Monty,
    MontyComplete,
    MontyCrashedError,
    MontyError,
    MontySyntaxError,
)

from punie.formats import Call
from punie.formats.tools import TOOLS, Tool

Outcome = Literal["ok", "syntax error", "unknown tool", "wrong arguments", "runtime error", "limit hit"]

GRACE = 0.5
"""Seconds that the worker has to stop at its time limit before it is killed."""
MAX_KEPT = 20_000
"""Limit of what is recorded of a call's arguments, in characters and list items together."""
MAX_DEPTH = 10
"""Limit of the nesting that is recorded of an argument."""
MAX_ERROR = 500
"""Longest error message that is recorded, in characters."""
_CLOCK = datetime(2025, 1, 1)
_FIELDS: dict[str, dict[str, Any]] = {
    "FileContent": {"path": "", "content": "import logging\n\nlog = logging.getLogger(__name__)\n"},
    "EditResult": {"file": "", "changes": 1},
    "CommandResult": {"command": "", "stdout": "done\n", "stderr": "", "returncode": 0},
    "CheckResult": {"errors": []},
    "TestResult": {"passed": 3, "failed": 0, "errors": []},
    "Locations": {"locations": ["src/app.py:12", "src/core.py:48"]},
    "HoverInfo": {"symbol": "", "text": "(name: str) -> None"},
    "SymbolList": {"symbols": ["App", "create_app", "main"]},
    "GitStatus": {"files": ["src/app.py"]},
    "GitDiff": {"diff": "--- a/src/app.py\n+++ b/src/app.py\n@@ -1 +1 @@\n-old\n+new\n"},
    "GitLog": {"commits": ["3f2a91c Add the router", "b07d4e8 First commit"]},
}
"""Values of a result by its type; every one has ``success``, too. A field that is named as an argument of the
tool holds that argument."""


@dataclass(frozen=True)
class Limits:
    """What a piece of code may use."""

    duration: float = 1.0
    """Longest run, in seconds, tool calls included."""
    memory: int = 32 * 2**20
    """Largest heap, in bytes."""
    recursion: int = 200
    """Deepest nesting of function calls."""
    calls: int = 200
    """Most tool calls; the first look-up of a tool's name counts as one, too."""
    output: int = 100_000
    """Longest printed output, in bytes."""


@dataclass(frozen=True)
class Execution:
    """The result of running a piece of code."""

    calls: tuple[Call, ...]
    """The calls that were made until it ended, with arguments that JSON can hold."""
    outcome: Outcome
    """How it ended. ``wrong arguments``: a tool refused the arguments of a call."""
    error: str = ""
    """The last error's message; empty for ``ok``."""


class Sandbox:
    """A worker that runs pieces of code one after another, each in a new session (about 1 ms).

    Use it as a context manager, and one for a whole evaluation: the worker starts once. ``limits`` are those
    of each piece.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._pool = Monty(
            max_processes=1, request_timeout=self.limits.duration + GRACE, feed_duration_limit_grace=GRACE
        )

    def __enter__(self) -> Self:
        self._pool.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.__exit__(*exception)

    def run(self, code: str) -> Execution:
        """Run a piece of code. Whatever it does, it ends within its limits."""
        recorder = Recorder()
        refusals: list[str] = []
        tools = {name: _bridge(stub, refusals) for name, stub in recorder.functions().items()}
        try:
            outcome, error = self._feed(code, tools)
        except MontyError as raised:
            outcome, error = _classify(raised, code, refusals), str(raised)[:MAX_ERROR]
        return Execution(tuple(recorder.calls), outcome, error)

    def _feed(self, code: str, tools: dict[str, Callable[..., Any]]) -> tuple[Outcome, str]:
        limits = self.limits
        deadline = time.monotonic() + limits.duration + GRACE
        with self._pool.checkout(
            limits={
                "max_feed_duration_secs": limits.duration,
                "max_memory": limits.memory,
                "max_recursion_depth": limits.recursion,
                "max_suspensions": limits.calls,
            },
            os_policy={"datetime": _CLOCK, "sleep": "zero", "random_start": {"seed": 0}},
        ) as session:
            printed = CollectString(max_bytes=limits.output)
            state = session.feed_start(code, external_lookup=tools, print_callback=printed)
            # The worker's clock stands still while an argument is copied to this process, so a loop of calls
            # with large arguments needs a second limit.
            while not isinstance(state, MontyComplete):
                if time.monotonic() > deadline:
                    return "limit hit", "the calls took too long"
                state = state.resume_auto()
        return "ok", ""


def _bridge(stub: Callable[..., Any], refusals: list[str]) -> Callable[..., Any]:
    """The stub as the sandbox sees it: arguments and result are copied as plain values."""

    def call(*args: object, **kwargs: object) -> Any:
        plain = _Plain()
        try:
            result = stub(*map(plain, args), **{name: plain(value) for name, value in kwargs.items()})
        except TypeError as error:
            refusals.append(str(error))
            raise
        return ClassInstance(result, eager_attrs="all")

    return call


class _Plain:
    """Makes the arguments of one call plain, within one limit: a list that holds itself stays small."""

    def __init__(self) -> None:
        self.room = MAX_KEPT

    def __call__(self, value: object, depth: int = 0) -> object:
        """The value if JSON can hold it and there is room; a part or a description of it otherwise."""
        self.room -= 1
        if isinstance(value, str):
            kept = value[: max(self.room, 0)]
            self.room -= len(kept)
            return value if len(kept) == len(value) else kept + "…"
        if value is None or isinstance(value, bool) or (isinstance(value, float) and math.isfinite(value)):
            return value
        if isinstance(value, int) and value.bit_length() <= 64:
            return value
        if isinstance(value, list | tuple) and depth < MAX_DEPTH:
            items = [self(each, depth + 1) for each in value if self.room > 0]
            return items if len(items) == len(value) else [*items, "…"]
        return f"<{type(value).__name__}>"


def _classify(raised: MontyError, code: str, refusals: list[str]) -> Outcome:
    if isinstance(raised, MontySyntaxError):
        return "syntax error"
    if isinstance(raised, MontyCrashedError):
        return "limit hit"
    match raised.exception():
        case TimeoutError() | MemoryError() | RecursionError():
            return "limit hit"
        case RuntimeError() as error if str(error).startswith("suspension limit"):
            return "limit hit"
        case TypeError() as error if str(error) in refusals:
            return "wrong arguments"
        case NameError() as error if missing := re.fullmatch(r"name '(\w+)' is not defined", str(error)):
            called = re.search(rf"\b{missing[1]}\s*\(", code)
            return "unknown tool" if called and not hasattr(builtins, missing[1]) else "runtime error"
    return "runtime error"


def _result(name: str, values: dict[str, Any]) -> type[Any]:
    typed = [
        (key, type(value), field(default_factory=lambda value=value: copy.copy(value)))
        for key, value in (values | {"success": True}).items()
    ]
    return make_dataclass(name, typed, frozen=True)


RESULTS: dict[str, type[Any]] = {name: _result(name, values) for name, values in _FIELDS.items()}
"""Result types by the name that a tool's declaration gives them."""


class Recorder:
    """A set of stubs that remembers every call made through it."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        """In the order they were made, with default arguments filled in."""

    def functions(self) -> dict[str, Callable[..., Any]]:
        """One stub per tool, by name; each raises TypeError for arguments its signature does not take."""
        return {name: self._stub(tool) for name, tool in TOOLS.items()}

    def _stub(self, tool: Tool) -> Callable[..., Any]:
        result = RESULTS[tool.returns]
        echoed = {each.name for each in fields(result)}

        def stub(*args: object, **kwargs: object) -> Any:
            arguments = tool.bind(*args, **kwargs)
            self.calls.append(Call(tool.name, arguments))
            return result(**{name: value for name, value in arguments.items() if name in echoed})

        stub.__name__, stub.__doc__ = tool.name, tool.description
        return stub
