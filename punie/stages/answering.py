"""From a suite to requests for a model, and from its responses to scored raw records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from punie import formats
from punie.formats.prompts import format_prompt, render_prompt
from punie.formats.tools import TOOLS
from punie.store.keys import digest
from punie.util.errors import DataError, Problems

if TYPE_CHECKING:
    from punie.evals.replies import Reply
    from punie.evals.suite import Sample
    from punie.model.generate import Answer, Request
    from punie.results import records


def requests(
    loaded: Any, suite: Sequence[Sample], *, system: str, repeats: int, max_tokens: int
) -> list[Request]:
    """The requests of an evaluation: every prompt of a suite, its repeats side by side.

    ``max_tokens`` holds for items that set no limit of their own.

    Raises:
        Problems: Prompts that do not fit the model's context.
    """
    from punie.model.generate import Request

    prompts = {
        each.id: format_prompt(loaded.tokenizer, _messages(system, each), tools=TOOLS.values())
        for each in suite
    }
    found = [
        Request(f"{sample.id}#{repeat}", prompts[sample.id], sample.max_tokens or max_tokens)
        for sample in suite
        for repeat in range(repeats)
    ]
    limit = loaded.config.get("max_position_embeddings")
    problems = [
        DataError(
            "The prompt and its response do not fit into the model's context.",
            where=f"suite item {request.id.rpartition('#')[0]}",
            found=f"{len(request.prompt)} + {request.max_tokens} tokens",
            expected=f"at most {limit}",
            next_step="lower eval.max_tokens, or shorten the prompt",
        )
        for request in found
        if limit and len(request.prompt) + request.max_tokens > limit
    ]
    if problems:
        raise Problems("The suite does not fit the model:", problems)
    return found


def texts(tokenizer: Any, suite: Sequence[Sample], *, system: str) -> dict[str, str]:
    """By sample id, the prompt as the chat template renders it."""
    return {
        each.id: render_prompt(tokenizer, _messages(system, each), tools=TOOLS.values()) for each in suite
    }


def samples(
    suite: Sequence[Sample], asked: Sequence[Request], answers: Sequence[Answer | Reply | str]
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
            record = scoring.asked(item, index % repeats, digest("prompt", prompt), len(prompt))
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
                truncated = answer.finish_reason == "length"
                record |= scoring.scored(item, answer.text, truncated=truncated, sandbox=sandbox)
            found.append(records.Sample.model_validate(record))
    return found


def system_prompt(given: str | None) -> str:
    """The system prompt of the evaluation: ``eval.system_prompt``, else the format's own."""
    return formats.chosen().system_prompt(TOOLS.values()) if given is None else given


def strict_score(loaded: Any, path: Path) -> float:
    """The mean strict score of a model on a suite, greedy, with the format's system prompt."""
    from punie.evals.suite import load_suite
    from punie.model.generate import Sampling, generate
    from punie.results.scoring import summary

    suite, system = load_suite(path), formats.chosen().system_prompt(TOOLS.values())
    asked = requests(loaded, suite, system=system, repeats=1, max_tokens=256)
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
    mean = summary(samples(suite, asked, answers)).scores["strict"].overall.mean
    assert mean is not None  # noqa: S101 - no response is missing
    return mean


def _messages(system: str, sample: Sample) -> list[dict[str, str]]:
    opening = [{"role": "system", "content": system}] if system else []
    return [*opening, {"role": "user", "content": sample.prompt}]
