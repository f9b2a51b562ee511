"""The documents of a run: report.md and a self-contained report.html."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from tabulate import tabulate

from punie.evals.scores import SCORERS
from punie.results.pages.plots import category_scores, lock_curves, loss_curves, truncation_name
from punie.results.pages.responses import MARKS, answers
from punie.results.pages.text import cell, code, fence, inline, visible, visible_html
from punie.results.power import detectable_in_words, prompts_to_exclude
from punie.results.statistics import wilson
from punie.results.verdict import prompts

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Facts:
    """All that a run's documents show."""

    name: str
    model: str
    data: str
    suite: str
    phase: Mapping[str, Any] | None
    results: Mapping[str, Any]
    """results.json: scores, sampling, identity, verdict, artifacts."""
    samples: Sequence[Mapping[str, Any]]
    """samples.jsonl."""
    metrics: Sequence[Mapping[str, Any]]
    """train.jsonl; empty when nothing was trained."""
    info: Mapping[str, Mapping[str, Any]]
    """What each stage recorded in its manifest."""
    settings: Mapping[str, Any]
    """The config fields that decided the artifacts, by dotted name."""


def score_table(
    results: Mapping[str, Any], baseline: Mapping[str, Any] | None
) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of the score table: overall and by category, every score, the baseline's.

    A score of 0 and 1 alone has an interval, another one, such as keyword, a standard error.

    Args:
        results: As in results.json.
        baseline: ``overall`` and ``categories`` as published; None if there are none.
    """
    scores = results["scores"]
    published = {**(baseline or {}).get("categories", {}), "overall": (baseline or {}).get("overall")}
    shown = {score: SCORERS[score].binary for score in SCORERS if score in scores}
    headers = ["category", "n"]
    for score, binary in shown.items():
        headers += [score, "95 % interval" if binary else "stderr"]
    rows = []
    for name in (*scores["strict"]["categories"], "overall"):
        found = {
            s: scores[s]["overall"] if name == "overall" else scores[s]["categories"][name] for s in shown
        }
        row = [name, str(found["strict"]["n"])]
        for score, binary in shown.items():
            estimate = found[score]
            row += [_share(estimate["mean"]), _reach(estimate) if binary else _share(estimate["stderr"])]
        rows.append(row + ([_share(published.get(name))] if baseline else []))
    return headers + (["baseline"] if baseline else []), rows


def terminal(results: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> str:
    """The score table and the verdict, for a terminal."""
    headers, rows = score_table(results, baseline)
    table = tabulate(
        rows,
        headers,
        tablefmt="simple",
        disable_numparse=True,
        colalign=_alignment(headers),
    )
    sampling = results["sampling"]
    lines = [
        table,
        "",
        f"temperature {sampling['temperature']:g}, seed {sampling['seed']}, strict {interval(results)}",
    ]
    if "lock" in results:
        lines.append(lock_sentence(results["lock"]))
    lines += [*map(paired_sentence, results["paired"]), *uncompared(results)]
    if results["identity"]["unverified"]:
        lines.append(f"identity: unverified ({results['identity']['unverified']})")
    return "\n".join([*lines, results["verdict"]["summary"]])


def lock_sentence(lock: Mapping[str, Any]) -> str:
    """The format lock at the run's own sampling, exact and sampled."""
    at = lock["at"]
    low, high = at["sampled"]["interval"]
    return (
        f"format lock {at['total']:.3f} exactly, {at['sampled']['rate']:.3f} sampled "
        f"(95 % interval {low:.2f} to {high:.2f}); smallest margin {lock['margin']['value']:.2f} logits"
    )


def paired_sentence(pair: Mapping[str, Any]) -> str:
    """A comparison of two targets."""
    low, high = pair["interval"]
    return (
        f"{pair['score']}, {pair['before']} → {pair['after']}: {pair['difference']:+.3f} "
        f"(95 % interval {low:+.2f} to {high:+.2f}, "
        f"sign-flip p = {pair['p_value']:.2g}); {len(pair['up'])} of {pair['prompts']} prompts up, "
        f"{len(pair['down'])} down; "
        + detectable_in_words(pair["prompts"], pair["difference"], pair["detectable"])
    )


def baseline_sentence(results: Mapping[str, Any], phase: Mapping[str, Any] | None) -> str | None:
    """How the overall score stands to the published one, whose answers nobody has: no test pairs the two.

    None without a baseline or a score.
    """
    baseline = (phase or {}).get("baseline") or {}
    published, score = baseline.get("overall"), (phase or {}).get("score")
    found = results["scores"][score]["overall"] if score else {"mean": None}
    if published is None or found["mean"] is None:
        return None
    count = prompts(found, results)
    low, high = wilson(found["mean"], count)
    gap = found["mean"] - published
    words = (
        f"{score} {found['mean']:.3f} is {gap:+.3f} from the baseline {published:.3f} ({baseline['source']})"
    )
    reached = f"the 95 % interval of {count} prompts, {low:.2f} to {high:.2f}, "
    if not low <= published <= high:
        return f"{words}; {reached}leaves it out"
    needed = f": {prompts_to_exclude(found['mean'], published):,} prompts would tell" if gap else ""
    return f"{words}; {reached}holds it, so the two may be the same{needed}"


