"""The jobs of a sweep's command line, each composed and checked before any of them starts."""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, RangeSweep
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from punie.config import Config, resolve
from punie.config.command import CONFIG_NAME, parse, quote_options, require_taken, with_schedule
from punie.config.compose import phases_of, worded
from punie.results.config import RunConfig
from punie.results.sweep import LONG, brief, varied
from punie.util.errors import ConfigError, Problems, PunieError, each_problem
from punie.util.jsonl import excerpt

MAX_JOBS = 10_000
"""Most jobs of a sweep; range(0, 1e9) is a slip of the finger."""
_SHOWN = 10


class Composed(NamedTuple):
    """One job's config."""

    overrides: Sequence[str]
    config: Config
    values: RunConfig
    """The same as plain values, every interpolation resolved: what is frozen and compared."""


def grid(loader: ConfigLoader | None, params: Mapping[str, str], arguments: Sequence[str]) -> list[list[str]]:
    """Every combination of the values given, as the overrides of one job each; arguments win over params.

    Raises:
        PunieError: An override cannot be read, is of a kind that has no list of values, or has none; or
            there are more than 10,000 jobs.
    """
    axes: dict[str, list[str]] = {}
    given: dict[str, str] = {}
    parsed = parse(with_schedule([*(f"{key}={value}" for key, value in params.items()), *arguments]), loader)
    try:
        for override in parsed:
            key = override.get_key_element()
            if key == "track" and override.is_sweep_override():
                raise _no_axis(str(override.input_line))
            axes[key], given[key] = _lines(override), str(override.input_line)
    except (HydraException, OmegaConfBaseException, ArithmeticError, ValueError) as error:
        raise ConfigError(
            "The values of a sweep cannot be listed.",
            where=brief(arguments),
            found=f"{type(error).__name__}: {excerpt(str(error))}",
            expected="strings, numbers, lists or mappings, separated by commas; or range(start, stop, step)",
        ) from error
    size = math.prod(map(len, axes.values()))
    if not 0 < size <= MAX_JOBS:
        key = (max if size else min)(axes, key=lambda key: len(axes[key]))
        raise ConfigError(
            "A sweep of too many jobs." if size else "A sweep of no jobs.",
            where=excerpt(given[key], LONG),
            found=f"more than {MAX_JOBS:,} combinations" if size else "no values",
            expected=f"1 to {MAX_JOBS:,} combinations of values",
        )
    return [list(job) for job in itertools.product(*axes.values())]


def _no_axis(line: str) -> ConfigError:
    """The error for jobs that differ in their tracker alone."""
    return ConfigError(
        "Trackers are no axis of a sweep: its jobs would be the same.",
        where=line,
        next_step=f"track=[{line.partition('=')[2]}] reports each job to all of them",
    )


def _lines(override: Override) -> list[str]:
    """An override with each of its values; at most one more than there may be jobs."""
    key, values = override.get_key_element(), override.value()
    if not override.is_sweep_override():
        return quote_options([f"{key}={override.get_value_element_as_str()}"])
    if not override.is_discrete_sweep():
        raise ValueError(f"{override.input_line} has no list of values")
    if isinstance(values, RangeSweep) and [*itertools.islice(values.range(), MAX_JOBS, MAX_JOBS + 1)]:
        values.shuffle = False  # to shuffle more than there may be jobs would list them all
    found = itertools.islice(override.sweep_string_iterator(), MAX_JOBS + 1)
    return quote_options([f"{key}={value}" for value in found])


def compose_all(
    loader: ConfigLoader,
    jobs: Sequence[Sequence[str]],
    hydra_overrides: Sequence[str] = (),
    config_name: str = CONFIG_NAME,
) -> list[Composed]:
    """Compose and check every job."""
    compose = _composer(loader, hydra_overrides, config_name)
    found: list[Composed] = []
    phases = functools.cache(lambda: phases_of(loader, config_name, hydra_overrides))
    mistakes: dict[str, tuple[PunieError, list[int]]] = {}
    for number, overrides in enumerate(jobs):
        try:
            composed, plain = worded(functools.partial(compose, overrides))
            found.append(Composed(overrides, resolve(composed, phases), RunConfig(plain)))
        except PunieError as error:
            for problem in each_problem(error):
                mistakes.setdefault(str(problem), (problem, []))[1].append(number)
    if mistakes:
        raise Problems(
            f"The sweep cannot start: {len(jobs) - len(found)} of {len(jobs)} jobs cannot be run.",
            [_placed(*each, jobs) for each in itertools.islice(mistakes.values(), _SHOWN)],
            exit_code=ConfigError.exit_code,
        )
    return found


def _composer(
    loader: ConfigLoader, hydra_overrides: Sequence[str], config_name: str
) -> Callable[[Sequence[str]], tuple[DictConfig, Any]]:
    """Composes many jobs from their overrides, each resolved, as a config and as plain values.

    Hydra's own part is left out.

    Hydra takes 65 ms to compose a job, nearly all of it for the groups, and most axes are plain values. So
    what is not a plain value is composed once for each combination, and the values are set on a copy. Each
    job compares its own config, which Hydra composes in full, with the planned one before it runs.
    """
    parser = OverridesParser.create(config_loader=loader)
    is_group = functools.cache(lambda key: bool(loader.get_group_options(key)))  # Hydra takes 10 ms to answer

    @functools.cache
    def whole(overrides: tuple[str, ...]) -> DictConfig:
        composed = loader.load_configuration(config_name, [*hydra_overrides, *overrides], RunMode.RUN)
        require_taken(composed.hydra, multirun=True)
        with open_dict(composed):
            del composed["hydra"]
        return composed

    @functools.cache
    def assigned(line: str) -> Override | None:
        """The override if it sets a field, else None: it chooses a group's option, adds or deletes."""
        (override,) = parser.parse_overrides([line])
        group = is_group(override.key_or_group) and not isinstance(override.value(), dict)
        plain = override.type is OverrideType.CHANGE and override.package is None and not group
        return override if plain else None

    def compose(overrides: Sequence[str]) -> tuple[DictConfig, Any]:
        composed = copy.deepcopy(whole(tuple(line for line in overrides if assigned(line) is None)))
        try:
            for value in filter(None, map(assigned, overrides)):
                OmegaConf.update(composed, value.key_or_group, value.value())
        except OmegaConfBaseException:
            composed = copy.deepcopy(whole(tuple(overrides)))  # Hydra's own error names the override
        OmegaConf.resolve(composed)  # once: each reader would resolve it again
        return composed, OmegaConf.to_container(composed)

    return compose


def _placed(problem: PunieError, numbers: Sequence[int], jobs: Sequence[Sequence[str]]) -> PunieError:
    """The problem with the first of the jobs that have it, by its place on the axes."""
    keys, (first, *more) = varied(jobs), numbers
    place = [line for line in jobs[first] if line.partition("=")[0] in keys]
    where = f"job {first}: {brief(place or jobs[first])}" + (f" (and {len(more)} more)" if more else "")
    problem.where = where if problem.where is None else f"{excerpt(problem.where, LONG)}, {where}"
    return problem
