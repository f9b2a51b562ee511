"""A suite put to a model: prompts, answers, and each answer parsed, run in the sandbox and scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from punie.errors import DataError, Problems
from punie.prompts import format_prompt
from punie.store.keys import digest

if TYPE_CHECKING:
    from punie.evals.sandbox import Sandbox
    from punie.evals.suite import Sample


def answer(
    loaded: Any,
    suite: Sequence[Sample],
    *,
    system: str,
    sampling: Any,
    repeats: int,
    max_tokens: int,
    stop: Sequence[str],
    batch_size: int,
    done: Callable[[int], None],
) -> tuple[list[dict[str, Any]], dict[str, list[int]]]:
    """Answer every prompt of a suite and score the answers.

    Args:
        loaded: ``load.Loaded``.
        suite: The prompts.
        system: System prompt; empty for none.
        sampling: ``generate.Sampling``.
        repeats: Samples of each prompt.
        max_tokens: Longest answer of an item that sets no limit.
        stop: Texts that end an answer.
        batch_size: Answers generated together.
        done: Called with the number of finished answers.

    Returns:
        The raw records (samples.jsonl), and by sample id the tokens of its prompt.

    Raises:
        Problems: Prompts that do not fit the model's context.
    """
    from punie.backend import generate
    from punie.evals.sandbox import Sandbox

    prompts = {sample.id: _prompt(loaded.tokenizer, system, sample) for sample in suite}
    requests = [
        generate.Request(f"{sample.id}#{repeat}", prompts[sample.id], sample.max_tokens or max_tokens)
        for sample in suite
        for repeat in range(repeats)
    ]
    _require_context(requests, loaded.config)
    answers = generate.generate(
        loaded.model, loaded.tokenizer, requests, sampling, stop=stop, batch_size=batch_size, done=done
    )
    samples = [sample for sample in suite for _ in range(repeats)]
    with Sandbox() as sandbox:
        records = [
            _record(sample, index % repeats, given, digest("prompt", prompts[sample.id]), sandbox)
            for index, (sample, given) in enumerate(zip(samples, answers, strict=True))
        ]
    return records, prompts


def system_prompt(settings: Any) -> str:
    """The evaluation's system prompt: ``eval.system_prompt``, else the one code_mode is trained with."""
    from punie.tools import registry

    given = settings.eval.system_prompt
    return registry.system_prompt() if given is None else given


def summary(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The scores of raw records, as ``evals.summary.summarize`` gives them."""
    from punie.evals.summary import Scored, summarize

    return summarize(
        [
            Scored(
                id=record["id"],
                category=record["category"],
                keyword=record["scores"]["keyword"]["value"],
                strict=record["scores"]["strict"]["value"],
                taxonomy=record["taxonomy"],
                wrapper=record["wrapper"],
            )
            for record in records
        ]
    )


def strict_score(loaded: Any, suite: Path) -> float:
    """The mean strict score of a model on a suite, greedy, with the system prompt of code_mode."""
    from punie.backend.generate import Sampling
    from punie.evals.suite import load_suite
    from punie.tools import registry

    records, _ = answer(
        loaded,
        load_suite(suite),
        system=registry.system_prompt(),
        sampling=Sampling(temperature=0.0),
        repeats=1,
        max_tokens=256,
        stop=(),
        batch_size=32,
        done=lambda _: None,
    )
    return summary(records)["strict"]["overall"]["mean"]


def _prompt(tokenizer: Any, system: str, sample: Sample) -> list[int]:
    messages = [{"role": "system", "content": system}] if system else []
    return format_prompt(tokenizer, [*messages, {"role": "user", "content": sample.prompt}])


def _record(sample: Sample, repeat: int, answer: Any, prompt_digest: str, sandbox: Sandbox) -> dict[str, Any]:
    """One line of samples.jsonl: all that is needed to score the answer again without a model."""
    from punie.evals.parse import parse
    from punie.evals.scorers import keyword, strict, taxonomy

    completion = parse(answer.text, truncated=answer.finish_reason == "length")
    execution = sandbox.run(completion.code) if completion.code is not None else None
    scores = {"keyword": keyword(sample, completion), "strict": strict(sample, completion, execution)}
    return {
        "id": sample.id,
        "repeat": repeat,
        "category": sample.category,
        "prompt": sample.prompt,
        "prompt_sha256": prompt_digest,
        "output": answer.text,
        "tokens": answer.tokens,
        "logprobs": [round(value, 5) for value in answer.logprobs],
        "finish_reason": answer.finish_reason,
        "seconds": answer.seconds,
        "wrapper": completion.has_wrapper,
        "calls": [dataclasses.asdict(call) for call in execution.calls] if execution else [],
        "execution": execution.outcome if execution else None,
        "scores": {name: dataclasses.asdict(score) for name, score in scores.items()},
        "taxonomy": taxonomy(sample, completion, execution),
    }


def _require_context(requests: list[Any], config: Mapping[str, Any]) -> None:
    limit = config.get("max_position_embeddings")
    problems = [
        DataError(
            "The prompt and its answer do not fit the model's context.",
            where=f"suite item {request.id.rpartition('#')[0]}",
            found=f"{len(request.prompt)} + {request.max_tokens} tokens",
            expected=f"at most {limit}",
            next_step="lower eval.max_tokens, or shorten the prompt",
        )
        for request in requests
        if limit and len(request.prompt) + request.max_tokens > limit
    ]
    if problems:
        raise Problems("The suite does not fit the model:", problems)
