"""``punie tools check``: the table of a file's tools, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from punie.__main__ import main
from punie.formats.tools import TOOLS


def tool(name: str, required: list[str] | None = None, **types: str) -> dict[str, Any]:
    """A tool in OpenAI's schema, from the types of its parameters."""
    properties = {key: {"type": each} for key, each in types.items()}
    schema = {"type": "object", "properties": properties, "required": required or list(types)}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


def test_the_embedded_tools_are_without_fault(capsys: pytest.CaptureFixture[str]) -> None:
    """Every tool has a line with its parameters and the required ones; the next step uses the file."""
    assert main(["tools", "check", "data/tools/punie26.json"]) == 0
    out = capsys.readouterr().out
    lines = [line.split("  ") for line in out.splitlines()]
    assert [line[0] for line in lines[2:28]] == list(TOOLS)
    words = [word.strip() for word in lines[2 + list(TOOLS).index("run_command")] if word]
    assert words == ["run_command", "command: str, args: list[str], cwd: str", "command"]
    assert "next: punie data check FOLDER tools=file tools.path=data/tools/punie26.json" in out


def test_every_fault_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown types, undeclared required names, a repeated name and none: all of them, and the good tools."""
    path = tmp_path / "tools.json"
    two = tool("weather", city="strng", days="intger")
    bfcl = tool("math.sum", terms="tuple", scale="float")
    path.write_text(json.dumps([two, bfcl, tool("late", ["hour"], minute="integer"), tool("math.sum"), {}]))
    assert main(["tools", "check", str(path)]) == 1
    out, err = capsys.readouterr()
    assert "math.sum  terms: list, scale: float  terms, scale" in out
    for words in (
        "Unknown type at properties.city.type.",
        "Unknown type at properties.days.type.",
        "A required parameter is not declared: 'hour'.",
        "Two tools have the same name.",
        "The tool has no name.",
        "tool 3 (late)",
        f"next     correct the file, then: punie tools check {path}",
    ):
        assert words in err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "The file lists no tools."),
        ("{}", "The tools are not a list."),
        ("[", "The tools are not JSON."),
        ("[" * 5000, "The tools are not JSON."),
    ],
)
def test_a_file_of_something_else_is_refused(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing, no list, no JSON or one that is nested too deeply ends with its fault and exit code 1."""
    (tmp_path / "tools.json").write_text(text)
    assert main(["tools", "check", str(tmp_path / "tools.json")]) == 1
    assert words in capsys.readouterr().err


def test_a_missing_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there ends with its path and exit code 1."""
    assert main(["tools", "check", "absent.json"]) == 1
    assert "absent.json" in capsys.readouterr().err
