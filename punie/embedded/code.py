"""Python code that calls the tools, and what it prints: the assistant's and the tools' side of a row."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence

from punie.embedded.phrasings import Task
from punie.formats.tools import REQUIRED, TOOLS

SHOWN = {
    "FileContent": ("content",),
    "EditResult": ("changes",),
    "CommandResult": ("stdout",),
    "CheckResult": ("errors",),
    "TestResult": ("passed", "failed"),
    "Locations": ("locations",),
    "HoverInfo": ("text",),
    "SymbolList": ("symbols",),
    "GitStatus": ("files",),
    "GitDiff": ("diff",),
    "GitLog": ("commits",),
}
"""The fields of each result type that code prints."""


def literal(value: object) -> str:
    """A value as Python source, strings in double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    return repr(value)


def call(tool: str, arguments: Mapping[str, object]) -> str:
    """A call as an expression: required arguments by position, others by name where they are given."""
    shown = []
    for parameter in TOOLS[tool].parameters:
        if parameter.name in arguments:
            value = literal(arguments[parameter.name])
            shown.append(value if parameter.default is REQUIRED else f"{parameter.name}={value}")
    return f"{tool}({', '.join(shown)})"


def step(task: Task) -> str:
    """Two lines of code: the call, and a print of what matters in its result."""
    fields = ", ".join(f"result.{name}" for name in SHOWN[TOOLS[task.tool].returns])
    return f"result = {call(task.tool, task.arguments)}\nprint({fields})"


def chain(tasks: Sequence[Task]) -> str:
    """Code that does one task after the other."""
    return "\n".join(map(step, tasks))


def condition(first: Task, second: Task) -> str:
    """Code that does the second task only if the first succeeds."""
    body = step(second).replace("\n", "\n    ")
    return f"result = {call(first.tool, first.arguments)}\nif result.success:\n    {body}"


def loop(task: Task, paths: Sequence[str]) -> str:
    """Code that does a task, whose only argument is a path, for several paths."""
    fields = ", ".join(f"result.{name}" for name in SHOWN[TOOLS[task.tool].returns])
    return f"for path in {literal(list(paths))}:\n    result = {task.tool}(path)\n    print(path, {fields})"


def outcome(task: Task, rng: random.Random) -> tuple[str, str]:
    """What ``step(task)`` might print, and the sentence that tells a person."""
    subject = str(task.arguments.get("symbol") or next(iter(task.arguments.values()), "the project"))
    line, count = rng.randint(2, 99), rng.randint(1, 9)
    match TOOLS[task.tool].returns:
        case "FileContent":
            text = rng.choice(("import os", "DEBUG = True", "def main(): ...", "name: punie"))
            return text, f"{subject} holds one line: {text}"
        case "EditResult":
            return "1", f"Done: one change in {subject}."
        case "CommandResult":
            text = rng.choice(("done", "ok", "3 files", "0 errors"))
            return text, f"It printed: {text}"
        case "CheckResult" if rng.random() < 0.5:
            return "[]", f"No errors in {subject}."
        case "CheckResult":
            error = (
                f"{subject}:{line}: {rng.choice(('wrong type', 'unused name', 'missing value', 'bad order'))}"
            )
            return repr([error]), f"One error: {error}"
        case "TestResult":
            failed = rng.choice((0, 0, rng.randint(1, 4)))
            return f"{count} {failed}", f"{count} passed, {failed} failed."
        case "Locations":
            place = f"src/{rng.choice(('app', 'core', 'main', 'views'))}.py:{line}"
            return repr([place]), f"One place: {place}"
        case "HoverInfo":
            text = rng.choice(("(path: str) -> None", "(name: str) -> int", "class, no docstring"))
            return text, f"{subject}: {text}"
        case "SymbolList":
            names = rng.sample(("main", "App", "Router", "load", "save", "Config"), 2)
            return repr(names), f"Two symbols: {names[0]} and {names[1]}."
        case "GitStatus":
            name = f"src/{rng.choice(('app', 'core', 'main', 'views'))}.py"
            return repr([name]), f"One changed file: {name}"
        case "GitDiff":
            return f"-old\n+new {line}", "One line was changed."
        case "GitLog":
            subject = rng.choice(("Add the router", "Fix the cache", "First commit", "Rename the loader"))
            return repr([f"{line:02}a{count}f {subject}"]), f"The latest commit is: {subject}"
        case unknown:
            raise ValueError(f"no outcome is written for the result type {unknown}")
