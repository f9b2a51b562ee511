"""The table of scores. Functions are given by name, so that neither a config nor a plan imports them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scorer:
    """One way to score a response."""

    function: str
    """``module:function``: a pure function from a sample, its completion and the completion's execution (None
    where there is no code) to a ``punie.evals.scorers.Score``."""
    binary: bool
    """Its only values are 0.0 and 1.0, so that a mean is a share and has Wilson's interval."""


SCORERS = {
    "keyword": Scorer("punie.evals.scorers:keyword", binary=False),
    "strict": Scorer("punie.evals.scorers:strict", binary=True),
}
"""A new score is one file and one line here; its name is then in the key of ``evaluate``. A change of how a
score is computed needs a new version of that stage."""

ROUNDING = 1e-9
"""Means closer than this are equal: they may be sums of the same values in another order."""

ALWAYS = ("keyword", "strict")
"""The scores that every record has. A record that is older than another score lacks that score."""

METRICS = ("strict", *(name for name in SCORERS if name != "strict"), "wrapper", "lock")
"""The metrics of a summary: the scores, the default first; the share of responses with a tool-call block; the
format lock, the exact probability that a response opens one."""

HEADINGS = {"keyword": "keyword match", "strict": "execution", "malformed wrapper": "malformed call"}
"""What a score, or a class of responses, is called in headings and sentences; any other goes by its name."""


def heading(name: str) -> str:
    """The name for people of a score or a class of responses."""
    return HEADINGS.get(name, name)
