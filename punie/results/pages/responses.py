"""An answer as a report shows it: its calls as code, its scores with their reasons, what finds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MISSING = "missing"
"""Stands where an answer's kind would."""
MARKS = {
    "strict-1": "strict: right",
    "strict-0": "strict: wrong",
    "keyword-1": "keyword: full",
    "keyword-part": "keyword: in part",
    "keyword-0": "keyword: none",
    "differ": "keyword full, strict wrong",
}
"""What answers can be filtered by as to their scores, in words."""


@dataclass(frozen=True)
class Answer:
    """One line of samples.jsonl, ready to be shown."""

    anchor: str
    """Its place on the page."""
    id: str
    """The suite item's id."""
    name: str
    """The id, with the number of the repeat where there are several."""
    category: str
    kind: str
    """Its place in the taxonomy, or ``missing``."""
    prompt: str
    output: str | None
    """None if the answer is missing."""
    missing: str | None
    """Why it is missing."""
    expected: str
    """The calls that the suite asks for."""
    calls: tuple[str, ...]
    """The calls that were made, in order."""
    scores: Mapping[str, tuple[float, str]]
    """By score, its value and the reason; empty if the answer is missing."""
    marks: tuple[str, ...]
    """Those of ``MARKS`` that hold."""


def answers(samples: Sequence[Mapping[str, Any]]) -> list[Answer]:
    """The lines of samples.jsonl, ready to be shown."""
    repeated = any(sample["repeat"] for sample in samples)
    return [_answer(index, sample, repeated) for index, sample in enumerate(samples)]


def call(tool: str, arguments: Mapping[str, Any]) -> str:
    """A call as code: ``read_file(path='src/app.py')``."""
    return f"{tool}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"


def _answer(index: int, sample: Mapping[str, Any], repeated: bool) -> Answer:
    scores = {name: (each["value"], each["reason"]) for name, each in sample.get("scores", {}).items()}
    expected = [call(each["tool"], each["arguments"]) for each in sample["expect"]]
    return Answer(
        anchor=f"answer-{index}",
        id=sample["id"],
        name=f"{sample['id']} #{sample['repeat']}" if repeated else sample["id"],
        category=sample["category"],
        kind=MISSING if sample["missing"] is not None else sample["taxonomy"],
        prompt=sample["prompt"],
        output=sample["output"],
        missing=sample["missing"],
        expected=(" and " if sample["match"] == "all" else " or ").join(expected),
        calls=tuple(call(each["tool"], each["arguments"]) for each in sample.get("calls", ())),
        scores=scores,
        marks=tuple(_marks(scores["keyword"][0], scores["strict"][0])) if scores else (),
    )


def _marks(keyword: float, strict: float) -> list[str]:
    found = [f"strict-{strict:.0f}", f"keyword-{keyword:.0f}" if keyword in (0.0, 1.0) else "keyword-part"]
    return [*found, "differ"] if keyword == 1.0 and strict == 0.0 else found
