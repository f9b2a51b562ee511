import json

import pytest

from punie.formats.tools import (
    CATEGORIES,
    FAMILIES,
    REQUIRED,
    TOOLS,
    Parameter,
    Tool,
    load_tools,
    read_tools,
    wrong_arguments,
)
from punie.util.errors import DataError, Problems


def test_there_are_26_tools_in_six_families_and_a_seventh_category():
    """The embedded tools are 26 in six families; suites add multi_tool."""
    assert len(TOOLS) == 26
    assert [len(names) for names in FAMILIES.values()] == [3, 3, 5, 3, 3, 9]
    assert (*FAMILIES, "multi_tool") == CATEGORIES
    assert sum(FAMILIES.values(), ()) == tuple(TOOLS)


def test_a_declaration_becomes_a_typed_signature():
    """Names, types, defaults, result and description are read from the declaration."""
    tool = TOOLS["run_command"]
    assert tool.parameters == (
        Parameter("command", "str"),
        Parameter("args", "list[str]", []),
        Parameter("cwd", "str", "."),
    )
    assert (
        tool.signature == "run_command(command: str, args: list[str] = [], cwd: str = '.') -> CommandResult"
    )
    assert tool.description == "Run a program."
    assert tool.parameters[0].default is REQUIRED
    assert Tool("ping", "Answer.").signature == "ping()"


@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_is_fully_declared(name):
    """Every tool has a one-line description and parameters of the four known types."""
    tool = TOOLS[name]
    assert tool.description.endswith(".")
    assert "\n" not in tool.description
    assert {each.type for each in tool.parameters} <= {"str", "int", "bool", "list[str]"}


def test_arguments_are_bound_by_position_or_keyword_and_defaults_filled_in():
    """Positional and keyword spellings of one call bind to the same arguments; a default is never shared."""
    expected = {"path": "src", "staged": True}
    assert TOOLS["git_diff"].bind("src", True) == TOOLS["git_diff"].bind(staged=True, path="src") == expected
    assert TOOLS["git_log"].bind() == {"path": ".", "count": 10}
    TOOLS["run_command"].bind("ls")["args"].append("-l")
    assert TOOLS["run_command"].bind("ls")["args"] == []


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {}, "path"),
        (("a", "b"), {}, "too many"),
        (("a",), {"path": "b"}, "multiple"),
        ((), {"file": "a"}, "path"),
    ],
)
def test_wrong_arguments_are_refused_with_the_signature(args, kwargs, said):
    """A missing, extra, doubled or unknown argument is a TypeError that shows the signature."""
    with pytest.raises(TypeError, match=r"read_file\(path: str\) -> FileContent") as caught:
        TOOLS["read_file"].bind(*args, **kwargs)
    assert said in str(caught.value)


SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}, "any": True},
    "required": ["city"],
}
WEATHER = {"name": "weather", "description": "The weather.", "parameters": SCHEMA}


@pytest.mark.parametrize("declared", [[WEATHER], [{"type": "function", "function": WEATHER}]])
def test_tools_are_read_from_a_list_its_json_text_or_a_file(declared, tmp_path):
    """Tools have a ``{"type": "function"}`` around them or not, and come back as OpenAI declares them."""
    (tool,) = read_tools(declared, "x")
    assert tool == Tool("weather", "The weather.", SCHEMA)
    assert tool.signature == "weather(city: str, days: int = None, any: object = None)"
    assert read_tools([tool.declaration], "x") == [tool]
    (tmp_path / "tools.json").write_text(json.dumps(declared))
    assert load_tools(tmp_path / "tools.json") == read_tools(json.dumps(declared), "x") == [tool]


def test_the_dialect_of_bfcl():
    """dict, float, tuple and any are read as JSON Schema's types, within properties and items, too."""
    parameters = {
        "type": "dict",
        "properties": {
            "x": {"type": "float", "default": 1.5},
            "pair": {"type": "tuple", "items": {"type": "float"}},
            "type": {"type": "any"},
            "more": {"type": "dict", "properties": {"n": {"type": "int"}}},
        },
    }
    (tool,) = read_tools([{"name": "math.area", "parameters": parameters}], "x")
    assert tool.signature == (
        "math.area(x: float = 1.5, pair: list[float] = None, type: object = None, more: dict = None)"
    )
    assert tool.schema["properties"]["more"]["properties"] == {"n": {"type": "integer"}}
    assert wrong_arguments(tool, {"x": 3, "pair": [1.5], "type": None, "more": {"n": 1}}) is None


