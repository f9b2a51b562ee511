"""Delivery to trackers: it cannot stop, slow or change a run, and what is lost is counted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from punie.__main__ import main
from punie.config import resolve
from punie.config.compose import compose
from punie.config.schema import TrackConfig
from punie.results import files
from punie.results.records import Status
from punie.track import delivery, packages
from punie.track.delivery import Delivery
from punie.train.callbacks import CALLBACKS
from punie.util.errors import PunieError
from tests import trackers

SECRET = "hush-4f1c9d"
Make = Callable[..., Delivery]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a delivery to a tracker of tests/trackers.py, which writes to ``told``."""
    monkeypatch.setattr(delivery, "PATIENCE", 1.0)
    monkeypatch.setattr(delivery, "LONGEST", 3.0)
    monkeypatch.setenv("TEST_API_KEY", SECRET)

    def made(kind: type, **more: str) -> Delivery:
        monkeypatch.setitem(CALLBACKS, "test", f"tests.trackers:{kind.__name__}")
        return Delivery("test", str(tmp_path / "told"), **more)

    return made


def follow_a_run(to: Delivery, folder: Path, records: int) -> float:
    """Tell of a run; returns the seconds that its metrics took."""
    to.run_started(name="x", folder=folder, config={})
    to.reached()
    clock = time.monotonic()
    for it in range(records):
        to.metrics({"kind": "train", "iter": it})
    taken = time.monotonic() - clock
    to.run_ended(status="finished", folder=folder)
    return taken


def children() -> list[psutil.Process]:
    found = [each for each in psutil.Process().children() if each.status() != psutil.STATUS_ZOMBIE]
    return [each for each in found if "spawn_main" in " ".join(each.cmdline())]


def test_a_tracker_gets_every_message_in_order(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own, at a lower priority, of which nothing is left after the run."""
    monkeypatch.setattr(delivery, "PATIENCE", 60.0)
    monkeypatch.setattr(delivery, "LONGEST", 60.0)
    to, before = make(trackers.Counting), children()
    to.run_started(name="x", folder=tmp_path, config={})
    assert to.reached()
    to._heard = 0.0  # long ago, because it was told nothing
    for it in range(300):
        to.metrics({"kind": "train", "iter": it})
    to.run_ended(status="finished", folder=tmp_path)
    nice, *iters = (tmp_path / "told").read_text().split()
    assert iters == [str(it) for it in range(300)]
    assert (int(nice) - psutil.Process().nice(), to.lost, to.told) == (10, 0, 302)
    assert children() == before


@pytest.mark.parametrize(
    ("kind", "lost", "words"),
    [
        (trackers.Stuck, 22, "it took nothing for 1 s"),
        (trackers.Slow, None, "it was not done 3 s after the run"),
        (trackers.Refusing, 22, "ConnectionError: 401 from http://***@host with key ***"),
        (trackers.Failing, 1, "TimeoutError: no answer"),
        (trackers.Dying, 21, "its process ended"),
    ],
)
def test_what_a_tracker_does_not_take_is_counted_and_said(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
    kind: type, lost: int | None, words: str,
) -> None:  # fmt: skip
    """A tracker that hangs, is slow, refuses, fails or dies never holds up the run; the end waits for a
    limited time, says what is missing without secrets, and how to send it again."""
    if kind is not trackers.Stuck:
        monkeypatch.setattr(delivery, "PATIENCE", 60.0)
        monkeypatch.setattr(delivery, "LONGEST", 3.0 if kind is trackers.Slow else 60.0)
    to, clock = make(kind), time.monotonic()
    with caplog.at_level(logging.WARNING):
        taken = follow_a_run(to, tmp_path, 20)
    assert taken < 1.0
    assert time.monotonic() - clock < 60
    assert (to.lost == lost) if lost else (0 < to.lost < 22)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"test did not take {to.lost} of 22 messages: {words}; to send them again: punie")
    assert SECRET not in line
    for left in children():  # it may end what it is at
        left.kill()


def test_the_queue_is_bounded(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics that find too many messages waiting are left out and counted; a run's end is not."""
    monkeypatch.setattr(delivery, "BACKLOG", 5)
    to = make(trackers.Stuck)
    follow_a_run(to, tmp_path, 100)
    assert (to.told, to.left_out, to.lost) == (102, 96, 102)


def test_a_tracker_without_a_process_ends_no_run(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no further process can be started, it counts as lost."""
    monkeypatch.setattr(Delivery, "_start", lambda _: (_ for _ in ()).throw(BlockingIOError("no process")))
    to = make(trackers.Counting)
    follow_a_run(to, tmp_path, 3)
    assert to.lost == 5
    assert "BlockingIOError: no process" in caplog.text


def test_a_job_leaves_alone_what_its_sweep_did_not_reach(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One wait for a dead server is enough for a sweep."""
    job = tmp_path / "jobs/000-abc"
    job.mkdir(parents=True)
    (tmp_path / "plan.json").touch()
    files.write(tmp_path / "status.json", Status(version=1, status="running", untracked=["mlflow"]))
    off, on = delivery.begin(TrackConfig({"mlflow": True, "wandb": True, "trackio": False}), job)
    clock = time.monotonic()
    with caplog.at_level(logging.INFO):
        follow_a_run(off, job, 3)
    assert time.monotonic() - clock < 1
    assert (off.name, off.lost, on.name, on.error) == ("mlflow", 5, "wandb", None)
    assert "the sweep did not reach it" in caplog.text


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the command that installs it; a folder of the same name in the working folder is no package."""
    monkeypatch.setitem(CALLBACKS, "absent", "tests.trackers:Absent")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / str(trackers.Absent.package)).mkdir()
    with pytest.raises(PunieError, match=r"pip install 'punie\[punie_has_no_such_package\]'"):
        packages.require(TrackConfig({"absent": True}))


def test_planning_imports_no_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plan finds the packages, and imports none of them."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in CALLBACKS:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    assert main(["plan", f"track=[{','.join(CALLBACKS)}]"]) == 0
    assert "next: python -m punie 'track=[" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        ([], []),
        (["track=mlflow"], ["mlflow"]),
        (["track=[mlflow,tensorboard]"], ["mlflow", "tensorboard"]),
        (["track=[mlflow,wandb]", "track.trackers.wandb=false"], ["mlflow"]),
    ],
)
def test_trackers_are_chosen_by_the_group(overrides: list[str], names: list[str]) -> None:
    """One or several, off by default."""
    assert packages.chosen(resolve(compose(overrides)).track) == names


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["track=mlfow"], ["mlflow", "did you mean mlflow"]),
        (["track=[mlflow,wandbb]"], ["wandbb", "did you mean wandb"]),
        (["+track.trackers.neptune=true"], ["track.trackers", "one of mlflow"]),
        (["track.project=http://me:pw@host"], ["track.project", "http://***@host"]),
        (["track.uri=http://me:pw@host"], ["track.uri", "MLFLOW_TRACKING_URI"]),
    ],
)
def test_what_is_no_tracker_is_refused(overrides: list[str], words: list[str]) -> None:
    """An unknown one, with the nearest; and an address with a password, without showing it."""
    with pytest.raises(PunieError) as caught:
        resolve(compose(overrides))
    assert [word for word in words if word not in str(caught.value)] == []
