"""The text of ``python -m punie --help``, printed without importing Hydra."""

from __future__ import annotations

from punie.util.paths import resource

_TEXT = """\
punie: reproducible fine-tuning and evaluation of local tool-calling models on MLX.

Run a pipeline            python -m punie [OVERRIDE ...]
  python -m punie                              the embedded tiny model, about two minutes
  python -m punie +phase=43a model=tiny        a phase, on the tiny model
  python -m punie seed=1 eval.temperature=0.2  change fields; unchanged stages are reused
  python -m punie -m seed=0,1,2 eval.temperature=0.0,0.7      a sweep: every combination

Look before you run
  punie plan [OVERRIDE ...]   cached stages, stages to run and why, disk space
  punie doctor                check this machine
  python -m punie --cfg job   the composed config; --info defaults: the files it comes from

Commands, each with --help
{commands}

Groups and their options: GROUP=OPTION, and +phase=OPTION
{groups}

Set fields by name, such as lora.rank=16 or eval.temperature=0; --cfg job lists them all.
A run writes outputs/runs/<name>/<utc>-<id>/ with report.html, results.json and samples.jsonl.
PUNIE_DEBUG=1 shows tracebacks; --hydra-help explains Hydra's own flags.
"""
_SHOWN = ("phase", "model", "data", "lora", "quantize", "eval")


def text(commands: dict[str, str]) -> str:
    """The help, with the given commands and the groups found in conf/."""
    conf = resource("conf")
    groups = {name: sorted(path.stem for path in (conf / name).glob("*.yaml")) for name in _SHOWN}
    width = max(map(len, commands))
    return _TEXT.format(
        commands="\n".join(f"  punie {name:<{width}} {words}" for name, words in commands.items()),
        groups="\n".join(f"  {name:<10}{', '.join(options)}" for name, options in groups.items()),
    )
