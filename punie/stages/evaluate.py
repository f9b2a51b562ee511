"""evaluate: respond to the suite and score the responses, bound to the exact weights."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from punie.config.schema import EvalConfig
from punie.config.targets import TARGETS
from punie.evals.scores import ALWAYS, SCORERS
from punie.model import folders
from punie.model.resolve import NotCached
from punie.stages import chats
from punie.stages.contract import LOADING, READING, Contents, Inputs, Stage
from punie.stages.inputs import base_folder, suite_digest, suite_path, target_folders
from punie.stages.slices import Evaluate
from punie.store.artifacts import Artifact
from punie.store.keys import digest
from punie.util.progress import Reporter

if TYPE_CHECKING:
    from punie.results.records import Identity


def contents(settings: Evaluate) -> Contents:
    """Digest of the suite; the system prompt, which punie's own code may decide; scores beside the two; end
    ids that earlier versions did not stop at, and items that they judged otherwise."""
    found: Contents = {
        "suite": suite_digest(settings.eval.suite),
        "system_prompt": chats.system_prompt(settings, settings.eval.system_prompt),
        **chats.contents(settings),
        **chats.judged(settings, settings.eval.suite),
    }
    more, ends = sorted(SCORERS.keys() - {*ALWAYS}), list[int]()
    with contextlib.suppress(NotCached):
        ends = folders.decisive_ends(base_folder(settings))
    return found | ({"scores": more} if more else {}) | ({"eos_token_id": ends} if ends else {})


def evaluate(settings: Evaluate, inputs: Inputs, out: Path, reporter: Reporter) -> Contents:
    """Write samples.jsonl, one record a response, and results.json: scores with identity."""
    from punie.evals.serve import serve
    from punie.evals.suite import load_suite
    from punie.model import generate, load
    from punie.results import files, run, scoring
    from punie.results.records import Evaluation, Format, Generation, Sampling
    from punie.stages import answering, locking, serving

    options, float32, threads = settings.eval, settings.runtime.float32, settings.runtime.threads
    folder, adapter = target_folders(settings, options.target, inputs)
    suite = load_suite(suite_path(options.suite), chats.tools(settings))
    loaded = load.load(folder, adapter=adapter, float32=float32, threads=threads)
    tokenizer, chat = loaded.tokenizer, chats.chat(settings, loaded.tokenizer)
    system = chats.system_prompt(settings, options.system_prompt)
    dialogues = answering.dialogues(
        loaded, chat, suite, system=system, repeats=options.repeats, max_tokens=options.max_tokens
    )
    prompts = {dialogue.item.id: dialogue.request.prompt for dialogue in dialogues}
    own = [max(turn.max_tokens or 0 for turn in item.turns) for item in suite]
    if longer := [most for most in own if most > options.max_tokens]:
        limits = f"eval.max_tokens={options.max_tokens}, up to {max(longer)} tokens"
        reporter.line(
            f"  note: {len(longer)} items set a longer limit than {limits}; theirs holds", style="yellow"
        )
    sampling = generate.Sampling(
        options.temperature, options.top_p, options.top_k, options.min_p, options.seed
    )
    bound = _identity(loaded, folder, adapter, options.suite, prompts)
    limit, total, seconds = folders.context(loaded.config), sum(dialogue.left for dialogue in dialogues), 0.0
    with contextlib.ExitStack() as open_:
        bar = open_.enter_context(reporter.bar("evaluating", total, "answers"))
        service: serving.Service | None = None
        if options.backend == "server":
            probed = serving.expected(loaded, [dialogue.request for dialogue in dialogues])
            loaded = None  # the server needs the memory
            blas, log = settings.runtime.blas, out / "server.log"
            service = open_.enter_context(
                serving.opened(
                    tokenizer,
                    probed,
                    sampling,
                    stop=options.stop,
                    options=options.server,
                    own=serve(folder, adapter=adapter, log=log, float32=float32, blas=blas, threads=threads),
                )
            )

        def ask(going: Sequence[answering.Dialogue]) -> Sequence[Any]:
            nonlocal seconds
            before, clock = total - sum(dialogue.left for dialogue in going), time.perf_counter()

            def done(count: int) -> None:
                bar(before + count)

            answers: Sequence[Any]
            if service is not None:
                answers = service.ask([answering.served(chat, dialogue) for dialogue in going], done)
            else:
                assert loaded is not None  # noqa: S101 - only a server takes its place
                answers = generate.generate(
                    loaded.model,
                    tokenizer,
                    [dialogue.request for dialogue in going],
                    sampling,
                    stop=options.stop,
                    batch_size=options.batch_size,
                    done=done,
                    logprobs=options.logprobs,
                )
            seconds += time.perf_counter() - clock
            return answers

        samples = answering.answered(chat, dialogues, ask, max_tokens=options.max_tokens, limit=limit)
    if service is not None:
        bound = bound.model_copy(update={"unverified": service.unverified})
    tokens = sum(turn.output_tokens or 0 for sample in samples for turn in sample.reached)
    lock = None
    if loaded is not None and options.lock.temperatures and chat.format.spellings:
        with reporter.bar("format lock", len(prompts), "prompts") as bar:
            lock = locking.lock(loaded, chat.format, prompts, samples, sampling, options.lock, done=bar)
    scores = scoring.summary(samples, allow_missing=options.allow_missing)
    files.write_samples(out / run.SAMPLES, samples)
    results = Evaluation(
        version=Evaluation.VERSION,
        **dict(scores),
        target=options.target,
        format=Format(name=chat.format.name, record=dict(chat.format.record)),
        sampling=Sampling(
            **asdict(sampling),
            repeats=options.repeats,
            max_tokens=options.max_tokens,
            stop=list(options.stop),
        ),
        identity=bound,
        generation=Generation(
            backend=options.backend,
            samples=len(samples),
            tokens=tokens,
            seconds=round(seconds, 3),
            tokens_per_second=round(tokens / seconds, 1),
            notes=[] if service is None else service.notes,
        ),
        answers=run.samples_digest(samples),
        lock=lock,
    )
    files.write(out / run.RESULTS, results)
    info = {"samples": len(samples), "tokens": tokens, "missing": scores.missing.count}
    return info | {"unverified": bound.unverified}


def _identity(
    loaded: Any, folder: Path, adapter: Path | None, suite: str, prompts: Mapping[str, Sequence[int]]
) -> Identity:
    """The digests of all that decides the answers besides the sampling, recomputed from what was loaded and
    rendered, not from the config. Arrays are hashed as they lie in memory, dequantized ones as float32."""
    from punie.model.load import digests
    from punie.results.records import Identity, Named, Weights

    files = folders.contents(folder)
    also = folders.contents(adapter) if adapter is not None else {}
    weights = {name: sha for name, sha in (files | also).items() if name.endswith(".safetensors")}
    tensors, tokenizer = digests(loaded.model), loaded.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    words = {
        "serialized": backend.to_str() if backend is not None else tokenizer.get_vocab(),
        "ends": sorted(tokenizer.eos_token_ids),
    }
    return Identity(
        unverified=None,
        weights=Weights(whole=digest("weights", tensors), files=weights, tensors=tensors),
        model=digest("model", files | weights),
        tokenizer=digest("tokenizer", words),
        chat_template=digest("chat template", tokenizer.chat_template),
        suite=Named(name=suite_path(suite).stem, sha256=suite_digest(suite)),
        prompts=digest("prompts", prompts),
    )


def unfinished(artifact: Artifact) -> str | None:
    """Why the answers are to be asked for again: some are missing, or the server may be another by now."""
    settings, missing = artifact.manifest["material"]["settings"], artifact.info.get("missing")
    if missing and not settings.get("eval.allow_missing"):
        return f"{missing} answers are missing"
    return "the server's model could not be verified" if artifact.info.get("unverified") else None


def _decisive(settings: Evaluate) -> Evaluate:
    """At temperature 0 nothing is sampled: the seed is the default. The format lock has a seed of its own."""
    if settings.eval.temperature > 0:
        return settings
    return replace(settings, eval=replace(settings.eval, seed=EvalConfig.seed))


_SOURCES = (
    "evals",
    *("model/format_lock.py", "model/generate.py"),
    *("results/records", "results/scoring.py", "results/statistics.py"),
    *("stages/answering.py", "stages/evaluate.py", "stages/locking.py", "stages/serving.py"),
)
STAGE = Stage(
    name="evaluate",
    version=2,
    reads=Evaluate,
    needs=lambda settings: TARGETS[settings.eval.target].loads,
    sources=lambda _: (*READING, *LOADING, *_SOURCES),
    contents=contents,
    decisive=_decisive,
    run=evaluate,
    libraries=("mlx", "mlx-lm", "transformers", "tokenizers", "pydantic-monty"),
    computes=True,
    memory="evaluation",
    unfinished=unfinished,
    shows=("samples.jsonl",),
)
