"""From a suite to requests for a model, and from its responses to scored raw records.

A suite is answered in rounds. The first asks for every item's first turn, each further one for the next turn
of the conversations whose turns were all right: recorded results belong to the expected calls, so after a
wrong turn there is nothing to go on with.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from punie.formats import Block, Call, Completion, Format, Message
from punie.formats.chat import Chat, Conversation
from punie.model.folders import context
from punie.store.keys import digest
from punie.util.errors import DataError, Problems
from punie.util.jsonl import MAX_LINE, SHOWN

if TYPE_CHECKING:
    from punie.evals.replies import Reply
    from punie.evals.replies import Request as ServerRequest
    from punie.evals.sandbox import Sandbox
    from punie.evals.suite import Sample
    from punie.model.generate import Answer, Request
    from punie.results import records

NO_RESULT = "error: no result was recorded for this call"
"""What a call returns that is none of the expected ones: the suite allows it, and nobody recorded it."""
_LONGEST = MAX_LINE // 4
"""Longest record of a conversation that goes on, in bytes: a line with another turn can still be read."""


@dataclass
class Dialogue:
    """One item of a suite in one of its repeats: what is asked next, and the records of the turns so far."""

    item: Sample
    repeat: int
    asked: Conversation
    """Ends with the turn that is to be answered."""
    request: Request
    records: list[dict[str, Any]] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Turns that have no record."""
        return len(self.item.turns) - len(self.records)


Ask = Callable[[Sequence[Dialogue]], "Sequence[Answer | Reply | str]"]
"""Answers the requests of some dialogues, in order: a response, or the reason why it is missing."""


def dialogues(
    loaded: Any, chat: Chat, suite: Sequence[Sample], *, system: str, repeats: int, max_tokens: int
) -> list[Dialogue]:
    """The first turn of every item of a suite, its repeats side by side.

    ``max_tokens`` holds for items that set no limit of their own.

    Raises:
        Problems: Prompts that do not fit the model's context.
    """
    from punie.model.generate import Request

    found, sizes = list[Dialogue](), list[tuple[str, int, int]]()
    for item, number, asked in prompts(chat.format, suite, system=system):
        name, turn = item.named_turns[number - 1]
        prompt, longest = chat.prompt_tokens(asked), turn.max_tokens or max_tokens
        sizes.append((name, len(prompt), longest))
        found += [
            Dialogue(item, repeat, asked, Request(f"{item.id}#{repeat}", prompt, longest))
            for repeat in range(repeats if number == 1 else 0)
        ]
    if problems := too_long(sizes, context(loaded.config)):
        raise Problems("The suite does not fit the model:", problems)
    return found


def too_long(sizes: Iterable[tuple[str, int, int]], limit: int | None) -> list[DataError]:
    """The items that do not fit into the model's context; of many, the first, and how many more there are.

    Args:
        sizes: Name of an item or turn, tokens of its prompt, tokens of its longest response.
        limit: The context, in tokens; None if unknown.
    """
    found = [
        DataError(
            "The prompt and its response do not fit into the model's context.",
            where=f"suite item {name}",
            found=f"{prompt} + {response} tokens",
            expected=f"at most {limit}",
            next_step="lower eval.max_tokens, or shorten the prompt",
        )
        for name, prompt, response in sizes
        if limit and prompt + response > limit
    ]
    if len(found) > SHOWN:
        found[SHOWN:] = [DataError(f"… and {len(found) - SHOWN:,} more items do not fit.")]
    return found


def prompts(
    form: Format, suite: Sequence[Sample], *, system: str
) -> Iterator[tuple[Sample, int, Conversation]]:
    """Every turn of a suite: its item, its number, and what is asked, with the expected calls before it."""
    for item in suite:
        asked = _first(form, system, item)
        yield item, 1, asked
        for number, (turn, following) in enumerate(zip(item.turns, item.later, strict=False), 2):
            asked = _next(form, asked, turn, _expected(form, turn), turn.results, following)
            yield item, number, asked


def served(chat: Chat, dialogue: Dialogue) -> ServerRequest:
    """A request for a server: the prompt as the chat template renders it, and for the chat API."""
    from punie.evals.replies import Request

    asked, prompt = dialogue.request, chat.prompt(dialogue.asked)
    return Request(asked.id, prompt, len(asked.prompt), asked.max_tokens, chat=chat.request(dialogue.asked))


def answered(
    chat: Chat, dialogues: Sequence[Dialogue], ask: Ask, *, max_tokens: int, limit: int | None
) -> list[records.Sample]:
    """The records (samples.jsonl) of all dialogues, each asked to its end and scored.

    Args:
        chat: How conversations are rendered.
        dialogues: Those of :func:`dialogues`.
        ask: Called once for each round.
        max_tokens: Longest response of a turn that sets no limit of its own.
        limit: The model's context, in tokens; None if unknown.
    """
    from punie.evals.sandbox import Sandbox
    from punie.results.scoring import joined

    going = list(dialogues)
    while going:
        answers = ask(going)
        with Sandbox() as sandbox:
            for dialogue, answer in zip(going, answers, strict=True):
                dialogue.records.append(_record(chat.format, dialogue, answer, sandbox))
        going = [dialogue for dialogue in going if _goes_on(chat, dialogue, max_tokens, limit)]
    return [joined(dialogue.records, len(dialogue.item.turns)) for dialogue in dialogues]


