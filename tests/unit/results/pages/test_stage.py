"""The report stage: it takes any response, and records what can be had again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from punie.config.decisions import ShipConfig
from punie.results import files
from punie.results.records import Evaluation
from punie.results.scoring import summary
from punie.run.directory import RunDirectory
from punie.stages.report import STAGE
from punie.stages.slices import Named, Report, Targets
from punie.store.artifacts import Artifact, Store
from punie.util.files import write_lines
from punie.util.progress import Reporter
from tests.facts import TRAINED
from tests.unit.results import made

RESPONSE = made.sample("a|b", 0.0, "one\u2028two\u2029three\x85four", taxonomy="wro|ng")
SAMPLE = RESPONSE.plain()
FOUND = made.results(
    0.0, scores=summary([RESPONSE]).scores, taxonomy={"wro|ng": {"count": 1, "example": "a|b"}}
)


def write(out: Path, row: dict[str, Any] = SAMPLE) -> None:
    """An evaluation's files."""
    write_lines(out / "samples.jsonl", [row])
    files.write(out / "results.json", files.parse(files.plain(FOUND), Evaluation, out))


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Artifact]:
    """A training and an evaluation whose one response holds what some take for the end of a line."""

    def train(out: Path) -> dict[str, Any]:
        (out / "adapters.safetensors").write_bytes(b"weights")
        write_lines(out / "train.jsonl", [{"kind": "train", "iter": 1, "loss": 1.0}])
        return TRAINED

    store = Store(tmp_path / "store")
    material = {"settings": {"eval.stop": "a|b"}}
    return {
        "train": store.get_or_build("train", {"s": "train", **material}, train)[0],
        "evaluate": store.get_or_build("evaluate", {"s": "evaluate", **material}, write)[0],
    }


def report(inputs: dict[str, Artifact], out: Path, targets: Sequence[str] = ()) -> dict[str, Any]:
    settings = Report(
        "x", None, ShipConfig(), Named("m"), Named("d"), Targets("core", "quantized", list(targets))
    )
    out.mkdir()
    STAGE.run(settings, inputs, out, Reporter())
    return json.loads((out / "results.json").read_text("utf-8"))


def test_any_response_can_be_reported(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    """Separators of lines are shown and bars end no cell; files that hold times have no digest."""
    named = report(inputs, tmp_path / "out")["artifacts"]
    digests = {name: sorted(entry["files"]) for name, entry in named.items()}
    assert digests == {"train": ["adapters.safetensors"], "evaluate": []}
    text = (tmp_path / "out" / "report.md").read_text("utf-8")
    for words in (
        "one⟨U+2028⟩two⟨U+2029⟩three⟨U+0085⟩four",
        "| eval.stop | a\\|b |",
        "| wro\\|ng | 1 | a\\|b |",
    ):
        assert words in text


def test_a_run_directory_needs_no_training(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    """The report brings the training's metrics along; where nothing was trained there are none."""

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


def test_targets_that_cannot_be_compared(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    """Without a response of a target nothing is compared, and its settings do not stand for the run's own."""
    material, missing = {"settings": {"eval.stop": "theirs"}}, {**SAMPLE, "missing": "the server is gone"}
    made, _ = Store(tmp_path / "store").get_or_build("evaluate", material, lambda out: write(out, missing))
    inputs["evaluate:base"] = made
    assert report(inputs, tmp_path / "out", targets=["base", "quantized"])["paired"] == []
    for page in ("report.md", "report.html"):
        text = (tmp_path / "out" / page).read_text("utf-8")
        assert "base is not compared: no prompt has a response from both targets" in text
        assert "theirs" not in text
