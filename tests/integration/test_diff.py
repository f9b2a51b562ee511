"""``punie diff`` on runs that really ran."""

from __future__ import annotations

import json

from tests.conftest import QUICK, World
from tests.processes import punie


def test_two_seeds(world: World) -> None:
    """Two runs with other training seeds share their base and diverge at train, for that reason alone."""
    other = world.run("lora.seed=1")
    done = punie("diff", str(world.first), str(other), "--format", "json", cwd=world.cwd)
    assert (done.code, done.err) == (1, "")
    found = json.loads(done.out)
    assert [stage["stage"] for stage in found["stages"]] == ["train", "quantize", "evaluate"]
    assert found["stages"][0]["changes"] == [{"key": "lora.seed", "a": 0, "b": 1, "jobs": 1}]
    assert found["axes"]["identity"] == [{"key": "lora.seed", "a": 0, "b": 1, "jobs": 1}]
    test = found["scores"]["keyword"]
    assert test["up"] + test["down"] + test["unchanged"] == 7


def test_a_run_and_its_config(world: World) -> None:
    """A run is the same as the overrides that made it."""
    done = punie("diff", str(world.first), " ".join(QUICK), cwd=world.cwd)
    assert done.code == 0, done.out
    assert "Nothing that decides the result differs." in done.out
