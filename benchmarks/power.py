"""How often a printed verdict is wrong where there is no effect, and how often it finds the effect announced.

python benchmarks/power.py                  2,000 simulated sweeps for each row
python benchmarks/power.py --sweeps 200     fewer

The sweeps have 27 prompts and scores of 0 and 1. Log-odds are normal over prompts and seeds, with the
variances of a real sweep of tiny, for which punie plan announces power:

    python -m punie -m model=tiny seed=0,1,2,3,4 lora.rank=8,16 eval.temperature=0,0.7 lora.iters=100
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from figures import Row, report
from numpy.typing import NDArray

from punie.config import resolve
from punie.config.compose import compose
from punie.config.presets import presets
from punie.results.config import RunConfig
from punie.results.crossed import mean_interval
from punie.results.outcome import CANNOT_TELL, Job, concluded
from punie.results.power import ALPHA, POWER
from punie.results.records import Call, Estimate, Likelihood, Results, Sample, Sampling, Score, Scored, Text
from punie.results.ship import decide
from punie.results.summary.collect import FINISHED, PromptScores, RunScores
from punie.results.summary.expected import TINY, expected
from punie.results.summary.findings import Recipe, contrasts, table_of

PROMPTS, LARGE = 27, 20_000


@dataclass(frozen=True)
class Model:
    """Log-odds of a right response."""

    centre: float
    prompt: float
    """Standard deviation over prompts."""
    seed: float
    """Standard deviation over the training seeds of a recipe."""


MODEL = Model(centre=1.03, prompt=2.57, seed=0.0)
"""Mean 0.63, variance over prompts 0.112, of seeds 0.000, residual 0.121: the strict score of tiny."""
VARYING = replace(MODEL, seed=0.255)
"""With the variance of seeds that tiny's keyword score has, 0.0010."""


def scores(
    model: Model,
    rng: np.random.Generator,
    count: int,
    seeds: int,
    effects: Sequence[float],
    answers: int = 1,
) -> NDArray[np.float64]:
    """Scores of simulated sweeps, (sweeps, recipes, prompts, seeds); an effect for each recipe.

    Several answers of the same trained models stand in the place of recipes.
    """
    shape = (count, len(effects), PROMPTS, seeds)
    odds = (
        model.centre
        + np.asarray(effects)[:, None, None]
        + model.prompt * rng.standard_normal((count, 1, PROMPTS, 1))
        + model.seed * rng.standard_normal((*shape[:2], 1, seeds))
    )
    odds = np.repeat(odds, answers, axis=1)
    return (rng.random(odds.shape) < 1 / (1 + np.exp(-odds))).astype(float)


def recipes(found: NDArray[np.float64], *, temperatures: bool = False) -> list[Recipe]:
    """One sweep's scores, (recipes, prompts, seeds), as a summary has them; or a recipe's temperatures."""
    made = []
    for number, of_recipe in enumerate(found):
        runs = []
        for seed, values in enumerate(of_recipe.T.tolist()):
            config = RunConfig({"lora": {"seed": seed}, "eval": {"temperature": 0.7}})
            prompts = {f"p{n}": PromptScores("all", {"strict": (v,)}, ()) for n, v in enumerate(values)}
            runs.append(RunScores(Path(), FINISHED, config=config, prompts=prompts))
        made.append(Recipe(f"recipe={number}", {0.7: runs}))
    if temperatures:
        return [Recipe("", {float(n): recipe.runs[0.7] for n, recipe in enumerate(made)})]
    return made


def called(found: NDArray[np.float64], *, temperatures: bool = False) -> float:
    """The share of sweeps in which a summary calls a difference significant; scores as of :func:`scores`."""
    sweeps = (recipes(each, temperatures=temperatures) for each in found)
    hits = [any(c.adjusted <= ALPHA for c in contrasts(each, "strict", detect=False)) for each in sweeps]
    return sum(hits) / len(hits)


