"""The strict check of a composed config: all problems in one report.

OmegaConf checks types while Hydra composes. The rest is checked here.
"""

from __future__ import annotations

import dataclasses
import json
import operator
import re
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from punie.config.fields import did_you_mean, find_field, own_fields
from punie.config.schema import OPTIMIZERS, Config, LoraConfig
from punie.config.wording import TARGET, from_omegaconf, instantiates, unknown_key
from punie.util.errors import ConfigError, Problems
from punie.util.jsonl import excerpt
from punie.util.printable import without_passwords

LONGEST = 200
"""Most bytes in a folder's name; file systems take 255, and temporary names are longer."""


class Rule(NamedTuple):
    """A relation between fields that must hold."""

    key: str
    """The field that is named, with its value."""
    broken: Callable[[Config], object]
    what: str
    remedy: str
    """What to set instead, with the config as ``c``."""


RULES = (
    Rule("lora.lr_schedule.arguments",
         lambda c: c.lora.lr_schedule and not c.lora.lr_schedule.fits,
         "The learning-rate schedule does not take these arguments.",
         "{c.lora.lr_schedule.name} takes {c.lora.lr_schedule.takes}, none below 0, steps from 1: "
         "'lora.lr_schedule.arguments={c.lora.lr_schedule.example}', for example"),
    Rule("lora.lr_schedule",
         lambda c: c.lora.lr_schedule and c.lora.optimizer == "adafactor"
         and c.lora.optimizer_config.get("relative_step", True),
         "The schedule would not be used: adafactor finds its own learning rate.",
         "+lora.optimizer_config.relative_step=false, or lora.lr_schedule=null"),
    Rule("lora.optimizer_config",
         lambda c: c.lora.optimizer == "sgd" and (o := c.lora.optimizer_config).get("nesterov") is True
         and (not _above(o.get("momentum", 0), 0) or o.get("dampening", 0) != 0),
         "Nesterov's momentum needs a momentum, and no dampening.",
         "+lora.optimizer_config.momentum=0.9, without dampening"),
    Rule("lora.iters", lambda c: c.lora.iters is None and c.lora.epochs is None,
         "Nothing says how long to train.", "lora.iters=800, or lora.epochs=3"),
    Rule("lora.epochs", lambda c: c.lora.iters is not None and c.lora.epochs is not None,
         "The length of the training is given twice.",
         "lora.iters=null, or lora.epochs=null for {c.lora.iters} iterations"),
    Rule("model.recipe", lambda c: None not in (c.model.recipe.get(n) for n in ("iters", "epochs")),
         "The model's recipe gives the length of the training twice.", "remove iters or epochs"),
    Rule("lora.patience", lambda c: c.lora.patience is not None and c.lora.select == "last",
         "With patience the result is the best checkpoint, not the last.",
         "lora.select=best_val for the loss, or lora.select=best_eval for the score"),
    Rule("lora.num_layers", lambda c: c.lora.num_layers == 0,
         "No layer would be trained.", "set it to 1 or more, or -1 for all"),
    Rule("lora.val_batches", lambda c: c.lora.val_batches == 0,
         "Nothing would be validated.", "set it to 1 or more, or -1 for all"),
    Rule("lora.hosts", lambda c: len(c.lora.hosts) not in (0, c.lora.workers),
         "There must be one host per worker, or none.", "set lora.workers to the number of hosts"),
    Rule("lora.select", lambda c: c.lora.workers > 1 and c.lora.select == "best_eval",
         "Several workers cannot evaluate checkpoints.", "lora.select=best_val, or lora.workers=1"),
    Rule("quantize.recipe", lambda c: c.quantize.recipe and c.quantize.bits is None,
         "A mixed recipe needs bits.", "quantize.bits=4"),
    Rule("eval.stop", lambda c: not all(c.eval.stop),
         "An empty stop text ends every response.", "remove the empty text"),
    Rule("eval.repeats", lambda c: c.eval.repeats > 1 and c.eval.temperature == 0,
         "Repeats at temperature 0 are the same response.", "eval.repeats=1, or eval.temperature above 0"),
    Rule("eval.target", lambda c: c.eval.targets and c.eval.target not in c.eval.targets,
         "The target must be among eval.targets.", "eval.target={c.eval.targets[0]}"),
    Rule("eval.targets", lambda c: len(set(c.eval.targets)) < len(c.eval.targets),
         "A target is named twice.", "name each target once"),
    Rule("ship.criteria", lambda c: not all((x.gain is None) != (x.margin is None) for x in c.ship.criteria),
         "Each criterion has a gain or a margin, and not both.", "{{metric: unwanted, margin: 0.1}}"),
    Rule("ship.criteria", lambda c: len({x.metric for x in c.ship.criteria}) < len(c.ship.criteria),
         "A metric has two criteria.", "one criterion for each metric"),
    Rule("ship.name", lambda c: not c.ship.name.strip(),
         "The preset has no name.", "ship.name=mine"),
    Rule("eval.server.url", lambda c: c.eval.server.url and c.eval.backend != "server",
         "The server would not be used.", "eval.backend=server"),
    Rule("eval.server.api", lambda c: c.eval.server.api != "completions" and c.eval.backend != "server",
         "No server would be used.", "eval.backend=server"),
)  # fmt: skip


