"""The raw record of an answer, a line of samples.jsonl: it takes no model to score it again."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from punie import formats
from punie.evals.scorers import calls_made, taxonomy
from punie.evals.scores import SCORERS
from punie.evals.suite import Expectation, Sample
from punie.results.scores import Scored, summarize

if TYPE_CHECKING:
    from punie.evals.sandbox import Sandbox


def asked(sample: Sample, repeat: int, prompt_sha256: str, prompt_tokens: int) -> dict[str, Any]:
    """The first half of a record: what was asked, and what would have been right."""
    return {
        "id": sample.id,
        "repeat": repeat,
        "category": sample.category,
        "prompt": sample.prompt,
        "prompt_sha256": prompt_sha256,
        "prompt_tokens": prompt_tokens,
        "expect": [dataclasses.asdict(each) for each in sample.expect],
        "match": sample.match,
    }


def scored(sample: Sample, output: str, *, truncated: bool, sandbox: Sandbox) -> dict[str, Any]:
    """The second half of a record: an output parsed, run in the sandbox and scored.

    Args:
        sample: The suite's item.
        output: The raw output.
        truncated: It ended at the token limit.
        sandbox: Where its code runs.
    """
    form = formats.chosen()
    completion = form.parse(output, truncated=truncated)
    execution = sandbox.run(completion.code) if completion.code is not None else None
    scores = {
        name: resolve_name(scorer.function)(sample, completion, execution) for name, scorer in SCORERS.items()
    }
    return {
        "wrapper": completion.has_block,
        "opening": form.opening(output),
        "blocks": [{"name": block.name, "problem": block.problem} for block in completion.blocks],
        "calls": [dataclasses.asdict(call) for call in calls_made(completion, execution)],
        "execution": execution.outcome if execution else None,
        "scores": {name: dataclasses.asdict(score) for name, score in scores.items()},
        "taxonomy": taxonomy(sample, completion, execution),
    }


def rescored(records: Iterable[Mapping[str, Any]], sandbox: Sandbox) -> Iterator[dict[str, Any]]:
    """Records as today's parser, sandbox and scorers see their outputs; a missing answer stays missing."""
    for record in records:
        if record["missing"] is not None:
            yield dict(record)
            continue
        expect = tuple(Expectation(each["tool"], each["arguments"]) for each in record["expect"])
        sample = Sample(record["id"], record["category"], record["prompt"], expect, record["match"])
        truncated = record["finish_reason"] == "length"
        yield {**record, **scored(sample, record["output"], truncated=truncated, sandbox=sandbox)}


def summary(records: Sequence[Mapping[str, Any]], *, allow_missing: bool = False) -> dict[str, Any]:
    """The scores of records, as ``evals.summary.summarize`` gives them, and what is missing.

    Args:
        records: All of a run's, the missing ones among them.
        allow_missing: Give an overall score although answers are missing; otherwise its mean is None.

    Raises:
        ValueError: Every answer is missing, or there are no records.
    """
    rows = [
        Scored(
            id=record["id"],
            category=record["category"],
            scores={name: score["value"] for name, score in record["scores"].items()},
            taxonomy=record["taxonomy"],
            wrapper=record["wrapper"],
        )
        for record in records
        if record["missing"] is None
    ]
    found = summarize(rows)
    reasons = Counter(record["missing"] for record in records if record["missing"] is not None)
    found["missing"] = {"count": reasons.total(), "reasons": dict(reasons.most_common())}
    if reasons and not allow_missing:
        for name in found.keys() & SCORERS.keys():
            estimate = found[name]["overall"]
            estimate |= dict.fromkeys(estimate.keys() - {"n"})
    return found
