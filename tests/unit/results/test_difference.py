"""What differs between two sides or two sweeps, where they diverge first, and between their responses."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from punie.config.schema import LoraConfig
from punie.results.comparison import compare as compare_samples
from punie.results.config import RunConfig
from punie.results.difference import Change, Side, compare, compare_sweeps, match
from punie.results.records import Provenance
from tests.unit.results.made import sample

DIGEST = "0" * 64
CONFIG = {"name": "x", "lora": {"seed": 0}, "model": {"repo": "a/b"}}


def material(**contents: Any) -> dict[str, Any]:
    return {"version": 1, "settings": {}, "upstream": {}, "contents": contents}


def side(**fields: Any) -> Side:
    """A run whose four stages are all in the store."""
    data = {"data": {"train.jsonl": "t", "valid.jsonl": "v"}}
    materials = {
        "base": material(model={"weights": "w"}),
        "train": {**material(**data), "settings": {"lora.seed": 0}, "upstream": {"base": "b"}},
        "quantize": {**material(), "upstream": {"train": "t"}},
        "evaluate": {**material(suite="s"), "upstream": {"quantize": "q"}},
    }
    return dataclasses.replace(
        Side(
            "run",
            RunConfig(CONFIG),
            keys={"base": "b", "train": "t", "quantize": "q", "evaluate": "e"},
            materials=materials,
            files={"train": {"adapters.safetensors": DIGEST}, "evaluate": {"samples.jsonl": DIGEST}},
        ),
        **fields,
    )


def other(stage: str, **parts: Any) -> dict[str, Any]:
    """Materials with one stage's changed."""
    materials = {name: dict(material) for name, material in side().materials.items()}
    materials[stage] |= parts
    return materials


def test_equal_sides():
    """Two sides that are the same differ on no axis and in no stage."""
    found = compare((side(), side(name="another")))
    assert found.same
    assert not any(found.axes.values())
    assert found.stages == ()


def test_first_divergence():
    """Another seed shows as identity, as what made the training differ, and as upstream of what follows."""
    materials = other("train", settings={"lora.seed": 42})
    materials["quantize"] = materials["quantize"] | {"upstream": {"train": "T"}}
    b = side(
        config=RunConfig({**CONFIG, "lora": {"seed": 42}}),
        keys={"base": "b", "train": "T", "quantize": "Q", "evaluate": "e"},
        materials=materials,
    )
    found = compare((side(), b))
    assert not found.same
    assert found.axes["identity"] == (Change("lora.seed", 0, 42),)
    assert [(s.stage, s.changes, s.upstream) for s in found.stages] == [
        ("train", (Change("lora.seed", 0, 42),), ()),
        ("quantize", (), ("train",)),
    ]


def test_neutral_fields_do_not_count():
    """A name, a phase and where content with the same digest lies make no difference to the result."""
    config = {"name": "y", "lora": {"seed": 0}, "model": {"repo": "c/d"}, "phase": {"id": "44"}}
    found = compare((side(), side(config=RunConfig(config))))
    assert found.same
    assert [change.key for change in found.axes["neutral"]] == ["model.repo", "name", "phase"]


def test_unknown_content_counts_by_its_place():
    """Where digests are not known on both sides, another repo is another identity, another path data."""
    config = RunConfig({**CONFIG, "model": {"repo": "c/d"}, "data": {"path": "x"}})
    before = RunConfig({**CONFIG, "data": {"path": "w"}})
    found = compare((side(config=before), side(config=config, materials={})))
    assert [change.key for change in found.axes["identity"]] == ["model.repo"]
    assert [change.key for change in found.axes["data"]] == ["data.path"]
    assert not found.same


def test_content_counts_once():
    """Changed training data shows once, as data, though two stages read it."""
    changed = {"data": {"train.jsonl": "T", "valid.jsonl": "v"}}
    materials = other("train", contents=changed)
    before = other("quantize", contents={"data": {"train.jsonl": "t"}})
    materials["quantize"] = materials["quantize"] | {"contents": {"data": {"train.jsonl": "T"}}}
    b = side(materials=materials, keys={**side().keys, "train": "T"})
    found = compare((side(materials=before), b))
    assert found.axes["data"] == (Change("data.train.jsonl", "t", "T"),)
    assert not found.axes["identity"]


