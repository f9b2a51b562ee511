"""A run's responses and scores as a log of Inspect (inspect_ai), in Inspect's own classes.

Needs the extra ``punie[inspect]``. Ids and times come from the run's record, so that two exports of a run are
the same log.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalError,
    EvalLog,
    EvalMetric,
    EvalPlan,
    EvalResults,
    EvalSample,
    EvalScore,
    EvalSpec,
    EvalStats,
    write_eval_log,
)
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    ChatMessageUser,
    GenerateConfig,
    ModelOutput,
    ModelUsage,
)
from inspect_ai.scorer import Score

from punie.evals.scores import METRICS, SCORERS
from punie.results.pages.responses import call
from punie.results.records import Sample
from punie.results.run import Run
from punie.results.scoring import summary
from punie.store.keys import digest
from punie.util.printable import printable

_STOP = {"stop": "stop", "length": "max_tokens"}
"""Inspect's names of our finish reasons."""
_ASKED = {"category", "expect", "match", "prompt_sha256", "missing"}
_ANSWERED = {"finish_reason", "taxonomy", "tokens", "logprobs"}
_JUDGED = {"taxonomy", "wrapper", "opening", "blocks", "execution", "calls"}


def build(run: Run) -> EvalLog:
    """The log of a finished run; a missing response is a sample with an error and no score."""
    results, status, sampling, samples = run.results, run.status, run.results.sampling, run.samples
    name, model = run.config.name, f"punie/{run.config.value('model.name')}/{results.target}"
    started, doubts, metadata = status.started or "", run.doubts(), _metadata(run)
    missing = sum(not sample.answered for sample in samples)
    unique = digest("inspect log", [name, model, started, [_place(sample) for sample in samples], metadata])
    allowed = bool(run.config.value("eval.allow_missing"))
    error = None
    if missing and not allowed:
        error = _error(f"{missing} of {len(samples)} responses are missing: there is no overall score")
    config = GenerateConfig(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=sampling.seed,
        max_tokens=sampling.max_tokens,
        stop_seqs=sampling.stop or None,
    )
    ids = list(dict.fromkeys(sample.id for sample in samples))
    suite = results.identity.suite.name
    return EvalLog(
        status="error" if error else "success",
        eval=EvalSpec(
            eval_id=unique[:22],
            run_id=unique[22:44],
            task_id=digest("inspect task", [name, suite])[:22],
            created=started,
            task=name,
            tags=["identity: unverified"] if doubts else [],
            dataset=EvalDataset(name=suite, samples=len(ids), sample_ids=ids, shuffled=False),
            model=model,
            model_generate_config=config,
            config=EvalConfig(epochs=sampling.repeats, epochs_reducer=["mean"]),
            packages={name: version for name, version in run.provenance.packages.items() if version},
            metadata=metadata,
        ),
        plan=EvalPlan(name="punie", config=config),
        results=EvalResults(
            total_samples=len(samples),
            completed_samples=len(samples) - missing,
            scores=_results(samples, allowed) if missing < len(samples) else [],
        ),
        stats=EvalStats(
            started_at=started, completed_at=status.ended or "", model_usage={model: _total(samples)}
        ),
        error=error,
        samples=[_sample(sample, model) for sample in samples],
    )


def write(log: EvalLog, path: Path) -> None:
    """Write a log by Inspect's own writer; the same log gives the same bytes.

    A .eval file is a zip of JSON. Newer versions of Inspect use zstd, which older ones cannot open, and the
    time of day; it is packed again with deflate and without times.

    Args:
        log: The log.
        path: A new file, .eval or .json.
    """
    if path.suffix != ".eval":
        write_eval_log(log, str(path))
        return
    packed = path.with_name(f"packed-{path.name}")
    write_eval_log(log, str(packed))
    with zipfile.ZipFile(packed) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            target.writestr(zipfile.ZipInfo(name), source.read(name), zipfile.ZIP_DEFLATED)
    packed.unlink()