def resolve(composed: DictConfig, phases: Callable[[], Collection[str]] | None = None) -> Config:
    """What Hydra composed, without its own ``hydra`` node, as checked, typed objects.

    ``phases`` gives those that an outcome may lead to; None if that is not checked, as for a run of the past.

    Raises:
        Problems: Unknown keys, missing or unresolvable values, wrong types, values out of range or not
            among the choices: all of them in one report.
    """
    problems = list(_structure(OmegaConf.to_container(composed, resolve=False), Config, ""))
    if not problems:
        try:
            config = typing.cast(Config, OmegaConf.to_object(composed))
        except OmegaConfBaseException as error:
            problems = [from_omegaconf(error)]
        else:
            config.store.dir = str(Path(config.store.dir).expanduser())
            problems = [*_values(config, ""), *_broken(config, phases)]
            if not problems:
                return config
    raise Problems("The config cannot be used:", problems, exit_code=ConfigError.exit_code)


def _structure(node: Any, owner: type | None, key: str) -> Iterator[ConfigError]:
    """Unknown keys, missing values, and keys that name code, in the plain values of a node, however deep.

    A mapping stands for the dataclass ``owner``; None where any key is allowed.
    """
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from _structure(item, owner, f"{key}.{index}" if owner is None else key)
    elif isinstance(node, Mapping):
        fields = own_fields(owner) if owner else None
        for name, value in node.items():
            inside = f"{key}.{name}".lstrip(".")
            if name == TARGET:
                yield instantiates(inside)
            elif fields is not None and name not in fields:
                yield unknown_key(inside)
            else:
                yield from _structure(value, fields[name].inner if fields else None, inside)
    elif node == MISSING:
        known = find_field(key)
        yield ConfigError(
            f"{key} has no value.", expected=known and known.describe(), next_step=f"set it: {key}=..."
        )


def _values(node: Any, prefix: str) -> Iterator[ConfigError]:
    """Values out of range or not among the choices, and URLs with a password."""
    for name, known in own_fields(type(node)).items():
        key, value = f"{prefix}{name}", getattr(node, name)
        if known.inner is not None:
            for child in value if isinstance(value, list) else [value]:
                yield from _values(child, f"{key}.") if dataclasses.is_dataclass(child) else ()
        elif not known.allows(value):
            yield ConfigError(f"{key} is out of range.", found=excerpt(value, 200), expected=known.describe())
        elif isinstance(value, str) and (shown := without_passwords(value)) != value:
            yield ConfigError(
                f"{key} holds a user or a password, which would be written to every file of the run.",
                found=shown,
                expected="a URL without them",
                next_step="put a key into an environment variable, and its name into eval.server.api_key_env",
            )


def _broken(config: Config, phases: Callable[[], Collection[str]] | None) -> Iterator[ConfigError]:
    """Every relation that does not hold."""
    for rule in RULES:
        if rule.broken(config):
            found = excerpt(
                without_passwords(str(operator.attrgetter(rule.key)(config))).partition("?")[0], 200
            )
            yield ConfigError(rule.what, where=rule.key, found=found, next_step=rule.remedy.format(c=config))
    yield from _places(config)
    yield from _optimizer(config.lora)
    fields = own_fields(LoraConfig)
    for key in config.model.recipe.keys() - fields.keys():
        what, near = f"Unknown key model.recipe.{excerpt(key, 200)}.", did_you_mean(str(key), list(fields))
        yield ConfigError(what, expected="a field of lora", next_step=near)
    outcomes = config.phase.outcomes if config.phase else []
    leading = [each.next for each in outcomes if each.next is not None]
    if phases is None or not leading:
        return
    known = phases()
    for following in leading:
        if following.split()[:1] not in [[name] for name in known]:
            yield ConfigError(
                "An outcome leads to a phase that does not exist.",
                where="phase.outcomes",
                found=f"next: {following!r}",
                expected=f"one of {', '.join(known)}, followed by overrides",
            )


