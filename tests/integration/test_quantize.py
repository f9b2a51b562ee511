"""Fusing and quantizing as part of a run: quality, retention, export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from punie.store.artifacts import Artifact, Store
from punie.store.keys import file_digest
from tests.conftest import QUICK, World, read_json, reused
from tests.processes import punie


def artifact(world: World, run: Path, stage: str = "quantize") -> Artifact | None:
    """What the store has of a run's stage."""
    recorded = read_json(run / "results.json")["artifacts"][stage]
    return Store(world.cwd / "outputs" / "store").find(stage, recorded["key"])


def test_fidelity_is_recorded_and_shown(world: World) -> None:
    """The manifest holds budget and quality of the default run, which keeps nearly all of its gain."""
    model = artifact(world, world.first)
    assert model is not None
    fidelity = model.info["fidelity"]
    assert fidelity["gain_kept"] > 0.9
    assert fidelity["adapter_logprob"] > fidelity["base_logprob"] + 1
    assert model.info["budget"]["measured"]["disk_mb"] == model.info["size_mb"]
    for document in ("report.md", "report.html"):
        text = (world.first / document).read_text()
        assert "Quantization quality" in text
        assert f"{100 * fidelity['gain_kept']:.1f} %" in text


def test_a_fine_tune_that_does_not_survive_fails_the_run(world: World) -> None:
    """Two bits and a high threshold: the run fails with its figures and a remedy; nothing is published."""
    before = len(list((world.cwd / "outputs/store/quantize").iterdir()))
    done = punie(*QUICK, "quantize.bits=2", "quantize.min_gain_kept=0.99", cwd=world.cwd)
    assert done.code == 1
    words = ["did not survive", "quantize.min_gain_kept=0.99", "quantize=q4", "log-probability per token"]
    assert [word for word in words if word not in done.err] == []
    assert len(list((world.cwd / "outputs/store/quantize").iterdir())) == before


def test_a_mixed_recipe_runs(world: World) -> None:
    """mlx-lm's mixed_4_6: some layers have 4 bits, some 6."""
    model = artifact(world, world.run("quantize=mixed_4_6"))
    assert model is not None
    entries = read_json(model.path / "config.json")["quantization"].values()
    assert {entry["bits"] for entry in entries if isinstance(entry, dict)} == {4, 6}


@pytest.mark.slow
def test_a_dropped_model_is_built_again_when_it_is_needed(world: World, tmp_path: Path) -> None:
    """until_evaluated deletes the model; the same run builds nothing; a new evaluation or an export does."""
    overrides = ("quantize.bits=6", "quantize.keep=until_evaluated")
    run = world.run(*overrides)
    assert artifact(world, run) is None
    again = world.run(*overrides)
    assert "quantize" not in reused(again)
    assert all(reused(again).values())
    third = world.run(*overrides, "eval.seed=9")
    assert reused(third)["quantize"] is False
    assert artifact(world, third) is None
    weights = [read_json(r / "results.json")["identity"]["weights"] for r in (run, third)]
    assert weights[0] == weights[1]
    done = punie("export", str(run), str(tmp_path / "model"), cwd=world.cwd)
    assert done.code == 1
    assert "--rebuild fuses and quantizes again" in done.err
    done = punie("export", str(run), str(tmp_path / "model"), "--rebuild", cwd=world.cwd)
    assert done.code == 0, done.err
    files = read_json(run / "results.json")["artifacts"]["quantize"]["files"]
    assert all(file_digest(tmp_path / "model" / name) == sha for name, sha in files.items())


def test_export_carries_scores_and_digests(world: World, tmp_path: Path) -> None:
    """The folder holds the published files and a card with strict score, interval, fidelity and digests."""
    out = tmp_path / "model"
    done = punie("export", str(world.first), str(out), cwd=world.cwd)
    assert done.code == 0, done.err
    results = read_json(world.first / "results.json")
    files = results["artifacts"]["quantize"]["files"]
    assert {path.name for path in out.iterdir()} == {*files, "README.md"}
    assert all(file_digest(out / name) == sha for name, sha in files.items())
    card = (out / "README.md").read_text()
    low, high = results["scores"]["strict"]["overall"]["interval"]
    expected = [f"{low:.2f} to {high:.2f}", *files.values(), "temperature 0.7", "the fine-tune's gain"]
    assert [word for word in expected if word not in card] == []
    again = punie("export", str(world.first), str(out), cwd=world.cwd)
    assert again.code == 1
    assert "not empty" in again.err


@pytest.mark.parametrize("what", ["nothing", "base"])
def test_export_of_what_has_no_model(what: str, world: World, tmp_path: Path) -> None:
    """A folder that is not a run, and a run that scored the base: an error message, and no folder."""
    run = tmp_path if what == "nothing" else world.run("eval.target=base")
    done = punie("export", str(run), str(tmp_path / "out"), cwd=world.cwd)
    assert done.code == 1
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_the_plan_estimates_the_reference_recipe(tmp_path: Path) -> None:
    """Offline and without weights: the 5-bit folder and the peak; docs/quantize.md has them in words."""
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = punie("plan", "--estimate", "--json", "+phase=43a", cwd=tmp_path, env=env)
    estimate = json.loads(done.out)["estimate"]
    assert 20e9 < estimate["result_bytes"] < 21e9
    longest = estimate["training_peak"][str(estimate["longest_row_tokens"])]
    assert 0.8 * 21.4e9 < longest < 1.2 * 21.4e9
