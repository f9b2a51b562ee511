"""Tools as data: lists in OpenAI's schema, from a file, a row or a suite; and the 26 embedded ones."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from punie.util.errors import DataError, Problems
from punie.util.jsonl import excerpt
from punie.util.paths import resource
from punie.util.plain import is_text, parse_json

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError, Validator

REQUIRED: Final = inspect.Parameter.empty
"""The default of a parameter that has none."""

NO_ARGUMENTS: Final[Mapping[str, Any]] = {"type": "object", "properties": {}}
"""The schema of a tool that takes no arguments."""

_PYTHON = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "array": "list"}
_PYTHON |= {"object": "dict", "null": "None"}
# The Python names of types in BFCL's tools, and what JSON Schema calls them.
_DIALECT: dict[str, str | None] = {
    "dict": "object",
    "float": "number",
    "tuple": "array",
    "list": "array",
    "int": "integer",
}
_VALUES = ("default", "enum", "const", "examples", "required")
"""Keys of a schema that hold values."""
_DIALECT |= {"str": "string", "bool": "boolean", "any": None, "none": "null"}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a tool."""

    name: str
    """As it is spelled in a call."""
    type: str
    """The Python type of its value, such as ``str`` or ``list[str]``; ``object`` if the schema names none."""
    default: object = REQUIRED
    """The value when the call leaves it out, or REQUIRED; None if the schema gives no default."""

    def __str__(self) -> str:
        return f"{self.name}: {self.type}" + ("" if self.default is REQUIRED else f" = {self.default!r}")


@dataclass(frozen=True)
class Tool:
    """A function that the model may call."""

    name: str
    """As it is spelled in a call."""
    description: str = ""
    """What it does."""
    schema: Mapping[str, Any] = field(default_factory=lambda: NO_ARGUMENTS)
    """JSON Schema of the object that holds its arguments."""
    family: str = ""
    """Of an embedded tool: the group it belongs to, and the suite category of the prompts that ask for it."""
    returns: str = ""
    """Of an embedded tool: name of its result type in ``punie.evals.sandbox``."""

    def __reduce__(self) -> tuple[Any, ...]:
        """A tool in another process: its fields, and nothing that was derived from them."""
        return Tool, (self.name, self.description, self.schema, self.family, self.returns)

    @property
    def properties(self) -> dict[str, Mapping[str, Any]]:
        """The schemas of its parameters by name; empty for one that may be anything."""
        found = self.schema.get("properties", {})
        return {name: part if isinstance(part, Mapping) else {} for name, part in found.items()}

    @functools.cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Its parameters in the order of positional arguments: the required ones, then the others."""
        required = self.schema.get("required", ())
        found = [
            Parameter(name, _python(part), REQUIRED if name in required else part.get("default"))
            for name, part in self.properties.items()
        ]
        return tuple(sorted(found, key=lambda each: each.default is not REQUIRED))

    @property
    def signature(self) -> str:
        """The tool as Python would declare it: ``read_file(path: str) -> FileContent``."""
        result = f" -> {self.returns}" if self.returns else ""
        return f"{self.name}({', '.join(map(str, self.parameters))}){result}"

    @property
    def declaration(self) -> dict[str, Any]:
        """The tool in OpenAI's schema, as chat templates expect it."""
        function = {"name": self.name, "description": self.description, "parameters": self.schema}
        return {"type": "function", "function": function}

    def wrong_value(self, name: str, value: object) -> str | None:
        """What the schema of a parameter expects, if a value is not of it; None if it is."""
        known = next(each.type for each in self.parameters if each.name == name)
        if type(value) is float and known == "int":
            return known
        found = (each for each in self.violations({name: value}) if each.instance_path[:1] == [name])
        wrong = next(found, None)
        if wrong and known != "object" and wrong.instance_path == [name] and wrong.kind.name == "type":
            return known
        return _said(wrong).removeprefix(f"{name}: ") if wrong else None

    def violations(self, arguments: Mapping[str, Any]) -> list[ValidationError]:
        """What of its schema a call's arguments violate; takes time linear in them.

        Raises:
            ValueError: They are no JSON: half of a surrogate pair, or nested too deeply.
        """
        return list(self._validator.iter_errors(dict(arguments)))

    @functools.cached_property
    def _validator(self) -> Validator:
        return _validator(self.schema)

    @functools.cached_property
    def _python_signature(self) -> inspect.Signature:
        either = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Signature(
            [inspect.Parameter(each.name, either, default=each.default) for each in self.parameters]
        )

    def bind(self, /, *args: object, **kwargs: object) -> dict[str, Any]:
        """The arguments of a call by parameter name, defaults filled in.

        Raises:
            TypeError: An argument is missing, unknown, given twice or one too many.
        """
        try:
            bound = self._python_signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}(): {error}; the tool is {self.signature}") from None
        bound.apply_defaults()
        return {name: list(v) if isinstance(v, list) else v for name, v in bound.arguments.items()}


