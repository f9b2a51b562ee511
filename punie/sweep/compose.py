"""The jobs of a sweep's command line, each composed and checked before any of them starts."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, RangeSweep
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from punie.config import Config, resolve
from punie.config.compose import CONFIG_NAME, MISHAPS, parse, translate
from punie.results.sweep import LONG, brief, varied
from punie.util.errors import ConfigError, Problems, PunieError, each_problem
from punie.util.jsonl import excerpt

MAX_JOBS = 10_000
"""Most jobs of a sweep; range(0, 1e9) is a slip of the finger."""
_SHOWN = 10


@dataclass(frozen=True)
class Composed:
    """One job's config."""

    overrides: tuple[str, ...]
    config: Config
    plain: Mapping[str, Any]
    """The same as plain values, every interpolation resolved: what is frozen and compared."""


def grid(loader: ConfigLoader | None, params: Mapping[str, str], arguments: Sequence[str]) -> list[list[str]]:
    """Every combination of the values given, as the overrides of one job each.

    Args:
        loader: Hydra's, for ``glob``; None where there are no globs.
        params: A preset's axes; an argument of the same key wins.
        arguments: The command line's overrides, with commas, ``range`` or ``choice``.

    Raises:
        PunieError: An override cannot be read, is of a kind that has no list of values, or has none; or
            there are more than 10,000 jobs.
    """
    parsed = parse([*(f"{key}={value}" for key, value in params.items()), *arguments], loader)
    axes: dict[str, tuple[int, str]] = {}
    for override in parsed:
        axes[override.get_key_element()] = _count(override), str(override.input_line)
    size = math.prod(count for count, _ in axes.values())
    if not 0 < size <= MAX_JOBS:
        few, many = min(axes.values()), max(axes.values())
        raise ConfigError(
            "A sweep of no jobs." if not size else "A sweep of too many jobs.",
            where=excerpt((many if size else few)[1], LONG),
            found="no values" if not size else f"more than {MAX_JOBS:,} combinations",
            expected=f"1 to {MAX_JOBS:,} combinations of values",
        )
    try:
        (jobs,) = BasicSweeper.split_arguments(parsed, None)
    except HydraException as error:
        raise translate(error) from error
    except MISHAPS as error:
        raise ConfigError(
            "The values of a sweep cannot be listed.",
            where=brief(arguments),
            found=f"{type(error).__name__}: {excerpt(str(error))}",
            expected="values of text, numbers, lists or mappings, with commas between them",
        ) from error
    return jobs


def _count(override: Override) -> int:
    """How many values an override has, counted up to one more than is allowed.

    Raises:
        ConfigError: It is a range of no numbers.
    """
    values = override.value()
    if isinstance(values, ChoiceSweep):
        return len(values.list)
    if not isinstance(values, RangeSweep | Glob):
        return 1
    try:
        found = values.range() if isinstance(values, RangeSweep) else override.sweep_iterator()
        return sum(1 for _ in islice(found, MAX_JOBS + 1))
    except (HydraException, ValueError, TypeError, ArithmeticError) as error:
        raise ConfigError(
            "An override is no range of numbers.",
            where=override.input_line,
            found=f"{type(error).__name__}: {error}",
            expected="range(start, stop) or range(start, stop, step), the step not 0",
        ) from None


def compose_all(
    loader: ConfigLoader, jobs: Sequence[Sequence[str]], hydra_overrides: Sequence[str] = ()
) -> list[Composed]:
    """Compose and check every job.

    Args:
        loader: Hydra's, initialised.
        jobs: Each one's overrides.
        hydra_overrides: Those of the command line that concern Hydra itself.

    Raises:
        Problems: Jobs that cannot be run; every distinct mistake, with the first job that has it.
    """
    composer = _Composer(loader, hydra_overrides)
    found: list[Composed] = []
    mistakes: dict[str, tuple[PunieError, list[int]]] = {}
    for number, overrides in enumerate(jobs):
        try:
            composed = composer.compose(overrides)
            OmegaConf.resolve(composed)  # once: each reader below would resolve it again
            plain = cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))
            found.append(Composed(tuple(overrides), resolve(composed), plain))
        except (PunieError, *MISHAPS) as error:
            for problem in each_problem(translate(error)):
                mistakes.setdefault(str(problem), (problem, []))[1].append(number)
    if mistakes:
        shown = list(mistakes.values())[:_SHOWN]
        raise Problems(
            f"The sweep cannot start: {len(jobs) - len(found)} of {len(jobs)} jobs cannot be run.",
            [_named(problem, numbers[0], len(numbers), jobs) for problem, numbers in shown],
            exit_code=ConfigError.exit_code,
        )
    return found


class _Composer:
    """Composes many jobs: the groups once for each choice of them, the values on a copy of that.

    What Hydra does for one job takes 65 ms, nearly all of it for the groups, and a sweep's axes are mostly
    values. The job itself is composed by Hydra in full and compared, so a difference would not go unseen.
    """

    def __init__(self, loader: ConfigLoader, hydra_overrides: Sequence[str]) -> None:
        self._loader = loader
        self._hydra = list(hydra_overrides)
        self._parser = OverridesParser.create(config_loader=loader)
        self._parsed: dict[str, tuple[Override, bool]] = {}
        self._bases: dict[tuple[str, ...], DictConfig] = {}

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The config of one job, without Hydra's own part."""
        parsed = [self._parse(line) for line in overrides]
        choices = tuple(line for line, (_, is_group) in zip(overrides, parsed, strict=True) if is_group)
        if choices not in self._bases:
            base = self._loader.load_configuration(CONFIG_NAME, [*self._hydra, *choices], RunMode.RUN)
            OmegaConf.set_struct(base, False)
            del base["hydra"]
            OmegaConf.set_struct(base, True)
            self._bases[choices] = base
        composed = copy.deepcopy(self._bases[choices])
        values = [override for override, is_group in parsed if not is_group]
        ConfigLoaderImpl._apply_overrides_to_config(values, composed)
        return composed

    def _parse(self, line: str) -> tuple[Override, bool]:
        if line not in self._parsed:
            (override,) = self._parser.parse_overrides([line])
            is_group = bool(self._loader.get_group_options(override.key_or_group))
            self._parsed[line] = override, is_group and not isinstance(override.value(), dict)
        return self._parsed[line]


def _named(problem: PunieError, first: int, count: int, jobs: Sequence[Sequence[str]]) -> PunieError:
    """The problem with the first of the jobs that have it, by its place on the axes."""
    keys = varied(jobs)
    place = [line for line in jobs[first] if line.partition("=")[0] in keys]
    where = f"job {first}: {brief(place or jobs[first])}" + (f" (and {count - 1} more)" if count > 1 else "")
    return ConfigError(
        problem.what,
        where=where if problem.where is None else f"{excerpt(problem.where, LONG)}, {where}",
        found=problem.found,
        expected=problem.expected,
        next_step=problem.next_step,
    )
