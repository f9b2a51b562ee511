"""A finished run's directory, read with care: it may be cut short, another version's, or no run at all."""

from __future__ import annotations

import contextlib
import io
import typing
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from punie.util.errors import PunieError
from punie.util.plain import parse_json, require_plain_yaml

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from punie.config.schema import Config

_RESULTS = {"artifacts", "scores", "target", "sampling", "identity", "generation", "verdict"}


@dataclass(frozen=True)
class Finished:
    """What a finished run left."""

    folder: Path
    """The run directory."""
    results: dict[str, Any]
    """results.json."""
    status: dict[str, Any]
    """status.json."""
    config: Config
    """config.yaml, checked as any config is."""
    store: Path
    """Folder of the store it ran with."""

    @property
    def samples(self) -> Path:
        """The raw record of its answers."""
        return self.folder / "samples.jsonl"


def read(folder: Path) -> Finished:
    """A finished run's results, status and config, and the folder of its store.

    Raises:
        PunieError: They are not there, or not those of a run of this version.
    """
    status = read_object(folder, "status.json")
    if status.get("status") != "finished" and not (folder / "results.json").exists():
        error = _first_line(status["error"]) if status.get("error") else "it has no results.json"
        raise unfinished(folder, f"its status is {status.get('status')}: {error}")
    results = read_object(folder, "results.json")
    config = read_config(folder)
    if lacking := _RESULTS - results.keys():
        raise unfinished(folder, f"results.json has no {', '.join(sorted(lacking))}")
    named = results["artifacts"]
    entries = named.values() if isinstance(named, dict) else [None]
    if not all(isinstance(entry, dict) and {"key", "files"} <= entry.keys() for entry in entries):
        raise unfinished(folder, "results.json names its artifacts otherwise")
    return Finished(folder, results, status, config, Path(str(status.get("store") or config.store.dir)))


def read_config(folder: Path) -> Config:
    """A run's config.yaml, checked as any config is.

    Raises:
        PunieError: It is not there, or no config of this version.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from punie.config import resolve
    from punie.config.schema import Config

    plain = read_values(folder)
    try:
        composed = OmegaConf.merge(OmegaConf.structured(Config), plain)
    except (ValueError, TypeError, AssertionError, OmegaConfBaseException) as error:
        raise unfinished(folder, f"config.yaml: {_first_line(error)}") from None
    return resolve(typing.cast("DictConfig", composed))


def read_values(folder: Path) -> DictConfig:
    """What a run's config.yaml holds, as its version of punie wrote it.

    Raises:
        PunieError: It is not there, or no mapping.
    """
    import yaml
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        text = (folder / "config.yaml").read_text("utf-8")
        require_plain_yaml(text)
        plain = OmegaConf.load(io.StringIO(text))
    except (OSError, ValueError, TypeError, AssertionError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise unfinished(folder, f"config.yaml: {_first_line(error)}") from None
    if not isinstance(plain, DictConfig):
        raise unfinished(folder, "config.yaml is no mapping")
    return plain


def read_answers(source: Finished) -> list[dict[str, Any]]:
    """The run's raw records, at least one of them with an answer.

    Raises:
        PunieError: The file cannot be used, with every line that is wrong; or every answer is missing.
    """
    from punie.results.reading import read_records

    records = read_records(source.samples)
    if all(record["missing"] is not None for record in records):
        raise PunieError(
            "Every answer of the run is missing; there is nothing to score.",
            where=source.samples,
            found=records[0]["missing"],
            next_step="run it again",
        )
    return records


def doubts(source: Finished, records: list[dict[str, Any]]) -> list[str]:
    """Why it is not certain that these records are the recorded model's: the run says so, or their digest."""
    from punie.store.keys import digest

    found = [source.results["identity"]["unverified"]]
    if digest("answers", [{**record, "seconds": None} for record in records]) != source.results.get(
        "answers"
    ):
        found.append(f"{source.samples.name} is not as the run wrote it")
    return [reason for reason in found if reason]


def read_object(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object of a run directory.

    Raises:
        PunieError: It is not there, or something else.
    """
    try:
        value = parse_json((folder / name).read_bytes())
    except (OSError, ValueError) as error:
        raise unfinished(folder, f"{name}: {_first_line(error)}") from None
    if not isinstance(value, dict):
        raise unfinished(folder, f"{name} is not a JSON object")
    return value


@contextlib.contextmanager
def as_written(folder: Path, name: str = "results.json") -> Generator[None]:
    """Around what uses a file's values: where they are not what a run writes, that is the error.

    Raises:
        PunieError: A value is missing or has another type.
    """
    from jinja2 import TemplateError

    wrong = (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, TemplateError)
    try:
        yield
    except wrong as error:
        raise unfinished(folder, f"{name}: {type(error).__name__}: {error}") from error


def unfinished(folder: Path, found: str) -> PunieError:
    """The error for a folder that is not what a run leaves."""
    return PunieError(
        "This is not the directory of a finished run.",
        where=folder,
        found=found,
        expected="results.json, status.json and config.yaml, as this version of punie writes them",
        next_step="take the path that a run prints in the end",
    )


def _first_line(error: object) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error).strip().partition("\n")[0]
