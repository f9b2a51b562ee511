"""What ``python -m punie --help`` prints. Hydra's own help takes half a second to list the groups."""

from __future__ import annotations

from punie.util.paths import resource

_TEXT = """\
punie: fine-tune a local tool-calling model on MLX, and trust the score.

Run a pipeline            python -m punie [OVERRIDE ...]
  python -m punie                              the embedded tiny model, about two minutes
  python -m punie +phase=43a model=tiny        a phase, on the tiny model
  python -m punie seed=1 eval.temperature=0.2  change fields; what is unchanged is reused
  python -m punie -m seed=0,1,2 eval.temperature=0.0,0.7      every combination

Look before you run
  punie plan [OVERRIDE ...]   the stages of a run: hit or miss and why, keys, disk
  punie doctor                Python, device, BLAS, memory, disk, versions, and what to do
  python -m punie --cfg job   the composed config; --info defaults: what it is composed of

Other commands, each with --help
{commands}

Groups and their options: GROUP=OPTION, and +phase=OPTION
{groups}

Fields are set by name, such as lora.rank=16 or eval.temperature=0; --cfg job lists them all.
A run leaves outputs/runs/<name>/<utc>-<id>/ with report.html, results.json and samples.jsonl.
PUNIE_DEBUG=1 shows tracebacks; --hydra-help tells of Hydra's own flags.
"""
_SHOWN = ("phase", "model", "data", "lora", "quantize", "eval")


def text(commands: dict[str, str]) -> str:
    """The help, with the commands given and the groups found in conf/."""
    conf = resource("conf")
    groups = {name: sorted(path.stem for path in (conf / name).glob("*.yaml")) for name in _SHOWN}
    width = max(map(len, commands))
    return _TEXT.format(
        commands="\n".join(f"  punie {name:<{width}} {words}" for name, words in commands.items()),
        groups="\n".join(f"  {name:<10}{', '.join(options)}" for name, options in groups.items()),
    )