@pytest.mark.parametrize(
    ("declared", "what"),
    [
        ("[nope", "The tools are not JSON."),
        ("[" * 100_000, "The tools are not JSON."),
        ({"weather": WEATHER}, "The tools are not a list."),
        ([{"name": "\ud800"}], "The tools are not valid text."),
        ([3], "The tool has no name."),
        ([{"function": {"description": "x"}}], "The tool has no name."),
        ([{"name": ""}], "The tool has no name."),
        ([WEATHER, WEATHER], "Two tools have the same name."),
        ([{"name": "f", "description": 3}], "The description is not text."),
        ([{"name": "f", "parameters": ["city"]}], "The parameters are not a JSON Schema."),
        ([{"name": "f", "parameters": {"type": "array"}}], "The parameters are not the schema of an object."),
        (
            [{"name": "f", "parameters": {"properties": ["a"]}}],
            "The parameters are not the schema of an object.",
        ),
        (
            [{"name": "f", "parameters": {"properties": {"a": {"type": "text"}}}}],
            "Unknown type at properties.a.type.",
        ),
        (
            [{"name": "f", "parameters": {"properties": {"a": {"pattern": "("}}}}],
            "The schema cannot be applied at properties.a.pattern.",
        ),
        (
            [{"name": "f", "parameters": {"properties": {}, "required": ["city"]}}],
            "A required parameter is not declared: 'city'.",
        ),
    ],
)
def test_wrong_tools(declared, what):
    """What is wrong with a list of tools is named, with the tool."""
    with pytest.raises(Problems) as raised:
        read_tools(declared, "tools.json")
    (problem,) = raised.value.problems
    assert problem.what == what
    assert str(problem.where).startswith("tools.json")


def test_all_tools_are_checked(tmp_path):
    """The problems of all tools come at once; a file that cannot be read says what to check."""
    with pytest.raises(Problems) as raised:
        read_tools([{}, {"name": "f", "parameters": 3}, WEATHER], "x")
    assert [each.where for each in raised.value.problems] == ["x, tool 1", "x, tool 2 (f)"]
    with pytest.raises(DataError, match="check the path"):
        load_tools(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ({"city": "Rome"}, None),
        ({"city": "Rome", "days": 3, "any": [1]}, None),
        ({}, 'weather: "city" is a required property'),
        ({"city": 3}, 'weather: city: 3 is not of type "string"'),
        ({"city": "Rome", "days": 0}, "weather: days: 0 is less than the minimum of 1"),
        (
            {"city": "Rome", "day": 3},
            "weather takes no day; it is weather(city: str, days: int = None, any: object = None)",
        ),
    ],
)
def test_arguments_by_schema(arguments, wrong):
    """What is wrong with a call's arguments is said in the schema's terms."""
    assert wrong_arguments(read_tools([WEATHER], "x")[0], arguments) == wrong


@pytest.mark.parametrize("reference", ["#/$defs/none", "https://127.0.0.1:1/schema.json"])
def test_a_schema_that_cannot_be_applied(reference):
    """A reference to nothing or elsewhere is named when the tools are read; nothing is fetched."""
    with pytest.raises(Problems) as raised:
        read_tools([{"name": "f", "parameters": {"properties": {"a": {"$ref": reference}}}}], "x")
    (problem,) = raised.value.problems
    assert problem.what == "The schema cannot be applied."
    assert reference.removeprefix("#") in str(problem.found)


def test_a_reference_within_the_schema():
    """$defs of a tool's schema serve its arguments, in calls and in suites."""
    parameters = {"properties": {"a": {"$ref": "#/$defs/text"}}, "$defs": {"text": {"type": "string"}}}
    (tool,) = read_tools([{"name": "f", "parameters": parameters}], "x")
    assert (wrong_arguments(tool, {"a": "x"}), tool.wrong_value("a", "x")) == (None, None)
    assert tool.wrong_value("a", 1) == '1 is not of type "string"'


def test_patterns_take_linear_time():
    """A pattern that Python's engine would need ages for is matched at once, in values and in names."""
    properties = {
        "code": {"type": "string", "pattern": "^(a+)+$"},
        "more": {
            "type": "object",
            "patternProperties": {"^(x*)*$": {"type": "integer"}},
            "additionalProperties": False,
        },
    }
    (tool,) = read_tools([{"name": "f", "parameters": {"type": "object", "properties": properties}}], "x")
    assert wrong_arguments(tool, {"code": "aaa", "more": {"xx": 1}}) is None
    for wrong, said in [
        ({"code": "a" * 100_000 + "b"}, "code: "),
        ({"more": {"x" * 10_000 + "y": 1}}, "more: "),
        ({"more": {"xx": "1"}}, 'more.xx: "1" is not of type "integer"'),
    ]:
        assert said in (wrong_arguments(tool, wrong) or "")


@pytest.mark.parametrize("pattern", ["(?=a)b", r"(a)\1"])
def test_patterns_that_need_backtracking_are_refused(pattern):
    """Look-around and back-references are named when the tools are read."""
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"pattern": pattern}}}}
    with pytest.raises(Problems) as raised:
        read_tools([{"name": "f", "parameters": schema}], "x")
    (problem,) = raised.value.problems
    assert problem.what == "The schema cannot be applied at properties.a.items.pattern."
    assert "look-around" in str(problem.expected)
