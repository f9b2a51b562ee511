"""Conversations of a suite: asked in rounds, each turn with the model's own responses before it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from punie import formats
from punie.data.load import read_row
from punie.evals.replies import Reply
from punie.evals.scorers import returned
from punie.evals.suite import load_suite
from punie.formats import Call
from punie.formats.chat import Chat, Conversation
from punie.formats.code_mode import wrap
from punie.model.generate import Answer, Request
from punie.results.records import Sample
from punie.stages import answering
from punie.stages.answering import NO_RESULT, Dialogue
from punie.util.errors import Problems
from tests.unit.formats.templates import PLAIN, TEMPLATES, tokenizer

ROOMY = SimpleNamespace(config={"max_position_embeddings": 10_000})
SYSTEM = "Be brief."
TURNS = [
    {
        "prompt": "Compare a.py with b.py.",
        "expect": [{"tool": "read_file", "arguments": {"path": each}} for each in ("a.py", "b.py")],
        "match": "all",
        "results": [{"tool": "read_file", "content": each} for each in ("A", "B")],
        "reply": "They differ.",
    },
    {"prompt": "Thanks!", "expect": []},
    {
        "prompt": "What changed in a.py?",
        "expect": [{"tool": "git_diff", "arguments": {"path": "a.py"}}],
        "results": [{"tool": "git_diff", "content": "+x"}],
    },
    {
        "prompt": "And in b.py?",
        "expect": [{"tool": "git_diff", "arguments": {"path": "b.py"}}],
        "max_tokens": 9,
    },
]
ONE = {"id": "one", "category": "c", "prompt": "Status?", "expect": [{"tool": "git_status"}]}
CALLS = [
    [Call("read_file", {"path": "./b.py"}), Call("git_status", {}), Call("read_file", {"path": "a.py"})],
    [],
    [Call("git_diff", {"path": "a.py"})],
    [Call("git_diff", {"path": "b.py"})],
]
"""A right response to each turn: the first in another order than expected, with a call without a record."""


def suite(folder: Path, turns: Sequence[Any] = TURNS) -> Any:
    tools = [tool.declaration for tool in formats.tools.TOOLS.values()]
    path = folder / "suite.jsonl"
    lines = [
        {"id": "dialogue", "category": "c", "turns": list(turns), "tools": tools},
        {**ONE, "tools": tools},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return load_suite(path)


def made(form: str, name: str = "object") -> Chat:
    loaded = tokenizer(PLAIN if form == "prompted" else TEMPLATES[name])
    return Chat(loaded, formats.build(form, loaded))


def written(chat: Chat, calls: Sequence[Call], words: str) -> tuple[str, list[dict[str, Any]]]:
    """A response as the model writes it, and the turns that training data have for it and the results."""
    if not calls:
        return f"<think>\nEasy.\n</think>\n\n{words}", [{"role": "assistant", "content": words}]
    contents = {"./b.py": "B", "a.py": "A" if len(calls) > 1 else "+x", "b.py": "", None: NO_RESULT}
    results = [contents[call.arguments.get("path")] for call in calls]
    if chat.format.code_tool:
        code = "\n".join(f"print({c.tool}(**{dict(c.arguments)!r}))" for c in calls)
        text = f"{words}\n{wrap(code)}"
        printed = "\n".join(results)
        told = {"role": "user", "content": f"<tool_response>\n{printed}\n</tool_response>"}
        return text, [{"role": "assistant", "content": text}, told]
    listed = [
        {"id": f"{words}{n}", "function": {"name": c.tool, "arguments": json.dumps(c.arguments)}}
        for n, c in enumerate(calls)
    ]
    turn = {"role": "assistant", "content": words, "tool_calls": listed}
    dialogue = [{"role": "user", "content": "x"}, read_row({"messages": [turn]}, 1).messages[0]]
    tools = [{"role": "tool", "tool_call_id": f"{words}{n}", "content": r} for n, r in enumerate(results)]
    return chat.answer(Conversation(dialogue), 1), [turn, *tools]


class Script:
    """Answers by id, and keeps what was asked."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers, self.rounds, self.asked = answers, list[list[str]](), dict[str, Conversation]()

    def __call__(self, going: Sequence[Dialogue]) -> list[Any]:
        self.rounds.append([dialogue.request.id for dialogue in going])
        self.asked |= {dialogue.request.id: dialogue.asked for dialogue in going}
        texts = [self.answers[dialogue.request.id] for dialogue in going]
        return [
            text
            if isinstance(text, Reply)
            else text.removeprefix("! ")
            if text.startswith("! ")
            else Answer("", text, [1], [0.0], "stop", 0.1)
            for text in texts
        ]


