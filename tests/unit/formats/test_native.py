"""The native and prompted formats, on templates of every kind."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from punie import formats
from punie.formats import Call, Format
from punie.formats.chat import Chat, Conversation

from .templates import PLAIN, TEMPLATES, TOOLS, tokenizer, turn, turns
from .templates import by_template as chat

USER = {"role": "user", "content": "Weather?"}
MANY = [name for name in TEMPLATES if name != "object without a mark"]

text = st.text(
    st.characters(codec="utf-8", exclude_characters="<>[]|'\"\\", exclude_categories=["C", "Z"]), max_size=30
)
values = st.fixed_dictionaries(
    {"city": text},
    optional={
        "days": st.integers(-(10**6), 10**6),
        "tags": st.lists(text, max_size=3),
        "options": st.dictionaries(
            st.sampled_from(["unit", "deep"]), text | st.integers(0, 9) | st.booleans()
        ),
        "exact": st.booleans(),
    },
)


def read(chat: Chat, *calls: Call) -> list[Call]:
    written = chat.answer(Conversation([USER, turn(*calls)], TOOLS), 1)
    found = chat.format.parse(written, tools=TOOLS)
    assert not any(block.problem for block in found.blocks), written
    return list(found.calls)


@pytest.mark.parametrize("name", [*TEMPLATES, "no tools"])
@given(arguments=values)
@settings(max_examples=15, deadline=None)
def test_what_the_template_writes_of_a_call_is_read_as_that_call(name: str, arguments: dict) -> None:
    """parse(render(call)) is the call, with values of every type."""
    call = Call("get_weather", arguments)
    assert read(chat(name), call) == [call]


@pytest.mark.parametrize("name", [*MANY, "no tools"])
def test_several_calls_come_back_in_order(name: str) -> None:
    """Two calls in one response are two calls, whatever stands between them."""
    calls = [
        Call("get_weather", {"city": "3"}),
        Call("math.add", {"a": 1.5}),
        Call("get_weather", {"city": "b"}),
    ]
    assert read(chat(name), *calls) == calls


@pytest.mark.parametrize("name", [*TEMPLATES, "no tools"])
def test_the_prompt_shows_every_tool(name: str) -> None:
    """Names and descriptions are in the prompt, from the template or from the system prompt."""
    prompt = chat(name).prompt(Conversation([USER], TOOLS))
    assert all(tool.name in prompt and tool.description in prompt for tool in TOOLS)


@pytest.mark.parametrize("name", [*MANY, "no tools"])
def test_a_response_is_taken_apart(name: str) -> None:
    """Prose and a thought before a call are kept apart, and a cut-off call is no call."""
    found, call = chat(name), Call("get_weather", {"city": "Rome", "days": 3})
    written = found.answer(Conversation([USER, turn(call)], TOOLS), 1)
    after = found.format.parse(f"<think>\nuse {written}?\n</think>\n\nI will look.\n{written}", tools=TOOLS)
    assert (list(after.calls), after.before.strip()) == ([call], "I will look.")
    assert after.has_block
    for cut in (written[:-1], written[: len(written) * 2 // 3]):
        blocks = found.format.parse(cut.rstrip(), tools=TOOLS, truncated=True).blocks
        assert [block.problem for block in blocks if block.problem] == ["truncated"] or name in ("json",), cut
    assert found.format.parse("It rains.", tools=TOOLS).blocks == ()


@pytest.mark.parametrize("name", [*MANY, "no tools"])
def test_a_response_with_a_call_opens_as_the_lock_expects(name: str) -> None:
    """The canonical spelling is what a response with a call begins with; none is another's beginning."""
    found = chat(name)
    written = found.answer(Conversation([USER, turn(Call("get_weather", {"city": "Rome"}))], TOOLS), 1)
    assert found.format.opening(written) == "canonical"
    spellings = list(found.format.spellings.values())
    assert all(sum(other.startswith(each) for other in spellings) == 1 for each in spellings)


