"""A run's answers and scores as a log of Inspect (inspect_ai), in Inspect's own classes.

Needs the extra ``punie[inspect]``. Everything is taken from the run's record: ids included, so that two
exports of a run are the same log.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
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
from punie.results.answers import summary
from punie.store.keys import digest
from punie.util.printable import printable

_STOP = {"stop": "stop", "length": "max_tokens"}
"""Our finish reasons in Inspect's words."""
_ASKED = ("category", "expect", "match", "prompt_sha256", "missing")
_ANSWERED = ("finish_reason", "taxonomy", "tokens", "logprobs")
_JUDGED = ("taxonomy", "wrapper", "opening", "blocks", "execution", "calls")

Record = Mapping[str, Any]


def build(
    records: Sequence[Record],
    *,
    name: str,
    model: str,
    started: str,
    ended: str,
    sampling: Mapping[str, Any],
    suite: str,
    packages: Mapping[str, str],
    metadata: Mapping[str, Any],
    tags: Sequence[str] = (),
    allow_missing: bool = False,
) -> EvalLog:
    """The log of a run.

    Args:
        records: The run's raw records; a missing answer becomes a sample with an error and no score.
        name: Of the run, Inspect's task.
        model: What answered, as Inspect names models.
        started: When the run began, as ISO 8601.
        ended: When it ended.
        sampling: ``temperature``, ``top_p``, ``top_k``, ``seed``, ``max_tokens``, ``stop``, ``repeats``.
        suite: The suite's name, Inspect's data set.
        packages: Versions by name.
        metadata: Whatever else is to be in the log's header, such as the identity.
        tags: What a list of logs is to show of this one.
        allow_missing: The log is a success although answers are missing.
    """
    ids = list(dict.fromkeys(record["id"] for record in records))
    missing = sum(record["missing"] is not None for record in records)
    unique = digest("inspect log", [name, model, started, [_place(record) for record in records], metadata])
    config = GenerateConfig(
        temperature=sampling["temperature"],
        top_p=sampling["top_p"],
        top_k=sampling["top_k"],
        seed=sampling["seed"],
        max_tokens=sampling["max_tokens"],
        stop_seqs=sampling["stop"] or None,
    )
    error = None
    if missing and not allow_missing:
        error = _error(f"{missing} of {len(records)} answers are missing: there is no overall score")
    return EvalLog(
        status="error" if error else "success",
        eval=EvalSpec(
            eval_id=unique[:22],
            run_id=unique[22:44],
            task_id=digest("inspect task", [name, suite])[:22],
            created=started,
            task=name,
            tags=list(tags),
            dataset=EvalDataset(name=suite, samples=len(ids), sample_ids=ids, shuffled=False),
            model=model,
            model_generate_config=config,
            config=EvalConfig(epochs=sampling["repeats"], epochs_reducer=["mean"]),
            packages=dict(packages),
            metadata=dict(metadata),
        ),
        plan=EvalPlan(name="punie", config=config),
        results=EvalResults(
            total_samples=len(records),
            completed_samples=len(records) - missing,
            scores=_results(records, allow_missing) if missing < len(records) else [],
        ),
        stats=EvalStats(
            started_at=started,
            completed_at=ended,
            model_usage={model: _total(records)},
        ),
        error=error,
        samples=[_sample(record, model) for record in records],
    )


def write(log: EvalLog, path: Path) -> None:
    """Write a log, by Inspect's own writer; the same log gives the same bytes.

    A .eval file is a zip of JSON. Newer Inspects pack it with zstd, which older ones cannot open, and with
    the time of day; so it is packed again, with what every zip reader knows and no time.

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
            entry = zipfile.ZipInfo(name)
            target.writestr(entry, source.read(name), zipfile.ZIP_DEFLATED)
    packed.unlink()


def _place(record: Record) -> str:
    return f"{record['id']}#{record['repeat']}"


def _sample(record: Record, model: str) -> EvalSample:
    """One answer, or the error in its place."""
    unique = digest("inspect sample", _place(record))[:22]
    sample = EvalSample(
        id=record["id"],
        epoch=record["repeat"] + 1,
        uuid=unique,
        input=record["prompt"],
        target=[_call(each) for each in record["expect"]],
        messages=[ChatMessageUser(id=f"{unique}-user", content=record["prompt"], source="input")],
        output=ModelOutput(model=model),
        metadata={name: record[name] for name in _ASKED},
    )
    if record["missing"] is not None:
        sample.output.error = record["missing"]
        sample.error = _error(record["missing"])
        return sample
    message = ChatMessageAssistant(
        id=f"{unique}-assistant", content=record["output"], source="generate", model=model
    )
    usage = _usage(record)
    sample.messages.append(message)
    sample.output = ModelOutput(
        model=model,
        choices=[
            ChatCompletionChoice(message=message, stop_reason=_STOP.get(record["finish_reason"], "unknown"))
        ],
        usage=usage,
        time=record["seconds"],
    )
    sample.model_usage = {model: usage}
    sample.scores = {
        name: Score(
            value=score["value"],
            answer="; ".join(map(_call, record["calls"])) or None if name == "strict" else None,
            explanation=score["reason"],
            metadata={field: record.get(field) for field in _JUDGED} if name == "strict" else None,
        )
        for name in METRICS
        if (score := record["scores"].get(name))
    }
    sample.metadata |= {name: record[name] for name in _ANSWERED}
    return sample


def _total(records: Sequence[Record]) -> ModelUsage:
    usages = [_usage(record) for record in records]
    asked, answered = (
        sum(usage.input_tokens for usage in usages),
        sum(usage.output_tokens for usage in usages),
    )
    return ModelUsage(input_tokens=asked, output_tokens=answered, total_tokens=asked + answered)


def _usage(record: Record) -> ModelUsage:
    """Tokens that a record counts; an answer that is missing, or whose tokens nobody told, has none."""
    asked, answered = record["prompt_tokens"], len(record.get("tokens") or [])
    if record["missing"] is not None:
        return ModelUsage()
    return ModelUsage(input_tokens=asked, output_tokens=answered, total_tokens=asked + answered)


def _results(records: Sequence[Record], allow_missing: bool) -> list[EvalScore]:
    """The scores: a metric for each category, and the overall mean with its interval if there is one."""
    found = summary(records, allow_missing=allow_missing)
    scores = []
    for name in (each for each in METRICS if each in SCORERS and each in found):
        overall = found[name]["overall"]
        low, high = overall.get("interval") or (None, None)
        values = {
            **{category: each["mean"] for category, each in found[name]["categories"].items()},
            "mean": overall["mean"],
            "stderr": overall["stderr"],
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


def _call(call: Mapping[str, Any]) -> str:
    """A call as one writes it."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in call["arguments"].items())
    return f"{call['tool']}({arguments})"


def _error(message: str) -> EvalError:
    return EvalError(message=message, traceback="", traceback_ansi=printable(message))
