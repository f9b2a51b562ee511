"""evaluate: answer the suite and score the answers, bound to the exact weights that gave them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from punie.backend import resolve
from punie.files import write_json, write_lines
from punie.stages import answering
from punie.stages.contract import Settings, Stage
from punie.stages.inputs import base_folder, suite_digest, suite_path
from punie.store.artifacts import Artifact
from punie.store.keys import digest

if TYPE_CHECKING:
    from punie.progress import Reporter

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "seed", "repeats", "max_tokens", "stop")
_TARGETS = {"base": ("base",), "adapter": ("base", "train"), "quantized": ("quantize",)}


def contents(settings: Settings) -> dict[str, Any]:
    """Digest of the suite; and the system prompt, which punie's own code may decide."""
    return {"suite": suite_digest(settings.eval.suite), "system_prompt": answering.system_prompt(settings)}


def run(settings: Settings, inputs: Mapping[str, Artifact], out: Path, reporter: Reporter) -> dict[str, Any]:
    """Write samples.jsonl, one raw record to a sample, and results.json, scores with identity."""
    from punie.backend import generate, load
    from punie.backend.device import device_kind
    from punie.evals.suite import load_suite

    options = settings.eval
    folder = base_folder(settings) if options.target in ("base", "adapter") else inputs["quantize"].path
    adapter = inputs["train"].path if options.target == "adapter" else None
    suite = load_suite(suite_path(options.suite))
    loaded = load.load(
        folder,
        adapter=adapter,
        float32=settings.runtime.cpu_float32 and device_kind() == "cpu",
        threads=settings.runtime.threads,
    )
    clock = time.perf_counter()
    with reporter.bar("evaluating", len(suite) * options.repeats, "answers") as bar:
        records, prompts = answering.answer(
            loaded,
            suite,
            system=answering.system_prompt(settings),
            sampling=generate.Sampling(
                options.temperature, options.top_p, options.top_k, options.min_p, options.seed
            ),
            repeats=options.repeats,
            max_tokens=options.max_tokens,
            stop=options.stop,
            batch_size=options.batch_size,
            done=bar,
        )
    seconds = time.perf_counter() - clock
    tokens = sum(len(record["tokens"]) for record in records)
    write_lines(out / "samples.jsonl", records)
    write_json(
        out / "results.json",
        {
            "schema": 1,
            "scores": answering.summary(records),
            "target": options.target,
            "sampling": {name: getattr(options, name) for name in SAMPLING},
            "identity": _identity(folder, adapter, loaded.tokenizer, settings, prompts),
            "generation": {
                "samples": len(records),
                "tokens": tokens,
                "seconds": round(seconds, 3),
                "tokens_per_second": round(tokens / seconds, 1),
            },
        },
    )
    return {"samples": len(records), "tokens": tokens}


def _identity(
    folder: Path, adapter: Path | None, tokenizer: Any, settings: Settings, prompts: Mapping[str, list[int]]
) -> dict[str, Any]:
    """What produced the scores, recomputed from the files that were loaded."""
    files = resolve.contents(folder)
    weights = {name: value for name, value in files.items() if name.endswith(".safetensors")}
    if adapter is not None:
        weights |= {name: v for name, v in resolve.contents(adapter).items() if name.endswith(".safetensors")}
    return {
        "weights": weights,
        "model": digest("model", files | weights),
        "tokenizer": digest("tokenizer", {k: v for k, v in files.items() if k.startswith("tokenizer")}),
        "chat_template": digest("chat template", tokenizer.chat_template),
        "suite": {"name": Path(settings.eval.suite).stem, "sha256": suite_digest(settings.eval.suite)},
        "prompts": digest("prompts", dict(prompts)),
    }


STAGE = Stage(
    name="evaluate",
    version=1,
    reads=("model", "eval", "runtime.blas", "runtime.cpu_float32", "runtime.threads"),
    needs=lambda settings: _TARGETS[settings.eval.target],
    contents=contents,
    run=run,
    libraries=("mlx", "mlx-lm", "transformers", "tokenizers", "pydantic-monty"),
    computes=True,
)
