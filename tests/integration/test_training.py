"""Training through the front door: killed, shared among workers, selected by a score."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from punie.store.keys import file_digest
from tests.conftest import QUICK, World, punie, read_json, reused


def adapter(cwd: Path) -> str:
    """Digest of the only adapter of a store."""
    (path,) = cwd.glob("outputs/store/train/*/adapters.safetensors")
    return file_digest(path)


def validation(run: Path) -> list[float]:
    records = map(json.loads, (run / "train.jsonl").read_text().splitlines())
    return [record["loss"] for record in records if record["kind"] == "valid"]


def wait_for_checkpoint(cwd: Path) -> None:
    deadline = time.monotonic() + 60
    while (
        not list(cwd.glob("outputs/store/.building/train-*/checkpoints/0*")) and time.monotonic() < deadline
    ):
        time.sleep(0.02)


def kill_in_training(cwd: Path, *overrides: str) -> None:
    """Start a run and kill -9 its first process once it has a checkpoint."""
    command = [sys.executable, "-m", "punie", *overrides]
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_checkpoint(cwd)
    process.kill()
    process.wait()


LONG = (*QUICK[1:], "lora.iters=40", "lora.save_every=2", "lora.batch_size=2")


@pytest.mark.slow
@pytest.mark.parametrize("kills", [10, pytest.param(20, marks=pytest.mark.long)])
def test_kills_change_nothing(tmp_path: Path, kills: int) -> None:
    """kill -9 at random moments, each time started again: the adapter of the undisturbed run, digest for
    digest; nothing needs a hand, and nothing is left over."""
    seed = random.randrange(2**32)
    print("seed", seed)  # shown if the test fails
    moments = random.Random(seed)
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    for folder in (calm, stormy):
        folder.mkdir()
    assert punie(*LONG, cwd=calm).code == 0
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-m", "punie", *LONG],
            cwd=stormy,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(moments.uniform(0.5, 4.0))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = punie(*LONG, cwd=stormy)
    assert done.code == 0, done.err
    assert adapter(stormy) == adapter(calm)
    assert not list(stormy.glob("outputs/store/.building/*"))


def test_a_killed_run_goes_on_unasked(tmp_path: Path) -> None:
    """A run killed after its first checkpoint says that it went on from there, and reuses the rest."""
    kill_in_training(tmp_path, *LONG)
    done = punie(*LONG, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "went on from the checkpoint at iteration" in done.err
    assert reused(tmp_path / done.run_directory)["base"]


def test_what_does_not_matter_may_change_between_kill_and_restart(tmp_path: Path) -> None:
    """A neutral field, such as how often the loss is reported, may differ on the second try."""
    kill_in_training(tmp_path, *LONG)
    done = punie(*LONG, "lora.steps_per_report=7", "lora.keep_checkpoints=2", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "went on from the checkpoint at iteration" in done.err


def test_a_killed_run_takes_its_stages_with_it(tmp_path: Path) -> None:
    """A stage in a process of its own ends when its run is killed; the next run ends with the same bytes."""
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    calm.mkdir()
    stormy.mkdir()
    assert punie(*LONG, cwd=calm).code == 0
    kill_in_training(stormy, *LONG, "runtime.isolation=process")
    time.sleep(1)
    (stream,) = stormy.glob("outputs/store/.building/train-*/train.jsonl")
    size = stream.stat().st_size
    time.sleep(1)
    assert stream.stat().st_size == size
    assert punie(*LONG, cwd=stormy).code == 0
    assert adapter(stormy) == adapter(calm)


def test_sigterm_ends_a_stage_in_its_own_process(tmp_path: Path) -> None:
    """The run and its stage's process end within seconds, with the status of an interrupted run."""
    command = [sys.executable, "-m", "punie", *LONG, "lora.iters=2000", "runtime.isolation=process"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_checkpoint(tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=15) == 130
    (status,) = tmp_path.glob("outputs/runs/tiny/*/status.json")
    assert read_json(status)["status"] == "interrupted"


def test_a_sweep_over_the_blas_keeps_its_word(world: World) -> None:
    """In one process only one BLAS can be loaded, so the other choice computes in a process of its own."""
    done = punie("-m", *QUICK, "lora.iters=4", "lora.save_every=4", "runtime.blas=true,false", cwd=world.cwd)
    assert done.code == 0, done.err
    used = {
        manifest["material"]["settings"]["runtime.blas"]: manifest["info"]["blas"]
        for manifest in map(read_json, world.cwd.glob("outputs/store/quantize/*/manifest.json"))
    }
    assert used[False].startswith("reference")
    assert used[True].startswith("OpenBLAS") or sys.platform == "darwin"


def test_two_workers_train_as_one(world: World) -> None:
    """Two processes that share every batch lose what one does, within 1e-4 relative."""
    two = world.run("lora.workers=2")
    assert not reused(two)["train"]
    assert len(validation(two)) == 3
    assert validation(two) == pytest.approx(validation(world.first), rel=1e-4)


def test_a_worker_that_fails_is_shown(world: World) -> None:
    """An error in a worker comes out as the run's error."""
    done = punie(*QUICK, "lora.workers=2", "lora.keys=[nope]", cwd=world.cwd)
    assert done.code == 1
    assert "No layer of the model is adapted" in done.err
    assert "Traceback" not in done.err


def test_the_suite_that_selects_is_not_the_one_that_is_evaluated(world: World) -> None:
    """best_eval scores every checkpoint on another suite, and refuses the evaluated one."""
    run = world.run("lora.select=best_eval")
    assert any('"select"' in line for line in (run / "train.jsonl").read_text().splitlines())
    done = punie(*QUICK, "lora.select=best_eval", "lora.select_suite=core27", cwd=world.cwd)
    assert done.code == 1
    assert "lora.select_suite" in done.err


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("lora.batch_size=5000", ["lora.batch_size", "at most 64"]),
        ("lora.save_every=5000", ["lora.save_every", "lora.save_every=12"]),
        ("lora.num_layers=5", ["lora.num_layers", "at most 4"]),
    ],
)
def test_what_cannot_train_is_refused_before_time_is_spent(
    world: World, override: str, words: list[str]
) -> None:
    """A batch longer than the set, a checkpoint that never comes, more layers than there are."""
    done = punie(*QUICK, override, cwd=world.cwd)
    assert done.code != 0
    assert [word for word in words if word not in done.err] == []
    assert "train      run" not in done.err


def test_changed_data_is_another_training(tmp_path: Path) -> None:
    """A row changed between kill and restart starts anew under another key, and says which file changed."""
    from punie.util.paths import resource

    for name in ("train.jsonl", "valid.jsonl"):
        (tmp_path / name).write_text(
            "\n".join(resource(f"data/code_mode/{name}").read_text().splitlines()[:40]) + "\n"
        )
    options = (*QUICK, "data=jsonl", f"data.path={tmp_path}")
    first = punie(*options, cwd=tmp_path)
    assert first.code == 0, first.err
    lines = (tmp_path / "train.jsonl").read_text().splitlines()
    (tmp_path / "train.jsonl").write_text("\n".join(lines[1:]) + "\n")
    second = punie(*options, cwd=tmp_path)
    assert second.code == 0, second.err
    assert "train      run    data.train.jsonl" in second.err
    assert read_json(tmp_path / second.run_directory / "status.json")["status"] == "finished"
