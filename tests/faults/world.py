"""The undisturbed runs that every other run is compared to, and folders to run in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from punie.store.artifacts import Store
from punie.util.files import write_json
from punie.util.paths import resource
from tests.conftest import read_json
from tests.faults import forks

STAGES = ("preflight", "base", "train", "quantize", "evaluate", "report")
_ORDER = ("preflight", "tokens", *STAGES[1:])
BEHIND: dict[str, tuple[str, ...]] = {"preflight": ()} | {
    stage: _ORDER[: _ORDER.index(stage)] for stage in STAGES[1:]
}
"""What the store holds when a stage begins; preflight makes the tokens too."""
QUICK = (
    *("data=jsonl", "data.path=data", "lora.iters=4", "lora.save_every=2", "lora.steps_per_eval=2"),
    *("lora.val_batches=1", "eval.suite=suite.jsonl", "eval.max_tokens=8", "quantize.fidelity_rows=0"),
    *("lora.batch_size=2", "eval.lock.temperatures=[]"),
)
"""A run of about two seconds."""
AXES = ("-m", "seed=0,1", "eval.temperature=0.0,0.7")
"""A sweep of four jobs and two trainings; its second job is that run."""
_ROWS = 60
_PROMPTS = 2


@dataclass(frozen=True)
class Place:
    """A working folder."""

    cwd: Path

    @property
    def store(self) -> Store:
        """Its artifacts."""
        return Store(self.cwd / "outputs" / "store")

    def start(self, *arguments: str, first: Callable[[], object] | None = None) -> forks.Attempt:
        """Begin a run, or whatever command line is given.

        Args:
            *arguments: The command line; none is a quick run.
            first: Called in the run's process before anything else.
        """
        return self.fork(forks.front_door(*(arguments or QUICK)), first)

    def fork(
        self, work: Callable[[], int], first: Callable[[], object] | None = None, name: str = ""
    ) -> forks.Attempt:
        """Begin any function in a process of its own, in this folder; the name keeps outputs apart."""

        def whole() -> int:
            if first is not None:
                first()
            return work()

        return forks.start(whole, self.cwd, self.cwd.with_name(f"{self.cwd.name}{name}.out"))

    def run(self, *arguments: str, first: Callable[[], object] | None = None) -> forks.Ended:
        """Run to the end."""
        return self.start(*arguments, first=first).wait()

    def runs(self, status: str | None = None) -> list[Path]:
        """Directories of single runs, newest last; those of one status."""
        found = sorted(path.parent for path in self.cwd.glob("outputs/runs/*/*/status.json"))
        return [run for run in found if status in (None, read_json(run / "status.json")["status"])]

    def sweeps(self) -> list[Path]:
        """Folders of sweeps that have a plan."""
        return sorted(path.parent for path in self.cwd.glob("outputs/sweeps/*/*/plan.json"))

    def building(self, stage: str) -> bool:
        """Whether a stage is being built, or was when its process was killed."""
        return any(next(self.store.root.glob(f"{at}.building/{stage}-*"), None) for at in ("", f"{stage}/"))


@dataclass(frozen=True)
class World:
    """What was made undisturbed, below one folder."""

    folder: Path
    calm: Place
    """A sweep and a run: each stage that a seed decides has two artifacts or more."""

    def key(self, stage: str) -> str:
        """That of the run with seed 0."""
        return self.artifacts[stage]["key"]

    @property
    def artifacts(self) -> dict[str, Any]:
        """Key and digests of each artifact behind the report of seed 0, and of the report itself."""
        return read_json(self.folder / "artifacts.json")

    def seconds(self, stage: str) -> float:
        """How long a stage took undisturbed."""
        return read_json(self.calm.store.root / stage / self.key(stage) / "manifest.json")["seconds"]

    def place(self, name: str, stages: Collection[str] = (), *, copied: Collection[str] = ()) -> Place:
        """A folder with a store of some of the undisturbed run's stages.

        Args:
            name: The folder's.
            stages: Linked: an artifact is never written to, and one that is would be found out here.
            copied: These are copies, to be damaged; with the artifacts of seed 1.
        """
        cwd = self.folder / "places" / name
        shutil.rmtree(cwd, ignore_errors=True)
        cwd.mkdir(parents=True)
        inputs(cwd)
        store = self.calm.store.root
        for stage in {*stages, *copied}:
            for source in (store / stage).iterdir():
                other = stage not in ("tokens", *copied) and source.name != self.key(stage)
                if not other:
                    copy = shutil.copy2 if stage in copied else os.link
                    target = cwd / "outputs" / "store" / stage / source.name
                    shutil.copytree(source, target, copy_function=copy)
        return Place(cwd)


def make(folder: Path) -> World:
    """The world below a folder; its runs are made if they are not there yet."""
    world = World(folder, Place(folder / "calm"))
    if (folder / "artifacts.json").exists():
        return world
    shutil.rmtree(world.calm.cwd, ignore_errors=True)
    world.calm.cwd.mkdir(parents=True)
    inputs(world.calm.cwd)
    for command in ((*AXES, *QUICK), QUICK):
        ended = world.calm.run(*command)
        assert ended.code == 0, ended.text
    run = world.calm.runs()[0]
    steps = {step["stage"]: step["key"] for step in read_json(run / "status.json")["stages"]}
    store = world.calm.store
    found = {stage: {"key": key, "files": _files(store, stage, key)} for stage, key in steps.items()}
    write_json(folder / "artifacts.json", found | {"answers": read_json(run / "results.json")["answers"]})
    return world


def inputs(cwd: Path) -> None:
    """A few rows of the embedded data, and a suite of a few prompts."""
    (cwd / "data").mkdir()
    for name in ("train.jsonl", "valid.jsonl"):
        lines = resource(f"data/code_mode/{name}").read_text("utf-8").splitlines()[:_ROWS]
        (cwd / "data" / name).write_text("\n".join(lines) + "\n")
    suite = resource("data/suites/core27.jsonl").read_text("utf-8").splitlines()[:_PROMPTS]
    (cwd / "suite.jsonl").write_text("\n".join(suite) + "\n")


def _files(store: Store, stage: str, key: str) -> dict[str, str]:
    artifact = store.find(stage, key)
    assert artifact is not None
    return {name: entry["sha256"] for name, entry in artifact.manifest["files"].items()}
