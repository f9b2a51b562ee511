"""Plans: what the jobs are, what they share, who waits, and when a frozen plan is still the same."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from punie.config.compose import compose
from punie.results import files
from punie.results.sweep import SweepPlan
from punie.store.keys import SHORT, digest
from punie.sweep import plan as plans
from punie.sweep import preview
from punie.util.errors import PunieError
from punie.util.paths import resource
from tests.unit.sweep.conftest import Planner


def stages(plan: SweepPlan) -> dict[str, int]:
    """Distinct stages by name."""
    names = [part.stage for part in plan.parts.values()]
    return {name: names.count(name) for name in names}


def test_a_sweep_shares_its_trainings(planned: Planner) -> None:
    """Five seeds at four temperatures: 20 jobs, 5 trainings, 5 quantizations, 20 evaluations, two waves."""
    plan = planned("seed=0,1,2,3,42", "eval.temperature=0.0,0.2,0.5,0.7")
    assert len(plan.jobs) == 20
    assert stages(plan) == {
        "preflight": 1, "base": 1, "train": 5, "quantize": 5, "evaluate": 20, "report": 20,
    }  # fmt: skip
    assert [len(wave) for wave in plan.waves] == [5, 15]
    assert plan.values(plan.jobs[-1]) == {"seed": "42", "eval.temperature": "0.7"}


def test_seeds_share_the_frozen_layers(planned: Planner) -> None:
    """Trainings with the same frozen layers and examples share their output where they come back to it
    together; its disk is counted once. None do where that does not pay, is off, or nothing is frozen."""
    short = ["lora.num_layers=2", "lora.iters=200"]  # of the tiny model's four; 0.7 passes each
    plan = planned("seed=0,1", "lora.rank=4,8", *short)
    ((words, numbers),) = plan.sharing.items()
    assert numbers == [0, 1, 2, 3]
    assert words.startswith("the output of 2 of 4 layers is kept (about 100")
    assert words.endswith("computed once for an example, not 2.8 times, by 4 trainings")
    assert words in preview.text(preview.figures(plan))
    sizes = [part.bytes for part in plan.parts.values() if part.stage == "train"]
    assert [size > 100_000_000 for size in sizes] == [True, False, False, False]
    longer = planned("seed=0,1", "lora.num_layers=2", "lora.epochs=1")
    assert [part.bytes > 100_000_000 for part in longer.parts.values() if part.stage == "train"] == [
        True,
        False,
    ]
    for alone in (
        ["lora.num_layers=2", "lora.iters=20"],
        [*short, "lora.cache_frozen=off"],
        ["lora.num_layers=4"],
    ):
        assert planned("seed=0,1", *alone).sharing == {}
    assert planned("lora.num_layers=1,2", "lora.iters=200").sharing == {}


def test_equal_jobs_are_dropped(planned: Planner) -> None:
    """Axis values that compose to one config, such as 0 and 0.0, are one job."""
    plan = planned("eval.temperature=0,0.0,0.5")
    assert (len(plan.jobs), plan.duplicates) == (2, 1)


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=3", "eval.temperature=0.2", "lora.rank=4"],
        ["+phase=44", "model=tiny", "seed=1"],
        ["lora=format_fix", "++model.recipe.iters=700", "eval.stop=[a,b]", "quantize=q8"],
        ["~model.recipe.iters"],
        ["lora.lr_schedule.name=cosine_decay", "lora.lr_schedule.arguments=[1e-4,100]"],
    ],
    ids=" ".join,
)
def test_a_job_is_composed_as_hydra_composes_it(planned: Planner, overrides: list[str]) -> None:
    """The plan's config is, digest for digest, that of a single run with the same overrides."""
    (job,) = planned(*overrides).jobs
    whole = OmegaConf.to_container(compose(overrides), resolve=True)
    assert job.id == digest("config", whole)[:SHORT]


def test_phase_45_evaluates_the_very_artifacts_of_44_and_33b(planned: Planner) -> None:
    """The trainings and models of the temperature sweep have the keys that 44 and 33b give them."""

    def keys(*overrides: str) -> set[str]:
        plan = planned(*overrides, "model=tiny")
        return {part.key for part in plan.parts.values() if part.stage in ("train", "quantize")}

    assert keys("+phase=45") == keys("+phase=44") | keys("+phase=33b")
    assert len(keys("+phase=45")) == 4


def test_what_is_not_here_is_planned_too(planned: Planner) -> None:
    """Without the base model no key is known, and five seeds are still five distinct trainings."""
    plan = planned("+phase=46")
    assert stages(plan)["train"] == 5
    assert all(p.key.startswith("unknown-") for p in plan.parts.values() if p.stage == "train")


