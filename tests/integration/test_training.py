"""Training through the front door: killed, extended, shared among workers, selected by a score."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from punie.store.keys import file_digest
from punie.util.paths import PACKAGE, resource
from tests.conftest import BRIEF, LEAST, QUICK, World, read_json, reused
from tests.processes import Started, punie, start


def adapter(cwd: Path) -> str:
    """Digest of the only adapter of a store."""
    (path,) = cwd.glob("outputs/store/train/*/adapters.safetensors")
    return file_digest(path)


def validation(run: Path) -> list[float]:
    records = map(json.loads, (run / "train.jsonl").read_text().splitlines())
    return [record["loss"] for record in records if record["kind"] == "valid"]


ITERS = 24
LONG = (
    *QUICK,
    *BRIEF,
    f"lora.iters={ITERS}",
    "lora.save_every=2",
    "lora.steps_per_eval=50",
    "eval.target=adapter",
)


def checkpoint(cwd: Path) -> int:
    """Iteration of the newest checkpoint of the training that is being built; 0 if there is none."""
    found = cwd.glob("outputs/store/.building/train-*/checkpoints/0*/resume.json")
    return max((int(path.parent.name) for path in found), default=0)


def train(cwd: Path, *overrides: str, reach: int) -> Started:
    """Start a run, and return once its training has a checkpoint at iteration ``reach`` or later."""
    process = start(*overrides, cwd=cwd)
    deadline = time.monotonic() + 240
    while checkpoint(cwd) < reach:
        assert process.code is None, "the run ended before it had the checkpoint"
        assert time.monotonic() < deadline, "no checkpoint"
        time.sleep(0.005)
    return process


def kill_in_training(cwd: Path, *overrides: str, reach: int, group: bool) -> int:
    """Kill -9 a run, with all its processes or alone, in its training; returns the last checkpoint."""
    process = train(cwd, *overrides, reach=reach)
    process.signal(signal.SIGKILL, group=group)
    assert process.wait().code == -signal.SIGKILL
    deadline = time.monotonic() + 30
    while _alive(process.pid):
        assert time.monotonic() < deadline, "its stage's process goes on"
        time.sleep(0.05)
    assert not list(cwd.glob("outputs/store/train/*/manifest.json")), "the training had ended"
    return checkpoint(cwd)


def _alive(group: int) -> bool:
    """Whether a process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "iters"), [(2, ITERS), pytest.param(20, 400, marks=pytest.mark.long)])
