import pytest

from punie.formats.tools import CATEGORIES, FAMILIES, REQUIRED, TOOLS, Parameter, Tool


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
