"""The errors that punie reports as a message, without a traceback."""

from __future__ import annotations

from collections.abc import Sequence


class PunieError(Exception):
    """A problem the user can act on.

    Args:
        what: One sentence: what is wrong.
        where: File and line, config key or folder.
        found: What was found there.
        expected: What would have been right.
        next_step: What to do now: a sentence or a command.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: object | None = None,
        found: object | None = None,
        expected: object | None = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = None if where is None else str(where)
        self.found = None if found is None else str(found)
        self.expected = None if expected is None else str(expected)
        self.next_step = next_step

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by state, whatever a subclass takes, so that a stage's own process can send an error."""
        return (Exception.__new__, (type(self), self.what), self.__dict__)

    def __str__(self) -> str:
        rows = [self.what]
        for label in ("where", "found", "expected", "next_step"):
            value = getattr(self, label)
            if value is not None:
                rows.append(f"  {label.replace('_step', ''):<9}{value}")
        return "\n".join(rows)


class GateError(PunieError):
    """A finished run's score is below ``eval.fail_under``."""

    exit_code = 3


class ConfigError(PunieError):
    """The composed config is wrong: an unknown key, a wrong type, a value out of range."""

    exit_code = 2


class DataError(PunieError):
    """A data set or suite cannot be used."""


class StoreError(PunieError):
    """An artifact is damaged, or the store cannot be read or written."""


class Problems(PunieError):
    """Several problems found in one pass, reported together under a heading."""

    def __init__(self, what: str, problems: Sequence[PunieError], exit_code: int = 1) -> None:
        super().__init__(what)
        self.problems = list(problems)
        self.exit_code = exit_code

    def __str__(self) -> str:
        rows = [self.what]
        for number, problem in enumerate(self.problems, 1):
            first, *rest = str(problem).splitlines()
            rows.append(f"  {number}. {first}")
            rows.extend(f"   {line}" for line in rest)
        return "\n".join(rows)


def each_problem(error: PunieError) -> list[PunieError]:
    """The problems that an error consists of."""
    return error.problems if isinstance(error, Problems) else [error]
