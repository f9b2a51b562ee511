"""A format that is added from here: a call is a JSON object on a line of its own."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import pytest

from punie import formats
from punie.config.schema import LockConfig
from punie.data.load import Row
from punie.data.rows import Check
from punie.evals.sandbox import Sandbox
from punie.evals.suite import Expectation, Sample
from punie.formats import Block, Call, Completion, Format
from punie.formats.chat import Chat, Conversation
from punie.formats.tools import TOOLS, Tool
from punie.model import load
from punie.model.generate import Sampling
from punie.results import records, scoring
from punie.stages import locking
from punie.stages.answering import prompts
from punie.util.paths import resource

CALL = Call("git_log", {"path": "src", "count": 5})
SAMPLE = Sample(
    "x",
    "git",
    "Show the last 5 commits of src.",
    (Expectation("git_log", {"count": 5}),),
    tools=tuple(TOOLS.values()),
)
USER = {"role": "user", "content": SAMPLE.prompt}


def render(call: Call) -> str:
    return json.dumps({"tool": call.tool, "arguments": dict(call.arguments)})


def parse(text: str, *, tools: Collection[Tool] = (), truncated: bool = False) -> Completion:
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
    return "Tools: " + "; ".join(f"{tool.name}: {tool.description}" for tool in tools)


def build(tokenizer: Any, options: Mapping[str, Any]) -> Format:
    """What a format's module has to have: its format for a model."""
    return restore({"mood": options.get("mood", "calm")})


def restore(record: Mapping[str, Any]) -> Format:
    """And the format from its record."""
    return Format(
        name="json_lines",
        parse=parse,
        spellings={"canonical": '{"', "after a line break": '\n{"'},
        template_input=lambda messages, tools: (
            [{"role": "system", "content": system_prompt(tools)}, *messages],
            {},
        ),
        record=record,
    )


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line in the table."""
    monkeypatch.setitem(formats.FORMATS, "json_lines", __name__)


@pytest.fixture(scope="module")
def loaded() -> Any:
    return load.load(resource("data/models/tiny"), float32=True)


@pytest.fixture
def chat(loaded: Any) -> Chat:
    """The added format, as a run has it."""
    return Chat(loaded.tokenizer, formats.build("json_lines", loaded.tokenizer, {"mood": "glad"}))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.mark.parametrize("name", [*formats.FORMATS, "json_lines"])
def test_a_format_is_built_and_restored_by_its_name(name: str, loaded: Any) -> None:
    """Every format has its name and comes back from its record's JSON; no spelling begins another."""
    form = formats.build(name, loaded.tokenizer)
    again = formats.restore(form.name, json.loads(json.dumps(form.record)))
    assert (again.name, again.spellings, again.record) == (form.name, form.spellings, form.record)
    for spelling in form.spellings.values():
        assert sum(other.startswith(spelling) for other in form.spellings.values()) == 1


def test_the_module_gets_the_options_of_the_template(chat: Chat) -> None:
    """What a format makes of the template's options is in its record."""
    assert chat.format.record == {"mood": "glad"}


def test_parsing_what_was_rendered_gives_the_call(chat: Chat) -> None:
    """The parser reads the spelling of a call, which opens canonically."""
    assert chat.format.parse(render(CALL)).calls == (CALL,)
    assert chat.format.opening(render(CALL)) == "canonical"


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
    text: str, taxonomy: str, calls: list[Call], chat: Chat, sandbox: Sandbox
) -> None:
    """Where there is no code, the calls that are written are judged, and nothing runs."""
    found: dict[str, Any] = scoring.scored(chat.format, SAMPLE, text, truncated=True, sandbox=sandbox)
    assert found["taxonomy"] == taxonomy
    assert found["scores"]["strict"]["value"] == float(taxonomy == "correct")
    assert [Call(**each) for each in found["calls"]] == calls
    assert found["execution"] is None
    assert found["wrapper"] is (taxonomy != "no call")


def test_the_prompt_is_the_formats(chat: Chat) -> None:
    """The template is given what the format makes of messages and tools, in training and in evaluation."""
    prompt = chat.prompt(Conversation([USER], SAMPLE.tools))
    assert system_prompt(SAMPLE.tools) in prompt
    assert [chat.prompt(asked) for _, _, asked in prompts(chat.format, [SAMPLE], system="")] == [prompt]


@pytest.mark.parametrize(
    ("call", "kinds"),
    [(CALL, []), (Call("git_blame", {}), ["unknown tool"]), (Call("git_log", {"x": 1}), ["wrong arguments"])],
)
def test_the_calls_of_an_example_are_checked(call: Call, kinds: list[str], chat: Chat) -> None:
    """The check of a training example reads its calls by the format."""
    row = Row((USER, {"role": "assistant", "content": render(call)}), 1)
    assert [each.kind for each in Check(chat.format, chat, TOOLS).row(row).findings] == kinds


def test_the_format_lock_is_of_the_formats_openings(loaded: Any, chat: Chat, sandbox: Sandbox) -> None:
    """The lock sums over the format's own spellings, under their names."""
    prompt = chat.prompt_tokens(Conversation([USER], SAMPLE.tools))
    answer = {"missing": None, "output": render(CALL), "finish_reason": "stop"}
    answer |= scoring.asked(chat.format, SAMPLE, 0, "0" * 64, len(prompt))
    answer |= scoring.scored(chat.format, SAMPLE, render(CALL), truncated=False, sandbox=sandbox)
    options = LockConfig(temperatures=[1.0], top_p=[])
    samples = [records.Sample.model_validate(answer)]
    lock = locking.lock(
        loaded, chat.format, {"x": prompt}, samples, Sampling(5.0), options, done=lambda _: None
    )
    assert lock.curves[0].branches.keys() == chat.format.spellings.keys()
    assert 0 < lock.at.total < 1
    assert lock.at.sampled.rate == 1.0