@pytest.mark.parametrize("name", [*TEMPLATES, "no tools"])
@given(
    pieces=st.lists(
        st.sampled_from(["{", "}", '"', "[", "]", "<", ">", "x", " ", "\n", "MARK", "OPEN", "CALL"]),
        max_size=60,
    )
)
@settings(max_examples=20, deadline=None)
def test_no_response_raises(name: str, pieces: list[str]) -> None:
    """Whatever a model writes is read without an exception, cut off or not."""
    found = chat(name)
    written = found.answer(Conversation([USER, turn(Call("get_weather", {"city": "Rome"}))], TOOLS), 1)
    parts = {
        "MARK": next(iter(written.split())),
        "OPEN": next(iter(found.format.spellings.values())),
        "CALL": written,
    }
    text = "".join(parts.get(piece, piece) for piece in pieces)
    for truncated in (True, False):
        found.format.parse(text, tools=TOOLS, truncated=truncated)


@pytest.mark.parametrize("name", [*TEMPLATES, "no tools"])
def test_reading_takes_linear_time(name: str) -> None:
    """Twenty times the text takes far less than the square of it, for what is worst to read."""
    found = chat(name)
    written = found.answer(Conversation([USER, turn(Call("get_weather", {"city": "Rome"}))], TOOLS), 1)
    mark, opening = next(iter(written.split())), next(iter(found.format.spellings.values()))

    def seconds(unit: str, size: int) -> float:
        text = unit * (size // len(unit))
        start = time.process_time()
        found.format.parse(text, tools=TOOLS)
        return time.process_time() - start

    for unit in (mark, opening, written, written[: len(written) * 2 // 3], "{", "[{", "<think>"):
        assert seconds(unit, 60_000) < 120 * max(seconds(unit, 3_000), 0.002), unit


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("object", "NaN", None),
        ("object", "1e999", None),
        ("json", "{}", {}),
        ("python", "(1, 2)", [1, 2]),
        ("python", "true", True),
        ("python", "b'x'", None),
        ("python", "1j", None),
        ("python", "{[]: 1}", None),
        ("python", "'\\ud800'", None),
        ("tagged", "{[]: 1}", "{[]: 1}"),
        ("tagged", "['a']", ["a"]),
        ("quoted", "[NaN]", None),
    ],
)
def test_arguments_are_values_of_json(name: str, value: str, read: object) -> None:
    """Python's literals become JSON's values; a call with what JSON cannot hold cannot be read (None)."""
    call = Call("get_weather", {"city": "Rome", "tags": [3]})
    written = chat(name).answer(Conversation([USER, turn(call)], TOOLS), 1)
    (block, *_) = chat(name).format.parse(written.replace("[3]", value), tools=TOOLS).blocks
    assert block.arguments.get("tags") == read
    assert block.problem == (None if read is not None else "malformed")


def test_the_format_of_a_template_without_tools_is_prompted() -> None:
    """A template that shows no tools gets the schemas in the system prompt and Hermes's calls."""
    form: Format = chat("no tools").format
    assert form.name == "prompted"
    talk = Conversation([{"role": "system", "content": "Be brief."}, USER], TOOLS)
    prompt = chat("no tools").prompt(talk)
    assert prompt.index("Be brief.") < prompt.index("<tools>") < prompt.index("Weather?")
    refuses = "{%- if messages[0].role == 'system' %}{{ raise_exception('no system') }}{%- endif %}" + PLAIN
    loaded = tokenizer(refuses)
    shown = Chat(loaded, formats.build("native", loaded)).prompt(Conversation([USER], TOOLS))
    assert shown.index("<tools>") < shown.index("Weather?")


def test_llamas_python_tag_is_read() -> None:
    """A call that is bare JSON may have a tag before it; JSON in prose is no call."""
    parse = chat("object without a mark").format.parse
    call = '{"name": "get_weather", "parameters": {"city": "Rome"}}'
    for written in (call, f"<|python_tag|>{call}", f" {call}"):
        assert parse(written, tools=TOOLS).calls == (Call("get_weather", {"city": "Rome"}),)
    assert parse(f"Use {call}.", tools=TOOLS).blocks == ()
    assert parse('{"city": "Rome"}', tools=TOOLS).blocks == ()


def test_a_template_whose_calls_cannot_be_read_back_is_refused() -> None:
    """A template that writes a call in a way that loses its parts is named before anything is trained."""
    loaded = tokenizer(turns("{{- raise_exception('calls are not supported') }}"))
    with pytest.raises(ValueError, match="calls are not supported"):
        formats.build("native", loaded)