def excluded(found: NDArray[np.float64], truth: float) -> float:
    """The share of sweeps whose interval says that the mean is not the true one."""
    tables = [table_of(recipe.runs[0.7], "strict") for each in found for recipe in recipes(each)]
    wrong = [not each.low <= truth <= each.high for table in tables if (each := mean_interval(table))]
    return sum(wrong) / len(tables)


def decided(found: NDArray[np.float64]) -> float:
    """The share of sweeps of five seeds that phase 46 has a verdict for; scores as of :func:`scores`."""
    preset = presets()["46"].phase
    phase = {**dataclasses.asdict(preset), "score": "strict"}
    configs = [RunConfig({"lora": {"seed": seed}, "phase": phase}) for seed in range(found.shape[-1])]
    sampling, verdicts = Sampling.model_construct(repeats=1), []
    for means in found.mean(axis=2)[:, 0]:
        jobs = []
        for config, mean in zip(configs, means.tolist(), strict=True):
            score = Score(overall=Estimate(mean=mean, n=PROMPTS), categories={})
            results = Results.model_construct(scores={"strict": score}, sampling=sampling)
            jobs.append(Job(config, (), results))
        outcome = concluded(jobs)
        assert outcome is not None
        verdicts.append(outcome.verdict != CANNOT_TELL)
    return sum(verdicts) / len(verdicts)


SHIP = resolve(compose(["ship=default"])).ship
"""Criteria of the decision whether to ship."""


