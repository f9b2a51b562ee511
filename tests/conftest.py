"""What tests share: the front door as a user's process meets it, and one small finished run."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from punie.model import blas
from tests.processes import punie

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a shell that has started the tests with an "&":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what they start and interrupt would inherit it

blas.activate()  # before any test imports mlx

_MEMORY = Path("/dev/shm")
"""A filesystem in memory. A run waits for the disk whenever it publishes something."""
_ROOM = 4 * 2**30
if (
    os.access(_MEMORY, os.W_OK)
    and not os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC
    and shutil.disk_usage(_MEMORY).free > _ROOM
):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))  # where tmp_path is; --basetemp overrules it

FIXTURES = Path(__file__).parent / "fixtures"
QUICK = (
    "lora.iters=12",
    "lora.batch_size=2",
    "lora.steps_per_eval=6",
    "lora.save_every=6",
    "lora.val_batches=2",
    f"data.path={FIXTURES / 'data'}",
    "data.expected_train=null",
    "data.expected_valid=null",
    "quantize.fidelity_rows=4",
    f"eval.suite={FIXTURES / 'suite7.jsonl'}",
)
"""Overrides that make a run short: 64 examples, 7 prompts of up to 32 tokens, and 12 minibatches, of which it
learns little; that is not the point of these tests."""
BRIEF = ("eval.max_tokens=1", "eval.lock.temperatures=[]", "quantize.fidelity_rows=0")
"""Overrides that leave little to do but the training."""
LEAST = (*QUICK, *BRIEF, "lora.iters=1", "lora.save_every=1", "lora.batch_size=1", "lora.val_batches=1")
"""Every stage of a run, of which nothing is looked at but that it was done."""


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def reused(run: Path) -> dict[str, bool]:
    """Which stages of a run came from the store."""
    return {step["stage"]: step["reused"] for step in read_json(run / "status.json")["stages"]}


@dataclass(frozen=True)
class World:
    """A working folder in which one short run has finished."""

    cwd: Path
    first: Path
    """That run's directory."""

    def run(self, *overrides: str, quick: Sequence[str] = QUICK) -> Path:
        """Run again with other overrides; returns the run directory."""
        done = punie(*quick, *overrides, cwd=self.cwd)
        assert done.code == 0, done.err
        return self.cwd / done.run_directory


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One short run of the default pipeline, from an empty store."""
    cwd = tmp_path_factory.mktemp("world")
    done = punie(*QUICK, cwd=cwd)
    assert done.code == 0, done.err
    return World(cwd, cwd / done.run_directory)
