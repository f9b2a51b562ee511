"""A response as a report shows it: calls as code, scores with their reasons, and the marks to filter by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from punie.evals.scores import heading
from punie.results.records import Call, Sample

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


@dataclass(frozen=True)
class Response:
    """One line of samples.jsonl, ready to be shown."""

    anchor: str
    """The HTML id of its place on the page."""
    name: str
    """The suite item's id, with the number of the repeat where there are several."""
    sample: Sample

    @property
    def kind(self) -> str:
        """Its class in the taxonomy, or ``missing``."""
        return self.sample.taxonomy if self.sample.answered else MISSING

    @property
    def calls(self) -> list[str]:
        """The calls that were made, in order."""
        return [call(each) for each in self.sample.calls]

    @property
    def expected(self) -> str:
        """The calls that the suite expects."""
        joined = " and " if self.sample.match == "all" else " or "
        return joined.join(call(each) for each in self.sample.expect)

    @property
    def scores(self) -> Mapping[str, tuple[float, str]]:
        """By heading of the score, its value and the reason; empty if the response is missing."""
        return {heading(name): (each.value, each.reason) for name, each in self.sample.scores.items()}

    @property
    def marks(self) -> list[str]:
        """Those of ``MARKS`` that hold."""
        if not self.sample.scores:
            return []
        keyword, strict = (self.sample.scores[name].value for name in ("keyword", "strict"))
        found = [
            f"strict-{strict:.0f}",
            f"keyword-{keyword:.0f}" if keyword in (0.0, 1.0) else "keyword-part",
        ]
        return [*found, "differ"] if keyword == 1.0 and strict == 0.0 else found


def responses(samples: Sequence[Sample]) -> list[Response]:
    """The lines of samples.jsonl, ready to be shown."""
    repeated = any(sample.repeat for sample in samples)
    return [
        Response(f"response-{index}", f"{sample.id} #{sample.repeat}" if repeated else sample.id, sample)
        for index, sample in enumerate(samples)
    ]


def call(made: Call) -> str:
    """A call as code: ``read_file(path='src/app.py')``."""
    return f"{made.tool}({', '.join(f'{name}={value!r}' for name, value in made.arguments.items())})"