def test_every_mistake_names_its_job_and_key(planned: Planner) -> None:
    """Two axis values that cannot be used: both are told, each with the first job's place on the axes."""
    with pytest.raises(PunieError) as caught:
        planned("eval.suite=core27", "eval.stop=[a,b,c]", f"name={'n' * 100}", "lora.rank=8,0", "seed=0,x")
    words = ("3 of 4 jobs", "job 1: lora.rank=8 seed=x", "job 2: lora.rank=0 seed=0")
    assert [word for word in words if word not in str(caught.value)] == []


def test_long_overrides_are_shown_short(planned: Planner) -> None:
    """An override of 5,000 characters is planned; a mistake in it is told in lines of bounded length."""
    prompt = f"eval.system_prompt={'p' * 5000}"
    assert len(planned("seed=0,1", f"name={'n' * 200}", prompt).jobs) == 2
    for limit, overrides in ((300, ["lora.rank=0,8", prompt]), (400, [f"lora.rank=8,{'r' * 5000}"])):
        with pytest.raises(PunieError) as caught:
            planned(*overrides)
        assert max(map(len, str(caught.value).splitlines())) < limit


@pytest.mark.long
def test_a_thousand_jobs_are_planned_quickly(planned: Planner) -> None:
    """Planning 200 jobs takes seconds of this process, not minutes; benchmarks/sweep.py has the aim."""
    clock = time.process_time()
    assert len(planned("seed=range(0,50)", "eval.temperature=0.0,0.2,0.5,0.7").jobs) == 200
    assert time.process_time() - clock < 30


def test_a_frozen_plan_reads_back(planned: Planner, tmp_path: Path) -> None:
    """plan.json holds the whole plan; a second sweep cannot claim the folder."""
    plan = planned("seed=0,1")
    plans.freeze(plan, tmp_path / "sweep")
    assert files.plain(SweepPlan.read(tmp_path / "sweep")) == files.plain(plan)
    with pytest.raises(PunieError, match="already holds a sweep"):
        plans.freeze(plan, tmp_path / "sweep")
    assert [path.name for path in (tmp_path / "sweep").iterdir()] == ["plan.json"]


def test_a_folder_without_a_plan_is_refused(tmp_path: Path) -> None:
    """What is no sweep's folder is refused as such; a damaged plan is refused as any record is."""
    for content, words in ((None, "not a sweep's"), ("{", "plan.json cannot be read")):
        if content is not None:
            (tmp_path / "plan.json").write_text(content)
        with pytest.raises(PunieError, match=words):
            SweepPlan.read(tmp_path)


def test_changes_are_told_by_name(planned: Planner, tmp_path: Path) -> None:
    """A plan of other data, other fields or fewer jobs names each; its own reading again names nothing."""
    old = planned("seed=0,1")
    assert plans.changes(old, planned("seed=0,1")) == []
    assert plans.changes(old, planned("seed=0,1", "lora.rank=4"))[0] == "config: lora.rank 8 → 4"
    assert "jobs 2 → 1" in plans.changes(old, planned("seed=0"))
    shutil.copytree(resource("data/code_mode"), tmp_path / "data")
    ours = planned("seed=0", "data.path=data")
    with (tmp_path / "data/train.jsonl").open("a") as stream:
        stream.write(json.dumps({"messages": []}) + "\n")
    found = plans.changes(ours, planned("seed=0", "data.path=data"))
    assert any("data.train.jsonl" in change for change in found)


def test_a_launchers_field_of_another_type_is_no_unknown_key() -> None:
    """A number of workers that is no number is told as such."""
    with pytest.raises(PunieError, match="n_jobs: Value 'two' of type 'str' could not"):
        preview.plan(["hydra/launcher=workers", "hydra.launcher.n_jobs=two"])


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (
            {n: {f"train{n // 3}", f"quantize{n // 3}", f"evaluate{n}"} for n in range(6)},
            [[0, 3], [1, 2, 4, 5]],
        ),
        ({n: {"train", f"quantize{n // 2}", f"evaluate{n}"} for n in range(4)}, [[0], [1, 2], [3]]),
        ({0: set(), 1: {"a"}, 2: set()}, [[1, 0, 2]]),
        ({0: set(), 1: set()}, [[0, 1]]),
        ({}, []),
    ],
    ids=["a job of each seed first", "training, then the other model", "idle jobs last", "all idle", "none"],
)
def test_who_builds_and_who_waits(missing: dict[int, set[str]], expected: list[list[int]]) -> None:
    """The first wave builds each expensive stage once; what the store has needs no wave of its own."""
    assert plans.waves(missing) == expected


@given(st.dictionaries(st.integers(0, 30), st.sets(st.sampled_from("abcdef")), max_size=12))
def test_no_two_jobs_of_a_wave_build_the_same(missing: dict[int, set[str]]) -> None:
    """Every job starts exactly once, and within a wave no stage is built twice."""
    found = plans.waves(missing)
    assert sorted(job for wave in found for job in wave) == sorted(missing)
    built: set[str] = set()
    for wave in found:
        fresh = [key for job in wave for key in missing[job] - built]
        assert len(fresh) == len(set(fresh))
        built |= set(fresh)
