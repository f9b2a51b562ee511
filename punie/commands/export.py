"""Copy a run's quantized model out of the store, with a model card that carries its scores and digests.

punie export outputs/runs/NAME/ID my-model      then: mlx_lm.generate --model my-model
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from punie.commands.overrides import path_of
from punie.commands.reproduce import plan_again
from punie.results.run import Run
from punie.store.keys import differences
from punie.util.errors import PunieError

if TYPE_CHECKING:
    from punie.results.records import ArtifactFiles
    from punie.store.artifacts import Artifact, Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("run", type=path_of, metavar="RUN", help="a finished run's directory")
    parser.add_argument("out", type=path_of, metavar="DIR", help="the folder to make")
    parser.add_argument("--store", type=path_of, metavar="DIR", help="the store (default: the run's own)")
    words = "build the model again if it is gone; this may train again"
    parser.add_argument("--rebuild", action="store_true", help=words)


def run(arguments: argparse.Namespace) -> int:
    """Export; a model that is gone is first built again, if that is asked for."""
    from punie.store.artifacts import Store
    from punie.store.leases import lease

    out: Path = arguments.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PunieError("The folder to export to is not empty.", where=out, next_step="name a new folder")
    source = Run(arguments.run).require_finished()
    recorded = source.results.artifacts.get("quantize")
    if recorded is None:
        raise PunieError(
            f"The run scored the {source.results.target} model; it has no quantized one to export.",
            where=arguments.run,
            next_step="run it with eval.target=quantized",
        )
    store = Store(arguments.store or source.store)
    with lease(store, "quantize", recorded.key):
        return _export(arguments, source, store, recorded)


def _export(arguments: argparse.Namespace, source: Run, store: Store, recorded: ArtifactFiles) -> int:
    from punie.results.pages.report import model_card
    from punie.util.files import write_text

    out: Path = arguments.out
    artifact = store.find("quantize", recorded.key)
    if artifact is None and not arguments.rebuild:
        raise _missing(arguments, store, source.results.artifacts)
    artifact = artifact or _rebuilt(source, store, recorded.key)
    published = artifact.digests
    if other := differences(published, recorded.files):
        raise PunieError(
            "The model in the store is not the one that was scored.",
            where=artifact.path,
            found=", ".join(name for name, *_ in other),
            next_step="run the same config again, and export that run",
        )
    card = model_card(source, folder=out.name, quantize=artifact.info, files=published)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        made = Path(scratch) / out.name
        made.mkdir()
        for name in published:
            (made / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(artifact.file(name), made / name)
        write_text(made / "README.md", card)
        made.replace(out)  # whole or not at all
    print(f"{out}  {artifact.size / 1e6:.1f} MB, {len(published)} files and README.md")
    print(f"next: python -m mlx_lm generate --model {out} --prompt hello")
    return 0


def _missing(arguments: argparse.Namespace, store: Store, named: Mapping[str, ArtifactFiles]) -> PunieError:
    """The error for a model that is gone: what else is gone, and the command that builds it again."""
    gone = [s for s in ("train", "quantize") if s in named and not store.find(s, named[s].key)]
    again = "fuses and quantizes" if gone == ["quantize"] else "trains, fuses and quantizes"
    command = shlex.join(["punie", "export", str(arguments.run), str(arguments.out), "--rebuild"])
    if arguments.store:
        command += f" --store {shlex.quote(str(arguments.store))}"
    return PunieError(
        "The run's model is not in the store.",
        where=store.root,
        found="no " + " and no ".join(f"{stage}/{named[stage].key}" for stage in gone),
        next_step=f"{command} {again} again; or name another store: --store DIR",
    )


def _rebuilt(source: Run, store: Store, key: str) -> Artifact:
    """The run's model, built again.

    Raises:
        PunieError: Its inputs have changed since, so that it would not be the same model.
    """
    from punie.run import pipeline
    from punie.util.progress import Reporter

    config, plan = plan_again(source, store)
    step = next(step for step in plan.steps if step.stage.name == "quantize")
    if step.key != key:
        raise PunieError(
            "The run's model is not in the store and cannot be built again.",
            where=f"quantize/{key}",
            found=f"the same config now gives {step.key}",
            next_step="run the config again and export that run, or give the run's store: --store DIR",
        )
    pipeline.run(plan, config, store, Reporter(), wanted=("quantize",))
    assert step.artifact is not None  # noqa: S101 - it was wanted
    return step.artifact
