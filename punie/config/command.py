"""The command line of a run: which of Hydra's flags and fields it takes, and how they are repeated."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from punie.config.compat import RAISED
from punie.config.fields import did_you_mean, find_field
from punie.config.presets import CARRIED
from punie.config.wording import TARGET, instantiates, translate, unreadable
from punie.util.errors import ConfigError, Problems
from punie.util.jsonl import excerpt

CONFIG_NAME = "config"
_OVERRIDE = re.compile(r"(?P<key>[+~]{0,2}[A-Za-z_][\w/]*(@[\w.:]+)?)=(?P<values>.*)", re.DOTALL)
_CHOICES = re.compile(
    r"(?P<head>\[|(?:choice|sort|shuffle)\()?(?P<list>[\w.+-]+(?:,\s*[\w.+-]+)*)(?P<tail>[\])])?"
)
_NO_TEXT = re.compile(
    r"[+-]?(\d[\d_]*\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|nan)|true|false|null", re.IGNORECASE
)
_RERUN = "--experimental-rerun"
_NAMES_CODE = re.compile(rf"(?<!\w){TARGET}['\"\s]*[=:]")
_MODE = "hydra.mode="
_DIR, _NAME, _SEARCHPATH = CARRIED
_SUBDIR = "jobs/${hydra.job.num}"
_SWEEPER = "hydra_plugins.punie_sweeper.PunieSweeper"
_SCHEDULE = "lora.lr_schedule"
_MAPPING = f"+lora/schedule@{_SCHEDULE}=own"
_CLASSES, _STREAMS = ("logging.", "colorlog."), ("ext://sys.stdout", "ext://sys.stderr")
_LOG = "${hydra.runtime.output_dir}/"
_PATHS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.searchpath")
_SWEEPS_ONLY = ("hydra.sweep.", "hydra.sweeper.", "hydra/sweeper", "hydra.launcher.", "hydra/launcher")
_SET_BY_HYDRA = (
    *("hydra.runtime.", "hydra.overrides.", "hydra.job.num", "hydra.job.id"),
    *("hydra.job.override_dirname", "hydra.job.config_name"),
)


@dataclass(frozen=True)
class CommandLine:
    """What a command line asks of Hydra."""

    overrides: Sequence[str] = ()
    """As Hydra is given them: options quoted, ``~`` expanded, without ``hydra.mode=MULTIRUN``."""
    config_dir: str | None = None
    """A folder with presets of the user's own."""
    config_name: str = CONFIG_NAME
    multirun: bool = False
    shows: Sequence[str] = ()
    """Flags that make Hydra show something; then nothing runs."""

    @classmethod
    def words(cls, arguments: Sequence[str]) -> list[str]:
        """The overrides of a command line, as they were given."""
        return list(_parser().parse_intermixed_args(list(arguments)).overrides)

    @classmethod
    def read(cls, arguments: Sequence[str], commands: Collection[str] = ()) -> CommandLine:
        """A command line without the program's name; ``commands`` are meant by a word that is no override.

        Raises:
            ConfigError: A flag or a word that a run does not take, or an override that cannot be parsed.
        """
        refuse_code(arguments)
        if sys.flags.optimize:
            raise ConfigError(
                "Hydra cannot read overrides under python -O: it has assertions that do work.",
                next_step="leave out -O, and unset PYTHONOPTIMIZE",
            )
        found = _parser().parse_intermixed_args(list(arguments))
        for word in found.overrides:
            if "=" not in word and not word.startswith("~"):
                raise _no_override(word, arguments, commands)
        overrides = with_schedule(quote_options(_expanded(found.overrides)))
        parse([line for line in overrides if "=" in line])  # an error names the one that cannot be parsed
        if found.config_dir is not None and not Path(found.config_dir).expanduser().is_dir():
            raise ConfigError(
                "The folder of presets does not exist.",
                where=f"{_DIR}{found.config_dir}",
                expected="a folder, such as mine with mine/eval/own.yaml",
            )
        multirun, chosen = found.multirun, list[str]()
        for line in [line for line in overrides if line.startswith(_MODE)]:
            if (mode := line.removeprefix(_MODE)) in ("RUN", "MULTIRUN"):  # Hydra refuses another
                multirun = mode == "MULTIRUN"
                overrides.remove(line)
                chosen = [] if multirun else [line]  # which wins over a preset's
        return cls(
            [*overrides, *chosen],
            found.config_dir and str(Path(found.config_dir).expanduser()),
            found.config_name.removesuffix(".yaml"),
            multirun,
            [*_shown(found)],
        )

    @property
    def carried(self) -> list[str]:
        """The flags that decide what is composed, as arguments."""
        directory = [f"{_DIR}{self.config_dir}"] if self.config_dir else []
        return [*directory, *([f"{_NAME}{self.config_name}"] if self.config_name != CONFIG_NAME else [])]

    @property
    def arguments(self) -> list[str]:
        """The whole command line, as Hydra and as ``read`` take it."""
        return [*self.carried, *(["--multirun"] if self.multirun else []), *self.shows, *self.overrides]


