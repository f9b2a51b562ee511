import json
import time

import pytest

from punie.evals.sandbox import MAX_KEPT, Limits, Sandbox
from punie.evals.stubs import Call


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as running:
        yield running


@pytest.fixture(scope="module")
def hasty():
    with Sandbox(Limits(duration=0.2)) as running:
        yield running


def test_calls_are_recorded(sandbox):
    """Calls are recorded in order with all their arguments, and their results can be used."""
    execution = sandbox.run(
        'result = read_file("src/app.py")\n'
        "if result.success:\n    print(f'{result.content}')\n"
        'for word in ["a", "b"]:\n    run_command(word, ("x", "y"))\n'
    )
    assert (execution.outcome, execution.error) == ("ok", "")
    assert execution.calls == (
        Call("read_file", {"path": "src/app.py"}),
        Call("run_command", {"command": "a", "args": ["x", "y"], "cwd": "."}),
        Call("run_command", {"command": "b", "args": ["x", "y"], "cwd": "."}),
    )


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("def f(:", "syntax error"),
        ("x = '\ud800'", "syntax error"),
        ("(" * 100_000, "syntax error"),
        ("frobnicate(1)", "unknown tool"),
        ("def main():\n    grep('x')\nmain()", "unknown tool"),
        ("print(undefined)", "runtime error"),
        ("input()", "runtime error"),
        ("read_file()", "wrong arguments"),
        ("read_file('a', encoding='utf-8')", "wrong arguments"),
        ("git_log('.', 3, 4)", "wrong arguments"),
        ("len(5)", "runtime error"),
        ("1 / 0", "runtime error"),
        ("open('/etc/passwd').read()", "runtime error"),
        ("from pathlib import Path\nPath('/etc/passwd').read_text()", "runtime error"),
        ("import os\nos.system('ls')", "runtime error"),
        ("import os\nprint(os.environ['HOME'])", "runtime error"),
        ("import socket", "runtime error"),
        ("import urllib.request", "runtime error"),
        ("import subprocess", "runtime error"),
        ("().__class__.__bases__[0].__subclasses__()", "runtime error"),
        ("def f():\n    f()\nf()", "limit hit"),
        ("x = [0]\nwhile True:\n    x = x + x", "limit hit"),
        ("x = 'a' * 10**12", "limit hit"),
        ("x = 10 ** 10**9", "limit hit"),
        ("while True:\n    git_status()", "limit hit"),
        ("while True:\n    try:\n        git_status()\n    except BaseException:\n        pass", "limit hit"),
        ("print('x' * 1_000_000)", "limit hit"),
        ("import time\ntime.sleep(60)", "ok"),
        ("try:\n    read_file()\nexcept TypeError:\n    pass", "ok"),
    ],
)
def test_outcomes(sandbox, code, outcome):
    """Each way to end has its outcome, is over at once, and the next run works."""
    started = time.monotonic()
    execution = sandbox.run(code)
    assert execution.outcome == outcome
    assert bool(execution.error) == (outcome != "ok")
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
def test_time_limit(hasty, code):
    """Code that never ends is stopped, also inside native code or a large argument; the next run works."""
    started = time.monotonic()
    assert hasty.run(code).outcome == "limit hit"
    assert time.monotonic() - started < 2
    assert hasty.run("git_status()").outcome == "ok"


def test_calls_before_an_error_are_kept(sandbox):
    """What was called until an error happened is in the record."""
    execution = sandbox.run("git_status()\n1 / 0\ngit_diff()")
    assert [call.tool for call in execution.calls] == ["git_status"]
    assert execution.error == "ZeroDivisionError: division by zero"


def test_sessions_are_fresh(sandbox):
    """Nothing that a piece of code defines is there for the next one."""
    assert sandbox.run("x = 1").outcome == "ok"
    assert sandbox.run("print(x)").outcome == "runtime error"


@pytest.mark.parametrize(
    "value",
    [
        "'a' * 5_000_000", "10 ** 4000", "float('nan')", "b'x'", "{1: 2}", "print", "None",
        "[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]", "['x'] * 100_000",
    ],
)  # fmt: skip
def test_arguments_are_plain(sandbox, value):
    """Whatever is passed to a tool is recorded as a small JSON value."""
    (call,) = sandbox.run(f"read_file({value})").calls
    assert len(json.dumps(call.arguments, allow_nan=False)) < 10 * MAX_KEPT


def test_shared_lists_do_not_explode(sandbox):
    """A list that holds itself a billion times over is recorded in bounded space and time."""
    (call,) = sandbox.run("a = [0]\nfor _ in range(40):\n    a = [a, a]\nread_file([a] * 1000)").calls
    assert len(json.dumps(call.arguments)) < 10 * MAX_KEPT


def test_clock_and_chance_are_fixed(sandbox):
    """The same code makes the same calls every time, whatever it asks of clock and chance."""
    code = "import random, time\nread_file(str(random.random()) + str(time.time()))"
    assert sandbox.run(code) == sandbox.run(code)
