"""Scores of a run as tables and in sentences, for a terminal and for documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from punie.evals.scores import RATES, SCORERS, heading
from punie.results.pages.plots import truncation_name
from punie.results.pages.text import cell, share
from punie.results.power import detectable_in_words, prompts_to_exclude
from punie.results.records import (
    Baseline,
    Estimate,
    Evaluation,
    Identity,
    Lock,
    Pair,
    Phase,
    Record,
    Results,
    Scores,
    Ship,
    ShipRow,
    Verdict,
)
from punie.results.scoring import averages
from punie.results.statistics import wilson
from punie.results.verdict import prompts
from punie.util.printable import printable

Table = tuple[list[str], list[list[str]]]
"""Headers and rows."""


def score_table(results: Scores, baseline: Baseline | None = None) -> Table:
    """Every score by category and overall, beside the baseline's; of BFCL's categories its averages, too.

    A score of 0 and 1 alone has Wilson's interval; any other, such as keyword match, a standard error.
    """
    shown = {name: SCORERS[name].binary for name in SCORERS if name in results.scores}
    headers = ["category", "n"]
    for name, binary in shown.items():
        headers += [heading(name), "95 % interval" if binary else "stderr"]
    published = {} if baseline is None else {**baseline.categories, "overall": baseline.overall}
    rows = []
    estimates = {
        name: {**score.categories, **averages(score), "overall": score.overall}
        for name, score in results.scores.items()
    }
    for category in estimates["strict"]:
        found = {name: each[category] for name, each in estimates.items()}
        row = [category, str(found["strict"].n)]
        for name, binary in shown.items():
            estimate = found[name]
            row += [share(estimate.mean), _ends(estimate) if binary else share(estimate.stderr)]
        rows.append(row + ([share(published.get(category))] if baseline else []))
    return headers + (["baseline"] if baseline else []), rows


def rates_table(results: Results) -> Table:
    """The rates of wrong decisions to call, a column for each target; no rows if they were not recorded."""
    columns = {**results.targets, results.target: results}
    shown = [rate for rate in RATES if any(rate in each.rates for each in columns.values())]
    rows = [
        [heading(rate), *(rate_in_words(each.rates.get(rate)) for each in columns.values())] for rate in shown
    ]
    return ["rate, 95 % interval", *columns], rows


def turns_table(results: Results) -> Table:
    """How often each turn of conversations was right, for each target; no rows without conversations."""
    targets = {**results.targets, results.target: results}
    rows = [
        [
            f"{each.turn}, {target}" if len(targets) > 1 else str(each.turn),
            f"{each.of_reached.n} of {each.of_all.n}",
            rate_in_words(each.of_reached),
            rate_in_words(each.of_all),
        ]
        for target, found in targets.items()
        for each in found.turns
    ]
    return [
        "turn",
        "reached",
        *(f"right, of {each}, 95 % interval" for each in ("those reached", "all")),
    ], rows


def rate_in_words(rate: Estimate | None) -> str:
    """``3 of 60: 0.050, 0.02 to 0.14``, the interval last; a dash if responses are missing."""
    if rate is None or rate.mean is None:
        return "–"
    return f"{round(rate.mean * rate.n)} of {rate.n}: {rate.mean:.3f}, {_ends(rate)}"


def ship_table(ship: Ship) -> Table:
    """The criteria of a decision: the change from the base, its limit, and what could have been seen."""
    rows = []
    for row in ship.rows:
        found = "–" if row.change is None else f"{row.change:+.3f}"
        ends = "–" if row.interval is None else "{:+.2f} to {:+.2f}".format(*row.interval)
        limit = f"{'above' if row.rises else 'below'} {row.limit:+.2f}"
        met = {True: "yes", False: "no", None: "cannot tell"}[row.met]
        seen = "–" if row.detectable is None else f"{row.detectable:.2f}"
        rows.append([heading(row.metric), str(row.units), found, ends, limit, seen, met])
    return ["change from the base", "n", "found", "95 % interval", "must be", "could show", "met"], rows


def doubts(results: Results) -> list[str]:
    """Why it is not certain which weights responded; of another target, with its name."""
    others = {f"{name}: ": each.identity.unverified for name, each in results.targets.items()}
    return [name + doubt for name, doubt in {"": results.identity.unverified, **others}.items() if doubt]


def ship_sentence(ship: Ship) -> str:
    """The decision and what decides it, without a period."""
    if not ship.rows:
        return f"{ship.decision}: no criterion of {ship.preset} applies"
    if ship.decision == "SHIP":
        return f"SHIP: every criterion of {ship.preset} is met ({len(ship.rows)})"
    state = False if ship.decision == "HOLD" else None
    return f"{ship.decision}: " + "; ".join(_ship_reason(row) for row in ship.rows if row.met is state)


def _ship_reason(row: ShipRow) -> str:
    name = heading(row.metric)
    if row.change is None or row.interval is None:
        return f"{name}: {row.reason}"
    low, high = row.interval
    words = f"{name} {row.change:+.3f} (95 % interval {low:+.2f} to {high:+.2f}), must be "
    words += f"{'above' if row.rises else 'below'} {row.limit:+.2f}"
    words += f" ({row.reason})" if row.reason else ""
    return words + (f", which about {row.needed:,} prompts would show if it stays" if row.needed else "")


def criteria_table(verdict: Verdict) -> Table:
    """A phase's criteria with what was found."""
    rows = [
        [row.metric, f"{row.op} {row.value:g}", share(row.found), "yes" if row.met else "no"]
        for row in verdict.criteria
    ]
    return ["metric", "needed", "found", "met"], rows


