"""What differs between two sides, on which axis, and where they diverge first."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from punie.config.schema import LoraConfig
from punie.results.config import RunConfig
from punie.results.difference import Change, Side, compare
from punie.results.records import Provenance

DIGEST = "0" * 64
CONFIG = {"name": "x", "lora": {"seed": 0}, "model": {"repo": "a/b"}}


def side(**fields: Any) -> Side:
    """A run whose four stages are all in the store."""
    materials = {
        "base": {"version": 1, "settings": {}, "upstream": {}, "contents": {"model": {"weights": "w"}}},
        "train": {
            "version": 1,
            "settings": {"lora.seed": 0},
            "upstream": {"base": "b"},
            "contents": {"data": {"train.jsonl": "t", "valid.jsonl": "v"}},
        },
        "quantize": {"version": 1, "settings": {}, "upstream": {"train": "t"}, "contents": {}},
        "evaluate": {"version": 1, "settings": {}, "upstream": {"quantize": "q"}, "contents": {"suite": "s"}},
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
