"""What tests share: the front door as a user's process meets it, and one small finished run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a shell that has started the tests with an "&":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what they start and interrupt would inherit it

FIXTURES = Path(__file__).parent / "fixtures"
QUICK = (
    "lora.iters=12",
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


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def run_directory(self) -> Path:
        """The folder that a run names in the end, relative to its working folder."""
        return Path(
            next(line for line in self.out.splitlines() if line.startswith("run directory: ")).split(": ")[1]
        )


def punie(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> Finished:
    """``python -m punie`` in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PUNIE_", "HYDRA_"))} | (
        env or {}
    )
    done = subprocess.run(
        [sys.executable, "-m", "punie", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


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


def answer(key: str, **fields: Any) -> dict[str, Any]:
    """A line of samples.jsonl with every field of one, as given or else of no importance."""
    return {
        "id": key,
        "repeat": 0,
        "category": "git",
        "prompt": f"do {key}",
        "prompt_sha256": "0" * 64,
        "prompt_tokens": 3,
        "expect": [{"tool": "git_status", "arguments": {}}],
        "match": "any",
        "missing": None,
        "output": "words",
        "tokens": [1],
        "output_tokens": 1,
        "logprobs": None,
        "finish_reason": "stop",
        "seconds": 0.1,
        "wrapper": False,
        "opening": None,
        "blocks": [],
        "calls": [],
        "execution": None,
        "scores": {name: {"value": 0.0, "reason": "no call"} for name in ("keyword", "strict")},
        "taxonomy": "no call",
    } | fields