def carried(hydra: DictConfig) -> list[str]:
    """What a command must repeat to find the presets of a run, from Hydra's part of its config."""
    directory = next((s.path for s in hydra.runtime.config_sources if s.provider == "command-line"), None)
    if directory is not None and Path(directory).is_relative_to(Path.cwd()):
        directory = str(Path(directory).relative_to(Path.cwd()))
    line = CommandLine(config_dir=directory, config_name=str(hydra.job.config_name))
    return [*line.carried, *(each for each in hydra.overrides.hydra if each.startswith(_SEARCHPATH))]


def require_taken(hydra: DictConfig, *, multirun: bool) -> None:
    """Refuse what is set of Hydra's own part of a config and would change nothing, or break a promise.

    Raises:
        PunieError: All of it in one report.
    """
    problems = [*_refused(hydra, multirun)]
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise Problems("Hydra's settings cannot be used:", problems, exit_code=ConfigError.exit_code)


def _refused(hydra: DictConfig, multirun: bool) -> Iterator[ConfigError]:
    if hydra.callbacks:
        yield instantiates("hydra.callbacks")
    for name in ("job_logging", "hydra_logging"):
        yield from _code(OmegaConf.to_container(hydra[name], resolve=False), f"hydra.{name}")
    if multirun and hydra.sweeper._target_ != _SWEEPER:
        yield ConfigError(
            "Another sweeper would train the same model again and hide jobs that fail.",
            where=f"hydra/sweeper={hydra.runtime.choices.get('hydra/sweeper')}",
            expected="hydra/sweeper=punie",
            next_step="leave it out",
        )
    if multirun and OmegaConf.to_container(hydra.sweep, resolve=False)["subdir"] != _SUBDIR:  # ty: ignore
        yield ConfigError(
            "The sweeper names the jobs' folders: jobs/<NNN>-<id>, by which a sweep is resumed.",
            where="hydra.sweep.subdir",
            next_step="leave it out; hydra.sweep.dir=FOLDER says where the sweep is written",
        )
    for line in hydra.overrides.hydra:
        key = str(line).lstrip("+~").partition("=")[0]
        if key.startswith(_SET_BY_HYDRA):
            what = "Hydra sets this field itself."
            yield ConfigError(what, where=excerpt(line, 200), next_step="leave it out")
        elif not multirun and f"{key}.".startswith(_SWEEPS_ONLY):
            yield ConfigError(
                "This changes nothing in a single run.",
                where=excerpt(line, 200),
                next_step="-m for a sweep; hydra.run.dir=FOLDER for the folder of a run",
            )
        elif multirun and key == "hydra.run.dir":
            what = "This changes nothing in a sweep."
            yield ConfigError(what, where=excerpt(line, 200), next_step="hydra.sweep.dir=FOLDER")


def _code(node: Any, key: str) -> Iterator[ConfigError]:
    """What of a logging config would call code by name: only the classes of ``logging`` are taken."""
    if isinstance(node, list):
        for each in node:
            yield from _code(each, key)
    for name, value in node.items() if isinstance(node, dict) else ():
        inside, text = f"{key}.{name}", str(value)
        if (
            name == "()"
            or (name == "class" and not text.startswith(_CLASSES))
            or (text.startswith("ext://") and text not in _STREAMS)
            or ("${" in text and isinstance(value, str) and not text.startswith(_LOG))
        ):
            yield instantiates(inside)
        else:
            yield from _code(value, inside)


def require_one_value(overrides: Sequence[Override]) -> None:
    """Refuse several values in a run that is not a sweep.

    Raises:
        ConfigError: An override has several; with the three ways to mean it.
    """
    for override in overrides:
        if override.is_sweep_override():
            key, line = override.get_key_element(), str(override.input_line)
            values = line.partition("=")[2]
            ways = [f"-m {line}: a sweep over the values"]
            if "(" not in values:
                ways += [f"{key}=[{values}]: a list", f"\"{key}='{values}'\": a text"]
            raise ConfigError(
                "Several values need -m, brackets or quotes.",
                where=excerpt(line, 200),
                expected="; ".join(ways),
            )


def quote_options(arguments: Iterable[str]) -> list[str]:
    """Arguments with the options of groups quoted that Hydra would read as numbers, such as ``+phase=45``.

    Values of ``phase`` are always quoted, others only where they are no text without quotes.
    """
    return [_quoted(each) for each in arguments]


def with_schedule(overrides: Sequence[str]) -> list[str]:
    """Overrides that may set fields of ``lora.lr_schedule``, which is null: one is added that makes it a
    mapping."""
    sets = any(re.match(rf"\+*{re.escape(_SCHEDULE)}(\.|=.*{{)", each) for each in overrides)
    return [_MAPPING, *overrides] if sets and _MAPPING not in overrides else [*overrides]


