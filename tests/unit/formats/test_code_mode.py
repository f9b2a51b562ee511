import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from punie.formats import Block, Completion
from punie.formats.code_mode import EXECUTE_CODE, parse, system_prompt, wrap
from punie.formats.tools import TOOLS

CODE = 'result = read_file("src/app.py")\nprint(result.content)'
NATIVE = (
    "<tool_call>\n<function=read_file>\n<parameter=path>\nsrc/a.py\n</parameter>\n</function>\n</tool_call>"
)


def as_json(code, name=EXECUTE_CODE):
    return "<tool_call>\n" + json.dumps({"name": name, "arguments": {"code": code}}) + "\n</tool_call>"


def problems(text, **options):
    return [block.problem for block in parse(text, **options).blocks]


@pytest.mark.parametrize(
    "text",
    [
        wrap(CODE),
        f"<tool_call><function=execute_code><parameter=code>{CODE}</parameter></function></tool_call>",
        wrap(CODE).replace("\n<", "\n\n \t<"),
        wrap(CODE).replace("\n<", "\r\n<"),
        as_json(CODE),
        as_json(CODE).replace("\n", ""),
    ],
)
def test_spellings(text):
    """Every accepted spelling of the wrapper gives the same code."""
    completion = parse(text)
    assert completion.code == CODE
    assert [block.problem for block in completion.blocks] == [None]
    assert completion.has_block


def test_text_around():
    """Text around the wrapper is kept apart from the code."""
    completion = parse(f"I will look.\n{wrap(CODE)}\nDone.")
    assert (completion.before, completion.code) == ("I will look.\n", CODE)


def test_several_calls():
    """Several calls in one block, and several blocks, make one program in their order."""
    one_block = wrap("a()").replace("</tool_call>", "") + wrap("b()").replace("<tool_call>", "")
    completion = parse(one_block + wrap("c()") + as_json("d()"))
    assert completion.code == "a()\nb()\nc()\nd()"


@pytest.mark.parametrize("preamble", ["<think>\nuse <tool_call>?\n</think>\n", "so be it</think>\n"])
def test_thoughts_are_left_out(preamble):
    """A thought ahead of the answer is no part of it, even when it speaks of the wrapper."""
    completion = parse(preamble + wrap(CODE))
    assert completion.code == CODE
    assert completion.before == "\n"


def test_unfinished_thought():
    """A thought that never ends leaves no answer, whatever it says."""
    completion = parse("<think>\nI could write " + wrap(CODE), truncated=True)
    assert completion.unfinished_thought
    assert completion.code is None


def test_code_that_mentions_the_tags():
    """Code may hold the text of the tags without ending early."""
    code = 'write_file("a.md", "<tool_call> and </parameter> and </tool_call>")'
    assert parse(wrap(code)).code == code
    assert parse(as_json(code)).code == code


@pytest.mark.parametrize("end", range(len("<tool_call>"), len(wrap(CODE))))
def test_truncation_is_told_from_malformation(end):
    """A block cut off anywhere is truncated at the token limit and malformed when the model stopped."""
    cut = wrap(CODE)[:end]
    assert problems(cut, truncated=True) == ["truncated"]
    assert problems(cut) == ["malformed"]
    assert parse(cut, truncated=True).code is None


def test_closed_garbage_is_malformed_even_at_the_limit():
    """A closed block that cannot be read is malformed, though the output ran into the token limit."""
    assert problems("<tool_call># read_file</tool_call> and so on", truncated=True) == ["malformed"]


