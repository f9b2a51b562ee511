"""The strict check of a composed config, and the wording of what is wrong with it.

Typing catches much while Hydra merges; the rest is here: keys added with ``+``, missing values, ranges,
choices, and fields that contradict each other. All problems are reported together.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from punie.config.schema import Config, EvalConfig, LoraConfig, PhaseConfig
from punie.util.errors import ConfigError, Problems
from punie.util.jsonl import excerpt
from punie.util.paths import resource
from punie.util.printable import without_passwords

TARGET = "_target_"
"""The key under which Hydra looks for the name of what to instantiate."""
LONGEST = 200
"""Bytes of a folder's name; file systems take 255, and temporary ones get an ending."""
_REFUSED = "ValueError raised while resolving interpolation: "


@dataclass(frozen=True)
class Known:
    """One field of the schema."""

    key: str
    """Dotted name, such as ``lora.rank``."""
    hint: Any
    """Its type."""
    about: Mapping[str, Any]
    """What ``schema.option`` recorded: doc, unit, limits, choices, neutral."""

    def describe(self) -> str:
        """The field in a line: type, limits, unit, meaning."""
        return f"{self.takes()}: {self.about.get('doc', '')}"

    def takes(self) -> str:
        """Its values, in a few words: type or choices, limits, unit."""
        listed = typing.get_origin(self.hint) is list
        words = [_type_name(self.hint)]
        if self.about.get("choices"):
            names = ", ".join("null" if c is None else str(c) for c in self.about["choices"])
            words = [f"a list, each one of {names}" if listed else f"one of {names}"]
        elif listed and any(self.about.get(bound) is not None for bound in ("ge", "gt", "le")):
            words = ["a list, each"]
        for bound, sign in (("ge", ">="), ("gt", ">"), ("le", "<=")):
            if self.about.get(bound) is not None:
                words.append(f"{sign} {self.about[bound]:g}")
        if self.about.get("unit"):
            words.append(f"({self.about['unit']})")
        return " ".join(words)

    def allows(self, value: object) -> bool:
        """Whether the value, or each one of a list, is within the limits and among the choices."""
        if isinstance(value, list):
            return all(map(self.allows, value))
        if self.about.get("choices"):
            return value in self.about["choices"]
        if value is None:
            return True
        if not _finite(value):
            return False
        number = typing.cast(float, value)
        bounds = {name: self.about.get(name) for name in ("ge", "gt", "le")}
        return (
            (bounds["ge"] is None or number >= bounds["ge"])
            and (bounds["gt"] is None or number > bounds["gt"])
            and (bounds["le"] is None or number <= bounds["le"])
        )


def schema_fields(cls: type = Config, prefix: str = "") -> Iterator[Known]:
    """Every leaf field of the schema, in order."""
    for known in _level(cls, prefix):
        inner = _dataclass_in(known.hint)
        if inner is None:
            yield known
        else:
            yield from schema_fields(inner, known.key + ".")


def _finite(value: object) -> bool:
    """Whether no number in it, however deep, is infinite or not a number."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    return all(map(_finite, value)) if isinstance(value, list) else True


def find_field(key: str) -> Known | None:
    """The schema's entry of a dotted key, a group or a leaf; list indices are skipped; None if unknown."""
    parts = [part.split("[")[0] for part in key.split(".") if part and not part.isdigit()]
    owner: type | None = Config
    found: Known | None = None
    for part in parts:
        found = next((k for k in _level(owner, "") if k.key == part), None) if owner else None
        if found is None:
            return None
        owner = _dataclass_in(found.hint)
    return found and dataclasses.replace(found, key=key)


def resolve(composed: DictConfig) -> Config:
    """The composed config as checked, typed objects.

    Args:
        composed: What Hydra composed, without its own ``hydra`` node.

    Raises:
        Problems: Unknown keys, missing or unresolvable values, wrong types, values out of range or not
            among the choices: all of them in one report.
    """
    plain = typing.cast(dict[str, Any], OmegaConf.to_container(composed, resolve=False))
    problems = [*map(instantiates, _targets(plain, "")), *_unknown(plain, Config, "")]
    try:
        problems += [
            ConfigError(f"{key} has no value.", expected=_describe(key), next_step=f"set it: {key}=...")
            for key in sorted(OmegaConf.missing_keys(composed))
        ]
        config = None if problems else typing.cast(Config, OmegaConf.to_object(composed))
    except OmegaConfBaseException as error:
        problems.append(from_omegaconf(error))
    else:
        if config is not None:
            problems = [*_limits(config, ""), *_relations(config)]
            if not problems:
                return config
    raise Problems("The config cannot be used:", problems, exit_code=ConfigError.exit_code)


