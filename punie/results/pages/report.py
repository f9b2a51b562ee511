"""The report of a run: report.md, and report.html as one self-contained file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from punie.evals.scores import heading
from punie.results.pages import sentences, tables
from punie.results.pages.plots import category_scores, lock_curves, loss_curves
from punie.results.pages.render import TEMPLATES, environment, page_style
from punie.results.pages.responses import MARKS, responses
from punie.results.records import Metric, Phase, Results, Sample


@dataclass(frozen=True)
class Facts:
    """Everything that a run's report shows."""

    name: str
    model: str
    data: str
    suite: str
    phase: Phase | None
    results: Results
    samples: Sequence[Sample]
    metrics: Sequence[Metric]
    """Of the training; empty if nothing was trained."""
    info: Mapping[str, Mapping[str, Any]]
    """What each stage recorded in its manifest."""
    settings: Mapping[str, Any]
    """The config fields that decided the artifacts, by dotted name."""

    @property
    def checkpoints(self) -> list[int]:
        """Iterations at which a checkpoint was saved."""
        if "train" not in self.info:
            return []
        last = self.info["train"]["iters"]
        every = self.settings.get("lora.save_every", last)
        return [*range(every, last, every), last]


def markdown(facts: Facts) -> str:
    """report.md."""
    return _render("report.md.jinja", facts, autoescape=False)


def html(facts: Facts) -> str:
    """report.html. It loads nothing; its content security policy allows its own script only, by digest."""
    script = (TEMPLATES / "report.js").read_text("utf-8")
    train, lock = facts.info.get("train"), facts.results.lock
    baseline = facts.phase.baseline if facts.phase else None
    return _render(
        "report.html.jinja",
        facts,
        autoescape=True,
        style=page_style(),
        script=Markup(script),  # noqa: S704 - our own
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        marks=MARKS,
        scores_svg=category_scores(facts.results.scores, baseline),
        loss_svg=train and loss_curves(facts.metrics, facts.checkpoints, train["selected_iter"]),
        lock_svg=lock and lock_curves(lock),
    )


def _render(template: str, facts: Facts, *, autoescape: bool, **more: Any) -> str:
    shown = responses(facts.samples)
    return (
        environment(autoescape=autoescape)
        .get_template(template)
        .render(
            facts=facts,
            phase=facts.phase,
            results=facts.results,
            train=facts.info.get("train"),
            fidelity=facts.info.get("quantize", {}).get("fidelity"),
            score_table=tables.score_table(facts.results, facts.phase.baseline if facts.phase else None),
            responses=shown,
            anchors={each.sample.id: each.anchor for each in reversed(shown)},
            examples={each.kind: each for each in reversed(shown)},
            baseline_sentence=sentences.baseline_sentence(facts.results, facts.phase),
            heading=heading,
            tables=tables,
            sentences=sentences,
            **more,
        )
    )
