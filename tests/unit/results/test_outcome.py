"""Verdicts of the phases that are sweeps, with what supports them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from punie.results.outcome import Job, concluded, each_by_itself, in_words
from punie.results.records import SweepOutcome
from punie.results.sweep import PlannedJob
from tests.unit.results.made import results
from tests.unit.sweep.conftest import Planner, planned

__all__ = ["planned"]


def ran(jobs: Sequence[PlannedJob], scores: Sequence[float | None], prompts: int = 27) -> list[Job]:
    """Jobs with these scores, None for a job that did not finish."""
    found = [None if score is None else results(score, prompts) for score in scores]
    return [Job(job.config, job.overrides, one) for job, one in zip(jobs, found, strict=True)]


def seeds(planned: Planner, scores: Sequence[float | None], prompts: int = 27) -> SweepOutcome:
    """The outcome of phase 46 with these scores."""
    found = concluded(ran(planned("+phase=46", "model=tiny").jobs, scores, prompts))
    assert found
    return found


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [
        ([0.9, 0.81, 0.81, 0.1, 0.1], "reproducible"),
        ([0.9, 0.9, 0.1, 0.1, 0.1], "undecided"),
        ([0.9, 0.1, 0.1, 0.1, 0.1], "a rare event"),
        ([0.0, 0.1, 0.1, 0.1, 0.1], "a rare event"),
    ],
)
def test_phase_46_counts_seeds(planned: Planner, scores: list[float], verdict: str) -> None:
    """Three of five seeds at 0.8 reproduce, two are undecided, one or none is a rare event."""
    assert seeds(planned, scores, prompts=100_000).verdict == verdict


@pytest.mark.parametrize(
    ("overrides", "count"),
    [
        ("seed=5 lora.seed=0,1,2", 3),
        ("seed=5 lora.seed=0,1,2 eval.temperature=0,0.5", 3),
        ("seed=0,1,2 lora=format_fix", 1),
        ("seed=0,1,2", 3),
    ],
)
def test_a_seed_is_that_of_the_training(planned: Planner, overrides: str, count: int) -> None:
    """Each ``lora.seed`` counts once: if it alone is swept, and if a sweep of ``seed`` leaves it at 42."""
    jobs = planned("+phase=46", "model=tiny", *overrides.split()).jobs
    found = concluded(ran(jobs, [0.9] * len(jobs), 100_000))
    assert found
    assert found.figures["seeds_reaching_criteria"].value == count
    assert f"({count} training seed" in found.why


def test_27_prompts_cannot_tell_what_100_000_can(planned: Planner) -> None:
    """Seeds at 0.9 and 0.7: many prompts give the verdict, and with 27 no verdict of the phase is printed."""
    many, few = (seeds(planned, [0.9, 0.9, 0.9, 0.7, 0.7], prompts) for prompts in (100_000, 27))
    assert (many.verdict, many.supported) == ("reproducible", True)
    assert (few.verdict, few.supported, few.next) == ("cannot tell", False, None)
    assert in_words(few)[0] == "phase 46: cannot tell"
    assert '"reproducible" is not certain, more prompts are needed' in few.why


def test_missing_seeds_are_counted_either_way(planned: Planner) -> None:
    """Two seeds of five missing: one may still be three, so it is open; three are enough."""
    found = seeds(planned, [0.9, 0.1, 0.1, None, None], 100_000)
    assert (found.verdict, found.supported) == ("open", False)
    assert "2 jobs are missing" in found.why
    enough = seeds(planned, [0.9, 0.9, 0.9, None, None], 100_000)
    assert (enough.verdict, enough.supported) == ("reproducible", True)
    nothing = seeds(planned, [None] * 5)
    assert (nothing.verdict, nothing.why) == ("open", "seeds_reaching_criteria: no job finished")


@pytest.mark.parametrize(
    ("score", "prompts", "verdict", "supported"),
    [
        (1.0, 27, "ship temperature 0; 43b is deprioritised", True),
        (0.8, 27, "cannot tell", False),
        (0.2, 27, "run 46: python -m punie -m +phase=46", True),
    ],
)
def test_phase_45_reads_the_format_fix_at_temperature_0(
    planned: Planner, score: float, prompts: int, verdict: str, supported: bool
) -> None:
    """Only the job of the format fix at temperature 0 decides, whatever the others scored."""
    plan = planned("+phase=45", "model=tiny")
    decides = [plan.values(job) == {"lora": "format_fix", "eval.temperature": "0.0"} for job in plan.jobs]
    assert sum(decides) == 1
    found = concluded(ran(plan.jobs, [score if decisive else 0.5 for decisive in decides], prompts))
    assert found
    assert (found.verdict, found.supported) == (verdict, supported)


def test_a_sweep_without_such_a_phase_has_no_outcome(planned: Planner) -> None:
    """Neither a plain sweep nor one over a phase that is a single run is judged as a whole."""
    for overrides in (["seed=0,1"], ["+phase=43b", "model=tiny", "seed=0,1"]):
        assert concluded(ran(planned(*overrides).jobs, [0.5, 0.5])) is None


def test_an_outcome_ends_with_the_next_command(planned: Planner) -> None:
    """The last line is what to run now, on the same model, with the way through the tree."""
    found = concluded(ran(planned("+phase=46", "model=tiny").jobs, [0.1] * 5))
    assert found
    assert in_words(found)[0] == "phase 46: a rare event"
    assert in_words(found)[-1] == "next: python -m punie +phase=43b model=tiny  (45 → 46 → 43b)"


def test_runs_of_a_phase_that_is_no_sweep_are_judged_one_by_one(planned: Planner) -> None:
    """Where they agree the tree goes on, or ends; where they do not, nothing follows."""
    jobs = planned("+phase=43b", "model=tiny", "seed=0,1").jobs

    def found(*scores: float | None) -> SweepOutcome:
        assert concluded(ran(jobs, scores)) is None
        result = each_by_itself(ran(jobs, scores))
        assert result
        return result

    agreed = found(0.9, 0.8)
    assert (agreed.phase, agreed.verdict) == ("43b", "dense is viable")
    assert (agreed.next or "").startswith("nothing, the tree of phases ends here")
    assert (found(0.9, 0.1).verdict, found(0.9, 0.1).next) == ("the runs do not agree", None)
    assert found(0.9, None).why.endswith("1 have no score")
    assert found(None, None).verdict == "open"
