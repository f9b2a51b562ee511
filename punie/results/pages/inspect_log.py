"""A run's responses and scores as a log of Inspect (inspect_ai), in Inspect's own classes.

Needs the extra ``punie[inspect]``. Ids and times come from the run's record, so that two exports of a run are
the same log.
"""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from inspect_ai import log as inspect
from inspect_ai import model as chat
from inspect_ai.scorer import Score

from punie.evals.scores import METRICS
from punie.results.pages.report import call
from punie.results.records import Sample
from punie.results.run import Run
from punie.results.scoring import summary
from punie.store.keys import digest
from punie.util.printable import printable

_STOP = {"stop": "stop", "length": "max_tokens"}
"""Inspect's names of our finish reasons."""
_ASKED = {"category", "expect", "match", "prompt_sha256", "missing"}
_TURNS = {"turn", "turns"}
_ANSWERED = {"finish_reason", "taxonomy", "tokens", "logprobs"}
_JUDGED = {"taxonomy", "wrapper", "opening", "blocks", "execution", "calls"}


def build(run: Run) -> inspect.EvalLog:
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
    shared = sampling.model_dump(include={"temperature", "top_p", "top_k", "seed", "max_tokens"})
    config = chat.GenerateConfig(**shared, stop_seqs=sampling.stop or None)
    ids = list(dict.fromkeys(sample.id for sample in samples))
    suite = results.identity.suite.name
    return inspect.EvalLog(
        status="error" if error else "success",
        eval=inspect.EvalSpec(
            eval_id=unique[:22],
            run_id=unique[22:44],
            task_id=digest("inspect task", [name, suite])[:22],
            created=started,
            task=name,
            tags=["identity: unverified"] if doubts else [],
            dataset=inspect.EvalDataset(name=suite, samples=len(ids), sample_ids=ids, shuffled=False),
            model=model,
            model_generate_config=config,
            config=inspect.EvalConfig(epochs=sampling.repeats, epochs_reducer=["mean"]),
            packages={name: version for name, version in run.provenance.packages.items() if version},
            metadata=metadata,
        ),
        plan=inspect.EvalPlan(name="punie", config=config),
        results=inspect.EvalResults(
            total_samples=len(samples),
            completed_samples=len(samples) - missing,
            scores=_results(samples, allowed) if missing < len(samples) else [],
        ),
        stats=inspect.EvalStats(
            started_at=started, completed_at=status.ended or "", model_usage={model: _usage(samples)}
        ),
        error=error,
        samples=[_sample(sample, model) for sample in samples],
    )


def write(log: inspect.EvalLog, path: Path) -> None:
    """Write a log by Inspect's own writer; the same log gives the same bytes.

    A .eval file is a zip of JSON. Newer versions of Inspect use zstd, which older ones cannot open, and the
    time of day; it is packed again with deflate and without times.

    Args:
        log: The log.
        path: A new file, .eval or .json.
    """
    if path.suffix != ".eval":
        inspect.write_eval_log(log, str(path))
        return
    packed = path.with_name(f"packed-{path.name}")
    inspect.write_eval_log(log, str(packed))
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


def _sample(sample: Sample, model: str) -> inspect.EvalSample:
    """One response, or the error in its place; of a conversation, with the turns before it."""
    unique = digest("inspect sample", _place(sample))[:22]
    ids = (f"{unique}-before-{number}" for number in itertools.count())
    before = [message for turn in sample.earlier for message in _turn(turn, ids, model)]
    user = chat.ChatMessageUser(id=f"{unique}-user", content=sample.prompt, source="input")
    made = inspect.EvalSample(
        id=sample.id,
        epoch=sample.repeat + 1,
        uuid=unique,
        input=[*before, user] if before else sample.prompt,
        target=[call(each) for each in sample.expect],
        messages=[*before, user],
        output=chat.ModelOutput(model=model),
        metadata=sample.model_dump(mode="json", include=_ASKED | (_TURNS if sample.turns > 1 else set())),
    )
    if sample.missing is not None:
        made.output.error = sample.missing
        made.error = _error(sample.missing)
        return made
    message = chat.ChatMessageAssistant(
        id=f"{unique}-assistant", content=sample.response, source="generate", model=model
    )
    usage = _usage([sample])
    stop = _STOP.get(sample.finish_reason or "", "unknown")
    made.messages.append(message)
    made.output = chat.ModelOutput(
        model=model,
        choices=[chat.ChatCompletionChoice(message=message, stop_reason=stop)],
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


def _turn(turn: Sample, ids: Iterator[str], model: str) -> list[chat.ChatMessage]:
    """An earlier turn of a conversation, its response, the results of its calls, and the reply to them."""
    found: list[chat.ChatMessage] = [
        chat.ChatMessageUser(id=next(ids), content=turn.prompt, source="input"),
        chat.ChatMessageAssistant(id=next(ids), content=turn.response, source="generate", model=model),
        *(chat.ChatMessageTool(id=next(ids), content=each, source="input") for each in turn.results),
    ]
    if turn.reply:
        found.append(chat.ChatMessageAssistant(id=next(ids), content=turn.reply, source="input"))
    return found


def _usage(samples: Sequence[Sample]) -> chat.ModelUsage:
    """The tokens of some responses; none of those that are missing."""
    answered = [turn for sample in samples for turn in sample.reached if turn.answered]
    given, made = (
        sum(each.prompt_tokens for each in answered),
        sum(len(each.tokens or []) for each in answered),
    )
    return chat.ModelUsage(input_tokens=given, output_tokens=made, total_tokens=given + made)


def _results(samples: Sequence[Sample], allow_missing: bool) -> list[inspect.EvalScore]:
    """The scores: a metric for each category, and the overall mean with its interval if there is one."""
    found = summary(samples, allow_missing=allow_missing).scores
    scores = []
    for name in (each for each in METRICS if each in found):
        overall = found[name].overall
        low, high = overall.interval or (None, None)
        values = {category: each.mean for category, each in found[name].categories.items()}
        values |= {"mean": overall.mean, "stderr": overall.stderr, "interval_low": low, "interval_high": high}
        metrics = {
            each: inspect.EvalMetric(name=each, value=value)
            for each, value in values.items()
            if value is not None
        }
        scores.append(inspect.EvalScore(name=name, scorer=name, reducer="mean", metrics=metrics))
    return scores


def _error(message: str) -> inspect.EvalError:
    return inspect.EvalError(message=message, traceback="", traceback_ansi=printable(message))
