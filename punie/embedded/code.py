"""Python code that calls the tools, and what it might print."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

from punie.embedded.phrasings import Task
from punie.embedded.values import sections
from punie.formats.tools import REQUIRED, TOOLS

_RESULTS = {
    name: dict(line.split(": ", 1) for line in lines) for name, lines in sections("results.txt").items()
}


def literal(value: object) -> str:
    """A value as Python source, strings in double quotes."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | list) else repr(value)


def call(task: Task) -> str:
    """A call as an expression: required arguments by position, others by name where they are given."""
    shown = []
    for parameter in TOOLS[task.tool].parameters:
        if parameter.name in task.arguments:
            value = literal(task.arguments[parameter.name])
            shown.append(value if parameter.default is REQUIRED else f"{parameter.name}={value}")
    return f"{task.tool}({', '.join(shown)})"


def _fields(tool: str) -> str:
    return ", ".join(f"result.{name}" for name in _RESULTS[TOOLS[tool].returns]["fields"].split())


def step(task: Task) -> str:
    """Two lines of code: the call, and a print of the fields of its result."""
    return f"result = {call(task)}\nprint({_fields(task.tool)})"


def chain(tasks: Sequence[Task]) -> str:
    """Code that does one task after the other."""
    return "\n".join(map(step, tasks))


def condition(first: Task, second: Task) -> str:
    """Code that does the second task only if the first succeeds."""
    body = step(second).replace("\n", "\n    ")
    return f"result = {call(first)}\nif result.success:\n    {body}"


def loop(tool: str, paths: Sequence[str]) -> str:
    """Code that calls a tool, whose only argument is a path, for several paths."""
    return f"for path in {literal(list(paths))}:\n    result = {tool}(path)\n    print(path, {_fields(tool)})"


def outcome(task: Task, rng: random.Random) -> tuple[str, str]:
    """What ``step(task)`` might print, and the sentence that tells a person."""
    subject = str(task.arguments.get("symbol") or next(iter(task.arguments.values()), "the project"))
    line, count = rng.randint(2, 99), rng.randint(1, 9)
    result = TOOLS[task.tool].returns
    words = _RESULTS[result].get("words", "").split("; ")
    if result == "CheckResult" and rng.random() < 0.5:
        return "[]", f"No errors in {subject}."
    if result == "TestResult":
        failed = rng.choice((0, 0, rng.randint(1, 4)))
        return f"{count} {failed}", f"{count} passed, {failed} failed."
    if result == "SymbolList":
        names = rng.sample(words, 2)
        return repr(names), f"Two symbols: {names[0]} and {names[1]}."
    drawn = {
        "text": rng.choice(words) if words != [""] else "",
        "subject": subject,
        "line": line,
        "count": count,
    }
    printed, told = (_RESULTS[result][name].format(**drawn) for name in ("printed", "told"))
    return printed.replace("\\n", "\n"), told
