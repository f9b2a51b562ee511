"""Two sweeps: which jobs belong together, and each difference once."""

from __future__ import annotations

from typing import Any

from punie.results.config import RunConfig
from punie.results.difference import Change, Difference, Side, compare_sweeps, match


def side(name: str, *, rate: float = 0.1, seed: int = 0, temperature: float = 0.7, **more: Any) -> Side:
    """A job that has not run, with a training in its plan."""
    config = {
        "name": "x",
        "model": {"name": "tiny"},
        "data": {"name": "d"},
        "lora": {"seed": seed, "learning_rate": rate},
        "eval": {"suite": "core27", "seed": more.pop("eval_seed", seed), "temperature": temperature},
    }
    settings = {"lora.seed": seed, "lora.learning_rate": rate}
    material = {"version": 1, "settings": settings, "upstream": {}, "contents": {}}
    return Side(
        name, RunConfig(config), keys={"train": f"{seed} {rate}"}, materials={"train": material}, **more
    )


def compare(a: list[Side], b: list[Side]) -> Difference:
    return compare_sweeps(a, b)[0]


def names(pairs: Any) -> list[tuple[str, str]]:
    return [(a.name, b.name) for a, b in pairs]


def test_jobs_belong_together_by_their_place() -> None:
    """Jobs pair by seed and temperature, in whatever order and however many the other sweep has."""
    a = [side(f"a{s}{t}", seed=s, temperature=t) for s in (0, 1) for t in (0.0, 0.7)]
    b = [side(f"b{s}", seed=s, temperature=0.7) for s in (2, 1, 0)]
    found = match(a, b)
    assert names(found.pairs) == [("a00.7", "b0"), ("a10.7", "b1")]
    assert [(one.name, place) for one, place in found.only[0]] == [
        ("a00.0", "lora.seed=0, eval.temperature=0"),
        ("a10.0", "lora.seed=1, eval.temperature=0"),
    ]
    assert [one.name for one, _ in found.only[1]] == ["b2"]


def test_an_axis_of_one_sweep_is_a_difference() -> None:
    """Where training seeds alone tell the jobs apart, another seed of sampling parts no pair."""
    a = [side(f"a{seed}", seed=seed, eval_seed=0) for seed in (0, 1)]
    b = [side(f"b{seed}", seed=seed) for seed in (0, 1)]
    assert names(match(a, b).pairs) == [("a0", "b0"), ("a1", "b1")]
    assert [(each, each.jobs) for each in compare(a, b).axes["identity"]] == [(Change("eval.seed", 0, 1), 1)]


def test_a_difference_of_all_jobs_stands_once() -> None:
    """Another learning rate is one change and one reason, with the number of jobs that have it."""
    a = [side(f"a{seed}", seed=seed) for seed in range(5)]
    b = [side(f"b{seed}", seed=seed, rate=0.2 if seed else 0.1) for seed in range(5)]
    found = compare(a, b)
    assert [(each, each.jobs) for each in found.axes["identity"]] == [
        (Change("lora.learning_rate", 0.1, 0.2), 4)
    ]
    (stage,) = found.stages
    assert (stage.stage, stage.changes, stage.jobs) == (
        "train", (Change("lora.learning_rate", 0.1, 0.2),), 4,
    )  # fmt: skip
    assert not found.same


def test_other_bytes_stand_once() -> None:
    """Jobs whose adapters differ though their keys do not are one divergence, whatever the digests are."""
    a = [side(f"a{s}", seed=s, files={"train": {"x": f"{s}"}}) for s in (0, 1)]
    b = [side(f"b{s}", seed=s, files={"train": {"x": f"{s} too"}}) for s in (0, 1)]
    (stage,) = compare(a, b).stages
    assert (stage.state, stage.jobs) == ("bytes", 2)


def test_sweeps_without_a_job_in_common() -> None:
    """Sweeps over other seeds have no pairs, and what else differs between them is still told."""
    a = [side(f"a{seed}", seed=seed) for seed in (0, 1)]
    b = [side(f"b{seed}", seed=seed, rate=0.2) for seed in (2, 3)]
    found = compare(a, b)
    assert match(a, b).pairs == ()
    assert [each.key for each in found.axes["identity"]] == ["lora.learning_rate"]
    assert (found.stages, found.same) == ((), False)


def test_a_sweep_and_itself() -> None:
    """The same jobs in another order are the same sweep; with one job fewer they are not."""
    jobs = [side(f"a{seed}", seed=seed) for seed in range(3)]
    assert compare(jobs, jobs[::-1]).same
    assert not compare(jobs, jobs[1:]).same


def test_jobs_that_no_axis_tells_apart() -> None:
    """Jobs that differ in a name alone pair in their order, and none is lost."""
    a, b = ([side(f"{end}{number}") for number in range(3)] for end in "ab")
    assert names(match(a, b[:2]).pairs) == [("a0", "b0"), ("a1", "b1")]
    assert [one.name for one, _ in match(a, b[:2]).only[0]] == ["a2"]