def test_other_bytes_of_the_same_key():
    """The same key with other bytes is a divergence, but not of answers, whose file holds times."""
    files = {"train": {"adapters.safetensors": "1" * 64}, "evaluate": {"samples.jsonl": "1" * 64}}
    found = compare((side(), side(files=files)))
    assert [(s.stage, s.state) for s in found.stages] == [("train", "bytes")]
    assert found.stages[0].changes == (Change("adapters.safetensors", DIGEST, "1" * 64),)
    assert not found.same


def test_a_stage_of_one_side():
    """A stage of one side is a difference, and a key whose material is gone is one without a reason."""
    found = compare((side(), side(keys={"base": "B", "evaluate": "e"}, materials={})))
    assert [(s.stage, s.state) for s in found.stages] == [
        ("base", "key"),
        ("train", "only a"),
        ("quantize", "only a"),
    ]
    assert found.stages[0].changes == ()


def test_code_and_environment():
    """Commit, punie's version and a stage's version are code; the rest of the machine is environment."""
    git, packages = {"commit": "a", "dirty": False}, {"punie": "1", "mlx": "1"}
    values = {"schema": 1, "git": git, "packages": packages, "python": "3.11", "started": "1", "blas": "x"}
    here = Provenance.model_validate(values)
    del values["blas"]
    values |= {"git": {**git, "commit": "b"}, "packages": {"punie": "2", "mlx": "2"}, "python": "3.12"}
    there = Provenance.model_validate({**values, "started": "2"})
    b = side(provenance=there, materials=other("train", version=2), keys={**side().keys, "train": "T"})
    found = compare((side(provenance=here), b))
    assert [change.key for change in found.axes["code"]] == ["git.commit", "packages.punie", "train.version"]
    assert [change.key for change in found.axes["environment"]] == ["packages.mlx", "python"]


@pytest.mark.parametrize("value", [0, 3])
def test_a_field_added_later(monkeypatch, value):
    """A field that an older run does not have differs only if its value is not the one it always had."""
    field = next(f for f in dataclasses.fields(LoraConfig) if f.name == "workers")
    monkeypatch.setattr(field, "metadata", {**field.metadata, "omit_if": 0})
    from punie.config import fields

    fields.own_fields.cache_clear()
    new = side(config=RunConfig({**CONFIG, "lora": {"seed": 0, "workers": value}}))
    found = compare((side(), new)).axes["identity"]
    fields.own_fields.cache_clear()
    assert [change.key for change in found] == (["lora.workers"] if value else [])


def job(name: str, *, rate: float = 0.1, seed: int = 0, temperature: float = 0.7, **more: Any) -> Side:
    """A job that has not run, with a training in its plan."""
    sampling = {"suite": "core27", "seed": more.pop("eval_seed", seed), "temperature": temperature}
    config = {"name": "x", "lora": {"seed": seed, "learning_rate": rate}, "eval": sampling}
    made = {**material(), "settings": {"lora.seed": seed, "lora.learning_rate": rate}}
    keys = {"train": f"{seed} {rate}"}
    return Side(name, RunConfig(config), keys=keys, materials={"train": made}, **more)


def names(pairs: Any) -> list[tuple[str, str]]:
    return [(a.name, b.name) for a, b in pairs]


def test_jobs_belong_together_by_their_place() -> None:
    """Jobs pair by seed and temperature, in whatever order and however many the other sweep has."""
    a = [job(f"a{s}{t}", seed=s, temperature=t) for s in (0, 1) for t in (0.0, 0.7)]
    b = [job(f"b{s}", seed=s, temperature=0.7) for s in (2, 1, 0)]
    found = match(a, b)
    assert names(found.pairs) == [("a00.7", "b0"), ("a10.7", "b1")]
    assert [(one.name, place) for one, place in found.only[0]] == [
        ("a00.0", "lora.seed=0, eval.temperature=0"),
        ("a10.0", "lora.seed=1, eval.temperature=0"),
    ]
    assert [one.name for one, _ in found.only[1]] == ["b2"]


def test_an_axis_of_one_sweep_is_a_difference() -> None:
    """Where training seeds alone tell the jobs apart, another seed of sampling parts no pair."""
    a = [job(f"a{seed}", seed=seed, eval_seed=0) for seed in (0, 1)]
    b = [job(f"b{seed}", seed=seed) for seed in (0, 1)]
    assert names(match(a, b).pairs) == [("a0", "b0"), ("a1", "b1")]
    (change,) = compare_sweeps(a, b)[0].axes["identity"]
    assert (change, change.jobs) == (Change("eval.seed", 0, 1), 1)


