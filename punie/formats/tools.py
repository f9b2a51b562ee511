"""Tools as data, and the 26 embedded ones, from which training data, suites, stubs and documents are made."""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass
from typing import Any, Final

# One declaration per tool, in Python syntax, by family.
_DECLARED = {
    "text_tools": """
def read_file(path: str) -> FileContent: "Read a text file."
def write_file(path: str, content: str) -> EditResult: "Write a text file, replacing what it held."
def run_command(command: str, args: list[str] = [], cwd: str = ".") -> CommandResult: "Run a program."
""",
    "validation": """
def typecheck(path: str) -> CheckResult: "Check the types of a file or folder."
def ruff_check(path: str) -> CheckResult: "Lint a file or folder."
def pytest_run(path: str) -> TestResult: "Run the tests in a file or folder."
""",
    "lsp": """
def goto_definition(file: str, line: int, col: int, symbol: str) -> Locations: "Find a symbol's definition."
def find_references(file: str, line: int, col: int, symbol: str) -> Locations: "Find every use of a symbol."
def hover(file: str, line: int, col: int, symbol: str) -> HoverInfo: "Show a symbol's type and docstring."
def document_symbols(file: str) -> SymbolList: "List the classes and functions of a file."
def workspace_symbols(query: str) -> SymbolList: "Search the whole project for a symbol by name."
""",
    "git": """
def git_status(path: str = ".") -> GitStatus: "List changed and untracked files."
def git_diff(path: str = ".", staged: bool = False) -> GitDiff: "Show uncommitted (or staged) changes."
def git_log(path: str = ".", count: int = 10) -> GitLog: "List the latest commits."
""",
    "cst": """
def cst_find_pattern(file: str, pattern: str) -> Locations: "Find a syntax pattern in a file."
def cst_rename(file: str, old_name: str, new_name: str) -> EditResult: "Rename a symbol in a file."
def cst_add_import(file: str, import_stmt: str) -> EditResult: "Add an import to a file, once."
""",
    "domain": """
def validate_component(file: str) -> CheckResult: "Check that a component follows the component rules."
def check_render_tree(file: str) -> CheckResult: "Check how components nest when they are rendered."
def validate_escape_context(file: str) -> CheckResult: "Check that template output is escaped."
def validate_service_registration(file: str) -> CheckResult: "Check how services are registered."
def check_dependency_graph(file: str) -> CheckResult: "Check the dependency graph for cycles and gaps."
def validate_injection_site(file: str) -> CheckResult: "Check that injected parameters can be provided."
def validate_middleware_chain(file: str) -> CheckResult: "Check the order of the middleware chain."
def check_di_template_binding(file: str) -> CheckResult: "Check that injected values reach the template."
def validate_route_pattern(file: str) -> CheckResult: "Check route patterns for mistakes and overlaps."
""",
}


REQUIRED: Final = inspect.Parameter.empty
"""The default of a parameter that has none."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a tool."""

    name: str
    """As it is spelled in a call."""
    type: str
    """The Python type of its value: ``str``, ``int``, ``bool`` or ``list[str]``."""
    default: object = REQUIRED
    """The value when the call leaves it out, or REQUIRED."""

    def __str__(self) -> str:
        return f"{self.name}: {self.type}" + ("" if self.default is REQUIRED else f" = {self.default!r}")


@dataclass(frozen=True)
class Tool:
    """A function that the model may call."""

    name: str
    """As it is spelled in a call."""
    description: str
    """What it does."""
    parameters: tuple[Parameter, ...] = ()
    """In the order of positional arguments."""
    family: str = ""
    """The group it belongs to; also the suite category of the prompts that ask for it."""
    returns: str = ""
    """Name of its result type in ``punie.evals.sandbox``."""

    @property
    def signature(self) -> str:
        """The tool as Python would declare it: ``read_file(path: str) -> FileContent``."""
        result = f" -> {self.returns}" if self.returns else ""
        return f"{self.name}({', '.join(map(str, self.parameters))}){result}"

    def bind(self, /, *args: object, **kwargs: object) -> dict[str, Any]:
        """The arguments of a call by parameter name, defaults filled in.

        Raises:
            TypeError: An argument is missing, unknown, given twice or one too many.
        """
        either = inspect.Parameter.POSITIONAL_OR_KEYWORD
        declared = [inspect.Parameter(each.name, either, default=each.default) for each in self.parameters]
        try:
            bound = inspect.Signature(declared).bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}(): {error}; the tool is {self.signature}") from None
        bound.apply_defaults()
        return {name: list(v) if isinstance(v, list) else v for name, v in bound.arguments.items()}


def _declared(family: str, node: ast.FunctionDef) -> Tool:
    names, values = node.args.args, [ast.literal_eval(value) for value in node.args.defaults]
    parameters = tuple(
        Parameter(each.arg, ast.unparse(each.annotation or ast.Name("str")), default)
        for each, default in zip(names, [REQUIRED] * (len(names) - len(values)) + values, strict=True)
    )
    returns = ast.unparse(node.returns) if node.returns else ""
    return Tool(node.name, ast.get_docstring(node) or "", parameters, family, returns)


TOOLS: Final[dict[str, Tool]] = {
    node.name: _declared(family, node)
    for family, source in _DECLARED.items()
    for node in ast.parse(source).body
    if isinstance(node, ast.FunctionDef)
}
"""Every embedded tool by name, in the order they are declared."""

FAMILIES: Final[dict[str, tuple[str, ...]]] = {
    family: tuple(name for name, tool in TOOLS.items() if tool.family == family) for family in _DECLARED
}
"""The tools' names by family."""

CATEGORIES: Final[tuple[str, ...]] = (*FAMILIES, "multi_tool")
"""The categories of suite items: one for each family, and one for prompts that need several tools."""
