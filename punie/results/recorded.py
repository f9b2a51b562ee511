"""A run's part of a results document: verdict, scores against the baseline, prompts, training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from punie.results.decisions import decide
from punie.results.pages.documents import baseline_sentence, environment, lock_sentence
from punie.results.registration import Changed, Document
from punie.results.statistics import bootstrap
from punie.results.verdict import judge


@dataclass(frozen=True)
class Recorded:
    """What a run's directory says of it."""

    id: str
    phase: Mapping[str, Any]
    overrides: Sequence[str]
    results: Mapping[str, Any]
    samples: Sequence[Mapping[str, Any]]
    metrics: Sequence[Mapping[str, Any]]
    """train.jsonl; empty where nothing was trained."""
    provenance: Mapping[str, Any]
    answered: str
    """When the answers were generated, as ISO 8601: before the run began, if they were in the store."""

    def before(self, document: Document) -> bool:
        """Whether the answers are older than the registration."""
        return datetime.fromisoformat(self.answered) < datetime.fromisoformat(
            document.registration.registered
        )


def section(document: Document, run: Recorded, changed: Sequence[Changed], unknown: Sequence[str]) -> str:
    """The part of a document that is about one run.

    Args:
        document: Where it will stand.
        run: The run.
        changed: What is not as it was registered.
        unknown: Inputs that could not be compared with the registered ones.
    """
    registered = document.registration
    verdict = judge(run.results["scores"], registered.phase)
    decision = decide(registered.phase, verdict["outcome"], run.overrides)
    by_own = judge(run.results["scores"], run.phase) if _judges_otherwise(changed) else None
    return (
        environment(autoescape=False)
        .get_template("recorded.md.jinja")
        .render(
            run=run,
            verdict=verdict,
            by_own=by_own,
            decision=decision,
            changed=[(each.key, _shown(each.registered), _shown(each.found)) for each in changed],
            edited=document.edited,
            early=run.before(document),
            unknown=unknown,
            scores=_scores(run, registered.phase),
            score=registered.phase["score"],
            baseline_sentence=baseline_sentence(run.results, registered.phase),
            prompts=_prompts(run.samples),
            training=_training(run.metrics),
            selected=_selected(run.results),
            lock=lock_sentence(run.results["lock"]) if "lock" in run.results else None,
            sampling=", ".join(f"{name} {_shown(value)}" for name, value in run.results["sampling"].items()),
        )
    )


def _judges_otherwise(changed: Sequence[Changed]) -> bool:
    return any(each.key.startswith(("phase.criteria", "phase.outcomes", "phase.score")) for each in changed)


def _scores(run: Recorded, phase: Mapping[str, Any]) -> list[list[str]]:
    """Rows of the score table; intervals of keyword by resampling prompts, of strict Wilson's."""
    baseline = phase["baseline"] or {}
    categories = baseline.get("categories", {})
    keyword, strict = run.results["scores"]["keyword"], run.results["scores"]["strict"]
    pairs = [
        (name, keyword["categories"][name], strict["categories"][name]) for name in keyword["categories"]
    ]
    rows = []
    for name, *scores in [*pairs, ("overall", keyword["overall"], strict["overall"])]:
        overall = name == "overall"
        published = baseline.get("overall") if overall else categories.get(name)
        judged = run.results["scores"][phase["score"]]
        counted = (judged["overall"] if overall else judged["categories"][name])["mean"]
        found = _keyword_interval(run.samples, None if overall else name)
        intervals = [found if scores[0]["mean"] is not None else None, scores[1].get("interval")]
        known = published is not None and counted is not None
        rows.append([
            name, str(scores[0]["n"]),
            *(text for score, ends in zip(scores, intervals, strict=True)
              for text in (_share(score["mean"]), f"{ends[0]:.2f} to {ends[1]:.2f}" if ends else "–")),
            _share(published), f"{counted - published:+.3f}" if known else "–",
        ])  # fmt: skip
    return rows


def _keyword_interval(
    samples: Sequence[Mapping[str, Any]], category: str | None
) -> tuple[float, float] | None:
    """The 95 % interval of the mean keyword score over a category's prompts; over all for None."""
    table: dict[str, tuple[str, dict[int, list[float]]]] = {}
    for sample in samples:
        if sample["missing"] is None and category in (None, sample["category"]):
            _, cells = table.setdefault(sample["id"], (sample["category"], {0: []}))
            cells[0].append(sample["scores"]["keyword"]["value"])
    found = bootstrap(table) if table else None
    return (found.low, found.high) if found else None


def _prompts(samples: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A row for each prompt: mean scores over its repeats, and what became of each."""
    repeats: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for sample in samples:
        repeats[sample["id"]].append(sample)
    rows = []
    for name, of in repeats.items():
        answered = [sample for sample in of if sample["missing"] is None]
        means = [
            _share(sum(s["scores"][score]["value"] for s in answered) / len(answered)) if answered else "–"
            for score in ("keyword", "strict")
        ]
        became = dict.fromkeys(
            f"missing: {s['missing']}" if s["missing"] is not None else _became(s) for s in of
        )
        rows.append([name, of[0]["category"], *means, "; ".join(became)])
    return rows


def _became(sample: Mapping[str, Any]) -> str:
    kind, reason = sample["taxonomy"], sample["scores"]["strict"]["reason"]
    return reason if reason.startswith(kind) else f"{kind}: {reason}"


def _training(metrics: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Rows of the training table: first, last and best loss of training and validation."""
    rows = []
    for kind, name in (("train", "training loss"), ("valid", "validation loss")):
        losses = [(record["loss"], record["iter"]) for record in metrics if record["kind"] == kind]
        if losses:
            best, at = min(losses)
            rows.append([name, f"{losses[0][0]:.3f}", f"{losses[-1][0]:.3f}", f"{best:.3f}", str(at)])
    return rows


def _selected(results: Mapping[str, Any]) -> int | None:
    """Iteration of the checkpoint that is the result: the one with the very bytes of the adapter."""
    files = results["artifacts"].get("train", {"files": {}})["files"]
    weights = [name for name in files if name.endswith("adapters.safetensors") and "/" in name]
    same = [name.split("/")[1] for name in weights if files[name] == files.get("adapters.safetensors")]
    return max(map(int, same)) if same else None


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _shown(value: object) -> str:
    if isinstance(value, str) and len(value) == 64 and not value.strip("0123456789abcdef"):
        return value[:12]
    return "–" if value is None else str(value)