def _quoted(argument: str) -> str:
    override = _OVERRIDE.fullmatch(argument)
    values = override and _CHOICES.fullmatch(override["values"])
    if not override or not values or bool(values["head"]) != bool(values["tail"]):
        return argument
    group = override["key"].lstrip("+~").partition("@")[0]
    known = find_field(group)
    if known is not None and known.inner is None:  # a field, not a group
        return argument
    options = [each.strip() for each in values["list"].split(",")]
    if group == "phase" and values["head"] == "[":
        raise ConfigError(
            "A run has one phase.",
            where=argument,
            next_step=f"a sweep over phases: -m {override['key']}={','.join(options)}",
        )
    quoted = [f"'{each}'" if group == "phase" or _NO_TEXT.fullmatch(each) else each for each in options]
    return f"{override['key']}={values['head'] or ''}{','.join(quoted)}{values['tail'] or ''}"


def parse(overrides: Sequence[str], loader: ConfigLoader | None = None) -> list[Override]:
    """Overrides as Hydra parses them; ``glob`` needs Hydra's loader.

    Raises:
        ConfigError: One of them cannot be parsed; it is named.
    """
    parser = OverridesParser.create(config_loader=loader)
    parsed: list[Override] = []
    for override in overrides:
        try:
            parsed += parser.parse_overrides([override])
        except HydraException as error:
            raise translate(error) from error
        except RAISED as error:
            raise unreadable(override, error) from error
    return parsed


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print and end the process with."""
        raise ConfigError(
            "The command line cannot be read.",
            found=message,
            expected="overrides, and of Hydra's flags " + ", ".join(_FLAGS),
            next_step="python -m punie --help",
        )


_FLAGS = ("-m", "--config-dir", "--config-name", "--cfg", "--resolve", "--package", "--info", "--hydra-help")


def _parser() -> argparse.ArgumentParser:
    """Hydra's flags that a run takes, spelled as Hydra spells them."""
    parser = _Parser(add_help=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--run", "-r", action="store_true")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("--config-name", "-cn", default=CONFIG_NAME)
    parser.add_argument("--config-path", "-cp", type=_no_path)
    parser.add_argument("--cfg", "-c", choices=("job", "hydra", "all"))
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--package", "-p")
    parser.add_argument("--info", "-i", nargs="?", const="all")
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument("--shell-completion", "-sc", action="store_true")
    return parser


def _no_path(value: str) -> NoReturn:
    raise ConfigError(
        "--config-path would replace punie's own presets.",
        where=f"--config-path={value}",
        next_step=f"--config-dir={value} adds yours to them",
    )


def _shown(found: argparse.Namespace) -> Iterator[str]:
    for name in ("cfg", "package", "info"):
        if (value := getattr(found, name)) is not None:
            yield f"--{name}={value}"
    for name in ("resolve", "hydra_help", "shell_completion"):
        if getattr(found, name):
            yield f"--{name.replace('_', '-')}"


def _no_override(word: str, arguments: Sequence[str], commands: Collection[str]) -> ConfigError:
    if word in commands:
        rest = " ".join(each for each in arguments if each != word)
        return ConfigError("A command comes first.", where=word, next_step=f"punie {word} {rest}")
    remedy = "a run has no command: python -m punie [OVERRIDE ...]" if word == "run" else None
    return ConfigError(
        "This is neither a command nor an override.",
        where=excerpt(word, 200),
        expected=f"key=value{', or one of ' + ', '.join(commands) if commands else ''}",
        next_step=remedy or did_you_mean(word, list(commands)) or "python -m punie --help",
    )


def refuse_code(arguments: Sequence[str]) -> None:
    """Refuse a command line that makes Hydra instantiate an object by name, or read a pickle.

    ``check.resolve`` refuses this in the config proper, but Hydra creates its callbacks before that.

    Raises:
        ConfigError: An argument has a key that names what to instantiate, or is Hydra's ``_RERUN``.
    """
    for argument in arguments:
        if _NAMES_CODE.search(argument):
            raise instantiates(argument)
        option = argument.partition("=")[0]
        if len(option) > len("--") and _RERUN.startswith(option):  # argparse takes it abbreviated, too
            raise ConfigError(
                "A run is not read from a pickle, which can run code.",
                where=argument,
                next_step="punie reproduce RUN repeats a run, punie resume SWEEP continues a sweep",
            )


def _expanded(overrides: Sequence[str]) -> Iterator[str]:
    """Overrides with ``~`` expanded in the paths that Hydra uses itself; punie expands its own."""
    for line in overrides:
        key, _, text = line.partition("=")
        if key.lstrip("+") not in _PATHS or "~" not in text:
            yield line
            continue
        (override,) = parse([line])
        yield f"{key}={_literal(override.value())}"


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_literal, value))}]"
    text = str(value)
    home = str(Path(text).expanduser()) if text.startswith("~") else text
    return QuotedString(home, Quote.single).with_quotes()
