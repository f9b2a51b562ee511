"""Run a run's config again from nothing, and compare what came out, digest by digest.

punie reproduce outputs/runs/NAME/ID                  in a temporary store, deleted in the end
punie reproduce outputs/runs/NAME/ID --store DIR      in a store that is kept; DIR must be empty or new

After an interruption the second goes on from what it had finished. Nothing else may be in DIR: what was not
built by the reproduction proves nothing.
Start it where the run was started: relative paths of its config are taken from here. The exit code is 0 if
every artifact came out equal, 1 if one did not, 2 if RUN cannot be run again.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from punie.results.finished import as_written, read_config, read_object
from punie.util.errors import PunieError
from punie.util.plain import parse_json

if TYPE_CHECKING:
    from punie.config.schema import Config
    from punie.results.difference import Change

_TROUBLE = 2
_INTERRUPTED = 130
_MARK = "reproduction.json"
"""In the store: of which run it is the reproduction, and since when."""
_ORDER = ("base", "train", "quantize", "evaluate")
_TIMED = {"trained.json"}
"""Holds speeds beside losses, and where a training was resumed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run's directory")
    parser.add_argument(
        "--store", type=Path, metavar="DIR", help="an empty folder, kept as the new store, or one to go on in"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run again, and print what differs in the environment and in the artifacts."""
    from punie.model import blas

    try:
        config, results, provenance = _read(arguments.run)
        with as_written(arguments.run, "provenance.json"):
            for change in _environment(provenance):
                _warn(change.key, change.a, change.b)
        with _store(arguments.store, _identity(config, results)) as root:
            again = _again(config, root)
        if (was := provenance.get("blas")) and blas.in_use() not in (None, was):
            _warn("blas", was, blas.in_use())  # not known before it has served
        keys_differ, rows = _compare(results, again)
    except PunieError as error:
        error.exit_code = _TROUBLE  # 1 says that something came out otherwise
        raise
    except KeyboardInterrupt:
        if arguments.store is not None:
            raise
        stopped = PunieError(
            "interrupted; what was built is deleted with its temporary store",
            next_step="with --store DIR the same command goes on from what is finished",
        )
        stopped.exit_code = _INTERRUPTED
        raise stopped from None
    print(tabulate(rows, ["artifact", "came out", "what differs"], "simple", disable_numparse=True))
    if keys_differ:
        print("Keys differ: the run was made from something else, such as other data, versions or code.")
    equal = all(state == "equal" for _, state, _ in rows)
    print("Reproduced: every digest is equal." if equal else "Not reproduced.")
    if arguments.store:
        print(f"next: punie store ls --dir {arguments.store}")
    return 0 if equal else 1


def _read(folder: Path) -> tuple[Config, Mapping[str, Any], Mapping[str, Any]]:
    """The run's config, results and provenance.

    Raises:
        PunieError: They are not there, or not those of a finished run of this version.
    """
    results, provenance = (read_object(folder, name) for name in ("results.json", "provenance.json"))
    with as_written(folder):
        if not [(_digests(results, name), entry["key"]) for name, entry in results["artifacts"].items()]:
            raise ValueError("it names no artifacts")
    return read_config(folder), results, provenance


def _environment(provenance: Mapping[str, Any]) -> Sequence[Change]:
    """What is otherwise here and now: punie's code, versions, machine, variables."""
    from punie.results.difference import Side, compare
    from punie.run.capture import capture

    here = capture(argv=[], overrides=[], config_digest="")
    axes = compare(Side("run", {}, provenance), Side("here", {}, here)).axes
    return [*axes["code"], *axes["environment"]]


def _identity(config: Config, results: Mapping[str, Any]) -> str:
    """Digest of what is reproduced: the run's config, wherever its store is, and what it made."""
    from punie.store.keys import digest

    plain = dataclasses.asdict(config)
    del plain["store"]
    return digest("reproduced run", [plain, results["artifacts"]])


@contextlib.contextmanager
def _store(asked: Path | None, run: str) -> Generator[Path]:
    """An empty store, or that of this very reproduction: what is found ready proves nothing."""
    from punie.run.capture import now
    from punie.util.files import write_json

    if asked is None:
        with tempfile.TemporaryDirectory(prefix="punie-reproduce-") as folder:
            yield Path(folder)
        return
    if (asked / _MARK).exists():
        began = _require_own(asked, run)
        print(f"going on in {asked}: what is there was built by this reproduction, begun {began}")
    elif asked.exists() and (not asked.is_dir() or any(asked.iterdir())):
        raise PunieError(
            "The store to reproduce in is not empty.",
            where=asked,
            expected="a new folder: what is found ready there would prove nothing",
        )
    else:
        asked.mkdir(parents=True, exist_ok=True)
        write_json(asked / _MARK, {"schema": 1, "run": run, "began": now()})
    yield asked


def _require_own(root: Path, run: str) -> str:
    """When the reproduction of this store began, whose artifacts are all younger than that.

    Raises:
        PunieError: The store is another run's, or holds what was built before: a copy from elsewhere.
    """
    from datetime import datetime

    from punie.store.artifacts import Store

    try:
        mark = parse_json((root / _MARK).read_bytes())
        same, began = mark["run"] == run, datetime.fromisoformat(mark["began"])
        foreign = [
            artifact
            for artifact in Store(root).artifacts()
            if datetime.fromisoformat(artifact.manifest["created"]) < began
        ]
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise _not_own(root / _MARK, f"{type(error).__name__}: {error}") from None
    if not same:
        raise _not_own(root, "it was begun for another run, or another config or results of it")
    if foreign:
        built = foreign[0].manifest["created"]
        raise _not_own(foreign[0].path, f"built {built}, and the reproduction began {mark['began']}")
    return mark["began"]


def _not_own(where: Path, found: str) -> PunieError:
    return PunieError(
        "What is in this store is not all of this reproduction's own.",
        where=where,
        found=found,
        expected="a new folder, or one in which a reproduction of this very run was interrupted",
    )


def _again(config: Config, root: Path) -> Mapping[str, Any]:
    """The results of the same config, run in another store."""
    from punie.run import pipeline
    from punie.store.artifacts import Store
    from punie.util.progress import Reporter

    config = dataclasses.replace(config, store=dataclasses.replace(config.store, dir=str(root)))
    store = Store(root)
    plan = pipeline.plan(config, store)
    pipeline.run(plan, config, store, Reporter())
    report = plan.artifacts()["report"]
    return json.loads(report.file("results.json").read_text("utf-8"))


def _compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[bool, list[tuple[str, str, str]]]:
    """Whether a key differs, and a row for each artifact: its name, equal or different, and in what."""
    names = dict.fromkeys([*old["artifacts"], *new["artifacts"]])
    order = {stage: place for place, stage in enumerate(_ORDER)}
    rows, keys_differ = [], False
    for name in sorted(names, key=lambda each: (order.get(each.partition(":")[0], len(order)), each)):
        if name not in old["artifacts"] or name not in new["artifacts"]:
            rows.append((name, "different", "only " + ("now" if name in new["artifacts"] else "in the run")))
            continue
        keys_differ |= old["artifacts"][name]["key"] != new["artifacts"][name]["key"]
        before, after = _digests(old, name), _digests(new, name)
        differing = [file for file in before | after if before.get(file) != after.get(file)]
        rows.append((name, "different" if differing else "equal", ", ".join(differing) or "–"))
    return keys_differ, rows


def _digests(results: Mapping[str, Any], name: str) -> dict[str, str]:
    """By file, the digests of an artifact; of an evaluation, whose files hold times, that of its answers."""
    stage, _, target = name.partition(":")
    if stage == "evaluate":
        return {"answers": str((results["targets"][target] if target else results)["answers"])}
    files = results["artifacts"][name]["files"]
    return {file: str(sha256) for file, sha256 in files.items() if file not in _TIMED}


def _warn(name: str, was: object, now: object) -> None:
    print(f"warning: {name} was {_plain(was)} and is {_plain(now)}")


def _plain(value: object) -> str:
    return "absent" if value is None else json.dumps(value)  # ASCII, which no terminal obeys
