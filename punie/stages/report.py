"""report: the documents of a run, and its verdict against the phase's criteria."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from punie.stages.contract import Settings, Stage
from punie.store.artifacts import Artifact
from punie.util.files import write_json, write_text

if TYPE_CHECKING:
    from punie.util.progress import Reporter

_BUILT = {"base": ("base",), "adapter": ("base", "train"), "quantized": ("base", "train", "quantize")}
"""The stages behind a target."""
_TIMED = {"train.jsonl", "results.json", "samples.jsonl"}
"""What holds times, so that its bytes are not those of another build of the same key."""


def _others(settings: Settings) -> list[str]:
    """The targets beside the one whose score counts."""
    return [target for target in settings.eval.targets if target != settings.eval.target]


def _needs(settings: Settings) -> tuple[str, ...]:
    behind = {stage for target in (settings.eval.target, *_others(settings)) for stage in _BUILT[target]}
    evaluations = ["evaluate", *(f"evaluate:{target}" for target in _others(settings))]
    return (*(stage for stage in ("base", "train", "quantize") if stage in behind), *evaluations)


def run(settings: Settings, inputs: Mapping[str, Artifact], out: Path, reporter: Reporter) -> dict[str, Any]:
    """Write results.json (scores, identity, verdict, keys), report.md and report.html.

    The stream of a training is copied, so that whoever has the report needs no training.
    """
    from punie.results.pages import documents
    from punie.results.pairs import pairs
    from punie.results.verdict import judge

    results = json.loads(inputs["evaluate"].file("results.json").read_text("utf-8"))
    samples = _lines(inputs["evaluate"].file("samples.jsonl"))
    results["targets"] = {
        target: json.loads(inputs[f"evaluate:{target}"].file("results.json").read_text("utf-8"))
        for target in _others(settings)
    }
    results["paired"] = [
        entry
        for target in _others(settings)
        for entry in pairs(
            target,
            settings.eval.target,
            _lines(inputs[f"evaluate:{target}"].file("samples.jsonl")),
            samples,
        )
    ]
    phase = dataclasses.asdict(settings.phase) if settings.phase else None
    results["verdict"] = judge(results["scores"], phase)
    results["artifacts"] = {
        name: {
            "key": artifact.key,
            "files": {
                file: entry["sha256"]
                for file, entry in artifact.manifest["files"].items()
                if file not in _TIMED
            },
        }
        for name, artifact in inputs.items()
    }
    facts = documents.Facts(
        name=settings.name,
        model=settings.model.name,
        data=settings.data.name,
        suite=settings.eval.suite,
        phase=phase,
        results=results,
        samples=samples,
        metrics=_lines(inputs["train"].file("train.jsonl")) if "train" in inputs else [],
        info={name: dict(artifact.info) for name, artifact in inputs.items()},
        settings={
            key: value
            for name, artifact in inputs.items()
            if not name.startswith("evaluate:")  # those of other targets, which say so in eval.target
            for key, value in artifact.manifest["material"]["settings"].items()
        },
    )
    if "train" in inputs:
        shutil.copyfile(inputs["train"].file("train.jsonl"), out / "train.jsonl")
    write_json(out / "results.json", results)
    write_text(out / "report.md", documents.markdown(facts))
    write_text(out / "report.html", documents.html(facts))
    return {"verdict": results["verdict"]["summary"]}


def _lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:  # str.splitlines would also split at U+2028 in an answer
        return [json.loads(line) for line in stream]


STAGE = Stage(
    name="report",
    version=5,
    reads=("name", "phase", "model.name", "data.name", "eval.suite", "eval.target", "eval.targets"),
    needs=_needs,
    run=run,
    shows=("results.json", "report.md", "report.html", "train.jsonl"),  # the last if something was trained
    labels=True,
)
