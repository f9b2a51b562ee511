"""One training as a job that a process can be given whole: alone, or as one of several workers.

``python -m punie.stages.training JOB.json`` is what ``mlx.launch`` starts on every worker.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from punie.util.errors import PunieError
from punie.util.files import write_json
from punie.util.processes import end_with

JOB, RESULT, OUTPUT = "job.json", "result.json", "workers.log"
_POLL = 0.2
"""Seconds between looks at the metrics stream of the workers."""

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Job:
    """All that a training needs, as plain values."""

    out: str
    base: str
    """Folder of the base model."""
    base_key: str
    train: str
    """Tokenized rows."""
    valid: str
    identity: str
    lock: str
    """Held by who writes into ``out``: an orphan of a killed run may not have ended yet."""
    parent: int
    """The run's own process; workers on this machine end with it."""
    lora: dict[str, Any]
    """The fields of ``lora``."""
    select_suite: str | None
    float32: bool
    blas: bool
    threads: int | None


def work(job: Job, report: Report, group: Any = None) -> dict[str, Any]:
    """Train in this process; returns ``train.Trained`` as plain values."""
    from filelock import FileLock

    from punie.model import load
    from punie.train import adapter
    from punie.train import loop as train
    from punie.train.batches import load_rows

    lora = job.lora
    loaded = load.load(Path(job.base), float32=job.float32, threads=job.threads)
    description = adapter.attach(
        loaded.model,
        **{k: lora[k] for k in ("fine_tune_type", "num_layers", "rank", "scale", "dropout", "keys", "seed")},
    )
    recipe = train.Recipe(**{field.name: lora[field.name] for field in dataclasses.fields(train.Recipe)})
    writes = group is None or group.rank() == 0
    with FileLock(job.lock) if writes else contextlib.nullcontext():
        trained = train.train(
            loaded.model,
            load_rows(Path(job.train), "train.jsonl"),
            load_rows(Path(job.valid), "valid.jsonl"),
            recipe,
            out=Path(job.out),
            description={**description, "base_key": job.base_key},
            identity=job.identity,
            report=report,
            score=_scorer(loaded, Path(job.select_suite)) if job.select_suite else None,
            group=group,
        )
    return dataclasses.asdict(trained)


def launch(job: Job, report: Report) -> dict[str, Any]:
    """Train with ``lora.workers`` processes under ``mlx.launch``, its ring backend joining them.

    Raises:
        PunieError: A worker failed; its output is shown.
    """
    out, lora = Path(job.out), job.lora
    write_json(out / JOB, dataclasses.asdict(job))
    command = [
        str(Path(sysconfig.get_path("scripts")) / "mlx.launch"),
        *("--backend", "ring", "--starting-port", str(random.randrange(20_000, 60_000))),  # noqa: S311 - a port
        *(("--hosts", ",".join(lora["hosts"])) if lora["hosts"] else ("-n", str(lora["workers"]))),
        *("--", sys.executable, "-P", "-m", __name__, str(out / JOB)),
    ]
    (out / RESULT).unlink(missing_ok=True)
    with (out / OUTPUT).open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            _follow(process, out / "train.jsonl", report)
        finally:
            process.terminate()
            process.wait()
    if not (out / RESULT).exists():
        raise PunieError(
            "A worker of the training failed.",
            where=" ".join(command[:8]),
            found="\n           ".join((out / OUTPUT).read_text().splitlines()[-6:]),
            next_step="lora.workers=1 trains in one process",
        )
    trained = json.loads((out / RESULT).read_text())
    for name in (JOB, RESULT, OUTPUT):
        (out / name).unlink()
    return trained


def _follow(process: subprocess.Popen[bytes], stream: Path, report: Report) -> None:
    """Report the workers' metrics as they are written, until they end."""
    position = 0
    while True:
        ended = process.poll() is not None
        if stream.exists():
            with stream.open() as lines:
                if stream.stat().st_size < position:  # a resumed training cut it back
                    position = 0
                lines.seek(position)
                for line in lines:
                    if line.endswith("\n"):
                        position += len(line)
                        with contextlib.suppress(ValueError):  # the cut went through this line
                            report(json.loads(line))
        if ended:
            return
        time.sleep(_POLL)


def _scorer(loaded: Any, suite: Path) -> Callable[[], float]:
    """Scores the model as it stands at the time of the call."""
    from punie.stages.answering import strict_score

    return lambda: strict_score(loaded, suite)


def main() -> None:
    """Be one worker."""
    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    if not job.lora["hosts"]:
        end_with(job.parent)
    from punie.model import blas

    blas.activate(job.blas)
    from punie.train.loop import join_workers

    group = join_workers()
    try:
        trained = work(job, lambda _: None, group)
    except PunieError as error:
        sys.exit(str(error))
    if group.rank() == 0:
        write_json(Path(job.out) / RESULT, trained)


if __name__ == "__main__":
    main()
