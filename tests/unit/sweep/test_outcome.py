"""Outcomes of the phases that are sweeps, with what supports them."""

from __future__ import annotations

from typing import Any

import pytest

from punie.results.outcome import Ran, concluded, each_by_itself, in_words, outcome
from tests.unit.sweep.conftest import Planner


def result(score: float, prompts: int) -> dict[str, Any]:
    """Results of a run with this overall score."""
    overall = {"overall": {"mean": score, "n": prompts}, "categories": {}}
    return {"scores": {"keyword": overall, "strict": overall}, "sampling": {"repeats": 1}}


def seeds(planned: Planner, scores: list[float | None], prompts: int = 27) -> list[Ran]:
    """Phase 46 with these scores, None for a job that did not finish."""
    jobs = planned("+phase=46", "model=tiny").jobs
    found = [None if score is None else result(score, prompts) for score in scores]
    return [(job.config, job.overrides, one) for job, one in zip(jobs, found, strict=True)]


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [
        ([0.9, 0.8, 0.8, 0.1, 0.1], "reproducible"),
        ([0.9, 0.9, 0.1, 0.1, 0.1], "undecided"),
        ([0.9, 0.1, 0.1, 0.1, 0.1], "a rare event"),
        ([0.0, 0.1, 0.1, 0.1, 0.1], "a rare event"),
    ],
)
def test_phase_46_counts_seeds(planned: Planner, scores: list[float | None], verdict: str) -> None:
    """Three of five seeds at 0.8 reproduce, two are undecided, one or none is a rare event."""
    found = outcome(seeds(planned, scores, prompts=100_000))
    assert found
    assert found["verdict"] == verdict


def test_27_prompts_cannot_tell_what_100_000_can(planned: Planner) -> None:
    """Seeds at 0.9 and 0.7: supported by many prompts, and with 27 too small to tell."""
    scores: list[float | None] = [0.9, 0.9, 0.9, 0.7, 0.7]
    many, few = (outcome(seeds(planned, scores, prompts)) for prompts in (100_000, 27))
    assert many
    assert few
    assert (many["verdict"], many["supported"]) == ("reproducible", True)
    assert (few["verdict"], few["supported"]) == ("reproducible", False)
    assert "too small to tell" in few["why"]


def test_missing_seeds_are_counted_either_way(planned: Planner) -> None:
    """Two seeds of five missing: one may still be three, so it is open; three are enough."""
    found = outcome(seeds(planned, [0.9, 0.1, 0.1, None, None], 100_000))
    assert found
    assert (found["verdict"], found["supported"]) == ("open", False)
    assert "2 jobs are missing" in found["why"]
    enough = outcome(seeds(planned, [0.9, 0.9, 0.9, None, None], 100_000))
    assert enough
    assert (enough["verdict"], enough["supported"]) == ("reproducible", True)
    nothing = outcome(seeds(planned, [None] * 5))
    assert nothing
    assert (nothing["verdict"], nothing["why"]) == ("open", "seeds_reaching_criteria: no job finished")


@pytest.mark.parametrize(
    ("score", "prompts", "verdict", "supported"),
    [
        (1.0, 27, "ship temperature 0; 43b is deprioritised", True),
        (0.8, 27, "ship temperature 0; 43b is deprioritised", False),
        (0.2, 27, "run 46: python -m punie -m +phase=46", True),
    ],
)
def test_phase_45_reads_the_format_fix_at_temperature_0(
    planned: Planner, score: float, prompts: int, verdict: str, supported: bool
) -> None:
    """Only the job of the format fix at temperature 0 decides, whatever the others scored."""
    plan = planned("+phase=45", "model=tiny")
    decides = [
        job for job in plan.jobs if plan.values(job) == {"lora": "format_fix", "eval.temperature": "0.0"}
    ]
    assert len(decides) == 1
    jobs = [
        (job.config, job.overrides, result(score if job in decides else 0.5, prompts)) for job in plan.jobs
    ]
    found = outcome(jobs)
    assert found
    assert (found["verdict"], found["supported"]) == (verdict, supported)


def test_a_sweep_without_such_a_phase_has_no_outcome(planned: Planner) -> None:
    """Neither a plain sweep nor one over a phase that is a single run is judged as a whole."""
    for overrides in (["seed=0,1"], ["+phase=43b", "model=tiny", "seed=0,1"]):
        jobs = planned(*overrides).jobs
        assert outcome([(job.config, job.overrides, result(0.5, 27)) for job in jobs]) is None


def test_an_outcome_ends_with_the_next_command(planned: Planner) -> None:
    """The last line is what to run now, on the same model, with the way through the tree."""
    found = concluded(seeds(planned, [0.1] * 5))
    assert found
    assert in_words(found)[0] == "phase 46: a rare event"
    assert in_words(found)[-1] == "next: python -m punie +phase=43b model=tiny  (45 → 46 → 43b)"


def test_runs_of_a_phase_that_is_no_sweep_are_judged_one_by_one(planned: Planner) -> None:
    """Where they agree the tree goes on, or ends; where they do not, nothing follows."""
    jobs = planned("+phase=43b", "model=tiny", "seed=0,1").jobs

    def found(*scores: float | None) -> dict[str, Any]:
        results = [None if score is None else result(score, 27) for score in scores]
        ran = [(job.config, job.overrides, one) for job, one in zip(jobs, results, strict=True)]
        assert concluded(ran) is None
        return each_by_itself(ran) or {}

    agreed = found(0.9, 0.8)
    assert (agreed["phase"], agreed["verdict"]) == ("43b", "dense is viable")
    assert agreed["next"].startswith("nothing, the tree of phases ends here")
    assert (found(0.9, 0.1)["verdict"], found(0.9, 0.1)["next"]) == ("the runs do not agree", None)
    assert found(0.9, None)["why"].endswith("1 have no score")
    assert found(None, None)["verdict"] == "open"
