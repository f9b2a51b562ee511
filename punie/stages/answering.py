"""From a suite to requests for a model, and from its responses to scored raw records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from punie.formats import Format
from punie.formats.chat import Chat, Conversation
from punie.model.resolve import context
from punie.store.keys import digest
from punie.util.errors import DataError, Problems
from punie.util.jsonl import SHOWN

if TYPE_CHECKING:
    from punie.evals.replies import Reply
    from punie.evals.replies import Request as ServerRequest
    from punie.evals.suite import Sample
    from punie.model.generate import Answer, Request
    from punie.results import records


def requests(
    loaded: Any, chat: Chat, suite: Sequence[Sample], *, system: str, repeats: int, max_tokens: int
) -> list[Request]:
    """The requests of an evaluation: every prompt of a suite, its repeats side by side.

    ``max_tokens`` holds for items that set no limit of their own.

    Raises:
        Problems: Prompts that do not fit the model's context.
    """
    from punie.model.generate import Request

    prompts = {each.id: chat.prompt_tokens(_asked(chat.format, system, each)) for each in suite}
    found = [
        Request(f"{sample.id}#{repeat}", prompts[sample.id], sample.max_tokens or max_tokens)
        for sample in suite
        for repeat in range(repeats)
    ]
    sizes = [(each.id.rpartition("#")[0], len(each.prompt), each.max_tokens) for each in found]
    if problems := too_long(dict.fromkeys(sizes), context(loaded.config)):
        raise Problems("The suite does not fit the model:", problems)
    return found


def too_long(sizes: Iterable[tuple[str, int, int]], limit: int | None) -> list[DataError]:
    """The items that do not fit into the model's context; of many, the first, and how many more there are.

    Args:
        sizes: Id of an item, tokens of its prompt, tokens of its longest response.
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


def texts(chat: Chat, suite: Sequence[Sample], *, system: str) -> dict[str, str]:
    """By sample id, the prompt as the chat template renders it."""
    return {each.id: chat.prompt(_asked(chat.format, system, each)) for each in suite}


def served(
    chat: Chat, suite: Sequence[Sample], asked: Sequence[Request], *, system: str
) -> list[ServerRequest]:
    """The requests for a server: each prompt as the chat template renders it, and for the chat API."""
    from punie.evals.replies import Request

    prompts = texts(chat, suite, system=system)
    turns = {each.id: chat.request(_asked(chat.format, system, each)) for each in suite}
    names = [each.id.rpartition("#")[0] for each in asked]
    return [
        Request(each.id, prompts[name], len(each.prompt), each.max_tokens, chat=turns[name])
        for each, name in zip(asked, names, strict=True)
    ]


def samples(
    form: Format, suite: Sequence[Sample], asked: Sequence[Request], answers: Sequence[Answer | Reply | str]
) -> list[records.Sample]:
    """The records (samples.jsonl) of a suite's responses, each scored.

    ``answers`` has one for each request, in order: a response, or the reason why it is missing.
    """
    from punie.evals.sandbox import Sandbox
    from punie.results import records, scoring

    repeats = len(asked) // len(suite)
    found = []
    with Sandbox() as sandbox:
        for index, (request, answer) in enumerate(zip(asked, answers, strict=True)):
            item = suite[index // repeats]
            prompt = request.prompt
            record = scoring.asked(form, item, index % repeats, digest("prompt", prompt), len(prompt))
            if isinstance(answer, str):
                record |= {"missing": answer, "output": None, "output_tokens": None}
            else:
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
                truncated = answer.finish_reason == "length"
                record |= scoring.scored(
                    form, item, answer.text, truncated=truncated, sandbox=sandbox, sent=sent
                )
            found.append(records.Sample.model_validate(record))
    return found


def strict_score(loaded: Any, chat: Chat, suite: Sequence[Sample], *, system: str) -> float:
    """The mean strict score of a model on a suite, greedy."""
    from punie.model.generate import Sampling, generate
    from punie.results.scoring import summary

    asked = requests(loaded, chat, suite, system=system, repeats=1, max_tokens=256)
    answers = generate(
        loaded.model,
        loaded.tokenizer,
        asked,
        Sampling(temperature=0.0),
        stop=(),
        batch_size=32,
        done=lambda _: None,
        logprobs=False,
    )
    mean = summary(samples(chat.format, suite, asked, answers)).scores["strict"].overall.mean
    assert mean is not None  # noqa: S101 - no response is missing
    return mean


def _asked(form: Format, system: str, sample: Sample) -> Conversation:
    turns = sample.messages or ({"role": "user", "content": sample.prompt},)
    opening = [{"role": "system", "content": system}] if system and turns[0]["role"] != "system" else []
    return Conversation([*opening, *turns], () if form.code_tool else sample.tools)
