"""evaluate: answer the suite and score the answers, bound to the exact weights that gave them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from punie.evals.scores import ALWAYS, SCORERS
from punie.stages import answering
from punie.stages.contract import Settings, Stage
from punie.stages.identity import identity
from punie.stages.inputs import base_folder, suite_digest, suite_path
from punie.store.artifacts import Artifact
from punie.store.keys import digest
from punie.util.files import write_json, write_lines

if TYPE_CHECKING:
    from punie.util.progress import Reporter

TARGETS = {"base": ("base",), "adapter": ("base", "train"), "quantized": ("quantize",)}
"""What an evaluation is of, and the stages it needs for that."""


def contents(settings: Settings) -> dict[str, Any]:
    """Digest of the suite; the system prompt, which punie's own code may decide; scores beside the two."""
    found = {"suite": suite_digest(settings.eval.suite), "system_prompt": answering.system_prompt(settings)}
    more = sorted(SCORERS.keys() - {*ALWAYS})
    return found | ({"scores": more} if more else {})


def run(settings: Settings, inputs: Mapping[str, Artifact], out: Path, reporter: Reporter) -> dict[str, Any]:
    """Write samples.jsonl, one raw record to a sample, and results.json, scores with identity."""
    from punie.evals.suite import load_suite
    from punie.model import generate, load
    from punie.model.device import device_kind
    from punie.results.answers import summary
    from punie.stages import locking, serving

    options = settings.eval
    folder = base_folder(settings) if options.target in ("base", "adapter") else inputs["quantize"].path
    adapter = inputs["train"].path if options.target == "adapter" else None
    float32 = settings.runtime.cpu_float32 and device_kind() == "cpu"
    suite = load_suite(suite_path(options.suite))
    loaded = load.load(folder, adapter=adapter, float32=float32, threads=settings.runtime.threads)
    system = answering.system_prompt(settings)
    asked = answering.requests(
        loaded, suite, system=system, repeats=options.repeats, max_tokens=options.max_tokens
    )
    sampling = generate.Sampling(
        options.temperature, options.top_p, options.top_k, options.min_p, options.seed
    )
    bound = identity(loaded, folder, adapter, suite_path(options.suite), asked)
    clock = time.perf_counter()
    answers: Sequence[Any]
    with reporter.bar("evaluating", len(asked), "answers") as bar:
        if options.backend == "server":
            probed, tokenizer = serving.expected(loaded, asked), loaded.tokenizer
            loaded = None  # the server needs the memory
            answers, bound["unverified"] = serving.answer(
                asked,
                answering.texts(tokenizer, suite, system=system),
                tokenizer,
                probed,
                sampling,
                stop=options.stop,
                options=options.server,
                start=serving.started(
                    folder,
                    adapter,
                    out,
                    float32=float32,
                    blas=settings.runtime.blas,
                    threads=settings.runtime.threads,
                ),
                done=bar,
            )
        else:
            answers = generate.generate(
                loaded.model,
                loaded.tokenizer,
                asked,
                sampling,
                stop=options.stop,
                batch_size=options.batch_size,
                done=bar,
                logprobs=options.logprobs,
            )
    seconds = time.perf_counter() - clock
    records = answering.records(suite, asked, answers)
    tokens = sum(record["output_tokens"] or 0 for record in records)
    results = {
        "schema": 2,
        "scores": summary(records, allow_missing=options.allow_missing),
        "target": options.target,
        "sampling": asdict(sampling)
        | {"repeats": options.repeats, "max_tokens": options.max_tokens, "stop": list(options.stop)},
        "identity": bound,
        "generation": {
            "backend": options.backend,
            "samples": len(records),
            "tokens": tokens,
            "seconds": round(seconds, 3),
            "tokens_per_second": round(tokens / seconds, 1),
        },
        "answers": digest("answers", [{**record, "seconds": None} for record in records]),
    }
    if loaded is not None and options.lock.temperatures:
        prompts = {sample.id: asked[index * options.repeats].prompt for index, sample in enumerate(suite)}
        with reporter.bar("format lock", len(prompts), "prompts") as bar:
            results["lock"] = locking.lock(
                loaded,
                prompts,
                records,
                sampling,
                temperatures=options.lock.temperatures,
                top_p=options.lock.top_p,
                done=bar,
            )
    write_lines(out / "samples.jsonl", records)
    write_json(out / "results.json", results)
    return {
        "samples": len(records),
        "tokens": tokens,
        "missing": results["scores"]["missing"]["count"],
        "unverified": bound["unverified"],
    }


def unfinished(artifact: Artifact) -> str | None:
    """Why the answers are to be asked for again: some are missing, or the server may be another by now."""
    settings = artifact.manifest["material"]["settings"]
    if artifact.info["missing"] and not settings["eval.allow_missing"]:
        return f"{artifact.info['missing']} answers are missing"
    return "the server's model could not be verified" if artifact.info["unverified"] else None


STAGE = Stage(
    name="evaluate",
    version=2,
    reads=("model", "eval", "runtime.blas", "runtime.cpu_float32", "runtime.threads"),
    needs=lambda settings: TARGETS[settings.eval.target],
    contents=contents,
    run=run,
    libraries=("mlx", "mlx-lm", "transformers", "tokenizers", "pydantic-monty"),
    computes=True,
    unfinished=unfinished,
    shows=("samples.jsonl",),
)