def test_a_difference_of_all_jobs_stands_once() -> None:
    """Another learning rate is one change and one reason, with the number of jobs that have it."""
    a = [job(f"a{seed}", seed=seed) for seed in range(5)]
    b = [job(f"b{seed}", seed=seed, rate=0.2 if seed else 0.1) for seed in range(5)]
    found, _ = compare_sweeps(a, b)
    (stage,), (change,) = found.stages, found.axes["identity"]
    assert (change, change.jobs) == (Change("lora.learning_rate", 0.1, 0.2), 4)
    assert (stage.stage, stage.changes, stage.jobs) == ("train", (change,), 4)
    assert not found.same


def test_other_bytes_stand_once() -> None:
    """Jobs whose adapters differ though their keys do not are one divergence, whatever the digests are."""
    a = [job(f"a{s}", seed=s, files={"train": {"x": f"{s}"}}) for s in (0, 1)]
    b = [job(f"b{s}", seed=s, files={"train": {"x": f"{s} too"}}) for s in (0, 1)]
    (stage,) = compare_sweeps(a, b)[0].stages
    assert (stage.state, stage.jobs) == ("bytes", 2)


def test_sweeps_without_a_job_in_common() -> None:
    """Sweeps over other seeds have no pairs, and what else differs between them is still told."""
    a = [job(f"a{seed}", seed=seed) for seed in (0, 1)]
    b = [job(f"b{seed}", seed=seed, rate=0.2) for seed in (2, 3)]
    found, _ = compare_sweeps(a, b)
    assert match(a, b).pairs == ()
    assert [each.key for each in found.axes["identity"]] == ["lora.learning_rate"]
    assert (found.stages, found.same) == ((), False)


def test_a_sweep_and_itself() -> None:
    """The same jobs in another order are the same sweep; with one job fewer they are not."""
    jobs = [job(f"a{seed}", seed=seed) for seed in range(3)]
    assert compare_sweeps(jobs, jobs[::-1])[0].same
    assert not compare_sweeps(jobs, jobs[1:])[0].same


def test_jobs_that_no_axis_tells_apart() -> None:
    """Jobs that differ in a name alone pair in their order, and none is lost."""
    a, b = ([job(f"{end}{number}") for number in range(3)] for end in "ab")
    assert names(match(a, b[:2]).pairs) == [("a0", "b0"), ("a1", "b1")]
    assert [one.name for one, _ in match(a, b[:2]).only[0]] == ["a2"]


def test_changed_prompts():
    """Only prompts whose score moved are listed, with scores, taxonomy and every answer of both runs."""
    a = [sample("x", 1.0), sample("y", 0.0, "no"), sample("y", 0.0, "nor"), sample("z", 0.0)]
    b = [sample("z", 0.0, "other words"), sample("y", 1.0, "yes"), sample("y", 0.0), sample("x", 1.0)]
    found = compare_samples(a, b)
    assert [prompt.id for prompt in found.changed] == ["y"]
    changed = found.changed[0]
    assert changed.scores == {"keyword": (1.0, 1.0), "strict": (0.0, 0.5)}
    assert changed.taxonomy == ("wrong tool", "correct, wrong tool")
    assert changed.outputs == (("no", "nor"), ("yes", ""))
    assert found.means["strict"] == pytest.approx((1 / 3, 0.5))
    assert (found.paired["strict"].up, found.paired["strict"].unchanged) == (1, 2)


def test_other_suites_are_refused():
    """Prompts with other ids, or with another text under the same id, are not compared."""
    with pytest.raises(ValueError, match="2 prompts are in one run only: x, y"):
        compare_samples([sample("x", 1.0)], [sample("y", 1.0)])
    with pytest.raises(ValueError, match="1 prompts have another text: x"):
        compare_samples([sample("x", 1.0)], [sample("x", 1.0, prompt="do something else")])


def test_a_missing_answer_is_not_a_zero() -> None:
    """A prompt that lacks an answer in either run is left out of both, and named."""
    a = [sample("p1", 1.0), sample("p2", 0.0)]
    b = [sample("p1", 0.0), sample("p2", missing="the server is gone", output=None)]
    found = compare_samples(a, b)
    assert found.left_out == ("p2",)
    assert found.paired["strict"].differences == {"p1": -1.0}
