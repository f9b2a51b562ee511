"""report: the documents of a run, and its verdict against the phase's criteria."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from punie.config.targets import TARGETS
from punie.evals.scores import LIKELIHOODS
from punie.stages.contract import Contents, Inputs, Stage
from punie.stages.likelihood import FILE as LIKELIHOOD
from punie.stages.slices import Report
from punie.util.files import write_text
from punie.util.progress import Reporter

if TYPE_CHECKING:
    from punie.results.records import Evaluation, Sample

_TIMED = {"train.jsonl", "results.json", "samples.jsonl"}
"""What holds times, so that its bytes are not those of another build of the same key."""


def _others(settings: Report) -> list[str]:
    """The targets beside the one whose score counts."""
    return [target for target in settings.eval.targets if target != settings.eval.target]


def _needs(settings: Report) -> tuple[str, ...]:
    behind = max((TARGETS[each].built for each in (settings.eval.target, *settings.eval.targets)), key=len)
    others = (f"evaluate:{target}" for target in _others(settings))
    return (*behind, "evaluate", *others, *_likelihoods(settings).values())


def _decides(settings: Report) -> bool:
    return bool(settings.ship.criteria) and "base" in _others(settings)


def _likelihoods(settings: Report) -> dict[str, str]:
    """The steps that read held-out texts, by target, where the decision needs them."""
    metrics, own = {each.metric for each in settings.ship.criteria}, settings.eval.target
    if not _decides(settings) or not metrics & {*LIKELIHOODS, "kept"}:
        return {}
    adapter = {"adapter": "likelihood:adapter"} if "kept" in metrics and own == "quantized" else {}
    return {"base": "likelihood:base", **adapter, own: "likelihood"}


def run(settings: Report, inputs: Inputs, out: Path, reporter: Reporter) -> Contents:
    """Write results.json (scores, identity, verdict, keys), report.md and report.html.

    The metrics of a training are copied, so that whoever has the report needs no training.
    """
    from punie.results import files
    from punie.results.comparison import pairs
    from punie.results.config import phase_record
    from punie.results.pages import report
    from punie.results.records import Evaluation, Likelihood, Results
    from punie.results.run import METRICS, RESULTS, SAMPLES
    from punie.results.scoring import rates
    from punie.results.ship import decide
    from punie.results.verdict import judge

    def evaluation(step: str) -> tuple[Evaluation, list[Sample]]:
        found = files.read(inputs[step].file(RESULTS), Evaluation)
        samples = files.read_samples(inputs[step].file(SAMPLES))
        # An evaluation of an earlier version has none.
        known = rates(samples, complete=found.find("strict") is not None)
        return found.model_copy(update={"rates": known}), samples

    own, samples = evaluation("evaluate")
    others = {target: evaluation(f"evaluate:{target}") for target in _others(settings)}
    phase = phase_record(settings.phase)
    ship = None
    if _decides(settings):
        read = {
            target: files.read(inputs[step].file(LIKELIHOOD), Likelihood)
            for target, step in _likelihoods(settings).items()
        }
        sides = {"base": others["base"][0], own.target: own}
        doubts = [
            f"{name}: {each.identity.unverified}" for name, each in sides.items() if each.identity.unverified
        ]
        ship = decide(settings.ship, others["base"][1], samples, read, own.target, doubts)
    results = Results.model_validate(
        {
            **dict(own),
            "version": Results.VERSION,
            "training": dict(inputs["train"].info) if "train" in inputs else None,
            "targets": {target: found for target, (found, _) in others.items()},
            "paired": [
                pair
                for target, (_, theirs) in others.items()
                for pair in pairs(target, own.target, theirs, samples)
            ],
            "ship": ship,
            "verdict": judge(own, phase),
            "artifacts": {
                name: {"key": each.key, "files": {n: s for n, s in each.digests.items() if n not in _TIMED}}
                for name, each in inputs.items()
            },
        }
    )
    facts = report.Facts(
        name=settings.name,
        model=settings.model.name,
        data=settings.data.name,
        suite=settings.eval.suite,
        phase=phase,
        results=results,
        samples=samples,
        metrics=files.read_metrics(inputs["train"].file(METRICS)) if "train" in inputs else [],
        info={name: dict(artifact.info) for name, artifact in inputs.items()},
        settings={
            key: value
            for name, artifact in inputs.items()
            if ":" not in name  # those of other targets, which say so in eval.target
            for key, value in artifact.manifest["material"]["settings"].items()
        },
        tools_sha256=inputs["evaluate"].manifest["material"].get("contents", {}).get("tools"),
    )
    if "train" in inputs:
        shutil.copyfile(inputs["train"].file(METRICS), out / METRICS)
    files.write(out / RESULTS, results)
    write_text(out / "report.md", report.markdown(facts))
    write_text(out / "report.html", report.html(facts))
    return {"verdict": results.verdict.summary, **({"ship": ship.decision} if ship else {})}


STAGE = Stage(
    name="report",
    version=8,
    reads=Report,
    needs=_needs,
    sources=lambda _: ("evals/scores.py", "results", "stages/report.py"),
    run=run,
    shows=("results.json", "report.md", "report.html", "train.jsonl"),  # the last if something was trained
    labels=True,
)
