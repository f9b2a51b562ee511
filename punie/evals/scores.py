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

RATES = ("unwanted", "missed")
"""The rates of wrong decisions to call, see :func:`wrong_decision`."""

METRICS = ("strict", *(name for name in SCORERS if name != "strict"), "wrapper", "lock", *RATES)
"""The metrics of a summary: the scores, the default first; the share of responses with a tool-call block; the
format lock, the exact probability that a response opens one; the rates of wrong decisions to call."""

LIKELIHOODS = ("prose", "code", "validation")
"""Mean log-probability per token of held-out prose and code that ship with punie, and of the responses of
validation examples."""

SHIPPED_ON = ("task", *SCORERS, *RATES, *LIKELIHOODS, "kept")
"""What the criteria of ``ship`` may be about, each as the change from the base to the result: the strict
score of the items that expect calls; the scores; the rates; the log-probabilities; and the share of the
adapter's gain in log-probability on validation examples that quantization adds or loses."""

HEADINGS = {
    "keyword": "keyword match",
    "strict": "execution",
    "malformed wrapper": "malformed call",
    "unwanted": "unwanted calls",
    "missed": "missed calls",
    "task": "execution, items with calls",
    "prose": "held-out prose",
    "code": "held-out code",
    "validation": "validation examples",
    "kept": "gain after quantization",
}
"""What a score, a rate, or a class of responses is called in headings and sentences; any other goes by its
name."""


def heading(name: str) -> str:
    """The name for people of a score or a class of responses."""
    return HEADINGS.get(name, name)


def wrong_decision(expected: bool, taxonomy: str, marked: bool) -> tuple[str, float]:
    """The rate that a response counts for, and 1.0 if it is a wrong decision to call, else 0.0.

    unwanted: among the items that expect no call, the responses that call a tool, or try to in a call that
    cannot be read. missed: among the items that expect calls, the responses that call no tool.

    Args:
        expected: Whether the item expects a call.
        taxonomy: What became of the response.
        marked: It holds a tool-call block; one that ended within a thought does not.
    """
    if expected:
        return "missed", float(taxonomy == "no call")
    return "unwanted", float(taxonomy != "correct" and (marked or taxonomy != "truncated"))