def from_omegaconf(error: OmegaConfBaseException, override: str | None = None) -> ConfigError:
    """An OmegaConf error in punie's form: key, what is wrong, what is expected there.

    Args:
        error: What OmegaConf raised.
        override: The command-line override that led to it, if it is known.
    """
    key = str(getattr(error, "full_key", None) or getattr(error, "key", None) or "")
    message = excerpt(str(getattr(error, "msg", None) or error).splitlines()[0], 300)
    if message.startswith(_REFUSED):
        return ConfigError(f"{key} cannot be resolved.", where=override, found=message.removeprefix(_REFUSED))
    known = find_field(key)
    if known is None and isinstance(error, ValidationError):  # Hydra's own: n_jobs of a launcher
        return ConfigError(f"{key}: {message}.", where=override)
    if known is None and key and "interpolation" not in message.lower():
        return unknown_key(key, override)
    if known is None or "interpolation" in message.lower():
        return ConfigError(message, where=override or key or None)
    return ConfigError(f"{key}: {message}.", where=override, expected=known.describe())


def instantiates(key: str) -> ConfigError:
    """The error for a key that would have an object made by name."""
    return ConfigError(
        "A config cannot name code to run.", where=key, expected="values only: punie instantiates nothing"
    )


def unknown_key(key: str, override: str | None = None) -> ConfigError:
    """The error for a key that the schema does not have, with the nearest one that it has."""
    parent, _, leaf = key.rpartition(".")
    group = find_field(parent)
    if group and typing.get_origin(group.hint) is dict:
        return ConfigError(
            f"{parent} has no {leaf} yet.", where=override, next_step=f"add it with a plus: +{key}=..."
        )
    owner = _dataclass_in(group.hint) if group else (None if parent else Config)
    siblings = (
        {known.key: f"{parent}.{known.key}".lstrip(".") for known in _level(owner, "")} if owner else {}
    )
    everywhere = {known.key.rpartition(".")[2]: known.key for known in schema_fields()}
    suggestion = next(
        (
            names[close[0]]
            for names in (siblings, everywhere)
            if (close := difflib.get_close_matches(leaf, names, 1))
        ),
        None,
    )
    return ConfigError(
        f"Unknown key {excerpt(key, 200)}.",
        where=override,
        expected=f"one of {', '.join(siblings)}" if siblings else None,
        next_step=f"did you mean {suggestion}?"
        if suggestion
        else "python -m punie --cfg job lists every key",
    )


def _level(cls: Any, prefix: str) -> Iterator[Known]:
    for known in _own_fields(cls):
        yield dataclasses.replace(known, key=prefix + known.key) if prefix else known


@functools.cache
def _own_fields(cls: Any) -> tuple[Known, ...]:
    hints = typing.get_type_hints(cls)
    return tuple(Known(field.name, hints[field.name], field.metadata) for field in dataclasses.fields(cls))


