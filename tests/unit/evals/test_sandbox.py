"""The sandbox: what code can do in it, how its end is named, and the stubs of the tools."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator

import pytest

from punie.evals.sandbox import MAX_KEPT, RESULTS, Limits, Recorder, Sandbox
from punie.formats import Call
from punie.formats.tools import TOOLS

VALUES = {"str": "src/app.py", "int": 3, "bool": True, "list[str]": ["-v"]}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture(scope="module")
def hasty() -> Iterator[Sandbox]:
    with Sandbox(Limits(duration=0.2)) as running:
        yield running


def test_calls_are_recorded(sandbox: Sandbox) -> None:
    """Calls are recorded in order with all their arguments, and their results can be used."""
    execution = sandbox.run(
        'result = read_file("src/app.py")\n'
        "if result.success:\n    print(f'{result.content}', len(typecheck('.').errors))\n"
        'for word in ["a", "b"]:\n    run_command(word, ("x", "y"))\n'
    )
    assert (execution.outcome, execution.error) == ("ok", "")
    assert execution.calls == (
        Call("read_file", {"path": "src/app.py"}),
        Call("typecheck", {"path": "."}),
        Call("run_command", {"command": "a", "args": ["x", "y"], "cwd": "."}),
        Call("run_command", {"command": "b", "args": ["x", "y"], "cwd": "."}),
    )


OUTCOMES = {
    "syntax error": ["def f(:", "x = '\ud800'", "(" * 100_000],
    "unknown tool": ["frobnicate(1)", "def main():\n    grep('x')\nmain()"],
    "wrong arguments": ["read_file()", "read_file('a', encoding='utf-8')", "git_log('.', 3, 4)"],
    "runtime error": [
        "print(undefined)",
        "input()",
        "len(5)",
        "open('/etc/passwd').read()",
        "from pathlib import Path\nPath('/etc/passwd').read_text()",
        "import os\nos.system('ls')",
        "import os\nprint(os.environ['HOME'])",
        "import socket",
        "import urllib.request",
        "import subprocess",
        "().__class__.__bases__[0].__subclasses__()",
    ],
    "limit hit": [
        "def f():\n    f()\nf()",
        "x = [0]\nwhile True:\n    x = x + x",
        "x = 'a' * 10**12",
        "x = 10 ** 10**9",
        "while True:\n    git_status()",
        "while True:\n    try:\n        git_status()\n    except BaseException:\n        pass",
        "print('x' * 1_000_000)",
    ],
    "ok": ["import time\ntime.sleep(60)", "try:\n    read_file()\nexcept TypeError:\n    pass"],
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_outcomes(sandbox: Sandbox, outcome: str) -> None:
    """Each way to end has its outcome, is over at once, and the next run works."""
    for code in OUTCOMES[outcome]:
        started = time.monotonic()
        execution = sandbox.run(code)
        assert (code, execution.outcome, bool(execution.error)) == (code, outcome, outcome != "ok")
        assert time.monotonic() - started < 2
        assert sandbox.run("git_status()").outcome == "ok"


@pytest.mark.parametrize(
    "code",
    [
        "while True:\n    pass",
        "while True:\n try:\n  while True:\n   pass\n except BaseException:\n  pass",
        "import re\nre.sub('a*', 'b' * 1000, 'a b ' * 100_000)",
        "while True:\n    read_file('a' * 5_000_000)",
    ],
)
def test_time_limit(hasty: Sandbox, code: str) -> None:
    """Code that never ends is stopped, also inside native code or a large argument; the next run works."""
    started = time.monotonic()
    assert hasty.run(code).outcome == "limit hit"
    assert time.monotonic() - started < 2
    assert hasty.run("git_status()").outcome == "ok"


def test_a_piece_of_code_stands_alone(sandbox: Sandbox) -> None:
    """What was called until an error is in the record; nothing that was defined is there for the next piece;
    clock and chance are the same every time."""
    execution = sandbox.run("x = 1\ngit_status()\n1 / 0\ngit_diff()")
    assert [call.tool for call in execution.calls] == ["git_status"]
    assert execution.error == "ZeroDivisionError: division by zero"
    assert sandbox.run("print(x)").outcome == "runtime error"
    code = "import random, time\nread_file(str(random.random()) + str(time.time()))"
    assert sandbox.run(code) == sandbox.run(code)


@pytest.mark.parametrize(
    "value",
    [
        "'a' * 5_000_000", "10 ** 4000", "float('nan')", "b'x'", "{1: 2}", "print", "None",
        "[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]", "['x'] * 100_000", "[a] * 1000",
    ],
)  # fmt: skip
def test_arguments_are_plain(sandbox: Sandbox, value: str) -> None:
    """Whatever is passed to a tool is recorded as a small JSON value, also a list that holds itself often."""
    (call,) = sandbox.run(f"a = [0]\nfor _ in range(40):\n    a = [a, a]\nread_file({value})").calls
    assert len(json.dumps(call.arguments, allow_nan=False)) < 10 * MAX_KEPT


@pytest.mark.parametrize("name", TOOLS)
def test_a_stub_records_its_call(name: str) -> None:
    """It returns the declared result, which holds plain values only."""
    recorder = Recorder()
    arguments = {each.name: VALUES[each.type] for each in TOOLS[name].parameters}
    result = recorder.functions()[name](*arguments.values())
    assert type(result) is RESULTS[TOOLS[name].returns]
    assert recorder.calls == [Call(name, arguments)]
    for value in dataclasses.asdict(result).values():
        assert isinstance(value, (str, int, bool)) or all(isinstance(each, str) for each in value)


def test_a_result_is_about_its_argument() -> None:
    """read_file's result names the path that was requested; a result's list is its own. Wrong arguments raise
    TypeError and leave no trace."""
    recorder = Recorder()
    functions = recorder.functions()
    assert functions["read_file"]("README.md").path == "README.md"
    assert functions["git_status"]().files is not functions["git_status"]().files
    made = len(recorder.calls)
    with pytest.raises(TypeError, match="typecheck"):
        functions["typecheck"]()
    assert len(recorder.calls) == made
