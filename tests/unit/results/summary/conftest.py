"""Run folders made by hand: tiny, of every kind, and as many as are asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from punie.results import files
from punie.results.scoring import summary
from punie.results.sweep import SweepPlan
from tests.unit.results.made import IDENTITY, results, sample

CONFIG: dict[str, Any] = {
    "name": "hand",
    "seed": 0,
    "model": {"name": "tiny"},
    "data": {"name": "code_mode", "path": "data/code_mode"},
    "lora": {"rank": 8, "scale": 20.0, "iters": 4, "seed": 0},
    "quantize": {"bits": 5},
    "eval": {"suite": "four", "target": "quantized", "temperature": 0.0, "repeats": 1, "seed": 0},
    "phase": None,
    "store": {"dir": "outputs/store"},
}


def changed(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The config with other values, by dotted name."""
    config = json.loads(json.dumps(CONFIG))
    for key, value in overrides.items():
        node, _, leaf = key.rpartition(".")
        (config[node] if node else config)[leaf] = value
    return config


def dotted(overrides: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("__", "."): value for key, value in overrides.items()}


def make_runs(folder: Path, *runs: Mapping[str, Any], **common: Any) -> Path:
    """A folder of runs, each with its own settings and the common ones."""
    for number, run in enumerate(runs):
        settings: dict[str, Any] = {"answers": {"x": 1.0}, **common, **run}
        make_run(folder / f"{number}", **settings)
    return folder


def make_run(
    folder: Path,
    answers: Mapping[str, float | list[float]],
    *,
    status: str = "finished",
    error: str | None = None,
    suite: str = "four",
    lock: float | None = None,
    base: str = "b" * 64,
    category: str = "git",
    **overrides: Any,
) -> Path:
    """A run whose prompts score as given, once for each repeat; dots in names of overrides are ``__``."""
    config = changed(dotted(overrides) | {"eval.suite": suite})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "status.json").write_text(json.dumps({"schema": 1, "status": status, "error": error}))
    if status != "finished":
        return folder
    samples = [
        sample(
            name, value, "words", repeat=repeat, category=category,
            scores={
                "keyword": {"value": max(value, 0.5), "reason": ""},
                "strict": {"value": value, "reason": ""},
            },
            taxonomy="correct" if value else "no call",
        )
        for name, values in answers.items()
        for repeat, value in enumerate(values if isinstance(values, list) else [values])
    ]  # fmt: skip
    found = results(
        0.5,
        len(samples),
        **dict(summary(samples)),
        identity={**IDENTITY, "suite": {"name": suite, "sha256": suite * 8}},
        artifacts={"base": {"key": base, "files": {}}, "evaluate": {"key": str(folder), "files": {}}},
        answers="a" * 64,
        lock=None if lock is None else _lock(lock, answers),
    )
    files.write(folder / "results.json", found)
    files.write_samples(folder / "samples.jsonl", samples)
    return folder


def _lock(value: float, prompts: Iterable[str]) -> dict[str, Any]:
    sampled = {"rate": 1.0, "n": 1, "interval": (0.0, 1.0)}
    return {
        "temperatures": [0.0, 0.7],
        "curves": [],
        "at": {"temperature": 0.7, "strict": value, "total": value, "sampled": sampled},
        "margin": {"value": None, "prompt": ""},
        "prompts": {name: {"margin": None, "strict": [1.0, 0.0], "total": [1.0, value]} for name in prompts},
    }


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Three seeds by two temperatures, planned; one job failed and one never started."""
    folder = tmp_path / "sweep"
    answers = {0: {"w": 1.0, "x": 1.0, "y": 0.0, "z": 1.0}, 1: {"w": 1.0, "x": 0.0, "y": 0.0, "z": 1.0}}
    jobs = []
    for number, (seed, temperature) in enumerate((s, t) for s in (0, 1, 42) for t in (0.0, 0.7)):
        overrides: dict[str, Any] = {"lora__seed": seed, "eval__seed": seed, "eval__temperature": temperature}
        config = changed(dotted(overrides))
        jobs.append({"number": number, "id": "ab", "overrides": [], "config": config, "stages": []})
        place = folder / "jobs" / f"{number:03d}-ab"
        if number == 4:
            make_run(place, {}, status="failed", error="The training diverged.\nmore", **overrides)
        elif number != 5:
            make_run(place, answers[seed], **overrides)
    values = {"schema": 1, "arguments": [], "jobs": jobs, "parts": {}, "waves": [[*range(len(jobs))]]}
    files.write(folder / "plan.json", files.parse(values, SweepPlan, folder))
    return folder