def test_kills_change_nothing(tmp_path: Path, kills: int, iters: int) -> None:
    """A training that is killed several times resumes each time from its last checkpoint, also if a neutral
    field has changed, and ends with the undisturbed run's bytes; nothing is left over. A run that is killed
    takes its stage's process with it."""
    options, calm = (*LONG, f"lora.iters={iters}"), tmp_path / "calm"
    calm.mkdir()
    done = punie(*options, cwd=calm)
    assert done.code == 0, done.err
    moments, last = random.Random(16), 0
    for left in range(kills, 0, -1):
        apart = left == kills
        own = (*options, "runtime.isolation=process") if apart else options
        saves = (iters - last) // 2 // (left + 1)  # what is left for each kill, and for the end
        reach = last + 2 * moments.randint(1, max(1, saves))
        killed = kill_in_training(tmp_path, *own, reach=reach, group=not apart)
        assert killed > last  # it did not begin again
        last = killed
    done = punie(*options, "lora.steps_per_report=7", "lora.keep_checkpoints=2", cwd=tmp_path)
    assert done.code == 0, done.err
    assert f"resumed from the checkpoint at iteration {last}" in done.err
    assert reused(tmp_path / done.run_directory)["base"]
    assert adapter(tmp_path) == adapter(calm)
    assert not list(tmp_path.glob("outputs/store/.building/*"))


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGTERM in training, in a process of its own: both end within seconds, with status interrupted, exit
    code 130 and nothing half-written; a run after it works."""
    process = train(tmp_path, *LONG, "lora.iters=2000", "runtime.isolation=process", reach=2)
    process.signal(signal.SIGTERM, group=False)
    stopped = process.wait(timeout=60)
    assert stopped.code == 130
    assert "interrupted" in stopped.err
    assert "Traceback" not in stopped.err
    (status,) = tmp_path.glob("outputs/runs/tiny/*/status.json")
    assert read_json(status)["status"] == "interrupted"
    assert not list(tmp_path.glob("outputs/store/train/*"))
    done = punie(*LONG, "eval.target=base", cwd=tmp_path)
    assert done.code == 0
    assert "preflight  reused" in done.err


def test_a_method_and_a_callback_that_are_added_take_part(world: World, tmp_path: Path) -> None:
    """A method trains through the front door under a key of its own, with its own loss; a callback gets the
    four events in order, also from a stage in its own process; one that raises changes nothing."""
    shutil.copytree(world.cwd / "outputs/store", tmp_path / "outputs/store")
    command = [sys.executable, str(Path(__file__).with_name("additions.py")), *QUICK, *BRIEF]
    command += [f"+track.trackers.{name}=true" for name in ("broken", "events")]
    done = subprocess.run(
        [*command, "lora.method=doubled", "runtime.isolation=process", "eval.target=adapter"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("broken did not take ") == 1
    assert "messages: RuntimeError: the tracker is down; to send them again: punie track" in done.stderr
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert events[0] == ["run started", "tiny", True, "doubled"]
    assert events[-1] == ["run ended", "finished", True]
    assert [event for event in events if event[0] == "stage ended"] == [
        ["stage ended", stage, True, reused]
        for stage, reused in (
            ("preflight", True), ("base", True), ("train", False), ("evaluate", False), ("report", False),
        )
    ]  # fmt: skip
    at = events.index(["stage ended", "base", True, True]) + 1
    marks = [("valid", 0), ("valid", 6), ("train", 10), ("train", 12), ("valid", 12)]
    assert events[at : at + 5] == [["metrics", *mark] for mark in marks]
    (run,) = tmp_path.glob("outputs/runs/tiny/*")
    assert validation(run)[0] == pytest.approx(2 * validation(world.first)[0], rel=1e-5)
    keys = [path.name for path in (tmp_path / "outputs/store/train").iterdir()]
    assert len(keys) == 1 + len(list((world.cwd / "outputs/store/train").iterdir()))


def test_a_sweep_over_the_blas_keeps_its_word(world: World) -> None:
    """In one process only one BLAS can be loaded, so the other choice computes in a process of its own."""
    done = punie("-m", *LEAST, "eval.target=base", "runtime.blas=true,false", cwd=world.cwd)
    assert done.code == 0, done.err
    used = {
        manifest["material"]["settings"]["runtime.blas"]: manifest["info"]["blas"]
        for manifest in map(read_json, world.cwd.glob("outputs/store/evaluate/*/manifest.json"))
    }
    assert used[False].startswith("reference")
    assert used[True].startswith("OpenBLAS") or sys.platform == "darwin"


def test_two_workers_train_as_one(world: World) -> None:
    """Two processes that share every batch lose what one does, within 1e-4 relative."""
    two = world.run("lora.workers=2", "lora.iters=6", "eval.target=adapter", *BRIEF)
    assert not reused(two)["train"]
    assert len(validation(two)) == 2
    assert validation(two) == pytest.approx(validation(world.first)[:2], rel=1e-4)


def test_the_suite_that_selects_is_not_the_one_that_is_evaluated(world: World, tmp_path: Path) -> None:
    """best_eval scores every checkpoint on another suite."""
    suite = resource("data/suites/select52.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "select2.jsonl").write_text("".join(suite[:2]))
    asked = ("lora.select=best_eval", f"lora.select_suite={tmp_path}/select2.jsonl", "eval.target=adapter")
    run = world.run(*asked, "lora.iters=2", "lora.save_every=1", quick=LEAST)
    assert (run / "train.jsonl").read_text().count('"select"') == 2


def test_patience_ends_a_run_early_and_says_so(world: World) -> None:
    """The planned length is said first; what ended the training, at the terminal, in results and reports."""
    rising = "lora.lr_schedule={name: linear_schedule, arguments: [1e-3,0.3,4]}"
    asked = ("lora.iters=null", "lora.epochs=1", "lora.batch_size=4", "lora.patience=1", "lora.save_every=2")
    done = punie(
        *QUICK, *BRIEF, *asked, rising, "lora.grad_accumulation_steps=2", "eval.target=adapter", cwd=world.cwd
    )
    assert done.code == 0, done.err
    run = world.cwd / done.run_directory
    found = read_json(run / "results.json")["training"]
    assert found["iters"] == found["selected_iter"] + 2 < found["planned_iters"] == 16
    why = f"no lower validation loss in 1 checkpoint after iteration {found['selected_iter']}"
    assert found["stopped"] == why
    assert (
        "  16 iterations, 8 optimizer steps: 1 epoch of 64 examples; it stops after 1 checkpoint" in done.err
    )
    assert f"stopped at iteration {found['iters']} of 16: {why}, whose weights are the result" in done.err
    sentence = f"raining stopped at iteration {found['iters']} of 16: {why}"
    assert [
        sentence in text for text in (done.out, *(path.read_text() for path in run.glob("report.*")))
    ] == [True] * 3
