"""The cases of a kind of fault, and their results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random


@dataclass
class Tally:
    """One kind of fault."""

    kind: str
    figures: Counter[str] = field(default_factory=Counter)
    """What was counted, by name."""
    wrong: list[str] = field(default_factory=list)
    """Violations, each with its case."""

    def row(self) -> list[str | int]:
        """The kind, its number of cases, what happened in them, and the number of violations."""
        happened = [f"{count:,} {name}" for name, count in self.figures.items() if name != "cases" and count]
        return [self.kind, self.figures["cases"], ", ".join(happened), len(self.wrong)]


@dataclass(frozen=True)
class Case:
    """One fault to inject."""

    name: str
    run: Callable[[Random, Counter[str]], Iterable[str]]
    """Injects it, counts what happened, and returns the violations."""


def go(kind: str, cases: Iterable[Case], seed: int, wanted: Callable[[int], bool]) -> Tally:
    """Run the wanted cases; each has its own generator, so that it can be run again alone."""
    tally = Tally(kind)
    for number, case in enumerate(cases):
        if not wanted(number):
            continue
        before = Counter(tally.figures)
        try:
            found = list(case.run(Random(f"{seed} {kind} {number}"), tally.figures))
        except TimeoutError as error:
            found = [f"stuck: {error}"]
        tally.figures["cases"] += 1
        happened = ", ".join(name for name in tally.figures - before if name != "cases")
        print(f"  {kind} --only {number}: {'; '.join([case.name, happened or 'done', *found])}", flush=True)
        tally.wrong += [f"{kind} --seed {seed} --only {number}, {case.name}: {text}" for text in found]
    return tally