def fields_table(rows: Sequence[Record], *names: str) -> Table:
    """A row for each record, a column for each of these fields."""

    def shown(value: object) -> str:
        return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

    return list(names), [[shown(getattr(row, name)) for name in names] for row in rows]


def lock_table(lock: Lock) -> Table:
    """The format lock by temperature, a column for each setting of truncation."""
    rows = [
        [str(temperature), *(f"{curve.total[row]:.4f}" for curve in lock.curves)]
        for row, temperature in enumerate(lock.temperatures)
    ]
    return ["temperature", *map(truncation_name, lock.curves)], rows


def fidelity_table(found: Mapping[str, Any]) -> Table:
    """The quantize stage's measurement: base, adapter and quantized model on the validation set."""
    rows = [
        ["base", f"{found['base_logprob']:.3f}", f"{100 * found['base_agreement']:.1f} %"],
        ["adapter", f"{found['adapter_logprob']:.3f}", "–"],
        ["quantized", f"{found['quantized_logprob']:.3f}", f"{100 * found['agreement']:.1f} %"],
    ]
    return ["model", "log-probability per token", "top-1 agreement with the adapter"], rows


def in_markdown(table: Table, quote: Callable[[str], str] = cell) -> str:
    """A table in Markdown.

    Args:
        table: Headers and rows.
        quote: Makes a value fit for a cell; :func:`inline` where the text is a model's.
    """
    headers, rows = table
    lines = [headers, ["---"] * len(headers), *([quote(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def in_text(table: Table) -> str:
    """A table for a terminal, numbers to the right."""
    headers, rows = table
    cells = [[printable(value) for value in row] for row in rows]
    aligned = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(cells, [*map(printable, headers)], "simple", disable_numparse=True, colalign=aligned)


def terminal(results: Results, baseline: Baseline | None) -> str:
    """The score table, the comparisons and the verdict, for a terminal."""
    sampling = results.sampling
    lines = [
        f"temperature {sampling.temperature:g}, seed {sampling.seed}, {heading('strict')} {interval(results)}"
    ]
    if results.lock is not None:
        lines.append(lock_sentence(results.lock))
    lines += [*map(paired_sentence, results.paired), *uncompared(results)]
    lines += [f"identity: unverified ({doubt})" for doubt in doubts(results)]
    lines += [f"note: {note}" for note in results.generation.notes]
    lines += [words] if (words := stopped_sentence(results)) else []
    lines.append(results.verdict.summary)
    lines += [ship_sentence(results.ship)] if results.ship else []
    parts = [in_text(score_table(results, baseline)), ""]
    for table in (rates_table(results), turns_table(results)):
        parts += [in_text(table), ""] if table[1] else []
    if results.ship:
        parts += [in_text(ship_table(results.ship)), ""]
    return "\n".join([*parts, *map(printable, lines)])


def stopped_sentence(results: Results) -> str:
    """That the training ended early, and why; empty if it did not."""
    found = results.training
    if found is None or not found.stopped:
        return ""
    return f"the training stopped at iteration {found.iters} of {found.planned_iters}: {found.stopped}"


def digests(identity: Identity, *, tensors: bool = False) -> dict[str, str]:
    """An identity's digests, by what they are of; those of single tensors if they are wanted."""
    weights = identity.weights
    return {
        **(weights.files or {}),
        "weights in memory": weights.whole or "unknown",
        "model folder": identity.model,
        "tokenizer": identity.tokenizer,
        "chat template": identity.chat_template,
        f"suite {identity.suite.name}": identity.suite.sha256,
        "prompts as rendered": identity.prompts,
        **((weights.tensors or {}) if tensors else {}),
    }


def fidelity_sentence(found: Mapping[str, Any]) -> str:
    """The share of the fine-tune's gain that quantization keeps."""
    kept = found["gain_kept"]
    words = (
        "The adapter gains almost nothing there, so there is no gain to keep"
        if kept is None
        else f"The quantized model keeps {100 * kept:.1f} % of the adapter's gain in log-probability"
    )
    return (
        f"Measured on the responses of {found['rows']} validation examples ({found['tokens']} tokens). "
        f"{words}. Mean divergence from the adapter: {found['kl']:.4f} nats."
    )


def interval(results: Evaluation) -> str:
    """The execution score with its 95 % interval, in words."""
    overall = results.scores["strict"].overall
    if overall.mean is None or overall.interval is None:
        return f"none: {results.missing.count} of {results.generation.samples} responses are missing"
    low, high = overall.interval
    return f"{overall.mean:.3f}, 95 % interval {low:.2f} to {high:.2f}"


def lock_sentence(lock: Lock) -> str:
    """The format lock at the run's own sampling parameters, exact and sampled."""
    low, high = lock.at.sampled.interval
    margin = "unknown" if lock.margin.value is None else f"{lock.margin.value:.2f} logits"
    return (
        f"format lock {lock.at.total:.3f} exact, {lock.at.sampled.rate:.3f} sampled "
        f"(95 % interval {low:.2f} to {high:.2f}); smallest margin {margin}"
    )


def paired_sentence(pair: Pair) -> str:
    """A comparison of two targets."""
    low, high = pair.interval
    changed = len(pair.up) + len(pair.down)
    return (
        f"{heading(pair.score)}, {pair.before} → {pair.after}: {pair.difference:+.3f} "
        f"(95 % interval {low:+.2f} to {high:+.2f}, sign-flip p = {pair.p_value:.2g}); "
        f"{len(pair.up)} of {pair.prompts} prompts up, {len(pair.down)} down; "
        f"{detectable_in_words(pair.prompts, changed, pair.difference, pair.detectable)}"
    )


def uncompared(results: Results) -> list[str]:
    """A sentence for each target that has no comparison."""
    compared = {pair.before for pair in results.paired}
    return [
        f"{target} is not compared: no prompt has a response from both targets"
        for target in results.targets
        if target not in compared
    ]


def baseline_sentence(results: Evaluation, phase: Phase | None) -> str | None:
    """How the overall score compares with the published one, whose responses nobody has: no paired test.

    None without a baseline or a score.
    """
    if phase is None or phase.baseline is None or phase.baseline.overall is None:
        return None
    published, score = phase.baseline.overall, results.scores.get(phase.score)
    if score is None or score.overall.mean is None:
        return None
    overall, mean = score.overall, score.overall.mean
    count = prompts(overall, results)
    low, high = wilson(mean, count)
    difference = mean - published
    words = (
        f"{heading(phase.score)} {mean:.3f} differs by {difference:+.3f} from the baseline "
        f"{published:.3f} ({phase.baseline.source}); the 95 % interval of {count} prompts, "
        f"{low:.2f} to {high:.2f},"
    )
    if not low <= published <= high:
        return f"{words} excludes it"
    if not difference:
        return f"{words} includes it"
    needed = prompts_to_exclude(mean, published)
    return f"{words} includes it; excluding it needs {needed:,} prompts"


def _ends(estimate: Estimate) -> str:
    return "–" if estimate.interval is None else "{:.2f} to {:.2f}".format(*estimate.interval)