def _optimizer(lora: LoraConfig) -> Iterator[ConfigError]:
    """Options that the optimizer does not have, or with values of another kind."""
    options = OPTIMIZERS.get(lora.optimizer, {})
    for name, value in lora.optimizer_config.items() if options else ():
        key = f"lora.optimizer_config.{excerpt(name, 200)}"
        if name not in options:
            what, near = f"{lora.optimizer} has no option {excerpt(name, 200)}.", [*options]
            yield ConfigError(
                what, where=key, expected=", ".join(near), next_step=did_you_mean(str(name), near)
            )
        elif not _alike(value, options[name]):
            expected = f"a value such as {json.dumps(options[name])}"
            yield ConfigError(f"{key} is of another type.", found=excerpt(value, 200), expected=expected)
        elif name.startswith("beta") and not all(0 <= each < 1 for each in _listed(value)):
            yield ConfigError(f"{key} is out of range.", found=excerpt(value, 200), expected=">= 0 and < 1")


def _alike(value: object, default: object) -> bool:
    """Whether an option's value is of the kind of its default."""
    if isinstance(default, list):
        numbers = isinstance(value, list) and len(value) == len(default)
        return numbers and all(_alike(each, 0.0) for each in value)
    if isinstance(default, bool) or isinstance(value, bool):
        return type(value) is type(default)
    whole = isinstance(default, int)
    return isinstance(value, int if whole else (int, float)) or (value is None and default is None)


def _listed(value: Any) -> list[float]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _above(value: object, bound: float) -> bool:
    return isinstance(value, (int, float)) and value > bound


def _places(config: Config) -> Iterator[ConfigError]:
    """What is wrong with where model and data come from, where the server is, and where the run goes."""
    sources = [key for key in ("embedded", "path", "package", "repo") if getattr(config.model, key)]
    if len(sources) != 1:
        yield ConfigError(
            "The model must come from exactly one place.",
            where="model",
            found=", ".join(sources) or "none",
            expected="one of model.embedded, model.path, model.package, model.repo",
            next_step="model=local model.path=FOLDER for a local folder",
        )
    if bool(config.data.path) == bool(config.data.repo):
        yield ConfigError(
            "The data must come from exactly one place.",
            where="data",
            found="data.path and data.repo" if config.data.path else "none",
            expected="data.path or data.repo",
            next_step="leave one out: data.repo=null"
            if config.data.path
            else "set it: data.path=FOLDER, or data=hub data.repo=OWNER/NAME",
        )
    if "?" in (config.eval.server.url or ""):
        yield ConfigError(
            "The server's URL has a query. It is written to the run's files and may hold a secret.",
            where="eval.server.url",
            expected="http://host:port",
            next_step="put a key into an environment variable, and its name into eval.server.api_key_env",
        )
    named = config.eval.server.api_key_env
    if named is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", named):
        yield ConfigError(
            "The name of the variable with the API key is none. The key itself must not be in the config.",
            where="eval.server.api_key_env",
            expected="an environment variable's name in capitals, such as OPENAI_API_KEY",
        )
    elif named is not None and not config.eval.server.url:
        yield ConfigError(
            "The API key would not be sent, because no server is named.",
            where=f"eval.server.api_key_env={named}",
            next_step="eval.server.url=https://host, or eval.server.api_key_env=null",
        )
    parts = config.name.split("/")
    if any(part in ("", ".", "..") or len(part.encode()) > LONGEST for part in parts) or "\\" in config.name:
        yield ConfigError(
            "The name must be a plain folder name.",
            where="name",
            found=excerpt(config.name, 200),
            expected=f"at most {LONGEST} bytes between slashes, no backslash, no empty part, no . or ..",
        )
