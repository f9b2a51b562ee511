"""One training as a job that a process can be given whole: alone, or as one of several workers.

``mlx.launch`` starts ``python -m punie.stages.training JOB.json`` on every worker.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from punie.model import stored
from punie.model.device import device_kind, version
from punie.stages.contract import LOADING, Contents
from punie.stages.train import most_kept
from punie.store.artifacts import Store
from punie.store.keys import SCHEMA, artifact_key, digest
from punie.store.leases import lease
from punie.store.sources import sourced
from punie.train import callbacks
from punie.util.errors import PunieError, StoreError
from punie.util.files import write_json
from punie.util.locks import empty_file, locked
from punie.util.printable import in_bytes
from punie.util.processes import end_with

if TYPE_CHECKING:
    import mlx.core as mx
    import mlx.nn as nn

    from punie.train.batches import Row
    from punie.train.forward import Forward
    from punie.train.states import States

JOB, RESULT, OUTPUT = "job.json", "result.json", "workers.log"
Report = Callable[[callbacks.Record], None]


@dataclass(frozen=True)
class Job:
    """All that a training needs, as JSON values."""

    out: str
    """Folder of the artifact that is being built; its name holds the key, the digest of all that matters."""
    base: str
    """Folder of the base model."""
    base_key: str
    train: str
    """File of tokenized examples."""
    valid: str
    lock: str
    """Lock of the process that writes into ``out``; one left over from a killed run may still hold it."""
    parent: int
    """The run's own process; workers on this machine end with it."""
    lora: Contents
    """The fields of ``lora``."""
    format: str
    """How calls are written, for the suite that selects a checkpoint; so are the next three."""
    tools: list[Contents]
    options: Contents
    system: str
    select_suite: str | None
    float32: bool
    blas: bool
    threads: int | None
    store: str
    """Folder of the store, which keeps the frozen layers' output."""


def work(job: Job, report: Report, group: mx.distributed.Group | None = None) -> Contents:
    """Train in this process; returns ``loop.Trained`` as plain values."""
    from punie.evals.suite import load_suite
    from punie.formats.tools import read_tools
    from punie.model import load
    from punie.stages import chats
    from punie.stages.answering import strict_score
    from punie.train import adapter, forward, loop, methods

    def doing(what: str) -> None:
        report({"kind": "doing", "iter": 0, "what": what})

    lora, out = job.lora, Path(job.out)
    doing("loading the model")
    loaded = load.load(Path(job.base), float32=job.float32, threads=job.threads)
    names = ("fine_tune_type", "num_layers", "rank", "scale", "dropout", "keys", "seed")
    description = adapter.attach(loaded.model, **{name: lora[name] for name in names})

    def score() -> float:
        suite = load_suite(Path(job.select_suite or ""), read_tools(job.tools, "tools"))
        chat = chats.build(loaded.tokenizer, job.format, job.options)
        return strict_score(loaded, chat, suite, system=job.system)

    how = forward.fit(loaded.model, frozen=lora["cache_frozen"] != "off")
    method = methods.build(lora["method"], how, lora)
    train, valid = (
        method.load(Path(path), name)
        for path, name in ((job.train, "train.jsonl"), (job.valid, "valid.jsonl"))
    )
    if lora["dropout"] == 0 and not lora["grad_checkpoint"]:
        how.share(loaded.model, (*train, *valid))
    if how.left:
        report({"kind": "opening", "iter": 0, "tokens": how.left})
    notes = [] if how.note is None else [how.note]
    if lora["optimizer"] == "adafactor" and lora["optimizer_config"].get("relative_step", True):
        left = "adafactor finds its own learning rate, so lora.learning_rate is not used"
        notes.append(f"{left}; +lora.optimizer_config.relative_step=false uses it")
    writes = group is None or group.rank() == 0
    with contextlib.ExitStack() as held:
        if writes:
            held.enter_context(locked(Path(job.lock), make=empty_file))
        if how.cut:
            doing(f"{how.cut} frozen layers: their output is read, or computed")
            how.states = _states(job, loaded.model, how, train, valid, report, held, notes)
        doing("validation, then the first iteration")
        trained = loop.Training(
            model=loaded.model,
            method=method,
            examples=train,
            valid=valid,
            recipe=loop.Recipe(**{field.name: lora[field.name] for field in dataclasses.fields(loop.Recipe)}),
            out=out,
            description={**description, "base_key": job.base_key},
            identity=out.name,
            report=report,
            score=score if job.select_suite else None,
            group=group,
        ).run()
    return {**dataclasses.asdict(trained), "warnings": [*notes, *trained.warnings]}


def _states(
    job: Job,
    model: nn.Module,
    how: Forward,
    train: Sequence[Row],
    valid: Sequence[Row],
    report: Report,
    leases: contextlib.ExitStack,
    notes: list[str],
) -> States:
    """What the frozen layers give for the examples; kept in the store where that pays.

    Nothing deletes it before ``leases`` ends. ``notes`` gets why it is not kept, where that was wanted.
    """
    from punie.model import blas
    from punie.train import forward, states

    parts = forward.Parts(model, how.arity, how.opening)

    def below(tokens: Sequence[int]) -> mx.array:
        return parts.below(how.cut, tokens)

    lora, rows = job.lora, (*train, *valid)
    names = {*map(states.name_of, rows)}
    found = states.States(below, held=frozenset(map(states.name_of, valid)), left=how.left)
    material = {
        "schema": SCHEMA,
        "stage": "frozen",
        "version": states.VERSION,
        "settings": {"layers": how.cut, "float32": job.float32, "opening": how.left},
        "upstream": {"base": job.base_key},
        "contents": {"examples": digest("examples", sorted(names))},
        "libraries": {name: version(name) for name in ("mlx", "mlx-lm")},
        "device": [device_kind(), blas.in_use()],
    }
    material = sourced(material, *LOADING, "train/forward.py", "train/states.py")
    store, size = Store(Path(job.store)), states.bytes_of(below, rows)
    leases.enter_context(lease(store, "frozen", artifact_key(material)))
    if stored.find("frozen", material, store) is None:
        comes_back = lora["iters"] * lora["batch_size"] >= len(train)
        if lora["cache_frozen"] != "on" and not comes_back:
            return found
        if size > most_kept(lora["cache_gb"], store.root):
            limit = "lora.cache_gb or half of the free disk"
            notes.append(f"the frozen layers' output ({in_bytes(size)}) is over {limit}, and is not kept")
            return found

    def write(out: Path) -> Contents:
        return states.write(below, rows, out, done)

    def done(count: int) -> None:
        report({"kind": "frozen", "iter": 0, "done": count, "of": len(names)})

    try:
        found.read(stored.build("frozen", material, store, write))
    except (OSError, StoreError) as error:
        notes.append(f"the frozen layers' output cannot be kept; it is computed when it is needed: {error}")
    return found


def launch(job: Job, report: Report) -> Contents:
    """Train with ``lora.workers`` processes under ``mlx.launch`` and its ring backend.

    Raises:
        PunieError: A worker failed; the end of its output is shown.
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
            callbacks.follow(out / callbacks.METRICS, lambda: process.poll() is not None, report)
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
