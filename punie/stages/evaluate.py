"""evaluate: answer the suite and score the answers, bound to the exact weights that gave them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from punie.backend import resolve
from punie.errors import DataError, Problems
from punie.files import write_json, write_lines
from punie.prompts import format_prompt
from punie.stages.contract import Settings, Stage
from punie.stages.inputs import base_folder, suite_digest, suite_path
from punie.store.artifacts import Artifact
from punie.store.keys import digest

if TYPE_CHECKING:
    from punie.evals.sandbox import Sandbox
    from punie.evals.suite import Sample
    from punie.progress import Reporter

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "seed", "repeats", "max_tokens", "stop")
_TARGETS = {"base": ("base",), "adapter": ("base", "train"), "quantized": ("quantize",)}


def contents(settings: Settings) -> dict[str, Any]:
    """Digest of the suite."""
    return {"suite": suite_digest(settings.eval.suite)}


def run(settings: Settings, inputs: Mapping[str, Artifact], out: Path, reporter: Reporter) -> dict[str, Any]:
    """Write samples.jsonl, one raw record to a sample, and results.json, scores with identity."""
    from punie.backend import generate, load
    from punie.backend.device import device_kind
    from punie.evals.sandbox import Sandbox
    from punie.evals.suite import load_suite
    from punie.evals.summary import summarize
    from punie.tools.registry import system_prompt

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
    system = options.system_prompt if options.system_prompt is not None else system_prompt()
    prompts = {sample.id: _prompt(loaded.tokenizer, system, sample) for sample in suite}
    requests = [
        generate.Request(f"{sample.id}#{repeat}", prompts[sample.id], sample.max_tokens or options.max_tokens)
        for sample in suite
        for repeat in range(options.repeats)
    ]
    _require_context(requests, loaded.config)
    sampling = generate.Sampling(
        options.temperature, options.top_p, options.top_k, options.min_p, options.seed
    )
    clock = time.perf_counter()
    with reporter.bar("evaluating", len(requests), "answers") as bar:
        answers = generate.generate(
            loaded.model,
            loaded.tokenizer,
            requests,
            sampling,
            stop=options.stop,
            batch_size=options.batch_size,
            done=bar,
        )
    seconds = time.perf_counter() - clock
    samples = [sample for sample in suite for _ in range(options.repeats)]
    with Sandbox() as sandbox:
        records = [
            _record(sample, index % options.repeats, answer, digest("prompt", prompts[sample.id]), sandbox)
            for index, (sample, answer) in enumerate(zip(samples, answers, strict=True))
        ]
    write_lines(out / "samples.jsonl", records)
    tokens = sum(len(answer.tokens) for answer in answers)
    write_json(
        out / "results.json",
        {
            "schema": 1,
            "scores": summarize([_scored(record) for record in records]),
            "target": options.target,
            "sampling": {name: getattr(options, name) for name in SAMPLING},
            "identity": _identity(folder, adapter, loaded.tokenizer, settings, prompts),
            "generation": {
                "samples": len(answers),
                "tokens": tokens,
                "seconds": round(seconds, 3),
                "tokens_per_second": round(tokens / seconds, 1),
            },
        },
    )
    return {"samples": len(answers), "tokens": tokens}


def _prompt(tokenizer: Any, system: str, sample: Sample) -> list[int]:
    messages = [{"role": "system", "content": system}] if system else []
    return format_prompt(tokenizer, [*messages, {"role": "user", "content": sample.prompt}])


def _record(sample: Sample, repeat: int, answer: Any, prompt_digest: str, sandbox: Sandbox) -> dict[str, Any]:
    """One line of samples.jsonl: all that is needed to score the answer again without a model."""
    from punie.evals.parse import parse
    from punie.evals.scorers import keyword, strict, taxonomy

    completion = parse(answer.text, truncated=answer.finish_reason == "length")
    execution = sandbox.run(completion.code) if completion.code is not None else None
    scores = {"keyword": keyword(sample, completion), "strict": strict(sample, completion, execution)}
    return {
        "id": sample.id,
        "repeat": repeat,
        "category": sample.category,
        "prompt": sample.prompt,
        "prompt_sha256": prompt_digest,
        "output": answer.text,
        "tokens": answer.tokens,
        "logprobs": [round(value, 5) for value in answer.logprobs],
        "finish_reason": answer.finish_reason,
        "seconds": answer.seconds,
        "wrapper": completion.has_wrapper,
        "calls": [dataclasses.asdict(call) for call in execution.calls] if execution else [],
        "execution": execution.outcome if execution else None,
        "scores": {name: dataclasses.asdict(score) for name, score in scores.items()},
        "taxonomy": taxonomy(sample, completion, execution),
    }


def _scored(record: Mapping[str, Any]) -> Any:
    from punie.evals.summary import Scored

    return Scored(
        id=record["id"],
        category=record["category"],
        keyword=record["scores"]["keyword"]["value"],
        strict=record["scores"]["strict"]["value"],
        taxonomy=record["taxonomy"],
        wrapper=record["wrapper"],
    )


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


def _require_context(requests: list[Any], config: Mapping[str, Any]) -> None:
    limit = config.get("max_position_embeddings")
    problems = [
        DataError(
            "The prompt and its answer do not fit the model's context.",
            where=f"suite item {request.id.rpartition('#')[0]}",
            found=f"{len(request.prompt)} + {request.max_tokens} tokens",
            expected=f"at most {limit}",
            next_step="lower eval.max_tokens, or shorten the prompt",
        )
        for request in requests
        if limit and len(request.prompt) + request.max_tokens > limit
    ]
    if problems:
        raise Problems("The suite does not fit the model:", problems)


STAGE = Stage(
    name="evaluate",
    version=1,
    reads=("model", "eval", "runtime.blas", "runtime.cpu_float32", "runtime.threads"),
    needs=lambda settings: _TARGETS[settings.eval.target],
    contents=contents,
    run=run,
    computes=True,
)
