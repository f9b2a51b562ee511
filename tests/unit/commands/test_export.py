"""``punie export``: from anywhere, and never a training that nobody asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from punie.__main__ import parser
from punie.commands import export
from punie.run import pipeline
from punie.store.artifacts import Artifact, Store
from punie.util.errors import PunieError
from tests.unit.commands.runs import amend, make_run, records


def export_run(*arguments: object) -> int:
    return export.run(parser("export").parse_args([str(argument) for argument in arguments]))


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
    digests = {name: entry["sha256"] for name, entry in artifact.manifest["files"].items()}
    named = {stage: {"key": stage[0] * 64, "files": {}} for stage in ("base", "train")}
    named["quantize"] = {"key": artifact.key, "files": digests}
    run = make_run(tmp_path / "run", records(), artifacts=named)
    amend(run / "results.json", identity__suite__name="a|b")
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    monkeypatch.setattr(pipeline, "run", lambda *_, **__: pytest.fail("built something"))
    return run, artifact, store


def test_it_finds_the_store_from_elsewhere(world: tuple[Path, Artifact, Store]) -> None:
    """The run's directory knows its store; the card holds whatever its names are."""
    run, _, _ = world
    assert export_run(run, 'my "model"') == 0
    card = Path('my "model"/README.md').read_text("utf-8")
    for words in ('load("my \\"model\\"")', "| suite a\\|b |", "| overall | 4 | 0.", f"`{'t' * 64}`"):
        assert words in card


def test_it_builds_nothing_unasked(world: tuple[Path, Artifact, Store]) -> None:
    """A model that is gone is an error that names what is missing and the command that rebuilds it."""
    run, artifact, store = world
    store.remove(artifact)
    with pytest.raises(PunieError) as caught:
        export_run(run, "model")
    assert f"no train/{'t' * 64} and no quantize/{artifact.key}" in str(caught.value)
    assert f"punie export {run} model --rebuild trains" in str(caught.value)
    assert not Path("model").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.yaml", "a: [1"), ("config.yaml", "- 1"), ("results.json", "{}"), ("status.json", "\xff")],
)
def test_a_broken_run_is_named(name: str, content: str, world: tuple[Path, Artifact, Store]) -> None:
    """Whatever is wrong with a run's files, the file is named, and no folder is made."""
    run, _, _ = world
    (run / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(PunieError, match=f"{name} cannot be read"):
        export_run(run, "model")
    assert list(Path().iterdir()) == []