def _python(part: Mapping[str, Any]) -> str:
    kind = part.get("type")
    if kind == "array" and isinstance(part.get("items"), Mapping):
        return f"list[{_python(part['items'])}]"
    return _PYTHON.get(kind, "object") if isinstance(kind, str) else "object"


_LIST = '[{"type": "function", "function": {"name": …, "parameters": {…}}}, …]'


def read_tools(declared: object, where: str) -> list[Tool]:
    """Tools from a list in OpenAI's schema, each with or without its ``{"type": "function"}`` around it.

    The types of BFCL's dialect (``dict``, ``float``, ``tuple``) become those of JSON Schema.

    Args:
        declared: The list, or its JSON text.
        where: Where it stands, for the messages.

    Raises:
        Problems: What is wrong with each tool.
    """
    tools, problems = examine(declared, where)
    if problems:
        raise Problems("The tools are wrong:", problems)
    return tools


def examine(declared: object, where: str) -> tuple[list[Tool], list[DataError]]:
    """The tools of a list in which nothing is wrong, and what is wrong with the others; as ``read_tools``."""
    if isinstance(declared, str):
        try:
            declared = parse_json(declared)
        except ValueError as error:
            what, found = "The tools are not JSON.", excerpt(str(error), 80)
            return [], [DataError(what, where=where, found=found, expected="a list: " + _LIST)]
    if not is_text(declared):
        return [], [_problem("The tools are not valid text.", where, "half of a surrogate pair")]
    if not isinstance(declared, list):
        what = "The tools are not a list."
        return [], [DataError(what, where=where, found=excerpt(declared), expected=_LIST)]
    tools: dict[str, Tool] = {}
    problems: list[DataError] = []
    for number, each in enumerate(declared, 1):
        place = f"{where}, tool {number}"
        function = each.get("function", each) if isinstance(each, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(name, str) or not name:
            what, found = "The tool has no name.", excerpt(each)
            problems.append(DataError(what, where=place, found=found, expected=_LIST[1:-4]))
            continue
        found = list(_check(function, f"{place} ({name})"))
        if name in tools:
            found.append(_problem("Two tools have the same name.", place, name))
        problems += found
        if not found:
            tools[name] = _tool(function)
    return list(tools.values()), problems


def _tool(function: Mapping[str, Any], **extra: str) -> Tool:
    schema = _standard(function.get("parameters") or NO_ARGUMENTS)
    return Tool(function["name"], function.get("description") or "", schema, **extra)


def own_tools(value: Mapping[str, Any]) -> tuple[Tool, ...]:
    """The tools that an example or a suite's item declares itself, as a list or as its JSON text.

    ``functions`` is OpenAI's earlier key for them.

    Raises:
        Problems: What is wrong with each tool.
    """
    declared = value.get("tools") or value.get("functions") or ()
    return _read_once(declared if isinstance(declared, str) else json.dumps(declared))


@functools.lru_cache(maxsize=1024)
def _read_once(text: str) -> tuple[Tool, ...]:
    return tuple(read_tools(text, "tools"))


def wrong_tools(value: Mapping[str, Any], where: str) -> Iterator[DataError]:
    """What is wrong with the tools that an example or a suite's item declares itself."""
    try:
        own_tools(value)
    except Problems as error:
        for each in error.problems:
            place = f"{where}, {each.where}"
            yield DataError(each.what, where=place, found=each.found, expected=each.expected)


def load_tools(path: Path) -> list[Tool]:
    """Tools from a JSON file.

    Raises:
        DataError: The file cannot be read, or lists no tools.
        Problems: What is wrong with each tool.
    """
    if tools := read_tools(file_text(path), str(path)):
        return tools
    raise DataError("The file lists no tools.", where=path, expected=_LIST)


def file_text(path: Path) -> str:
    """The text of a file of tools.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            "The file of tools cannot be read.", where=path, found=error, next_step="check the path"
        ) from error


def _check(function: Mapping[str, Any], where: str) -> Iterator[DataError]:
    """What is wrong with one function's description and schema."""
    if not isinstance(function.get("description", ""), str | None):
        yield _problem("The description is not text.", where, function["description"])
    schema = function.get("parameters") or NO_ARGUMENTS
    if not isinstance(schema, Mapping):
        yield _problem("The parameters are not a JSON Schema.", where, schema)
        return
    schema = _standard(schema)
    if schema.get("type", "object") != "object" or not isinstance(schema.get("properties", {}), Mapping):
        yield DataError(
            "The parameters are not the schema of an object.",
            where=where,
            found=excerpt(schema),
            expected='{"type": "object", "properties": {…}, "required": […]}',
        )
        return
    faults = [*_meta().iter_errors(schema)]
    for fault in faults:
        at = ".".join(map(str, fault.instance_path))
        if at.endswith("type"):
            what, expected = f"Unknown type at {at}.", f"one of {', '.join(_PYTHON)}"
        else:
            what = f"The schema is wrong{f' at {at}' if at else ''}: {excerpt(fault.message)}."
            expected = None
        yield DataError(what, where=where, found=excerpt(fault.instance), expected=expected)
    if faults:
        return
    try:
        _validator(schema)
    except ValueError as error:
        at = ".".join(map(str, getattr(error, "instance_path", ())))
        message = excerpt(getattr(error, "message", str(error)), 160)
        expected = "references within the schema"
        if "pattern" in at:
            expected = "a regular expression without look-around and back-references"
        what = f"The schema cannot be applied{f' at {at}' if at else ''}."
        yield DataError(what, where=where, found=message, expected=expected)
    names = schema.get("properties", {})
    for missing in [name for name in schema.get("required", ()) if name not in names]:
        yield DataError(
            f"A required parameter is not declared: '{missing}'.",
            where=where,
            expected=", ".join(names) or "none",
        )


def _standard(schema: Any) -> Any:
    """A schema with the type names of JSON Schema."""
    if isinstance(schema, list):
        return [_standard(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {}
    for key, value in schema.items():
        if key == "type" and isinstance(value, str):
            value = _DIALECT.get(value.lower(), value)
            if value is None:
                continue
        elif key == "properties" and isinstance(value, Mapping):
            value = {name: _standard(part) for name, part in value.items()}
        elif key not in _VALUES:
            value = _standard(value)
        found[key] = value
    return found


def _problem(what: str, where: str, found: object) -> DataError:
    return DataError(what, where=where, found=excerpt(found))


def wrong_arguments(tool: Tool, arguments: Mapping[str, Any]) -> str | None:
    """What is wrong with a call's arguments by the tool's schema; None if nothing is."""
    names = tool.schema.get("properties")
    if names is not None and (unknown := sorted(arguments.keys() - names.keys())):
        return f"{tool.name} takes no {', '.join(unknown)}; it is {tool.signature}"
    try:
        wrong = tool.violations(arguments)
    except ValueError as error:
        return f"{tool.name}: the arguments are no JSON: {excerpt(str(error))}"
    if not wrong:
        return None
    return f"{tool.name}: {_said(wrong[0])}"


def _said(error: ValidationError) -> str:
    at = ".".join(map(str, error.instance_path))
    return f"{f'{at}: ' if at else ''}{excerpt(error.message)}"


def _validator(schema: Mapping[str, Any]) -> Validator:
    """The validator of a schema. It follows no reference elsewhere, and its patterns never backtrack."""
    from jsonschema_rs import Draft202012Validator, RegexOptions

    return Draft202012Validator(dict(schema), offline=True, pattern_options=RegexOptions())


@functools.cache
def _meta() -> Validator:
    """The validator of schemas."""
    return _validator({"$ref": "https://json-schema.org/draft/2020-12/schema"})


def _embedded() -> Iterator[Tool]:
    for each in json.loads(resource("data/tools/punie26.json").read_text(encoding="utf-8")):
        yield _tool(each["function"], family=each["family"], returns=each["returns"])


TOOLS: Final[dict[str, Tool]] = {tool.name: tool for tool in _embedded()}
"""Every embedded tool by name, in the order they are declared."""


def _families(tools: Iterable[Tool]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for tool in tools:
        found[tool.family] = (*found.get(tool.family, ()), tool.name)
    return found


FAMILIES: Final[dict[str, tuple[str, ...]]] = _families(TOOLS.values())
"""The tools' names by family."""

CATEGORIES: Final[tuple[str, ...]] = (*FAMILIES, "multi_tool")
"""The categories of punie's own suites: one for each family, and one for prompts that need several tools."""
