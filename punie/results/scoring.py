"""Scores responses: those to one item into a Sample, and the samples of a suite into Scores."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from punie.evals.bfcl_suites import AVERAGES
from punie.evals.scorers import TAXONOMY, calls_made, taxonomy
from punie.evals.scores import RATES, SCORERS
from punie.evals.suite import Expectation
from punie.evals.suite import Sample as Item
from punie.formats import Completion, Format
from punie.formats.reading import typed
from punie.formats.tools import read_tools
from punie.results.records import ByTurn, Estimate, Missing, Sample, Score, Scores, Tally
from punie.results.statistics import clustered_stderr, wilson

if TYPE_CHECKING:
    from punie.evals.sandbox import Sandbox


_WHOLE = {"turn", "turns", "earlier"}
"""Fields of a conversation's record that no single turn has."""


def asked(form: Format, item: Item, repeat: int, prompt_sha256: str, prompt_tokens: int) -> dict[str, Any]:
    """The first fields of a Sample: what was asked, and what would have been right."""
    tools = [] if form.code_tool else [tool.declaration for tool in item.tools]
    return {
        **({"tools": tools} if tools else {}),
        "id": item.id,
        "repeat": repeat,
        "category": item.category,
        "prompt": item.prompt,
        "prompt_sha256": prompt_sha256,
        "prompt_tokens": prompt_tokens,
        "expect": [dataclasses.asdict(each) for each in item.expect],
        "match": item.match,
        **({"rules": item.rules} if item.rules != "punie" else {}),
    }


