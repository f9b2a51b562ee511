"""Records made by hand: samples, scores and results with the given figures, the rest of no importance."""

from __future__ import annotations

from typing import Any

from punie.results.records import Estimate, Phase, Results, Sample, Score, Scores

NOTHING: dict[str, Any] = {
    "wrapper_rate": {"mean": 0.0, "n": 1},
    "taxonomy": {},
    "missing": {"count": 0, "reasons": {}},
}
IDENTITY = {
    "unverified": None,
    "weights": {"whole": "0"},
    "suite": {"name": "core27", "sha256": "0"},
} | dict.fromkeys(("model", "tokenizer", "chat_template", "prompts"), "0")
SAMPLING = {
    "temperature": 0.7,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "seed": 0,
    "max_tokens": 64,
    "stop": [],
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