def run(chat: Chat, items: Any, script: Script, limit: int | None = None, repeats: int = 1) -> list[Sample]:
    first = answering.dialogues(ROOMY, chat, items, system=SYSTEM, repeats=repeats, max_tokens=50)
    return answering.answered(chat, first, script, max_tokens=50, limit=limit)


@pytest.mark.parametrize("form", ["code_mode", "native", "prompted"])
def test_the_next_turn_has_the_prompt_that_training_has(form: str, tmp_path: Path) -> None:
    """The model's calls, the results by call and the reply stand before the user's next turn, as they do in
    training on that conversation. A thought is not sent back; a call without a record returns an error."""
    chat, items = made(form), suite(tmp_path)
    answers = [written(chat, calls, f"Well{n}") for n, calls in enumerate(CALLS)]
    ids = ["dialogue#0", "dialogue#0.2", "dialogue#0.3", "dialogue#0.4"]
    script = Script({**dict(zip(ids, [text for text, _ in answers], strict=True)), "one#0": "No."})
    whole, one = run(chat, items, script)
    assert script.rounds == [["dialogue#0", "one#0"], *([each] for each in ids[1:])]
    assert (whole.turn, whole.turns, whole.scores["strict"].value, whole.taxonomy) == (4, 4, 1.0, "correct")
    assert [each.output for each in whole.reached] == [text for text, _ in answers]
    assert whole.earlier[0].results == ["B", NO_RESULT, "A"]
    assert not {"turn", "turns", "earlier"} & one.plain().keys()
    messages: list[dict[str, Any]] = [{"role": "system", "content": SYSTEM}]
    for turn, name, (_, learned) in zip(TURNS, ids, answers, strict=True):
        reply = [{"role": "assistant", "content": turn["reply"]}] if "reply" in turn else []
        messages += [{"role": "user", "content": turn["prompt"]}, *learned[:1]]
        row = read_row({"messages": messages}, 1)
        asked = script.asked[name]
        prompt, response = chat.turn(Conversation(row.messages, asked.tools), len(row.messages) - 1)
        assert chat.prompt(asked) == prompt
        assert chat.unended(response) in (learned[0]["content"], script.answers[name])
        messages += [*learned[1:], *reply]


@pytest.mark.parametrize("form", ["code_mode", "native", "prompted"])
def test_calls_beside_the_text_stay_in_the_context(form: str, tmp_path: Path) -> None:
    """What a server has parsed stands in the next prompt as if the model's text had come as it is."""
    chat, items = made(form), suite(tmp_path, TURNS[2:])
    call = CALLS[2][0]
    text, _ = written(chat, [call], "Well")
    (read,) = chat.format.parse(text, tools=items[0].tools).calls
    sent = {"name": read.tool, "arguments": read.arguments}
    reply = Reply("Well", None, None, "stop", None, 0.1, calls=(sent,))
    scripts = [Script({"dialogue#0": each, "dialogue#0.2": "No.", "one#0": "No."}) for each in (text, reply)]
    found = [run(chat, items, script)[0] for script in scripts]
    assert [each.turn for each in found] == [2, 2]
    assert found[0].prompt_sha256 == found[1].prompt_sha256
    assert len({chat.prompt(script.asked["dialogue#0.2"]) for script in scripts}) == 1


