"""The scores of an answer: the one table of them. By name, so that neither a config nor a plan loads one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scorer:
    """One way of saying what an answer is worth."""

    function: str
    """``module:function``. Pure: the sample, its completion and what the sandbox made of that (None where
    there is no code) go in, a ``punie.evals.scorers.Score`` comes out."""
    binary: bool
    """Its values are 0.0 and 1.0 alone: a mean is a share, and has Wilson's interval."""


SCORERS = {
    "keyword": Scorer("punie.evals.scorers:keyword", binary=False),
    "strict": Scorer("punie.evals.scorers:strict", binary=True),
}
"""Adding a score is one file and one line here; its name is then in the key of ``evaluate``. Who changes how
one is computed raises the version of that stage."""

ROUNDING = 1e-9
"""Means nearer to each other than this are the same: they may be sums of the same shares in another order."""

ALWAYS = ("keyword", "strict")
"""Those that every record has. A record from before another one came lacks it, and is read all the same."""

METRICS = ("strict", *(name for name in SCORERS if name != "strict"), "wrapper", "lock")
"""What a summary can be of: the scores, the default first; the share of answers with a wrapper; the exact
probability of opening one."""

HEADINGS = {"keyword": "keyword match", "strict": "execution"}
"""What a score is called in headings and sentences; any other goes by its name."""


def heading(score: str) -> str:
    """A score's name for people."""
    return HEADINGS.get(score, score)
