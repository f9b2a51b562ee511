"""The report stage: it takes any answer, and records what can be had again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from punie.run.directory import RunDirectory
from punie.stages.report import STAGE
from punie.store.artifacts import Artifact, Store
from punie.util.files import write_json, write_lines
from punie.util.progress import Reporter

_SCORE = {"mean": 0.5, "n": 1, "interval": [0.1, 0.9], "stderr": None}
_SCORES = {"overall": _SCORE, "categories": {"lsp": _SCORE}}
_RESULTS = {
    "scores": {
        "strict": _SCORES,
        "keyword": _SCORES,
        "taxonomy": {"wro|ng": {"count": 1, "example": "a|b"}},
        "missing": {"count": 0, "reasons": {}},
    },
    "target": "adapter",
    "sampling": {"temperature": 0.7, "seed": 0, "repeats": 1},
    "identity": {
        "suite": {"name": "core", "sha256": "0"},
        "unverified": None,
        "weights": {"whole": "0", "files": {}, "tensors": {}},
        "model": "0",
        "tokenizer": "0",
        "chat_template": "0",
        "prompts": "0",
    },
    "generation": {"samples": 1, "seconds": 1.5},
}
_TRAINED = {
    "iters": 1,
    "updates": 1,
    "selected_iter": 1,
    "first_valid_loss": 1.0,
    "valid_loss": 1.0,
    "train_loss": 1.0,
    "supervised_tokens": 1,
    "tokens": 1,
    "padding_share": 0.0,
    "trainable": 1,
    "parameters": 1,
}


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Artifact]:
    """A training and an evaluation whose one answer holds what some take for the end of a line."""
    answer = "one\u2028two\u2029three\x85four"
    score = {"value": 0.0, "reason": "-"}
    sample = {
        "id": "a|b",
        "repeat": 0,
        "category": "lsp",
        "expect": [{"tool": "hover", "arguments": {}}],
        "match": "any",
        "missing": None,
        "calls": [],
        "taxonomy": "wro|ng",
        "prompt": "p",
        "output": answer,
        "scores": {"keyword": score, "strict": score},
    }

    def train(out: Path) -> dict[str, Any]:
        (out / "adapters.safetensors").write_bytes(b"weights")
        write_lines(
            out / "train.jsonl", [{"kind": "train", "iter": 1, "loss": 1.0, "tokens_per_second": 7.0}]
        )
        return _TRAINED

    def evaluate(out: Path) -> None:
        write_lines(out / "samples.jsonl", [sample])
        write_json(out / "results.json", _RESULTS)

    store = Store(tmp_path / "store")
    material = {"settings": {"eval.stop": "a|b"}}
    return {
        "train": store.get_or_build("train", {"s": "train", **material}, train)[0],
        "evaluate": store.get_or_build("evaluate", {"s": "evaluate", **material}, evaluate)[0],
    }


def report(inputs: dict[str, Artifact], out: Path, targets: Sequence[str] = ()) -> dict[str, Any]:
    settings = SimpleNamespace(
        name="x",
        phase=None,
        model=SimpleNamespace(name="m"),
        data=SimpleNamespace(name="d"),
        eval=SimpleNamespace(suite="core", target="adapter", targets=list(targets)),
    )
    out.mkdir()
    STAGE.run(settings, inputs, out, Reporter())
    return json.loads((out / "results.json").read_text("utf-8"))


def test_any_answer_can_be_reported(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    """Separators of lines that JSON does not escape are shown; a bar ends no cell of a table."""
    report(inputs, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "one⟨U+2028⟩two⟨U+2029⟩three⟨U+0085⟩four" in text
    assert "| eval.stop | a\\|b |" in text
    assert "| wro\\|ng | 1 | a\\|b |" in text


def test_the_digests_are_of_bytes_that_come_out_again(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    """Files that hold times are not among the artifacts' digests."""
    named = report(inputs, tmp_path / "out")["artifacts"]
    assert {name: sorted(entry["files"]) for name, entry in named.items()} == {
        "train": ["adapters.safetensors"],
        "evaluate": [],
    }


def test_a_run_directory_needs_no_training(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    """The report brings the training's stream along; where nothing was trained there is none."""

    def build(given: dict[str, Artifact]) -> Artifact:
        def run(out: Path) -> None:
            out.rmdir()
            report(given, out)

        return Store(tmp_path / "store").get_or_build("report", {"from": sorted(given)}, run)[0]

    for given, expected in ((inputs, True), ({"evaluate": inputs["evaluate"]}, False)):
        folder = tmp_path / f"run{expected}"
        folder.mkdir()
        RunDirectory(folder).collect({"evaluate": inputs["evaluate"], "report": build(given)})
        assert (folder / "train.jsonl").exists() is expected
        assert (folder / "report.html").exists()


def test_the_settings_are_those_of_the_target_that_counts(
    inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    """Where other targets are evaluated too, theirs do not stand for the run's own."""
    other = Store(tmp_path / "other").get_or_build(
        "evaluate",
        {"s": "evaluate", "settings": {"eval.stop": "theirs"}},
        lambda out: write_json(out / "results.json", _RESULTS),
    )[0]
    report({**inputs, "evaluate:base": other}, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "| eval.stop | a\\|b |" in text
    assert "theirs" not in text


def test_answers_that_never_came_are_not_compared(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    """Where a server gave no answer at all, the report says that the targets are not compared."""

    def evaluate(out: Path) -> None:
        sample = json.loads(inputs["evaluate"].file("samples.jsonl").read_text("utf-8"))
        write_lines(out / "samples.jsonl", [{**sample, "missing": "the server is gone"}])
        write_json(out / "results.json", _RESULTS)

    store = Store(tmp_path / "store")
    material = {"s": "base", "settings": {"eval.target": "base"}}
    inputs["evaluate:base"] = store.get_or_build("evaluate", material, evaluate)[0]
    results = report(inputs, tmp_path / "out", targets=["base", "adapter"])
    assert results["paired"] == []
    for page in ("report.md", "report.html"):
        text = (tmp_path / "out" / page).read_text("utf-8")
        assert "base is not compared: no prompt has an answer from both targets" in text