def test_swapped_and_repeated_calls_get_their_own_results(tmp_path: Path) -> None:
    """Results go by arguments, not by order; the same call again returns the same, another nothing."""
    turn = suite(tmp_path)[0]
    a, b, c = (Call("read_file", {"path": path}) for path in ("a.py", "b.py", "c.py"))
    assert returned(turn, [b, a, b, c]) == ["B", "A", "B", None]


def test_a_wrong_turn_ends_a_conversation(tmp_path: Path) -> None:
    """It decides: its fields are the record's, strict is 0, and keyword counts the unreached turns as 0. Each
    repeat goes its own way."""
    chat, items = made("code_mode"), suite(tmp_path)
    right = written(chat, CALLS[0], "Well")[0]
    script = Script(
        {"dialogue#0": right, "dialogue#0.2": right, "dialogue#1": "No.", "one#0": "No.", "one#1": "No."}
    )
    second, first = run(chat, items, script, repeats=2)[:2]
    assert script.rounds[1:] == [["dialogue#0.2"]]
    assert (second.turn, second.turns, second.prompt, second.taxonomy) == (2, 4, "Thanks!", "unwanted call")
    assert (second.scores["strict"].value, second.scores["keyword"].value) == (0.0, 0.25)
    assert "turn 2 of 4; mean of 1, 0, 0, 0" in second.scores["keyword"].reason
    assert (first.turn, first.taxonomy, first.earlier) == (1, "no call", [])


@pytest.mark.parametrize(
    ("answer", "limit", "words"),
    [
        ("! HTTP 500", None, "turn 2 of 4: HTTP 500"),
        ("No.", 200, "turn 2 of 4: 187 + 50 tokens do not fit into the model's context of 200"),
        ("No.", -1, "turn 2 of 4: the chat template does not render the conversation: no room"),
    ],
)
def test_a_turn_without_a_response_leaves_none_at_all(
    answer: str, limit: int | None, words: str, tmp_path: Path
) -> None:
    """The whole is missing, and says at which turn and why; the turns before it are kept."""
    chat, items = made("code_mode"), suite(tmp_path)
    if limit == -1:
        refuses = "{%- if messages | length > 4 %}{{- raise_exception('no room') }}{%- endif %}"
        chat = Chat(tokenizer(refuses + TEMPLATES["object"]), chat.format)
        items, limit = [items[1], items[0]], None
    script = Script(
        {"dialogue#0": written(chat, CALLS[0], "Well")[0], "dialogue#0.2": answer, "one#0": "No."}
    )
    first = [
        Dialogue(item, 0, asked, Request(f"{item.id}#0", [1], 50))
        for item in items
        for asked in [next(iter(answering.prompts(chat.format, [item], system=SYSTEM)))[2]]
    ]
    found = answering.answered(chat, first, script, max_tokens=50, limit=limit)
    (whole,) = (each for each in found if each.id == "dialogue")
    assert (whole.missing, whole.output, whole.scores, whole.turn) == (words, None, {}, 2)
    assert whole.earlier[0].taxonomy == "correct"


def test_what_does_not_fit_is_known_before_time_is_spent(tmp_path: Path) -> None:
    """The recorded conversation, with the calls that are expected, has to fit turn by turn."""
    turns = [{**TURNS[2], "results": [{"tool": "git_diff", "content": "+x\n" * 500}]}, TURNS[3]]
    tight = SimpleNamespace(config={"max_position_embeddings": 500})
    with pytest.raises(Problems) as raised:
        answering.dialogues(
            tight, made("code_mode"), suite(tmp_path, turns), system="", repeats=1, max_tokens=50
        )
    assert [each.where for each in raised.value.problems] == ["suite item dialogue, turn 2"]
