"""A format that is added from here: a call is a JSON object on a line of its own."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

import pytest

from punie import formats
from punie.data.load import Row
from punie.data.rows import check_row
from punie.evals.sandbox import Sandbox
from punie.evals.suite import Expectation, Sample
from punie.formats import Block, Call, Completion, Format
from punie.formats.prompts import format_prompt
from punie.formats.tools import TOOLS, Tool
from punie.model import format_lock, load
from punie.model.generate import Sampling
from punie.results import scoring
from punie.stages.answering import texts
from punie.util.paths import resource

CALL = Call("git_log", {"path": "src", "count": 5})
SAMPLE = Sample("x", "git", "Show the last 5 commits of src.", (Expectation("git_log", {"count": 5}),))


def render(call: Call) -> str:
    return json.dumps({"tool": call.tool, "arguments": dict(call.arguments)})


def parse(text: str, *, truncated: bool = False) -> Completion:
    blocks = []
    for line in text.splitlines():
        if line.startswith('{"tool": '):
            try:
                call = json.loads(line)
                blocks.append(Block(call["tool"], call["arguments"]))
            except ValueError:
                blocks.append(Block(problem="truncated" if truncated else "malformed"))
    return Completion(text, tuple(blocks), text.partition('{"tool"')[0], has_block=bool(blocks))


def system_prompt(tools: Collection[Tool]) -> str:
    return "Tools: " + ", ".join(tool.name for tool in tools)


JSON_LINES = Format(
    parse=parse,
    render=render,
    spellings={"canonical": '{"tool": "', "after a line break": '\n{"tool": "'},
    system_prompt=system_prompt,
    template_input=lambda messages, tools: (
        [{"role": "system", "content": system_prompt(tools)}, *messages],
        {},
    ),
)


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Format:
    """The added format, in the table and in use."""
    monkeypatch.setitem(formats.FORMATS, "json_lines", f"{__name__}:JSON_LINES")
    monkeypatch.setattr(formats, "DEFAULT", "json_lines")
    return formats.chosen()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.mark.parametrize("name", [*formats.FORMATS, "json_lines"])
def test_parsing_what_was_rendered_gives_the_call(name: str, chosen: Format) -> None:
    """Every format reads its own spelling of a call, which opens canonically, and none is another's start."""
    form = formats.load(name)
    call = CALL if form.code_tool is None else Call(form.code_tool, {"code": "git_log(count=5)"})
    text = form.render(call)
    assert form.parse(text).calls == (call,)
    assert form.parse(text).has_block
    assert form.opening(text) == next(iter(form.spellings))
    for spelling in form.spellings.values():
        assert sum(other.startswith(spelling) for other in form.spellings.values()) == 1


def test_code_mode_is_in_use() -> None:
    """Without a test's doing, the format is code_mode."""
    assert formats.chosen().code_tool == "execute_code"


@pytest.mark.parametrize(
    ("text", "taxonomy", "calls"),
    [
        (render(CALL), "correct", [CALL]),
        (
            f"Sure.\n{render(CALL)}\n{render(Call('git_status', {}))}",
            "correct",
            [CALL, Call("git_status", {})],
        ),
        (render(Call("git_log", {"count": 6})), "wrong arguments", [Call("git_log", {"count": 6})]),
        (render(Call("git_log", {"number": 5})), "wrong arguments", [Call("git_log", {"number": 5})]),
        (render(Call("git_diff", {})), "wrong tool", [Call("git_diff", {})]),
        (render(Call("git_blame", {})), "unknown tool", [Call("git_blame", {})]),
        (render(CALL)[:-4], "truncated", []),
        ("I would call git_log(count=5).", "no call", []),
    ],
)
def test_the_calls_in_a_response_are_scored(
    text: str, taxonomy: str, calls: list[Call], chosen: Format, sandbox: Sandbox
) -> None:
    """Where there is no code, the calls that are written are judged, and nothing runs."""
    found: dict[str, Any] = scoring.scored(SAMPLE, text, truncated=True, sandbox=sandbox)
    assert found["taxonomy"] == taxonomy
    assert found["scores"]["strict"]["value"] == float(taxonomy == "correct")
    assert [Call(**each) for each in found["calls"]] == calls
    assert found["execution"] is None
    assert found["wrapper"] is (taxonomy != "no call")


def test_the_prompt_is_the_formats(chosen: Format) -> None:
    """The template is given what the format makes of messages and tools, as tokens and as text."""
    tokenizer = load.tokenizer(resource("data/models/tiny"))
    messages = [{"role": "user", "content": SAMPLE.prompt}]
    prompt = tokenizer.decode(format_prompt(tokenizer, messages, tools=TOOLS.values()))
    assert system_prompt(TOOLS.values()) in prompt
    assert texts(tokenizer, [SAMPLE], system="") == {"x": prompt}


@pytest.mark.parametrize(
    ("call", "kinds"),
    [(CALL, []), (Call("git_blame", {}), ["unknown tool"]), (Call("git_log", {"x": 1}), ["wrong arguments"])],
)
def test_the_calls_of_an_example_are_checked(call: Call, kinds: list[str], chosen: Format) -> None:
    """`data check` reads the calls of a training example by the format."""
    turns = ({"role": "user", "content": "?"}, {"role": "assistant", "content": render(call)})
    assert [each.kind for each in check_row(Row(turns, 1), None, 100)[0]] == kinds


def test_the_format_lock_is_of_the_formats_openings(chosen: Format) -> None:
    """The lock sums over the format's own spellings, under their names."""
    loaded = load.load(resource("data/models/tiny"), float32=True)
    prompt = format_prompt(loaded.tokenizer, [{"role": "user", "content": SAMPLE.prompt}])
    ((lock,),) = format_lock.format_lock(
        loaded.model,
        format_lock.branches(loaded.tokenizer, chosen.spellings),
        [prompt],
        temperatures=[1.0],
        samplings=[Sampling(1.0)],
    )
    assert lock.curves.keys() == chosen.spellings.keys()
    assert 0 < lock.total[0] < 1