def uncompared(results: Mapping[str, Any]) -> list[str]:
    """What to say of the targets for which there is no comparison."""
    compared = {pair["before"] for pair in results["paired"]}
    return [
        f"{target} is not compared: no prompt has an answer from both targets"
        for target in results["targets"]
        if target not in compared
    ]


def interval(results: Mapping[str, Any]) -> str:
    """The strict score with its 95 % interval, in words."""
    overall = results["scores"]["strict"]["overall"]
    if overall["mean"] is None:
        missing = results["scores"]["missing"]["count"]
        return f"none: {missing} of {results['generation']['samples']} answers are missing"
    low, high = overall["interval"]
    return f"{overall['mean']:.3f}, 95 % interval {low:.2f} to {high:.2f}"


def markdown(facts: Facts) -> str:
    """report.md."""
    return _render("report.md.jinja", facts, autoescape=False)


def html(facts: Facts) -> str:
    """report.html: one file that loads nothing; its one script is the page's own, which its policy names."""
    script = (_TEMPLATES / "report.js").read_text("utf-8")
    info, lock = facts.info.get("train"), facts.results.get("lock")
    return _render(
        "report.html.jinja",
        facts,
        autoescape=True,
        style=page_style(),
        script=Markup(script),  # noqa: S704 - our own
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        marks=MARKS,
        scores_svg=category_scores(facts.results["scores"], _baseline(facts)),
        loss_svg=info and loss_curves(facts.metrics, _checkpoints(facts), info["selected_iter"]),
        lock_svg=lock and lock_curves(lock),
    )


def _render(template: str, facts: Facts, *, autoescape: bool, **more: Any) -> str:
    headers, rows = score_table(facts.results, _baseline(facts))
    cells = [[cell(value) for value in row] for row in rows]
    shown = answers(facts.samples)
    return (
        environment(autoescape=autoescape)
        .get_template(template)
        .render(
            **{field.name: getattr(facts, field.name) for field in fields(facts)},
            headers=headers,
            rows=rows,
            table=tabulate(
                cells, headers, tablefmt="github", disable_numparse=True, colalign=_alignment(headers)
            ),
            interval=interval(facts.results),
            answers=shown,
            anchors={answer.id: answer.anchor for answer in reversed(shown)},
            examples={answer.kind: answer for answer in reversed(shown)},
            checkpoints=_checkpoints(facts),
            lock_sentence=lock_sentence,
            paired_sentence=paired_sentence,
            baseline_sentence=baseline_sentence(facts.results, facts.phase),
            uncompared=uncompared(facts.results),
            **more,
        )
    )


def page_style() -> Markup:
    """The style sheet of every page, to stand in it."""
    return Markup((_TEMPLATES / "report.css").read_text("utf-8"))  # noqa: S704 - our own


def environment(*, autoescape: bool) -> jinja2.Environment:
    """Where the templates of all documents are rendered.

    Whatever a template is given as text, hidden characters in it are made visible.

    Args:
        autoescape: For HTML. In Markdown the model's own text is always in a fenced block, and what
            stands in a table passes through :func:`cell`.
    """
    show = visible_html if autoescape else visible
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=autoescape,  # noqa: S701
        finalize=lambda value: (
            show(value) if isinstance(value, str) and not isinstance(value, Markup) else value
        ),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= {
        "share": _share,
        "fence": fence,
        "cell": cell,
        "code": code,
        "inline": inline,
        "truncation": truncation_name,
        "capital": lambda words: words[:1].upper() + words[1:],
        "plain": lambda value: "unset" if value is None else value,
    }
    return found


def _baseline(facts: Facts) -> Mapping[str, Any] | None:
    return (facts.phase or {}).get("baseline")


def _checkpoints(facts: Facts) -> list[int]:
    """Iterations at which a checkpoint was saved."""
    if "train" not in facts.info:
        return []
    last = facts.info["train"]["iters"]
    every = facts.settings.get("lora.save_every", last)
    return [*range(every, last, every), last]


def _alignment(headers: Sequence[str]) -> list[str]:
    return ["left"] + ["right"] * (len(headers) - 1)


def _reach(estimate: Mapping[str, Any]) -> str:
    return "–" if estimate["interval"] is None else "{:.2f} to {:.2f}".format(*estimate["interval"])


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
