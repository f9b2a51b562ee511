"""Surfaces: overrides of the command line: phases, the grid of a sweep, and a whole config."""

from __future__ import annotations

import functools
import random
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from punie.config import resolve
from punie.config.command import quote_options
from punie.config.compose import compose, prepare
from punie.config.fields import schema_fields
from punie.config.wording import translate
from punie.sweep.compose import grid
from tests.malformed.surface import Surface

KEYS = (
    *(known.key for known in schema_fields()), "model", "data", "lora", "quantize", "eval", "phase", "+phase",
    "++phase", "hydra.run.dir", "hydra/launcher", "+hydra.job.env_set.A", "~lora.rank", "~model", "nope",
    "lora.rnak", "+new.key", "model@eval", "a.b.c.d", "", "+", "~", "lora.", ".rank", "lora..rank",
    "eval.stop[0]",
)  # fmt: skip
VALUES = (
    "1", "0", "-1", "0.7", "true", "null", "tiny", "43a", "45", "45,46", "9999999999999999999999", "1e999",
    "nan",
    "-inf", "0x1f", "1_000", "''", "' '", '"a, b"', "[1,2]", "[]", "{}", "{a: 1}", "{a: {b: [1, {c: 2}]}}",
    "range(1,5)", "range(0,1,0.25)", "range(5,1)", "range(1,5,0)", "range(1,10000000000)",
    "range(0,1e30,0.1)",
    "range(0,1,1e-300)", "range(nan,1)", "range(0,inf)", "range(1,2,nan)", "choice(1,2,3)", "choice()",
    "glob(*)",
    "glob(*,exclude=t*)", "glob([t*,q*])", "interval(0,1)", "shuffle(1,2)", "sort(3,1,2)", "tag(a,1)",
    "int(a)",
    "int('9e9')", "float(1)", "str([1])", "bool(2)", "json_str({a:1})", "extend_list(1)", "${name}",
    "${nope}",
    "${oc.env:HOME}", "${oc.env:}", "${oc.decode:'[1'}", "${oc.create:{a:1}}", "${eval}", "${lora.rank}${",
    "${model.${name}}", "${.rank}", "${..}", "???", "\\", "'", '"', "a b", "a\tb", "\u00e9", "\U0001f600",
    "\x1b[2J",
    "a\nb", "\x00", "\ud800", "\u202e", "%s", "$(true)", "~/x", "../..", "a=b", "a,b,,c", ",", "[1", "{a:",
    "1,2]",
    "[" * 40 + "]" * 40, "[" * 900, "{a:" * 60 + "1" + "}" * 60, "x" * 5_000, "1" * 5_000,
    ",".join("0" * 2_500),
    "(" * 300, "${" * 300, "'" * 500 + "\\'",
)  # fmt: skip
RIGHT = (
    "seed=3", "name=words", "+phase=43a", "model=tiny_dense", "quantize=none", "quantize.bits=4",
    "lora.rank=4",
    "lora.iters=1000", "lora.keys=[a,b]", "lora.lr_schedule={name: cosine_decay, arguments: [1e-4, 100]}",
    "eval.temperature=0.2", "eval.stop=['</s>', \"a, b\"]", "eval.suite=wide270", "eval.top_p=0.9",
    "+data.mix.a=0.5", "store.dir=/tmp/x", "eval.fail_under=0.8", "hydra.run.dir=x", "~data.mix",
)  # fmt: skip
GROUPS = ("model", "data", "lora", "quantize", "eval", "+phase")


def override(rng: random.Random) -> str:
    """A key and a value, either of which may be odd or damaged; at most about 5,000 characters."""
    key = rng.choice(GROUPS) if rng.random() < 0.1 else rng.choice(KEYS)
    text = rng.choice(("", "", "", "+", "++", "~")) + key + "=" + rng.choice(VALUES)
    if rng.random() < 0.2:
        text += rng.choice((",", "", " ", "]", "}")) + rng.choice(VALUES)
    if rng.random() < 0.3:
        at, to = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        piece = rng.choice(
            ("", text[at:to], rng.choice(VALUES)[:50], chr(rng.randrange(1, 0xD7FF)), "=", "@", "${")
        )
        text = text[:at] + piece + text[to if rng.random() < 0.5 else at :]
    return text[:6_000]


def several(rng: random.Random) -> list[str]:
    """A few overrides: right ones, one of them perhaps damaged, and perhaps one that is odd altogether."""
    given = rng.sample(RIGHT, rng.randint(0, 3))
    if given and rng.random() < 0.5:
        at = rng.randrange(len(given[0]) + 1)
        piece = rng.choice(("", "0", "-", ".", "x", "=", "[", "'", "$", ",1"))
        given[0] = given[0][:at] + piece + given[0][at + 1 :]
    if not given or rng.random() < 0.4:
        given.append(override(rng))
    return given


def phase(rng: random.Random) -> list[str]:
    """Ways to name phases, right and wrong."""
    names = ("43a", "45", "46", "033", "1e5", "a.b", "", " ", "'45'", "x" * 500, "\u0663", "43a\n")
    values = ",".join(rng.choice(names) for _ in range(rng.randint(1, 3)))
    prefix = rng.choice(("", "+", "++", "+++", "~"))
    return [prefix + rng.choice(("phase=", "phase", "phase==", "Phase=")) + values]


def command_line(rng: random.Random) -> list[str]:
    """Overrides among flags of Hydra and words, right and wrong, in any order."""
    flags = ("-m", "-cd", "--config-dir=.", "--config-dir", "--config-name=x", "-cn=\u0663", "--cfg", "-i")
    words = (*flags, "--config-path=.", "--help=", "--", "-", "run", "hydra.mode=MULTIRUN", "hydra.mode=''")
    given = [*several(rng), *(rng.choice(words) for _ in range(rng.randint(1, 3)))]
    rng.shuffle(given)
    return given


@functools.cache
def loader() -> ConfigLoader:
    """Hydra's loader over conf/."""
    return ConfigLoaderImpl(config_search_path=create_config_search_path(prepare()))


def _phases(given: list[str], _folder: Path) -> None:
    quoted = quote_options(given)
    if quote_options(quoted) != quoted:
        raise AssertionError("quoted twice")
    try:
        for each in OverridesParser.create(config_loader=loader()).parse_overrides(quoted):
            each.is_sweep_override()
    except HydraException as error:
        raise translate(error) from error


def _grid(given: list[str], _folder: Path) -> None:
    jobs = grid(loader(), {"seed": "0,1"}, quote_options(given))
    if not all(isinstance(line, str) for job in jobs for line in job):
        raise AssertionError("an override that is no text")


def _config(given: list[str], _folder: Path) -> None:
    composed = compose(given)
    resolve(composed)
    OmegaConf.to_container(composed, resolve=True)


SURFACES = (
    Surface("phases", phase, _phases, 1),
    Surface("grids of sweeps", several, _grid, 1),
    Surface("overrides", several, _config, 0),
    Surface("command lines", command_line, _config, 0),
)
