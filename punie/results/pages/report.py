"""The report of a run, report.md and report.html (one self-contained file), and a model's card."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from punie import formats
from punie.evals.scores import heading
from punie.results.pages import tables
from punie.results.pages.plots import category_scores, lock_curves, loss_curves, training_curves
from punie.results.pages.render import TEMPLATES, environment, page_style
from punie.results.records import Call, Metric, Phase, Results, Sample
from punie.store.keys import content_digests

if TYPE_CHECKING:
    from punie.results.run import Run

MISSING = "missing"
"""The kind of a response that is missing."""
MARKS = {
    "strict-1": f"{heading('strict')}: correct",
    "strict-0": f"{heading('strict')}: wrong",
    "keyword-1": f"{heading('keyword')}: full",
    "keyword-part": f"{heading('keyword')}: partial",
    "keyword-0": f"{heading('keyword')}: none",
    "differ": f"{heading('keyword')} full, {heading('strict')} wrong",
}
"""Marks by which responses can be filtered, in words."""
_JOINTS = {"any": " or ", "all": " and ", "exactly": " and ", "in_order": ", then "}
"""What stands between expected calls."""


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
    tools_sha256: str | None = None
    """Of ``tools.path``, if it is set."""

    @property
    def opening(self) -> str:
        """What a call begins with, as a JSON string; empty if that is ordinary text."""
        found = formats.restore(self.results.format.name, self.results.format.record).spellings
        return json.dumps(next(iter(found.values())), ensure_ascii=False) if found else ""

    @property
    def tools(self) -> str:
        """Where the tools are declared."""
        if self.tools_sha256:
            return f"the file with sha256 {self.tools_sha256[:12]}"
        return "embedded" if self.results.format.name == "code_mode" else "declared by examples and items"

    @property
    def checkpoints(self) -> list[int]:
        """Iterations at which a checkpoint was saved."""
        if "train" not in self.info:
            return []
        last = self.info["train"]["iters"]
        every = self.settings.get("lora.save_every", last)
        return [*range(every, last, every), last]


@dataclass(frozen=True)
class Response:
    """One line of samples.jsonl, ready to be shown."""

    anchor: str
    """The HTML id of its place on the page."""
    name: str
    """The suite item's id, with the number of the repeat where there are several."""
    sample: Sample
    kind: str
    """Its class in the taxonomy, or ``missing``."""
    calls: list[str]
    """The calls that were made, in order."""
    expected: str
    """The calls that the suite expects."""
    scores: Mapping[str, tuple[float, str]]
    """By heading of the score, its value and the reason; empty if the response is missing."""
    marks: list[str]
    """Those of ``MARKS`` that hold."""


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
        training_svgs=training_curves(facts.metrics) if train else [],
        lock_svg=lock and lock_curves(lock),
    )


def model_card(run: Run, *, folder: str, quantize: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """README.md of an exported model folder.

    Args:
        run: The run that scored the model.
        folder: The path that the reader will load.
        quantize: What the quantize stage recorded.
        files: sha256 of the folder's files, by name.
    """
    template = environment(autoescape=False).get_template("model_card.md.jinja")
    return template.render(
        config=run.config,
        folder=json.dumps(folder, ensure_ascii=False),
        results=run.results,
        quantize=quantize,
        fidelity=quantize.get("fidelity"),
        files=files,
        score_table=tables.score_table(run.results),
        rates_table=tables.rates_table(run.results),
    )


def exported_card(run: Run, what: str, folder: Path, *, file: str = "", base: str = "") -> str:
    """README.md of a folder with a GGUF file, or an adapter for a base; all other files are there by now."""
    digests = content_digests(sorted(folder.iterdir()))
    template = environment(autoescape=False).get_template("exported_card.md.jinja")
    return template.render(
        config=run.config,
        results=run.results,
        what=what,
        file=file,
        base=base,
        files=digests,
        score_table=tables.score_table(run.results),
        rates_table=tables.rates_table(run.results),
    )


def modelfile(**values: Any) -> str:
    """Ollama's Modelfile."""
    return environment(autoescape=False).get_template("Modelfile.jinja").render(**values)


def responses(samples: Sequence[Sample]) -> list[Response]:
    """The lines of samples.jsonl, ready to be shown."""
    repeated = any(sample.repeat for sample in samples)
    return [
        Response(
            anchor=f"response-{index}",
            name=f"{sample.id} #{sample.repeat}" if repeated else sample.id,
            sample=sample,
            kind=heading(sample.taxonomy) if sample.answered else MISSING,
            calls=[call(each) for each in sample.calls],
            expected=_JOINTS[sample.match].join(map(call, sample.expect)) or "no call",
            scores={heading(name): (each.value, each.reason) for name, each in sample.scores.items()},
            marks=_marks(sample) if sample.scores else [],
        )
        for index, sample in enumerate(samples)
    ]


def call(made: Call) -> str:
    """A call as code: ``read_file(path='src/app.py')``."""
    return f"{made.tool}({', '.join(f'{name}={value!r}' for name, value in made.arguments.items())})"


def _marks(sample: Sample) -> list[str]:
    keyword, strict = (sample.scores[name].value for name in ("keyword", "strict"))
    part = f"{keyword:.0f}" if keyword in (0.0, 1.0) else "part"
    differ = ["differ"] if keyword == 1.0 and strict == 0.0 else []
    return [f"strict-{strict:.0f}", f"keyword-{part}", *differ]


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
            rates_table=tables.rates_table(facts.results),
            turns_table=tables.turns_table(facts.results),
            responses=shown,
            anchors={each.sample.id: each.anchor for each in reversed(shown)},
            examples={each.kind: each for each in reversed(shown)},
            baseline_sentence=tables.baseline_sentence(facts.results, facts.phase),
            heading=heading,
            tables=tables,
            **more,
        )
    )
