"""The relations between fields of a config that must hold."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import NamedTuple

from punie.config.fields import did_you_mean, own_fields
from punie.config.schema import Config, LoraConfig
from punie.util.errors import ConfigError
from punie.util.jsonl import excerpt
from punie.util.paths import resource
from punie.util.printable import without_passwords

LONGEST = 200
"""Most bytes in a folder's name; file systems take 255, and temporary names are longer."""


class Rule(NamedTuple):
    """A relation that must hold."""

    key: str
    """The field that is named, with its value."""
    broken: Callable[[Config], object]
    what: str
    remedy: str
    """What to set instead, with the config as ``c``."""


RULES = (
    Rule("lora.save_every", lambda c: c.lora.save_every > c.lora.iters,
         "No checkpoint would be saved.", "lora.save_every={c.lora.iters}"),
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
    Rule("eval.server.url", lambda c: c.eval.server.url and c.eval.backend != "server",
         "The server would not be used.", "eval.backend=server"),
)  # fmt: skip


def broken(config: Config) -> Iterator[ConfigError]:
    """Every relation that does not hold."""
    for rule in RULES:
        if rule.broken(config):
            found = excerpt(
                without_passwords(str(operator.attrgetter(rule.key)(config))).partition("?")[0], 200
            )
            yield ConfigError(rule.what, where=rule.key, found=found, next_step=rule.remedy.format(c=config))
    yield from _places(config)
    fields = own_fields(LoraConfig)
    for key in config.model.recipe.keys() - fields.keys():
        what, near = f"Unknown key model.recipe.{excerpt(key, 200)}.", did_you_mean(str(key), list(fields))
        yield ConfigError(what, expected="a field of lora", next_step=near)
    phases = sorted(path.stem for path in (resource("conf") / "phase").glob("*.yaml")) if config.phase else []
    for outcome in config.phase.outcomes if config.phase else []:
        if outcome.next is not None and outcome.next.split()[:1] not in [[name] for name in phases]:
            yield ConfigError(
                "An outcome leads to a phase that does not exist.",
                where="phase.outcomes",
                found=f"next: {outcome.next!r}",
                expected=f"one of {', '.join(phases)}, followed by overrides",
            )


def _places(config: Config) -> Iterator[ConfigError]:
    """What is wrong with where the model comes from, where the server is, and where the run goes."""
    sources = [key for key in ("embedded", "path", "repo") if getattr(config.model, key)]
    if len(sources) != 1:
        yield ConfigError(
            "The model must come from exactly one place.",
            where="model",
            found=", ".join(sources) or "none",
            expected="one of model.embedded, model.path, model.repo",
            next_step="model=local model.path=FOLDER for a local folder",
        )
    if "?" in (config.eval.server.url or ""):
        yield ConfigError(
            "The server's URL has a query. It is written to the run's files and may hold a secret.",
            where="eval.server.url",
            expected="http://host:port",
            next_step="put credentials into ~/.netrc: machine HOST login USER password PASSWORD",
        )
    parts = config.name.split("/")
    if any(part in ("", ".", "..") or len(part.encode()) > LONGEST for part in parts) or "\\" in config.name:
        yield ConfigError(
            "The name must be a plain folder name.",
            where="name",
            found=excerpt(config.name, 200),
            expected=f"at most {LONGEST} bytes between slashes, no backslash, no empty part, no . or ..",
        )
