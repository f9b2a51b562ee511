"""Run a run's config again in an empty store, and compare the results digest by digest.

punie reproduce outputs/runs/NAME/ID                  in a temporary store, deleted at the end
punie reproduce outputs/runs/NAME/ID --store DIR      in a store that is kept; DIR must be empty or new

After an interruption, the second form continues. DIR may hold nothing else: only what the reproduction itself
builds proves anything. Start it in the folder in which the run was started: relative paths of its config are
resolved there. The exit code is 0 if every artifact is equal, 1 if one is not, 2 if RUN cannot be run again.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tabulate import tabulate

from punie.commands.overrides import path_of
from punie.results import files
from punie.results.records import Results
from punie.results.run import CONFIG, PROVENANCE, RESULTS, Run, unfinished
from punie.store.artifacts import Store
from punie.store.keys import differences, digest
from punie.util.errors import PunieError
from punie.util.files import write_json
from punie.util.plain import parse_json

if TYPE_CHECKING:
    from punie.config.schema import Config
    from punie.run.plan import Plan

_TROUBLE, _INTERRUPTED = 2, 130
_MARK = "reproduction.json"
"""In the store: which run is reproduced, and since when."""
_TIMED = {"trained.json"}
"""Files that hold times."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("run", type=path_of, metavar="RUN", help="a finished run's directory")
    words = "an empty folder to keep as the new store, or one to continue"
    parser.add_argument("--store", type=path_of, metavar="DIR", help=words)


def run(arguments: argparse.Namespace) -> int:
    """Run again, and print what differs in the environment and in the artifacts."""
    from punie.model import blas
    from punie.results.difference import surroundings
    from punie.run import pipeline
    from punie.run.capture import capture
    from punie.util.progress import Reporter

    try:
        source = Run(arguments.run).require_finished()
        if not source.results.artifacts:
            raise unfinished(source.folder, f"{RESULTS} names no artifacts")
        if not (source.folder / PROVENANCE).exists():
            raise unfinished(source.folder, f"no {PROVENANCE}")
        for each in surroundings(source.provenance, capture(argv=[], overrides=[], config_digest="")):
            _warn(each.key, each.a, each.b)
        kept = arguments.store and contextlib.nullcontext(_kept(arguments.store, source))
        with kept or tempfile.TemporaryDirectory(prefix="punie-reproduce-") as root:
            store = Store(Path(root))
            config, plan = plan_again(source, store)
            pipeline.run(plan, config, store, Reporter())
            again = files.read(plan.artifacts()["report"].file(RESULTS), Results)
        if (was := source.provenance.blas) and blas.in_use() not in (None, was):
            _warn("blas", was, blas.in_use())  # unknown before it is in use
    except PunieError as error:
        error.exit_code = _TROUBLE  # 1 says that something differs
        raise
    except KeyboardInterrupt:
        if arguments.store is not None:
            raise
        stopped = PunieError(
            "interrupted; what was built is deleted with its temporary store",
            next_step="with --store DIR the same command continues from what is finished",
        )
        stopped.exit_code = _INTERRUPTED
        raise stopped from None
    rows = [*_compare(source.results, again)]
    keys = [{name: each.key for name, each in made.artifacts.items()} for made in (source.results, again)]
    print(tabulate(rows, ["artifact", "result", "differing files"], "simple", disable_numparse=True))
    if keys[0] != keys[1]:
        print("Keys differ: the run had other inputs, such as other data, versions or code.")
    equal = all(state == "equal" for _, state, _ in rows)
    print("Reproduced: every digest is equal." if equal else "Not reproduced.")
    if arguments.store:
        print(f"next: punie store ls --dir {arguments.store}")
    return 0 if equal else 1


def _kept(root: Path, source: Run) -> Path:
    """A folder to keep as the store: a new or empty one, or one that this very reproduction began.

    Raises:
        PunieError: It is another run's, or holds anything else, such as artifacts copied from elsewhere.
    """
    from punie.run.capture import now

    config = {name: value for name, value in source.config.values.items() if name != "store"}
    artifacts = {name: each.model_dump() for name, each in source.results.artifacts.items()}
    run = digest("reproduced run", [config, artifacts])
    if not (root / _MARK).exists():
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise PunieError(
                "The store to reproduce in is not empty.",
                where=root,
                expected="a new folder: an artifact that is there already would prove nothing",
            )
        root.mkdir(parents=True, exist_ok=True)
        write_json(root / _MARK, {"schema": 1, "run": run, "began": now()})
        return root
    where, found = root, "it was begun for another run, or for another config or other results of it"
    try:
        mark = parse_json((root / _MARK).read_bytes())
        same, began = mark["run"] == run, datetime.fromisoformat(mark["began"])
        for artifact in Store(root).artifacts():
            built = artifact.manifest["created"]
            if same and datetime.fromisoformat(built) < began:
                same, where = False, artifact.path
                found = f"built {built}, and the reproduction began {began.isoformat()}"
        if same:
            words = f"everything there was built by this reproduction, begun {began.isoformat()}"
            print(f"continuing in {root}: {words}")
            return root
    except (OSError, LookupError, TypeError, ValueError) as error:
        where, found = root / _MARK, f"{type(error).__name__}: {error}"
    raise PunieError(
        "This store does not hold this reproduction alone.",
        where=where,
        found=found,
        expected="a new folder, or one in which a reproduction of this very run was interrupted",
    )


def plan_again(source: Run, store: Store) -> tuple[Config, Plan]:
    """A run's config with another store, and its plan there.

    Raises:
        PunieError: It is no config of this version.
    """
    from punie.run import pipeline

    config = source.config.typed(source.folder / CONFIG)
    config = dataclasses.replace(config, store=dataclasses.replace(config.store, dir=str(store.root)))
    return config, pipeline.plan(config, store)


def _compare(old: Results, new: Results) -> Iterator[tuple[str, str, str]]:
    """A row for each artifact: its name, equal or different, and the files that differ."""
    for name in dict.fromkeys([*old.artifacts, *new.artifacts]):
        if name in old.artifacts and name in new.artifacts:
            differing = [file for file, *_ in differences(_digests(old, name), _digests(new, name))]
        else:
            differing = ["only now" if name in new.artifacts else "only in the run"]
        yield name, "different" if differing else "equal", ", ".join(differing) or "–"


def _digests(results: Results, name: str) -> dict[str, str]:
    """By file, the digests of an artifact; of an evaluation, whose files hold times, of its responses."""
    stage, _, target = name.partition(":")
    if stage == "evaluate":
        return {"responses": (results.targets[target] if target else results).answers}
    return {file: sha for file, sha in results.artifacts[name].files.items() if file not in _TIMED}


def _warn(name: str, was: object, now: object) -> None:
    before, after = ("absent" if value is None else json.dumps(value) for value in (was, now))
    print(f"warning: {name} was {before} and is {after}")  # ASCII: control characters are escaped