def _metadata(run: Run) -> dict[str, Any]:
    """What the scores belong to, for the header of the log."""
    results, phase = run.results, run.config.phase
    identity = results.identity.model_dump(mode="json", exclude={"weights": {"tensors"}})
    return {
        "identity": {**identity, "unverified": "; ".join(run.doubts()) or None},
        "sampling": results.sampling.model_dump(mode="json"),
        "target": results.target,
        "backend": results.generation.backend,
        "phase": phase.id if phase else None,
        "verdict": results.verdict.summary,
        "artifacts": {name: artifact.key for name, artifact in results.artifacts.items()},
        **run.provenance.model_dump(mode="json", include={"machine", "blas"}),
    }


def _place(sample: Sample) -> str:
    return f"{sample.id}#{sample.repeat}"


def _sample(sample: Sample, model: str) -> EvalSample:
    """One response, or the error in its place."""
    unique = digest("inspect sample", _place(sample))[:22]
    made = EvalSample(
        id=sample.id,
        epoch=sample.repeat + 1,
        uuid=unique,
        input=sample.prompt,
        target=[call(each) for each in sample.expect],
        messages=[ChatMessageUser(id=f"{unique}-user", content=sample.prompt, source="input")],
        output=ModelOutput(model=model),
        metadata=sample.model_dump(mode="json", include=_ASKED),
    )
    if sample.missing is not None:
        made.output.error = sample.missing
        made.error = _error(sample.missing)
        return made
    message = ChatMessageAssistant(
        id=f"{unique}-assistant", content=sample.output or "", source="generate", model=model
    )
    usage = _usage(sample)
    stop = _STOP.get(sample.finish_reason or "", "unknown")
    made.messages.append(message)
    made.output = ModelOutput(
        model=model,
        choices=[ChatCompletionChoice(message=message, stop_reason=stop)],
        usage=usage,
        time=sample.seconds,
    )
    made.model_usage = {model: usage}
    judged = sample.model_dump(mode="json", include=_JUDGED)
    made.scores = {
        name: Score(
            value=score.value,
            answer="; ".join(map(call, sample.calls)) or None if name == "strict" else None,
            explanation=score.reason,
            metadata=judged if name == "strict" else None,
        )
        for name in METRICS
        if (score := sample.scores.get(name))
    }
    made.metadata |= sample.model_dump(mode="json", include=_ANSWERED)
    return made


def _total(samples: Sequence[Sample]) -> ModelUsage:
    usages = [_usage(sample) for sample in samples]
    return _tokens(sum(each.input_tokens for each in usages), sum(each.output_tokens for each in usages))


def _usage(sample: Sample) -> ModelUsage:
    """The tokens of a response; none if it is missing."""
    return _tokens(sample.prompt_tokens, len(sample.tokens or [])) if sample.answered else ModelUsage()


def _tokens(asked: int, answered: int) -> ModelUsage:
    return ModelUsage(input_tokens=asked, output_tokens=answered, total_tokens=asked + answered)


def _results(samples: Sequence[Sample], allow_missing: bool) -> list[EvalScore]:
    """The scores: a metric for each category, and the overall mean with its interval if there is one."""
    found = summary(samples, allow_missing=allow_missing).scores
    scores = []
    for name in (each for each in METRICS if each in SCORERS and each in found):
        overall = found[name].overall
        low, high = overall.interval or (None, None)
        values = {
            **{category: each.mean for category, each in found[name].categories.items()},
            "mean": overall.mean,
            "stderr": overall.stderr,
            "interval_low": low,
            "interval_high": high,
        }
        metrics = {
            metric: EvalMetric(name=metric, value=value)
            for metric, value in values.items()
            if value is not None
        }
        scores.append(EvalScore(name=name, scorer=name, reducer="mean", metrics=metrics))
    return scores


def _error(message: str) -> EvalError:
    return EvalError(message=message, traceback="", traceback_ansi=printable(message))
