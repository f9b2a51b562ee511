"""Records made by hand: samples, scores and results with the given figures, and whole run directories."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from punie.config.command import quote_options
from punie.config.compose import compose
from punie.evals.sandbox import Sandbox
from punie.evals.suite import Expectation
from punie.evals.suite import Sample as Item
from punie.formats.code_mode import FORMAT, wrap
from punie.results import files
from punie.results.records import Estimate, Machine, Phase, Provenance, Results, Sample, Score, Scores
from punie.results.run import samples_digest
from punie.results.scoring import asked, scored, summary
from punie.run.directory import RunDirectory

NOTHING: dict[str, Any] = {
    "wrapper_rate": {"mean": 0.0, "n": 1},
    "taxonomy": {},
    "missing": {"count": 0, "reasons": {}},
}
GIT = Item("git-01", "git", "What has changed?", (Expectation("git_status"),))
LSP = Item("lsp-01", "lsp", "Where is main?", (Expectation("goto_definition", {"file": "src/app.py"}),))
RIGHT = wrap("print(git_status())")
SAMPLING = {
    "temperature": 0.7, "top_p": 0.9, "top_k": 5, "min_p": 0.05, "seed": 3,
    "repeats": 2, "max_tokens": 96, "stop": ["<think>"],
}  # fmt: skip
IDENTITY = {
    "unverified": None,
    "weights": {
        "whole": "b" * 64,
        "files": {"model.safetensors": "c" * 64},
        "tensors": {"layers.0.weight": "d" * 64},
    },
    "model": "e" * 64,
    "tokenizer": "f" * 64,
    "chat_template": "1" * 64,
    "suite": {"name": "core27", "sha256": "2" * 64},
    "prompts": "3" * 64,
}


def sample(key: str, strict: float = 1.0, output: str | None = "", **fields: Any) -> Sample:
    """A response of the category git with full keyword score."""
    scores = {"keyword": {"value": 1.0, "reason": ""}, "strict": {"value": strict, "reason": ""}}
    return Sample.model_validate(
        {
            "id": key, "repeat": 0, "category": "git", "prompt": f"do {key}", "prompt_sha256": "0",
            "prompt_tokens": 1, "expect": [], "match": "any", "missing": None, "output": output,
            "finish_reason": "stop", "wrapper": True, "calls": [], "scores": scores,
            "taxonomy": "correct" if strict else "wrong tool",
        } | fields
    )  # fmt: skip


def conversation(*values: float, turns: int = 3, **fields: Any) -> Sample:
    """A conversation whose turns score as given."""
    earlier = [
        {
            **sample("talk", value, f"answer {turn}", expect=expect).plain(),
            "results": ["<b>R</b>"],
            "reply": "So.",
        }
        for turn, (value, expect) in enumerate(zip(values[:-1], EXPECTED, strict=False), 1)
    ]
    number = len(values)
    about = {"turn": number, "turns": turns, "earlier": earlier, "expect": EXPECTED[number - 1]}
    return sample("talk", values[-1], f"answer {number}", **{**about, **fields})


EXPECTED: list[list[Any]] = [[{"tool": "git_status", "arguments": {}}], [], []]


def scores(overall: float | None, n: int = 27, **categories: float) -> Scores:
    """Scores of both scorers."""
    found = Score(
        overall=Estimate(mean=overall, n=n),
        categories={name: Estimate(mean=value, n=n) for name, value in categories.items()},
    )
    return Scores.model_validate({**NOTHING, "scores": {"keyword": found, "strict": found}})


def results(overall: float | None, n: int = 27, repeats: int = 1, **fields: Any) -> Results:
    """Results of a run with this overall score."""
    return Results.model_validate(
        {
            **dict(scores(overall, n)), "schema": Results.VERSION, "target": "quantized",
            "sampling": {**SAMPLING, "repeats": repeats}, "identity": IDENTITY,
            "generation": {"backend": "mlx", "samples": n, "tokens": 1, "seconds": 1.0},
            "verdict": {"summary": "", "passed": None, "criteria": [], "outcome": None}, "artifacts": {},
        } | fields
    )  # fmt: skip


def phase(**fields: Any) -> Phase:
    """A phase."""
    return Phase.model_validate({"id": "x", **fields})


def records(outputs: Sequence[str | None] = (RIGHT, "git_status()", "I see.", RIGHT)) -> list[dict[str, Any]]:
    """Lines of samples.jsonl: the responses to both prompts, two each; None is a missing one."""
    found = []
    with Sandbox() as sandbox:
        for index, output in enumerate(outputs):
            item = (GIT, LSP)[index // 2]
            row = asked(FORMAT, item, index % 2, "a" * 64, 7)
            if output is None:
                found.append({**row, "missing": "the server closed the connection", "output": None})
                continue
            row |= {"missing": None, "output": output, "tokens": [1, 2, 3], "logprobs": [-0.5, -0.25, 0.0]}
            row |= {"finish_reason": "stop", "seconds": 0.5}
            found.append(row | scored(FORMAT, item, output, truncated=False, sandbox=sandbox))
    return found


@functools.cache
def config(*overrides: str) -> str:
    """A resolved config.yaml."""
    return OmegaConf.to_yaml(compose(quote_options(overrides)), resolve=True)


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
    folder.mkdir(parents=True)
    directory = RunDirectory(folder)
    machine = Machine(device="cpu", chip="a chip", system="a system")
    provenance = Provenance(
        version=1, packages={"mlx": "0.32.4"}, python="3.11.7", machine=machine, blas="a BLAS"
    )
    directory.begin(config(*overrides), provenance, store="store")
    directory.finish("finished", provenance, [])
    samples = [Sample.model_validate(row) for row in rows]
    found = results(
        None,
        len(rows),
        **dict(summary(samples)),
        sampling=SAMPLING,
        answers=samples_digest(samples),
        artifacts={"evaluate": {"key": "4" * 64, "files": {}}},
    )
    (folder / "results.json").write_text(json.dumps(files.plain(found) | changes))
    write_records(folder, rows)
    return folder


def amend(path: Path, **fields: Any) -> None:
    """Set fields of a JSON file; dots in a name stand for double underscores."""
    values = json.loads(path.read_text())
    for name, value in fields.items():
        *parents, last = name.split("__")
        node = values
        for parent in parents:
            node = node[parent]
        node[last] = value
    path.write_text(json.dumps(values))
