"""The axes of a set of runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from punie.results.config import RunConfig
from punie.results.records import Named
from punie.results.summary import axes
from punie.results.summary.collect import RunScores, read
from punie.results.summary.findings import recipes
from punie.util.errors import PunieError

from .conftest import changed, make_run


def runs(tmp_path: Path, *settings: dict[str, Any]) -> list[RunScores]:
    return [
        read(make_run(tmp_path / f"seed=9,rank={number}", {"x": 1.0}, **overrides))
        for number, overrides in enumerate(settings)
    ]


def find(found: list[RunScores]) -> list[axes.Axis]:
    return axes.find(run.config for run in found)


def keys(found: list[axes.Axis]) -> list[tuple[str, tuple[str, ...]]]:
    return [(axis.key, axis.also) for axis in found]


def test_what_differs_is_an_axis(tmp_path: Path) -> None:
    """Fields whose values differ are axes, seeds and temperature last; names, paths and folders are none."""
    found = find(
        runs(
            tmp_path,
            {"eval__temperature": 0.7, "lora__seed": 1, "lora__rank": 8, "name": "one"},
            {"eval__temperature": 0.0, "lora__seed": 0, "lora__rank": 8, "data__path": "elsewhere"},
            {"eval__temperature": 0.0, "lora__seed": 1, "lora__rank": 16},
        )
    )
    assert keys(found) == [("lora.rank", ()), ("lora.seed", ()), ("eval.temperature", ())]
    assert found[2].values == (0.0, 0.7)


def test_fields_that_differ_in_step_are_one_axis(tmp_path: Path) -> None:
    """Seeds that move together are one axis, and a seed that moves with the recipe is no axis of its own."""
    together = runs(tmp_path, {"lora__seed": 0, "eval__seed": 0}, {"lora__seed": 1, "eval__seed": 1})
    assert keys(find(together)) == [("lora.seed", ("eval.seed",))]
    recipe = runs(tmp_path, {"lora__seed": 0, "lora__iters": 4}, {"lora__seed": 42, "lora__iters": 8})
    assert keys(find(recipe)) == [("lora.iters", ("lora.seed",))]
    assert [each.label for each in recipes(recipe, find(recipe))] == [
        "lora.iters=4",
        "lora.iters=8",
    ]


def test_models_are_told_apart_by_content(tmp_path: Path) -> None:
    """Two base models of one name are two, one model under two names is one."""
    named = runs(tmp_path, {"base": "a" * 64}, {"base": "b" * 64})
    found = find(axes.name_contents(named))
    assert keys(found) == [("model.name", ())]
    assert found[0].values == ("tiny aaaaaaaaaaaa", "tiny bbbbbbbbbbbb")
    renamed = runs(tmp_path, {"model": {"name": "tiny"}}, {"model": {"name": "mine"}})
    assert find(axes.name_contents(renamed)) == []


def test_suites_are_told_apart_by_content(tmp_path: Path) -> None:
    """A suite is one wherever it lies, also for a run that failed; two of one name are two."""
    one = [read(make_run(tmp_path / "0", {"x": 1.0})), read(make_run(tmp_path / "1", {}, status="failed"))]
    elsewhere = RunConfig(changed({"eval.suite": "somewhere/four-prompts.jsonl"}))
    one = [dataclasses.replace(run, config=elsewhere) for run in one]
    assert find(axes.name_contents(one)) == []
    other = dataclasses.replace(one[0], suite=Named(name="four", sha256="0" * 64))
    other = dataclasses.replace(other, config=RunConfig(changed({"eval.suite": "four"})))
    (axis,) = find(axes.name_contents([one[0], other]))
    assert (axis.key, axis.values) == ("eval.suite", ("four 000000000000", "four fourfourfour"))


def test_a_seed_of_training_does_not_touch_the_base_model(tmp_path: Path) -> None:
    """Runs of the base model have one training seed, whatever their config says."""
    target = {"eval__target": "base"}
    found = runs(tmp_path, {"lora__seed": 1, **target}, {"lora__seed": 1})
    assert [run.config and run.config.seed for run in found] == [0, 1]


def test_a_field_by_its_last_part(tmp_path: Path) -> None:
    """An axis may be named by its last part; what is unknown or could be two is refused with the choice."""
    found = find(
        runs(
            tmp_path,
            {"lora__seed": 0, "eval__seed": 0},
            {"lora__seed": 1, "eval__seed": 0},
            {"lora__seed": 0, "eval__seed": 1, "eval__temperature": 0.5},
        )
    )
    assert axes.resolve("temperature", found) == "eval.temperature"
    assert axes.resolve("quantize.bits", found) == "quantize.bits"
    with pytest.raises(PunieError, match="could be several"):
        axes.resolve("seed", found)
    assert axes.resolve("eval.seed", found) == "eval.seed"
    for unknown in ("temprature", "lora.sed"):
        with pytest.raises(PunieError, match=f"There is no field {unknown}"):
            axes.resolve(unknown, found)
