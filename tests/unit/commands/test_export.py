"""``punie export``, from anywhere and never a training unasked, and what ``punie export-inspect`` refuses."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest

from punie.__main__ import main, parser
from punie.commands import export
from punie.model.folders import TEMPLATES
from punie.run import pipeline
from punie.stages.proof import Compared
from punie.store.artifacts import Artifact, Store
from punie.util.errors import PunieError
from tests.unit.results.made import amend, make_run, records, write_records


def export_run(*arguments: object) -> int:
    return export.run(parser("export").parse_args([str(argument) for argument in arguments]))


def model(out: Path) -> dict[str, Any]:
    (out / "model.safetensors").write_bytes(b"weights")
    (out / TEMPLATES).mkdir()
    (out / TEMPLATES / "default.jinja").write_text("template")
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
    """The run's directory knows its store; sub-folders are copied; the card holds whatever its names are."""
    run, _, _ = world
    assert export_run(run, 'my "model"') == 0
    assert Path(f'my "model"/{TEMPLATES}/default.jinja').read_text() == "template"
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


def test_without_the_extra_it_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where inspect_ai is not installed, the message names the extra, and no file or folder is made."""
    run = make_run(tmp_path / "run", records())
    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    monkeypatch.delitem(sys.modules, "punie.results.pages.inspect_log", raising=False)
    assert main(["export-inspect", str(run), str(tmp_path / "logs/run.eval")]) == 1
    assert "pip install 'punie[inspect]'" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [("run.txt", ".eval or .json"), ("run", ".eval or .json"), ("mine.eval", "there already")],
)
def test_a_log_that_cannot_be_written_is_refused(
    name: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only names that Inspect takes for a log are written, and a log that exists stays as it is."""
    run = make_run(tmp_path / "run", records())
    (tmp_path / "mine.eval").write_text("mine")
    assert main(["export-inspect", str(run), str(tmp_path / name)]) == 1
    assert words in capsys.readouterr().err
    assert (tmp_path / "mine.eval").read_text() == "mine"


def test_broken_records_are_named_with_their_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A samples.jsonl that is of another version is refused with file and line."""
    run = make_run(tmp_path / "run", records())
    write_records(run, [{"id": "git-01", "output": "x"}])
    assert main(["export-inspect", str(run), str(tmp_path / "run.eval")]) == 1
    assert "samples.jsonl:1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--type", "f16"), "--type is not for --to mlx"),
        (("--to", "peft", "--type", "q8_0"), "--type is not for --to peft"),
        (("--to", "gguf", "--type", "mlx"), "--type is not for --to gguf"),
        (("--to", "peft", "--pre", "qwen2"), "--pre is not for --to peft"),
        (("--to", "lmstudio", "--type", "mlx", "--prove"), "those that were scored, digest by digest"),
        (("--to", "gguf", "--prove", "-2"), "a number of prompts"),
    ],
)
def test_an_option_that_the_target_has_no_use_for_is_refused(
    world: tuple[Path, Artifact, Store], options: tuple[str, ...], words: str
) -> None:
    """Nothing is ignored: an option that changes nothing is an error, and no folder is made."""
    with pytest.raises(PunieError, match=words):
        export_run(world[0], "out", *options)
    assert not Path("out").exists()


@pytest.mark.parametrize(("target", "extra"), [("ollama", "llamacpp"), ("peft", "peft")])
def test_a_proof_without_its_runtime_names_the_extra(
    world: tuple[Path, Artifact, Store], target: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime that is not installed is said first, with the command that installs it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(PunieError, match=rf"pip install 'punie\[{extra}\]'"):
        export_run(world[0], "out", "--to", target, "--prove")
    assert not Path("out").exists()


def test_lm_studio_gets_the_scored_model_if_it_is_to_have_mlx(world: tuple[Path, Artifact, Store]) -> None:
    """--to lmstudio --type mlx copies the same files, into PUBLISHER/MODEL."""
    assert export_run(world[0], "models/me/mine", "--to", "lmstudio", "--type", "mlx") == 0
    assert Path("models/me/mine/model.safetensors").read_bytes() == b"weights"


def test_a_run_that_trained_nothing_is_refused(tmp_path: Path) -> None:
    """A run of the base alone has no adapter."""
    run = make_run(tmp_path / "run", records())
    with pytest.raises(PunieError, match="trained nothing"):
        export_run(run, tmp_path / "out", "--to", "gguf")


@pytest.mark.parametrize(
    ("found", "code", "words"),
    [
        ({}, 0, "1 of 1 prompts have the tokens of training"),
        ({"difference": "token 3", "gap": 0.002}, 0, "0 of 1 greedy answers are equal token for token, 1"),
        ({"difference": "token 3", "gap": 0.02}, 1, "Not proved."),
        ({"rendering": "token 7"}, 1, "item      prompt     token 7"),
    ],
)  # fmt: skip
def test_a_proof_says_what_differs(
    found: dict[str, Any], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 0 if prompts and answers are the same, but for ties; what differs is shown."""
    same = Compared("item", 9, None, 4, None, 0.0, 0.001)
    assert export.told("llama.cpp", [dataclasses.replace(same, **found)]) == code
    assert words in capsys.readouterr().out
