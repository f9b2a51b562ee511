import pytest

from punie.formats.tools import (
    CATEGORIES,
    EXECUTE_CODE,
    FAMILIES,
    REQUIRED,
    TOOLS,
    Parameter,
    system_prompt,
    wrap,
)


def test_the_world_has_26_tools_in_six_families_and_a_seventh_category():
    """The registry declares 26 tools in six families; suites add multi_tool."""
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


@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_is_fully_declared(name):
    """Every tool has a one-line description and parameters of the four known types."""
    tool = TOOLS[name]
    assert tool.description.endswith(".")
    assert "\n" not in tool.description
    assert {each.type for each in tool.parameters} <= {"str", "int", "bool", "list[str]"}


def test_arguments_are_bound_by_position_or_keyword_and_defaults_filled_in():
    """Positional and keyword spellings of one call bind to the same arguments."""
    expected = {"path": "src", "staged": True}
    assert TOOLS["git_diff"].bind("src", True) == TOOLS["git_diff"].bind(staged=True, path="src") == expected
    assert TOOLS["git_log"].bind() == {"path": ".", "count": 10}


def test_a_default_list_is_not_shared_between_calls():
    """A caller that appends to a bound default leaves the next call's default empty."""
    bound = TOOLS["run_command"].bind("ls")
    bound["args"].append("-l")
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


def test_the_wrapper_is_spelled_one_way():
    """wrap() gives the canonical spelling, newline for newline."""
    assert wrap("git_status()") == (
        "<tool_call>\n<function=execute_code>\n<parameter=code>\ngit_status()\n"
        "</parameter>\n</function>\n</tool_call>"
    )


def test_the_system_prompt_follows_the_registry():
    """The system prompt names execute_code and the number of tools, and stays short."""
    assert EXECUTE_CODE in system_prompt()
    assert str(len(TOOLS)) in system_prompt()
    assert len(system_prompt()) < 80