def _dataclass_in(hint: Any) -> type | None:
    """The dataclass within a type hint (itself, Optional, list of), else None."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint
    return next((found for arg in typing.get_args(hint) if (found := _dataclass_in(arg))), None)


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [_type_name(arg) for arg in typing.get_args(hint) if arg is not type(None)]
        return " or ".join([*inner, "null"])
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return names.get(hint, "a list" if typing.get_origin(hint) is list else "a mapping")


def _describe(key: str) -> str | None:
    known = find_field(key)
    return known.describe() if known else None


def _targets(node: object, prefix: str) -> Iterator[str]:
    """Every key, however deep, that would have Hydra make an object."""
    items: Iterable[tuple[Any, Any]] = node.items() if isinstance(node, Mapping) else ()
    if isinstance(node, list):
        items = enumerate(node)
    for name, value in items:
        key = f"{prefix}{name}"
        if name == TARGET:
            yield key
        yield from _targets(value, f"{key}.")


def _unknown(node: Mapping[Any, Any], cls: type, prefix: str) -> Iterator[ConfigError]:
    fields = {known.key: known.hint for known in _own_fields(cls)}
    for name, value in node.items():
        if name not in fields and name != TARGET:
            yield unknown_key(f"{prefix}{name}")
        elif (inner := _dataclass_in(fields.get(name))) is not None:
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, Mapping):
                    yield from _unknown(item, inner, f"{prefix}{name}.")


def _limits(node: Any, prefix: str) -> Iterator[ConfigError]:
    for known in _level(type(node), prefix):
        value = getattr(node, known.key.rpartition(".")[2])
        children = value if isinstance(value, list) else [value]
        if any(dataclasses.is_dataclass(child) for child in children):
            for child in children:
                yield from _limits(child, f"{known.key}.")
        elif not known.allows(value):
            yield ConfigError(
                f"{known.key} is out of range.", found=excerpt(value, 200), expected=known.describe()
            )
        elif isinstance(value, str) and (shown := without_passwords(value)) != value:
            yield ConfigError(
                f"{known.key} holds a user or a password, which every record of the run would repeat.",
                found=shown,
                expected="a URL without them",
                next_step="put them into ~/.netrc: machine HOST login USER password PASSWORD",
            )


def _relations(config: Config) -> Iterator[ConfigError]:
    """Checks that involve more than one field."""
    yield from _evaluation(config.eval)
    yield from _tree(config.phase)
    sources = [key for key in ("embedded", "path", "repo") if getattr(config.model, key)]
    if len(sources) != 1:
        yield ConfigError(
            "The model must come from exactly one place.",
            where="model",
            found=", ".join(sources) or "none",
            expected="one of model.embedded, model.path, model.repo",
            next_step="model=local model.path=FOLDER takes a folder of yours",
        )
    known = [field.name for field in dataclasses.fields(LoraConfig)]
    for key in config.model.recipe:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            yield ConfigError(
                f"Unknown key model.recipe.{excerpt(key, 200)}.",
                expected="a field of lora",
                next_step=f"did you mean {near[0]}?" if near else None,
            )
    lora = config.lora
    if lora.save_every > lora.iters:
        yield ConfigError(
            "No checkpoint would ever be saved.",
            where="lora.save_every",
            found=f"every {lora.save_every} of {lora.iters} iterations",
            next_step=f"lora.save_every={lora.iters}",
        )
    if lora.num_layers == 0:
        yield ConfigError(
            "No layer would be trained.", where="lora.num_layers", found=0, expected=">= 1, or -1 for all"
        )
    if lora.val_batches == 0:
        yield ConfigError(
            "Nothing would be validated.", where="lora.val_batches", found=0, expected=">= 1, or -1 for all"
        )
    if lora.hosts and len(lora.hosts) != lora.workers:
        yield ConfigError(
            "Every worker has a host, or none has.",
            where="lora.hosts",
            found=f"{len(lora.hosts)} hosts, {lora.workers} workers",
            next_step=f"lora.workers={len(lora.hosts)}",
        )
    if config.quantize.recipe and config.quantize.bits is None:
        yield ConfigError(
            "A mixed recipe needs bits to mix.", where="quantize.recipe", found=config.quantize.recipe,
            next_step="quantize.bits=4",
        )  # fmt: skip
    if lora.workers > 1 and lora.select == "best_eval":
        yield ConfigError(
            "Workers do not evaluate.",
            where="lora.select=best_eval",
            found=f"lora.workers={lora.workers}",
            next_step="lora.select=best_val, or lora.workers=1",
        )
    parts = config.name.split("/")
    if any(part in ("", ".", "..") or len(part.encode()) > LONGEST for part in parts) or "\\" in config.name:
        yield ConfigError(
            "Name must be a plain folder name.",
            where="name",
            found=excerpt(config.name, 200),
            expected=f"at most {LONGEST} bytes between slashes, and no way out of the folder of runs",
        )


def _tree(phase: PhaseConfig | None) -> Iterator[ConfigError]:
    """Outcomes that lead to a phase there is not."""
    for outcome in phase.outcomes if phase else []:
        known = sorted(path.stem for path in (resource("conf") / "phase").glob("*.yaml"))
        if outcome.next is not None and not any(outcome.next.split()[:1] == [name] for name in known):
            yield ConfigError(
                "An outcome leads to a phase that does not exist.", where="phase.outcomes",
                found=f"next: {outcome.next!r}", expected=f"one of {', '.join(known)}, and overrides of it",
            )  # fmt: skip


def _evaluation(options: EvalConfig) -> Iterator[ConfigError]:
    if any(not text for text in options.stop):
        yield ConfigError("An empty text would stop every answer.", where="eval.stop", found=options.stop)
    if options.repeats > 1 and options.temperature == 0:
        yield ConfigError(
            "Repeats at temperature 0 give the same answer every time and are not samples.",
            where="eval.repeats",
            found=options.repeats,
            next_step="set eval.repeats=1 or eval.temperature above 0",
        )
    if options.targets and options.target not in options.targets:
        yield ConfigError(
            "The target whose score counts is not among the targets.",
            where="eval.target",
            found=options.target,
            expected=f"one of eval.targets: {', '.join(options.targets)}",
            next_step=f"set eval.target={options.targets[-1]}",
        )
    if len(set(options.targets)) < len(options.targets):
        yield ConfigError("A target is named twice.", where="eval.targets", found=options.targets)
    if "?" in (options.server.url or ""):
        yield ConfigError(
            "The server's URL, which is written into the run's files, may hold a secret.",
            where="eval.server.url",
            found="a query",
            expected="http://host:port",
            next_step="put name and password into ~/.netrc: machine HOST login NAME password WORD",
        )
    elif options.backend != "server" and options.server.url:
        yield ConfigError(
            "A server is named and not used.", where="eval.server.url",
            found=without_passwords(options.server.url), next_step="set eval.backend=server",
        )  # fmt: skip
