"""Stand-ins for the tools: they record what was called and answer with a small, plausible result.

Results are flat frozen dataclasses whose fields are plain values, so that a sandbox can copy them across
its border and code such as ``result.success`` or ``len(result.errors)`` works.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from punie.formats.tools import TOOLS, Tool


@dataclass(frozen=True)
class FileContent:
    """A file that was read."""

    path: str
    content: str = "import logging\n\nlog = logging.getLogger(__name__)\n"
    success: bool = True


@dataclass(frozen=True)
class EditResult:
    """A file that was written or changed."""

    file: str = ""
    changes: int = 1
    success: bool = True


@dataclass(frozen=True)
class CommandResult:
    """A program that has ended."""

    command: str
    stdout: str = "done\n"
    stderr: str = ""
    returncode: int = 0
    success: bool = True


@dataclass(frozen=True)
class CheckResult:
    """What a checker found: nothing."""

    errors: list[str] = field(default_factory=list)
    success: bool = True


@dataclass(frozen=True)
class TestResult:
    """What a test run came to."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    passed: int = 3
    failed: int = 0
    errors: list[str] = field(default_factory=list)
    success: bool = True


@dataclass(frozen=True)
class Locations:
    """Places in source files, each as ``file:line``."""

    locations: list[str] = field(default_factory=lambda: ["src/app.py:12", "src/core.py:48"])
    success: bool = True


@dataclass(frozen=True)
class HoverInfo:
    """What an editor shows over a symbol."""

    symbol: str
    text: str = "(name: str) -> None"
    success: bool = True


@dataclass(frozen=True)
class SymbolList:
    """Names of classes and functions."""

    symbols: list[str] = field(default_factory=lambda: ["App", "create_app", "main"])
    success: bool = True


@dataclass(frozen=True)
class GitStatus:
    """Files that differ from the last commit."""

    files: list[str] = field(default_factory=lambda: ["src/app.py"])
    success: bool = True


@dataclass(frozen=True)
class GitDiff:
    """Changes as a unified diff."""

    diff: str = "--- a/src/app.py\n+++ b/src/app.py\n@@ -1 +1 @@\n-old\n+new\n"
    success: bool = True


@dataclass(frozen=True)
class GitLog:
    """Commits, newest first, each as ``hash subject``."""

    commits: list[str] = field(default_factory=lambda: ["3f2a91c Add the router", "b07d4e8 First commit"])
    success: bool = True


RESULTS: dict[str, type[Any]] = {
    each.__name__: each
    for each in (
        FileContent, EditResult, CommandResult, CheckResult, TestResult, Locations,
        HoverInfo, SymbolList, GitStatus, GitDiff, GitLog,
    )
}  # fmt: skip
"""Result types by the name that the registry gives them."""


@dataclass(frozen=True)
class Call:
    """One call of a tool."""

    tool: str
    """The tool's name."""
    arguments: Mapping[str, object]
    """By parameter name, defaults filled in."""


class Recorder:
    """A set of stubs that remembers every call made through it."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        """In the order they were made."""

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