@pytest.mark.parametrize(
    "inside",
    [
        "",
        "# read_file",
        "{}",
        '{"name": "execute_code"}',
        '{"name": "execute_code", "arguments": "x = 1"}',
        '{"name": "execute_code", "arguments": {"code": 1}}',
        '{"name": "execute_code", "arguments": {"code": "x", "timeout": 1}}',
        '{"name": 1' + "9" * 5000,
        '{"name": "execute_code", "arguments": {"code": "\\ud800"}}',
        "[" * 5000,
        "<function=execute_code></function>",
        "<function=execute_code><parameter=source>x</parameter></function>",
        "<function=execute_code><parameter=code>x</parameter>",
        "<function=execute_code>x</function>",
    ],
)
def test_malformed(inside):
    """What is not a readable call inside a closed wrapper is malformed and yields no code."""
    text = f"<tool_call>{inside}</tool_call>"
    assert problems(text) == ["malformed"]
    assert parse(text).code is None


def test_restart_after_an_unclosed_block():
    """A wrapper that opens again counts as one malformed block and one good one, and nothing is run."""
    completion = parse("<tool_call>\n<function=execute_code>\n" + wrap(CODE))
    assert [block.problem for block in completion.blocks] == ["malformed", None]
    assert completion.code is None


def test_native_call():
    """A tool called natively is kept with its arguments, and is no code."""
    completion = parse(NATIVE)
    assert completion.blocks == (Block("read_file", {"path": "src/a.py"}),)
    assert completion.code is None


def test_function_without_wrapper():
    """A function tag outside any wrapper is one malformed block that keeps the function's name."""
    completion = parse("Sure. " + wrap(CODE).removeprefix("<tool_call>\n"))
    assert completion.blocks == (Block(EXECUTE_CODE, problem="malformed"),)
    assert not completion.has_block


def test_prose():
    """Prose has no blocks, and all of it is ahead of them."""
    text = "You could call read_file()."
    assert parse(text) == Completion(text, before=text, code_tool=EXECUTE_CODE)


def test_the_block_is_written_one_way():
    """wrap() gives the canonical spelling, newline for newline."""
    assert wrap("git_status()") == (
        "<tool_call>\n<function=execute_code>\n<parameter=code>\ngit_status()\n"
        "</parameter>\n</function>\n</tool_call>"
    )


def test_the_system_prompt_follows_the_tools():
    """The system prompt names execute_code and the number of tools, and stays short."""
    assert EXECUTE_CODE in system_prompt()
    assert str(len(TOOLS)) in system_prompt()
    assert system_prompt([]).endswith("0 tools.")
    assert len(system_prompt()) < 80


PIECES = [
    "<tool_call>", "</tool_call>", "<function=execute_code>", "<function=read_file>", "</function>",
    "<parameter=code>", "</parameter>", "<think>", "</think>", "{", "}", "[", '"', "\\", "\n", " ", "\ud800",
    '{"name": "execute_code", "arguments": {"code": "', "read_file(", "é", "\x00",
]  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(
    base=st.sampled_from([wrap(CODE), as_json(CODE), NATIVE, "prose " + wrap(CODE) * 2]),
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 20), st.sampled_from(PIECES) | st.text(max_size=5)),
        max_size=8,
    ),
    truncated=st.booleans(),
)
def test_never_raises(base, edits, truncated):
    """Whatever is done to a valid output, it is parsed, and code comes only from a wrapper."""
    for place, deleted, inserted in edits:
        start = int(place * len(base))
        base = base[:start] + inserted + base[start + deleted :]
    completion = parse(base, truncated=truncated)
    assert completion.text == base
    assert completion.code is None or completion.has_block
    assert completion.code is None or not any(block.problem for block in completion.blocks)


@pytest.mark.parametrize(
    "unit",
    [" ", "<tool_call>", "<tool_call>{", '<tool_call>{"\\', "</parameter> ", "</think>", "<function=", "[",
     wrap("").removesuffix("\n\n</parameter>\n</function>\n</tool_call>"), '{"name":"a"}', '{"a":'],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "<tool_call>", "<tool_call><function=execute_code><parameter=code>"])
def test_linear_time(unit, prefix):
    """Hostile output is parsed in a second or two, not in the hours a quadratic pattern would take."""
    text = prefix + unit * (300_000 // len(unit))
    started = time.process_time()
    parse(text, truncated=True)
    assert time.process_time() - started < 3
