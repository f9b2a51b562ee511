"""Stubs of the tools: they record what was called and return a small, plausible result.

Results are flat frozen dataclasses whose fields are plain values, so that a sandbox can copy them across its
border and code such as ``result.success`` or ``len(result.errors)`` works.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import field, fields, make_dataclass
from typing import Any

from punie.formats import Call
from punie.formats.tools import TOOLS, Tool

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
