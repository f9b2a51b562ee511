"""What came of many cases, in a row of a table."""

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
    """What should not be, each with the case it was found in."""

    def row(self) -> list[str | int]:
        """The kind, its cases, what happened in them, and how often something came of it that should not."""
        happened = [f"{count:,} {name}" for name, count in self.figures.items() if name != "cases" and count]
        return [self.kind, self.figures["cases"], ", ".join(happened), len(self.wrong)]


@dataclass(frozen=True)
class Case:
    """One thing to break."""

    name: str
    run: Callable[[Random, Counter[str]], Iterable[str]]
    """Breaks it, counts what happened, and returns what is wrong."""


def go(kind: str, cases: Iterable[Case], seed: int, wanted: Callable[[int], bool]) -> Tally:
    """Run the wanted cases, each with a generator of its own, so that one of them alone is the same one."""
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
        happened = ", ".join(f"{name}" for name in tally.figures - before if name != "cases")
        print(
            f"  {kind} --only {number}: {case.name}: {happened or 'done'}{''.join(f'; {f}' for f in found)}",
            flush=True,
        )
        tally.wrong += [f"{kind} --seed {seed} --only {number}, {case.name}: {text}" for text in found]
    return tally
