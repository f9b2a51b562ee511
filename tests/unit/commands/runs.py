"""A finished run's folder made by hand: two prompts, two repeats, one answer missing if wanted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from punie.results.answers import asked, scored, summary

from punie.config.compose import compose
from punie.evals.sandbox import Sandbox
from punie.evals.suite import Expectation, Sample
from punie.run.directory import RunDirectory
from punie.store.keys import digest

GIT = Sample("git-01", "git", "What has changed?", (Expectation("git_status"),))
LSP = Sample("lsp-01", "lsp", "Where is main?", (Expectation("goto_definition", {"file": "src/app.py"}),))
RIGHT = (
    "<tool_call>\n<function=execute_code>\n<parameter=code>\n"
    "print(git_status())\n</parameter>\n</function>\n</tool_call>"
)
SAMPLING = {
    "temperature": 0.7, "top_p": 0.9, "top_k": 5, "min_p": 0.05, "seed": 3,
    "repeats": 2, "max_tokens": 96, "stop": ["<think>"],
}  # fmt: skip


def records(outputs: Sequence[str | None] = (RIGHT, "git_status()", "I see.", RIGHT)) -> list[dict[str, Any]]:
    """The answers to both prompts, two each; None is a missing one."""
    found = []
    with Sandbox() as sandbox:
        for index, output in enumerate(outputs):
            sample = (GIT, LSP)[index // 2]
            row = asked(sample, index % 2, "a" * 64, 7)
            if output is None:
                found.append({**row, "missing": "the server closed the connection", "output": None})
                continue
            row |= {"missing": None, "output": output, "tokens": [1, 2, 3], "logprobs": [-0.5, -0.25, 0.0]}
            row |= {"finish_reason": "stop", "seconds": 0.5}
            found.append(row | scored(sample, output, truncated=False, sandbox=sandbox))
    return found


def write_records(run: Path, rows: Sequence[dict[str, Any]]) -> None:
    (run / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_run(
    folder: Path, rows: Sequence[dict[str, Any]], overrides: Sequence[str] = (), **changes: Any
) -> Path:
    """A run directory of these records.

    Args:
        folder: Where to make it.
        rows: As of ``records``.
        overrides: Of the config.
        changes: Fields of results.json.
    """
    folder.mkdir()
    directory = RunDirectory(folder)
    directory.begin(OmegaConf.to_yaml(compose(list(overrides)), resolve=True), {}, store="store")
    machine = {"device": "cpu", "chip": "a chip", "system": "a system"}
    provenance = {"packages": {"mlx": "0.32.4"}, "python": "3.11.7", "machine": machine, "git": None}
    directory.finish("finished", {**provenance, "blas": "a BLAS", "environment": {}}, [])
    weights = {
        "whole": "b" * 64,
        "files": {"model.safetensors": "c" * 64},
        "tensors": {"layers.0.weight": "d" * 64},
    }
    results = {
        "schema": 2,
        "scores": summary(rows),
        "target": "quantized",
        "sampling": SAMPLING,
        "identity": {
            "unverified": None,
            "weights": weights,
            "model": "e" * 64,
            "tokenizer": "f" * 64,
            "chat_template": "1" * 64,
            "suite": {"name": "core27", "sha256": "2" * 64},
            "prompts": "3" * 64,
        },
        "generation": {"backend": "mlx", "samples": len(rows), "tokens": 12, "seconds": 2.0},
        "answers": digest("answers", [{**row, "seconds": None} for row in rows]),
        "targets": {},
        "paired": [],
        "verdict": {"summary": "no phase, no criteria", "passed": None, "criteria": [], "outcome": None},
        "artifacts": {"evaluate": {"key": "4" * 64, "files": {}}},
    }
    (folder / "results.json").write_text(json.dumps(results | changes))
    write_records(folder, rows)
    return folder
