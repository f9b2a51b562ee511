"""``punie export``: from anywhere, and never a training that nobody asked for."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from punie.commands import export
from punie.config.compose import compose
from punie.run import pipeline
from punie.run.directory import RunDirectory
from punie.store.artifacts import Artifact, Store
from punie.util.errors import PunieError

_SCORE = {"mean": 0.5, "n": 2, "interval": [0.1, 0.9], "stderr": None}
_SCORES = {"overall": _SCORE, "categories": {"lsp": _SCORE}}


def export_run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    export.add_arguments(parser)
    return export.run(parser.parse_args([str(argument) for argument in arguments]))


def model(out: Path) -> dict[str, Any]:
    (out / "model.safetensors").write_bytes(b"weights")
    return {"bits_per_weight": 5, "parameters": 7, "size_mb": 1.0}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Artifact, Store]:
    """A finished run's folder, its model, and its store; the working folder is another one."""
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    store = Store(Path("store"))
    artifact, _ = store.get_or_build("quantize", {"bits": 5}, model)
    run = tmp_path / "run"
    run.mkdir()
    RunDirectory(run).begin(OmegaConf.to_yaml(compose([]), resolve=True), {}, store="store")
    digests = {name: entry["sha256"] for name, entry in artifact.manifest["files"].items()}
    results = {
        "scores": {"strict": _SCORES, "keyword": _SCORES},
        "target": "quantized",
        "sampling": {"temperature": 0.7, "seed": 0, "top_p": 1.0, "max_tokens": 96},
        "identity": {"suite": {"name": "a|b", "sha256": "0"}, "prompts": "0"},
        "generation": {"samples": 2},
        "verdict": {"summary": "none"},
        "artifacts": {
            "base": {"key": "b" * 64, "files": {}},
            "train": {"key": "c" * 64, "files": {}},
            "quantize": {"key": artifact.key, "files": digests},
        },
    }
    (run / "results.json").write_text(json.dumps(results))
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    monkeypatch.setattr(pipeline, "run", lambda *_, **__: pytest.fail("built something"))
    return run, artifact, store


def test_it_finds_the_store_from_elsewhere(world: tuple[Path, Artifact, Store]) -> None:
    """The run's directory knows its store; the card holds whatever its names are."""
    run, _, _ = world
    assert export_run(run, 'my "model"') == 0
    card = Path('my "model"/README.md').read_text("utf-8")
    assert 'load("my \\"model\\"")' in card
    assert "| suite a\\|b |" in card


def test_it_builds_nothing_unasked(world: tuple[Path, Artifact, Store]) -> None:
    """A model that is gone is an error that names what is missing and the command that rebuilds it."""
    run, artifact, store = world
    store.remove(artifact)
    with pytest.raises(PunieError) as caught:
        export_run(run, "model")
    assert f"no train/{'c' * 64} and no quantize/{artifact.key}" in str(caught.value)
    assert f"punie export {run} model --rebuild trains" in str(caught.value)
    assert not Path("model").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", "a: [1"),
        ("config.yaml", "unknown: 1"),
        ("config.yaml", "- 1"),
        ("results.json", "[]"),
        ("results.json", "{}"),
        ("status.json", "\xff"),
    ],
)
def test_a_broken_run_is_an_error_for_people(
    name: str, content: str, world: tuple[Path, Artifact, Store]
) -> None:
    """Whatever is wrong with a run's files, it is told as such, and no folder is made."""
    run, _, _ = world
    (run / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(PunieError, match="not the directory of a finished run"):
        export_run(run, "model")


def test_results_without_scores_are_an_error_for_people(world: tuple[Path, Artifact, Store]) -> None:
    """A results.json whose scores have another shape is told as such, and nothing is left behind."""
    run, _, _ = world
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps(results | {"scores": {}}))
    with pytest.raises(PunieError, match="not the directory of a finished run"):
        export_run(run, "model")
    assert list(Path().iterdir()) == []