def scored(
    form: Format,
    item: Item,
    output: str,
    *,
    truncated: bool,
    sandbox: Sandbox,
    sent: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The last fields of a Sample: a raw response parsed, run in the sandbox and scored.

    ``truncated`` says that it ended at the token limit; ``sent`` are the calls that a server sent beside it.
    """
    completion = parsed(form, item, output, truncated=truncated, sent=sent)
    execution = sandbox.run(completion.code) if completion.code is not None else None
    scores = {
        name: resolve_name(scorer.function)(item, completion, execution) for name, scorer in SCORERS.items()
    }
    return {
        "wrapper": completion.has_block,
        "opening": form.opening(output),
        "blocks": [{"name": block.name, "problem": block.problem} for block in completion.blocks],
        "calls": [dataclasses.asdict(call) for call in calls_made(completion, execution)],
        "execution": execution.outcome if execution else None,
        "scores": {name: dataclasses.asdict(score) for name, score in scores.items()},
        "taxonomy": taxonomy(item, completion, execution),
    }


def parsed(
    form: Format, item: Item, output: str, *, truncated: bool, sent: Sequence[Mapping[str, Any]] = ()
) -> Completion:
    """A response with the calls that a server sent beside it; arguments are those of :func:`scored`."""
    completion = form.parse(output, tools=item.known.values(), truncated=truncated)
    sent = typed(sent, item.known) if form.untyped else sent
    return completion.joined(sent, truncated=truncated)


def is_right(turn: Mapping[str, Any]) -> bool:
    """Whether a turn is answered, and right by the strict score: only then does the conversation go on."""
    return turn["missing"] is None and turn["scores"]["strict"]["value"] == 1.0


def joined(parts: Sequence[Mapping[str, Any]], turns: int) -> Sample:
    """The record of an item from those of the turns that were asked, the last of which decides.

    A score of 0 and 1 alone is the lowest of the turns, any other their mean; a turn that was not reached
    counts as 0.

    Args:
        parts: The records of the turns, as plain values; all but the last are right.
        turns: How many the item has.
    """
    *earlier, last = map(dict, parts)
    if turns == 1:
        return Sample.model_validate(last)
    for each in earlier:
        each.pop("tools", None)  # the same for all turns
    number = len(parts)
    last |= {"turn": number, "turns": turns, "earlier": earlier}
    if last["missing"] is None:
        scores = {}
        for name, found in last["scores"].items():
            values = [part["scores"][name]["value"] for part in parts] + [0.0] * (turns - number)
            binary = SCORERS[name].binary
            place = f"turn {number} of {turns}"
            if not binary:
                place += f"; mean of {', '.join(f'{value:g}' for value in values)}"
            value = min(values) if binary else math.fsum(values) / turns
            scores[name] = {"value": value, "reason": f"{found['reason']} ({place})"}
        last["scores"] = scores
    return Sample.model_validate(last)


def rescored(form: Format, samples: Iterable[Sample], sandbox: Sandbox) -> Iterator[Sample]:
    """Samples as today's parser, sandbox and scorers see their outputs; a missing response stays missing.

    A conversation ends with the first turn that is wrong today. Where the turn that decided is right today,
    and not the last, the next one was never asked: the response is missing.
    """
    for sample in samples:
        tools = tuple(read_tools(sample.tools, f"sample {sample.id}"))
        parts: list[dict[str, Any]] = []
        for each in sample.reached:
            part = {name: value for name, value in each.plain().items() if name not in _WHOLE}
            part |= {"tools": sample.tools} if sample.tools else {}
            parts.append(part)
            if each.output is None:
                break
            expect = tuple(Expectation(call.tool, call.arguments) for call in each.expect)
            item = Item(
                each.id, each.category, each.prompt, expect, each.match, tools=tools, rules=each.rules
            )
            truncated = each.finish_reason == "length"
            part |= scored(form, item, each.output, truncated=truncated, sandbox=sandbox, sent=each.sent)
            if not is_right(part):
                break
        if is_right(parts[-1]) and len(parts) < sample.turns:
            number = len(parts)
            reason = f"turn {number} is right by today's scorers, and turn {number + 1} was never asked"
            parts[-1] |= {"missing": reason, "output": None, "scores": {}, "taxonomy": ""}
        yield joined(parts, sample.turns)


def summary(samples: Sequence[Sample], *, allow_missing: bool = False) -> Scores:
    """The scores of a suite's responses.

    Every mean is over responses, so a category weighs as much as it has prompts.

    Args:
        samples: All of a run's; several with one id are repeats of a prompt.
        allow_missing: Give an overall score although responses are missing; otherwise its mean is None.

    Raises:
        ValueError: Every response is missing, or there are none.
    """
    there = [sample for sample in samples if sample.answered]
    if not there:
        raise ValueError("there are no responses to summarize")
    reasons = Counter(sample.missing for sample in samples if sample.missing is not None)
    complete = allow_missing or not reasons
    categories: dict[str, list[Sample]] = defaultdict(list)
    for sample in there:
        categories[sample.category].append(sample)

    def score(name: str, binary: bool) -> Score:
        overall, *each = (
            _estimate(members, lambda sample: sample.scores[name].value, binary=binary)
            for members in (there, *categories.values())
        )
        overall = overall if complete else Estimate(mean=None, n=overall.n)
        return Score(overall=overall, categories=dict(zip(categories, each, strict=True)))

    return Scores(
        scores={
            name: score(name, scorer.binary)
            for name, scorer in SCORERS.items()
            if all(name in sample.scores for sample in there)
        },
        wrapper_rate=_estimate(there, lambda sample: sample.wrapper, binary=True),
        rates=rates(samples, complete=complete),
        taxonomy={
            name: Tally(count=len(ids), example=ids[0])
            for name in TAXONOMY
            if (ids := [sample.id for sample in there if sample.taxonomy == name])
        },
        turns=_by_turn([sample for sample in there if sample.turns > 1], complete=complete),
        missing=Missing(count=reasons.total(), reasons=dict(reasons.most_common())),
    )


def _by_turn(samples: Sequence[Sample], *, complete: bool) -> list[ByTurn]:
    """How often each turn of conversations was right; without means unless ``complete``."""

    def right(sample: Sample, turn: int) -> bool:
        return turn < sample.turn or (turn == sample.turn and sample.scores["strict"].value == 1.0)

    found = []
    for turn in range(1, max((sample.turns for sample in samples), default=0) + 1):
        every = [sample for sample in samples if turn <= sample.turns]
        asked = [sample for sample in every if turn <= sample.turn]
        estimates = (
            _estimate(each, lambda sample, turn=turn: right(sample, turn), binary=True)
            if each and complete
            else Estimate(mean=None, n=len(each))
            for each in (asked, every)
        )
        found.append(ByTurn(turn=turn, of_reached=next(estimates), of_all=next(estimates)))
    return found


def rates(samples: Iterable[Sample], *, complete: bool) -> dict[str, Estimate]:
    """The rates of wrong decisions to call, over responses; those that there are items for.

    A conversation counts for each rate that any of its turns is about. Without means unless ``complete``:
    responses are missing.
    """
    there = [sample for sample in samples if sample.answered]
    members = {rate: [sample for sample in there if rate in sample.wrong_decisions] for rate in RATES}
    return {
        rate: _estimate(each, lambda sample, rate=rate: sample.wrong_decisions[rate], binary=True)
        if complete
        else Estimate(mean=None, n=len(each))
        for rate, each in members.items()
        if each
    }


def averages(score: Score) -> dict[str, Estimate]:
    """BFCL's averages, those of whose categories a score has all; none while responses are missing.

    The interval is made of the categories' (Zou, Huang and Zhang, "A note on confidence interval estimation
    for a linear function of binomial proportions", 2009).
    """
    found = {}
    for name, weights in AVERAGES.items():
        if score.overall.mean is None or not weights.keys() <= score.categories.keys():
            continue
        parts = [(weight, score.categories[each]) for each, weight in weights.items()]
        mean = math.fsum(weight * (part.mean or 0.0) for weight, part in parts)
        errors = [weight * part.stderr for weight, part in parts if part.stderr is not None]
        ends = [
            (
                weight * ((part.mean or 0.0) - part.interval[0]),
                weight * (part.interval[1] - (part.mean or 0.0)),
            )
            for weight, part in parts
            if part.interval is not None
        ]
        low, high = (math.hypot(*each) for each in zip(*ends, strict=True)) if ends else (0.0, 0.0)
        found[name] = Estimate(
            mean=mean,
            n=sum(part.n for _, part in parts),
            stderr=math.hypot(*errors) if len(errors) == len(parts) else None,
            interval=(mean - low, mean + high) if len(ends) == len(parts) else None,
        )
    return found


def _estimate(samples: Sequence[Sample], value: Callable[[Sample], float], *, binary: bool) -> Estimate:
    clusters: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        clusters[sample.id].append(float(value(sample)))
    mean = math.fsum(value for values in clusters.values() for value in values) / len(samples)
    return Estimate(
        mean=mean,
        n=len(samples),
        stderr=clustered_stderr(list(clusters.values())),
        interval=wilson(mean, len(clusters)) if binary else None,
    )