def strict_score(loaded: Any, chat: Chat, suite: Sequence[Sample], *, system: str) -> float:
    """The mean strict score of a model on a suite, greedy; conversations that outgrow the model are wrong."""
    from punie.model.generate import Sampling, generate

    def ask(going: Sequence[Dialogue]) -> Sequence[Answer]:
        return generate(
            loaded.model,
            loaded.tokenizer,
            [dialogue.request for dialogue in going],
            Sampling(temperature=0.0),
            stop=(),
            batch_size=32,
            done=lambda _: None,
            logprobs=False,
        )

    first = dialogues(loaded, chat, suite, system=system, repeats=1, max_tokens=256)
    found = answered(chat, first, ask, max_tokens=256, limit=context(loaded.config))
    return math.fsum(each.scores["strict"].value for each in found if each.answered) / len(found)


def _first(form: Format, system: str, sample: Sample) -> Conversation:
    turns = sample.messages or ({"role": "user", "content": sample.prompt},)
    opening = [{"role": "system", "content": system}] if system and turns[0]["role"] != "system" else []
    return Conversation([*opening, *turns], () if form.code_tool else sample.tools)


def _next(
    form: Format,
    asked: Conversation,
    turn: Sample,
    completion: Completion,
    results: Sequence[str],
    following: Sample,
) -> Conversation:
    """A conversation with the response to its last turn, the results and the user's next turn."""
    calls = sum(len(message.get("tool_calls", ())) for message in asked.messages)
    reply: list[Message] = [{"role": "assistant", "content": turn.reply}] if turn.reply else []
    user = {"role": "user", "content": following.prompt}
    turns = [*asked.messages, *form.turns(completion, results, calls), *reply, user]
    return dataclasses.replace(asked, messages=turns)


def _expected(form: Format, turn: Sample) -> Completion:
    """A response that makes the expected calls, of several acceptable values with the first."""
    from punie.evals.suite import acceptable

    calls = [
        Call(each.tool, {name: acceptable(value)[0] for name, value in each.arguments.items()})
        for each in turn.expect
    ]
    if form.code_tool and calls:
        lines = (
            f"{c.tool}({', '.join(f'{name}={value!r}' for name, value in c.arguments.items())})"
            for c in calls
        )
        calls = [Call(form.code_tool, {"code": "\n".join(f"print({line})" for line in lines)})]
    return Completion("", tuple(Block(each.tool, each.arguments) for each in calls), code_tool=form.code_tool)


def _asked(form: Format, dialogue: Dialogue, prompt: Sequence[int]) -> dict[str, Any]:
    """The first fields of the record of a dialogue's next turn."""
    from punie.results import scoring

    turn = dialogue.item.turns[len(dialogue.records)]
    return scoring.asked(form, turn, dialogue.repeat, digest("prompt", prompt), len(prompt))


def _missing(dialogue: Dialogue, reason: str) -> dict[str, Any]:
    """The fields of a turn without a response."""
    turns = len(dialogue.item.turns)
    place = f"turn {len(dialogue.records) + 1} of {turns}: " if turns > 1 else ""
    return {"missing": place + reason, "output": None, "output_tokens": None}


def _record(
    form: Format, dialogue: Dialogue, answer: Answer | Reply | str, sandbox: Sandbox
) -> dict[str, Any]:
    """The record of the turn that was asked."""
    from punie.results import scoring

    record = _asked(form, dialogue, dialogue.request.prompt)
    if isinstance(answer, str):
        return record | _missing(dialogue, answer)
    counted = getattr(answer, "completion_tokens", None)  # by a server
    record |= {
        "missing": None,
        "output": answer.text,
        "tokens": answer.tokens,
        "output_tokens": counted if answer.tokens is None else len(answer.tokens),
        "logprobs": answer.logprobs and [round(value, 5) for value in answer.logprobs],
        "finish_reason": answer.finish_reason,
        "seconds": answer.seconds,
    }
    sent = list(getattr(answer, "calls", ()))  # beside the text, by a server
    record |= {"tool_calls": sent} if sent else {}
    turn, truncated = dialogue.item.turns[len(dialogue.records)], answer.finish_reason == "length"
    return record | scoring.scored(form, turn, answer.text, truncated=truncated, sandbox=sandbox, sent=sent)


def _goes_on(chat: Chat, dialogue: Dialogue, max_tokens: int, limit: int | None) -> bool:
    """Whether a dialogue has a next turn that can be asked, which is prepared; notes why it cannot be."""
    from punie.evals.scorers import returned
    from punie.model.generate import Request
    from punie.results import scoring

    last = dialogue.records[-1]
    if not dialogue.left or not scoring.is_right(last):
        return False
    number = len(dialogue.records) + 1
    turn, following = dialogue.item.turns[number - 2 : number]
    made = [Call(**call) for call in last["calls"]]
    results = [NO_RESULT if each is None else each for each in returned(turn, made)]
    truncated, sent = last["finish_reason"] == "length", last.get("tool_calls", ())
    completion = scoring.parsed(chat.format, turn, last["output"], truncated=truncated, sent=sent)
    last |= {"results": results} | ({"reply": turn.reply} if turn.reply else {})
    longest, prompt, reason = following.max_tokens or max_tokens, list[int](), ""
    try:
        dialogue.asked = _next(chat.format, dialogue.asked, turn, completion, results, following)
        prompt = chat.prompt_tokens(dialogue.asked)
    except Exception as error:  # the template is a program of the model's, and may raise anything
        words = (str(error).splitlines() or [type(error).__name__])[0]
        reason = f"the chat template does not render the conversation: {words}"
    if limit and len(prompt) + longest > limit:
        reason = f"{len(prompt)} + {longest} tokens do not fit into the model's context of {limit}"
    if len(json.dumps(dialogue.records)) > _LONGEST:
        reason = f"the conversation's record has over {_LONGEST:,} bytes"
    if reason:
        dialogue.records.append(_asked(chat.format, dialogue, prompt) | _missing(dialogue, reason))
        return False
    dialogue.request = Request(f"{dialogue.item.id}#{dialogue.repeat}.{number}", prompt, longest)
    return True