def shipped(rng: np.random.Generator, at_limit: Collection[str]) -> str:
    """A decision on a simulated run of ``mixed``: the true change of these metrics is their limit, and all
    others are clearly for the better."""

    def samples(kinds: NDArray[np.int64], name: str, wrong: str) -> list[Sample]:
        call = [Call(tool="git_status", arguments={})] if name == "t" else []
        return [
            Sample.model_construct(
                id=f"{name}{i}", prompt="", category="all", missing=None, output="", expect=call,
                taxonomy=wrong if kind else "correct", wrapper=True, repeat=0,
                scores=dict.fromkeys(("strict", "keyword"), Scored(value=1.0 - kind, reason="")),
            )
            for i, kind in enumerate(kinds.tolist())
        ]  # fmt: skip

    def wrong(prompts: int, up: float, down: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which prompts the base and the result get wrong: so many change for the worse and the better."""
        kinds = rng.choice(4, prompts, p=[up, down, (1 - up - down) / 2, (1 - up - down) / 2])
        return (kinds == 1) | (kinds == 2), (kinds == 0) | (kinds == 2)

    task = wrong(27, 0.25, 0.25) if "task" in at_limit else wrong(27, 0.0, 0.9)
    rises = {"unwanted": (0.2, 0.1), "unwanted, none for the better": (0.1, 0.0)}
    calls = wrong(60, *next((rises[each] for each in rises if each in at_limit), (0.05, 0.4)))
    base, result = (
        samples(of_task, "t", "wrong tool") + samples(of_calls, "n", "unwanted call")
        for of_task, of_calls in zip(task, calls, strict=True)
    )
    gain = rng.normal(1.0, 0.5, 16)
    lost = -0.2 * gain + rng.normal(0, 0.1, 16) if "kept" in at_limit else rng.normal(0, 0.02, 16)
    if "validation" in at_limit:
        gain = rng.normal(-0.1, 0.1, 16) - lost
    changes = {kind: rng.normal(-0.1 if kind in at_limit else 0.2, 0.1, 20) for kind in ("prose", "code")}
    none = {kind: np.zeros(20) for kind in changes}
    read = {
        "base": {**none, "validation": np.zeros(16)},
        "adapter": {**none, "validation": gain},
        "quantized": {**changes, "validation": gain + lost},
    }
    texts = {
        target: Likelihood.model_construct(
            texts=[
                Text.model_construct(kind=kind, id=str(i), logprob=value)
                for kind, values in kinds.items()
                for i, value in enumerate(values)
            ]
        )
        for target, kinds in read.items()
    }
    return decide(SHIP, base, result, texts, "quantized").decision


def announced(model: Model, seeds: int) -> float:
    """The difference between two recipes that a plan says is detected."""
    configs = [
        RunConfig({"lora": {"rank": rank, "seed": seed}, "eval": {"temperature": 0.7}})
        for rank in (8, 16)
        for seed in range(seeds)
    ]
    variances, like = TINY["strict"], TINY["keyword"].designs["recipes"]
    if model is VARYING:
        design = replace(variances.designs["recipes"], by_seed=like.by_seed)
        variances = replace(variances, designs=variances.designs | {"recipes": design})
    (question,) = expected(configs, PROMPTS, None, variances, "strict").questions
    assert question.smallest is not None
    return question.smallest


def effect_of(model: Model, difference: float) -> float:
    """The effect on the log-odds that lowers the mean score by a difference."""
    low, high = -12.0, 0.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        found = scores(model, np.random.default_rng(1), LARGE, 1, (0.0, middle)).mean(axis=(0, 2, 3))
        low, high = (middle, high) if found[0] - found[1] > difference else (low, middle)
    return high


def centre_of(model: Model, mean: float) -> float:
    """The centre of the log-odds that gives a mean score."""
    low, high = -5.0, 10.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        found = scores(replace(model, centre=middle), np.random.default_rng(1), LARGE, 1, [0.0]).mean()
        low, high = (middle, high) if found < mean else (low, middle)
    return high


def measure(sweeps: int) -> Iterator[Row]:
    rng = np.random.default_rng(0)

    def wrong(what: str, share: float) -> Row:
        return Row(what, [100 * share], "%", at_most=100 * ALPHA)

    for name, model in (("equal", MODEL), ("varying", VARYING)):
        for seeds in (3, 5):
            for count in (2, 3):
                share = called(scores(model, rng, sweeps, seeds, [0.0] * count))
                yield wrong(f"{count} equal recipes, {seeds} {name} seeds: a difference is called", share)
    for seeds in (3, 5):
        share = called(scores(VARYING, rng, sweeps, seeds, [0.0], answers=2), temperatures=True)
        yield wrong(f"2 temperatures without effect, {seeds} seeds: a difference is called", share)
    share = called(scores(MODEL, rng, sweeps, 1, (0.0, 0.0)))
    yield wrong("2 equal trainings: a difference is called", share)
    for seeds, model in ((1, MODEL), (3, VARYING), (5, VARYING)):
        truth = float(scores(model, rng, LARGE, 3, [0.0]).mean())
        share = excluded(scores(model, rng, sweeps, seeds, [0.0]), truth)
        yield wrong(f"{seeds} seed{'s' * (seeds > 1)}: the interval of the mean excludes the true one", share)
    found = scores(replace(VARYING, centre=centre_of(VARYING, 0.8)), rng, sweeps, 5, [0.0])
    yield wrong("5 seeds whose true score is the criterion: phase 46 has a verdict", decided(found))
    metrics = [each.metric for each in SHIP.criteria]
    cases = [*metrics, "unwanted, none for the better"]
    for metric in (each for each in cases if each != "validation"):  # at its limit there is no gain to keep
        share = [shipped(rng, [metric]) for _ in range(sweeps)].count("SHIP") / sweeps
        yield wrong(f"{metric} exactly at its limit: SHIP", share)
    worst = [metric for metric in metrics if metric != "kept"]
    share = [shipped(rng, worst) for _ in range(sweeps)].count("HOLD") / sweeps
    yield wrong(f"{len(worst)} of {len(metrics)} criteria exactly at their limits: HOLD", share)
    for name, model in (("equal", MODEL), ("varying", VARYING)):
        for seeds in (3, 5):
            difference = announced(model, seeds)
            found = scores(model, rng, sweeps, seeds, (0.0, effect_of(model, difference)))
            what = f"{seeds} {name} seeds, a difference of {difference:.2f}, announced with 80 %: called"
            yield Row(what, [100 * called(found)], "%", at_least=100 * POWER - 3, at_most=100 * POWER + 3)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sweeps", type=int, default=2_000, help="simulated for a row (default: %(default)s)"
    )
    report(measure(parser.parse_args().sweeps))
