"""The main job, end to end, on the embedded model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from punie.store.artifacts import Store
from punie.store.keys import file_digest
from tests.conftest import BRIEF, LEAST, QUICK, World, read_json, reused
from tests.processes import punie

RUN_FILES = {
    "config.yaml", "provenance.json", "status.json", "train.jsonl", "samples.jsonl", "results.json",
    "report.md", "report.html", ".hydra", "punie.log", ".lock",
}  # fmt: skip


def key(run: Path, stage: str) -> str:
    return next(step["key"] for step in read_json(run / "status.json")["stages"] if step["stage"] == stage)


def weights(results: dict[str, Any]) -> dict[str, str]:
    """Digests of everything trained or quantized, by stage and file (metrics hold wall-clock times)."""
    return {
        f"{stage}/{name}": sha
        for stage in ("train", "quantize")
        for name, sha in results["artifacts"][stage]["files"].items()
        if name.endswith(".safetensors")
    }


def test_the_run_directory_is_whole(world: World) -> None:
    """A finished run has every file, says so, and scores every prompt of the suite by both rules."""
    assert {path.name for path in world.first.iterdir()} == RUN_FILES
    assert read_json(world.first / "status.json")["status"] == "finished"
    results = read_json(world.first / "results.json")
    assert results["scores"]["keyword"]["overall"]["n"] == 7
    assert set(results["scores"]["strict"]["categories"]) == {
        "text_tools", "validation", "lsp", "git", "cst", "domain", "multi_tool",
    }  # fmt: skip
    assert len((world.first / "samples.jsonl").read_text().splitlines()) == 7
    provenance = read_json(world.first / "provenance.json")
    assert provenance["machine"]["device"]
    assert provenance["blas"]
    inputs, artifacts = provenance["inputs"], provenance["artifacts"]
    assert inputs["suite"] == results["identity"]["suite"]["sha256"]
    assert inputs["data"].keys() == {"train.jsonl", "valid.jsonl"}
    assert "model.safetensors" in inputs["model"]
    assert artifacts.keys() == {"preflight", "base", "train", "quantize", "evaluate", "report"}
    for stage, entry in results["artifacts"].items():
        assert artifacts[stage]["key"] == entry["key"]
        assert entry["files"].items() <= artifacts[stage]["files"].items()


def test_scores_name_the_very_bytes_in_the_store(world: World) -> None:
    """Every digest in results.json is that of the file in the store, recomputed here."""
    results = read_json(world.first / "results.json")
    store = world.cwd / "outputs" / "store"
    for stage, entry in results["artifacts"].items():
        for name, sha in entry["files"].items():
            assert file_digest(store / stage / entry["key"] / name) == sha
    quantized = store / "quantize" / results["artifacts"]["quantize"]["key"]
    assert results["identity"]["weights"]["files"] == {
        path.name: file_digest(path) for path in quantized.glob("*.safetensors")
    }
    assert results["sampling"]["temperature"] == 0.7


def test_mlx_lm_opens_the_quantized_model(world: World) -> None:
    """The quantized folder is an ordinary MLX model: mlx_lm loads it, and it is 5-bit in groups of 64."""
    import mlx_lm

    folder = world.cwd / "outputs/store/quantize" / key(world.first, "quantize")
    model, tokenizer, *_ = mlx_lm.load(str(folder))
    assert model.layers[0].self_attn.q_proj.bits == 5
    assert model.layers[0].self_attn.q_proj.group_size == 64
    assert tokenizer.encode("<tool_call>", add_special_tokens=False) == [
        tokenizer.convert_tokens_to_ids("<tool_call>")
    ]


def test_a_second_run_reuses_everything(world: World) -> None:
    """The same config again runs no stage and gives the same results, byte for byte."""
    again = world.run()
    assert all(reused(again).values())
    for name in ("results.json", "samples.jsonl", "train.jsonl", "report.md"):
        assert (again / name).read_bytes() == (world.first / name).read_bytes()


@pytest.mark.parametrize(
    ("override", "rerun", "stage", "reason"),
    [
        ("lora.scale=7", {"train", "quantize", "evaluate", "report"}, "train", "lora.scale 20.0 → 7.0"),
        ("quantize=q8", {"quantize", "evaluate", "report"}, "evaluate", "quantize changed"),
        ("eval.top_k=7", {"evaluate", "report"}, "evaluate", "eval.top_k 0 → 7"),
        ("eval.batch_size=3", {"evaluate", "report"}, "report", "evaluate changed"),
        ("lora.steps_per_report=3", set(), "", ""),
        ("name=other", {"report"}, "", ""),
        ("+phase=43a model=tiny eval.temperature=0.7", {"report"}, "", ""),
    ],
)
def test_a_change_reruns_what_it_concerns_and_nothing_else(
    world: World, override: str, rerun: set[str], stage: str, reason: str
) -> None:
    """Editing one field reruns its stage and what depends on it, and the plan tells why; neutral fields rerun
    nothing."""
    done = punie("plan", "--json", *QUICK, *override.split(), cwd=world.cwd)
    rows = {row["stage"]: row for row in json.loads(done.out)["stages"]}
    assert {name for name, row in rows.items() if row["state"] != "hit"} == rerun
    assert not stage or rows[stage]["reason"] == reason


def test_same_config_same_bytes(world: World, tmp_path: Path) -> None:
    """From an empty store elsewhere, whatever the environment says of threads: the same adapter, weights and
    responses, digest for digest. A stage that fails in a process of its own says why."""
    threads = {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    done = punie(*QUICK, cwd=tmp_path, env=threads)
    assert done.code == 0, done.err
    first, second = (read_json(run / "results.json") for run in (world.first, tmp_path / done.run_directory))
    assert weights(first) == weights(second)
    assert len(weights(first)) == 4
    assert first["answers"] == second["answers"]
    diverging = ("lora.optimizer=sgd", "lora.learning_rate=1e20")
    failed = punie(*QUICK, "runtime.isolation=process", *diverging, cwd=tmp_path)
    assert failed.code == 1
    assert "not finite at iteration" in failed.err
    assert "Traceback" not in failed.err


def test_damage_in_the_store_is_mended(world: World, tmp_path: Path) -> None:
    """A flipped bit in the adapter is found when it is used, and the adapter is built again."""
    shutil.copytree(world.cwd, tmp_path / "copy")
    copied = World(tmp_path / "copy", tmp_path / "copy" / world.first.relative_to(world.cwd))
    adapter = copied.cwd / "outputs/store/train" / key(world.first, "train") / "adapters.safetensors"
    content = bytearray(adapter.read_bytes())
    content[-1] ^= 1
    adapter.write_bytes(content)
    store = Store(copied.cwd / "outputs/store")
    before = len(store.leftovers())
    run = copied.run("eval.target=adapter", *BRIEF)
    assert not reused(run)["train"]
    assert (
        file_digest(adapter)
        == read_json(world.first / "results.json")["artifacts"]["train"]["files"]["adapters.safetensors"]
    )
    assert len(store.leftovers()) == before + 1


@pytest.mark.parametrize(("target", "stages"), [("base", {"train", "quantize"}), ("adapter", {"quantize"})])
def test_other_targets_need_fewer_stages(world: World, target: str, stages: set[str]) -> None:
    """Scoring the base trains nothing; scoring the adapter quantizes nothing."""
    run = world.run(f"eval.target={target}")
    assert not stages & set(reused(run))
    assert read_json(run / "results.json")["target"] == target
    assert (run / "report.html").stat().st_size > 0


@pytest.mark.parametrize(
    "options",
    [
        ["model=tiny_dense", "lora.fine_tune_type=dora"],
        ["lora.select=best_val", "lora.iters=2", "lora.grad_checkpoint=true", "quantize=none"],
    ],
    ids=" ".join,
)
def test_other_recipes_run_too(world: World, options: list[str]) -> None:
    """DoRA, the best checkpoint, gradient checkpointing and no quantization go through the same pipeline."""
    assert read_json(world.run(*options, quick=LEAST) / "status.json")["status"] == "finished"


def test_a_sweep_phase_without_m_says_so(world: World) -> None:
    """``+phase=46`` alone runs its default job and tells how to run the sweep."""
    done = punie(*QUICK, "+phase=46", "model=tiny", cwd=world.cwd)
    assert done.code == 0, done.err
    assert "python -m punie -m +phase=46" in done.err
    assert "phase 46" in done.out
