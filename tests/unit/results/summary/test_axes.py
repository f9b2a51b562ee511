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


def find(found: list[RunScores]) -> list[tuple[Any, ...]]:
    return [(axis.key, *axis.also, axis.values) for axis in axes.find(run.config for run in found)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            [
                {"eval__temperature": 0.7, "lora__seed": 1, "lora__rank": 8, "name": "one"},
                {"eval__temperature": 0.0, "lora__seed": 0, "lora__rank": 8, "data__path": "elsewhere"},
                {"eval__temperature": 0.0, "lora__seed": 1, "lora__rank": 16},
            ],
            [("lora.rank", (8, 16)), ("lora.seed", (0, 1)), ("eval.temperature", (0.0, 0.7))],
        ),
        (
            [{"lora__seed": 0, "eval__seed": 0}, {"lora__seed": 1, "eval__seed": 1}],
            [("lora.seed", "eval.seed", (0, 1))],
        ),
        (
            [{"lora__seed": 0, "lora__iters": 4}, {"lora__seed": 42, "lora__iters": 8}],
            [("lora.iters", "lora.seed", (4, 8))],
        ),
    ],
    ids=["single", "seeds in step", "a seed in step with the recipe"],
)
def test_what_differs_is_an_axis(
    tmp_path: Path, settings: list[dict[str, Any]], expected: list[tuple[Any, ...]]
) -> None:
    """Fields that differ are axes, seeds and temperature last, names and paths none; in step they are one."""
    assert find(runs(tmp_path, *settings)) == expected


def test_a_recipe_is_labelled_by_its_axis(tmp_path: Path) -> None:
    """A seed that moves with the recipe is no recipe of its own."""
    found = runs(tmp_path, {"lora__seed": 0, "lora__iters": 4}, {"lora__seed": 42, "lora__iters": 8})
    made = recipes(found, axes.find(run.config for run in found))
    assert [each.label for each in made] == ["lora.iters=4", "lora.iters=8"]


def test_models_and_suites_are_told_apart_by_content(tmp_path: Path) -> None:
    """One content is one wherever it lies and whatever it is called, also for a run that failed."""
    named = runs(tmp_path, {"base": "a" * 64}, {"base": "b" * 64})
    assert find(axes.name_contents(named)) == [("model.name", ("tiny aaaaaaaaaaaa", "tiny bbbbbbbbbbbb"))]
    renamed = runs(tmp_path, {"model": {"name": "tiny"}}, {"model": {"name": "mine"}})
    assert find(axes.name_contents(renamed)) == []
    elsewhere = RunConfig(changed({"eval.suite": "somewhere/four-prompts.jsonl"}))
    one = [dataclasses.replace(run, config=elsewhere) for run in runs(tmp_path, {}, {"status": "failed"})]
    assert find(axes.name_contents(one)) == []
    suite, config = Named(name="four", sha256="0" * 64), RunConfig(changed({"eval.suite": "four"}))
    other = dataclasses.replace(one[0], suite=suite, config=config)
    values = ("four 000000000000", "four fourfourfour")
    assert find(axes.name_contents([one[0], other])) == [("eval.suite", values)]


def test_a_seed_of_training_does_not_touch_the_base_model(tmp_path: Path) -> None:
    """Runs of the base model have one training seed, whatever their config says."""
    found = runs(tmp_path, {"lora__seed": 1, "eval__target": "base"}, {"lora__seed": 1})
    assert [run.config and run.config.seed for run in found] == [0, 1]


def test_a_field_by_its_last_part() -> None:
    """An axis may be named by its last part; what is unknown or could be two is refused with the choice."""
    found = [axes.Axis(key, (), ()) for key in ("lora.seed", "eval.seed", "eval.temperature")]
    known = ("temperature", "quantize.bits", "eval.seed")
    assert [axes.resolve(key, found) for key in known] == ["eval.temperature", "quantize.bits", "eval.seed"]
    with pytest.raises(PunieError, match="could be several"):
        axes.resolve("seed", found)
    for unknown in ("temprature", "lora.sed"):
        with pytest.raises(PunieError, match=f"There is no field {unknown}"):
            axes.resolve(unknown, found)
