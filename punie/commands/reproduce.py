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
from collections.abc import Generator
from datetime import datetime
from pathlib import Path

from tabulate import tabulate

from punie.results.records import Provenance, Results
from punie.results.run import CONFIG, PROVENANCE, RESULTS, Run, unfinished
from punie.util.errors import PunieError
from punie.util.plain import parse_json

_TROUBLE = 2
_INTERRUPTED = 130
_MARK = "reproduction.json"
"""In the store: which run is reproduced, and since when."""
_TIMED = {"trained.json"}
"""Files that hold times."""
_SURROUNDINGS = {"git", "packages", "python", "machine", "environment"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run's directory")
    parser.add_argument(
        "--store",
        type=Path,
        metavar="DIR",
        help="an empty folder to keep as the new store, or one to continue",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run again, and print what differs in the environment and in the artifacts."""
    from punie.model import blas

    try:
        source = Run(arguments.run).require_finished()
        if not source.results.artifacts:
            raise unfinished(source.folder, f"{RESULTS} names no artifacts")
        if not (source.folder / PROVENANCE).exists():
            raise unfinished(source.folder, f"no {PROVENANCE}")
        for name, was, now in _environment(source.provenance):
            _warn(name, was, now)
        with _store(arguments.store, _identity(source)) as root:
            again = _again(source, root)
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
    rows = _compare(source.results, again)
    print(tabulate(rows, ["artifact", "result", "differing files"], "simple", disable_numparse=True))
    if _keys(source.results) != _keys(again):
        print("Keys differ: the run had other inputs, such as other data, versions or code.")
    equal = all(state == "equal" for _, state, _ in rows)
    print("Reproduced: every digest is equal." if equal else "Not reproduced.")
    if arguments.store:
        print(f"next: punie store ls --dir {arguments.store}")
    return 0 if equal else 1


def _environment(was: Provenance) -> list[tuple[str, object, object]]:
    """What differs here and now: punie's code, versions, machine, environment variables."""
    from punie.run.capture import capture
    from punie.store.keys import differences

    here = capture()
    before, after = (each.model_dump(mode="json", include=_SURROUNDINGS) for each in (was, here))
    return [(name.replace("/", "."), *values) for name, *values in differences(before, after)]


def _identity(source: Run) -> str:
    """Digest of what is reproduced: the run's config without its store, and its artifacts."""
    from punie.store.keys import digest

    config = {name: value for name, value in source.config.values.items() if name != "store"}
    artifacts = {name: each.model_dump() for name, each in source.results.artifacts.items()}
    return digest("reproduced run", [config, artifacts])


@contextlib.contextmanager
def _store(asked: Path | None, run: str) -> Generator[Path]:
    """An empty store, or that of this very reproduction."""
    from punie.run.capture import now
    from punie.util.files import write_json

    if asked is None:
        with tempfile.TemporaryDirectory(prefix="punie-reproduce-") as folder:
            yield Path(folder)
        return
    if (asked / _MARK).exists():
        began = _require_own(asked, run)
        print(f"continuing in {asked}: everything there was built by this reproduction, begun {began}")
    elif asked.exists() and (not asked.is_dir() or any(asked.iterdir())):
        raise PunieError(
            "The store to reproduce in is not empty.",
            where=asked,
            expected="a new folder: an artifact that is there already would prove nothing",
        )
    else:
        asked.mkdir(parents=True, exist_ok=True)
        write_json(asked / _MARK, {"schema": 1, "run": run, "began": now()})
    yield asked


def _require_own(root: Path, run: str) -> str:
    """When the reproduction of this store began; all of its artifacts are younger.

    Raises:
        PunieError: The store is another run's, or holds artifacts copied from elsewhere.
    """
    from punie.store.artifacts import Store

    where, found = root, "it was begun for another run, or for another config or other results of it"
    try:
        mark = parse_json((root / _MARK).read_bytes())
        same, began = mark["run"] == run, datetime.fromisoformat(mark["began"])
        for artifact in Store(root).artifacts():
            built = artifact.manifest["created"]
            if same and datetime.fromisoformat(built) < began:
                same, where = False, artifact.path
                found = f"built {built}, and the reproduction began {mark['began']}"
    except (OSError, LookupError, TypeError, ValueError) as error:
        same, where, found = False, root / _MARK, f"{type(error).__name__}: {error}"
    if same:
        return mark["began"]
    raise PunieError(
        "This store does not hold this reproduction alone.",
        where=where,
        found=found,
        expected="a new folder, or one in which a reproduction of this very run was interrupted",
    )


def _again(source: Run, root: Path) -> Results:
    """The results of the same config, run in another store."""
    from punie.results import files
    from punie.run import pipeline
    from punie.store.artifacts import Store
    from punie.util.progress import Reporter

    config = source.config.typed(source.folder / CONFIG)
    config = dataclasses.replace(config, store=dataclasses.replace(config.store, dir=str(root)))
    store = Store(root)
    plan = pipeline.plan(config, store)
    pipeline.run(plan, config, store, Reporter())
    return files.read(plan.artifacts()["report"].file(RESULTS), Results)


def _keys(results: Results) -> dict[str, str]:
    return {name: each.key for name, each in results.artifacts.items()}


def _compare(old: Results, new: Results) -> list[tuple[str, str, str]]:
    """A row for each artifact: its name, equal or different, and the files that differ."""
    rows = []
    for name in dict.fromkeys([*old.artifacts, *new.artifacts]):
        if name not in old.artifacts or name not in new.artifacts:
            rows.append((name, "different", "only " + ("now" if name in new.artifacts else "in the run")))
            continue
        before, after = _digests(old, name), _digests(new, name)
        differing = [file for file in before | after if before.get(file) != after.get(file)]
        rows.append((name, "different" if differing else "equal", ", ".join(differing) or "–"))
    return rows


def _digests(results: Results, name: str) -> dict[str, str]:
    """By file, the digests of an artifact; of an evaluation, whose files hold times, of its responses."""
    stage, _, target = name.partition(":")
    if stage == "evaluate":
        return {"responses": (results.targets[target] if target else results).answers}
    return {file: sha for file, sha in results.artifacts[name].files.items() if file not in _TIMED}


def _warn(name: str, was: object, now: object) -> None:
    print(f"warning: {name} was {_plain(was)} and is {_plain(now)}")


def _plain(value: object) -> str:
    return "absent" if value is None else json.dumps(value)  # ASCII: control characters are escaped
