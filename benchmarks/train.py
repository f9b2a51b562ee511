"""Training against mlx-lm's own: supervised tokens a second, side by side.

    python benchmarks/train.py             tiny, batch 8: float32 with OpenBLAS for both; 4-bit as installed
    python benchmarks/train.py --large     also a generated 4-bit model of about 200 M parameters (20 minutes)

Both sides train on data/code_mode with the prompt masked, LoRA rank 8 on every layer, no validation;
supervised tokens are counted the same way for both. The large models get the 64 shortest rows. Each figure
is the median of several rounds, ours and theirs in turn.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import models
from figures import Row, report, run, shown

from punie.util.paths import resource

PEER = Path(__file__).with_name("peer.py")
OURS = """
import json, sys, tempfile
from pathlib import Path
from punie.model import blas
blas.activate()
import mlx.core as mx
from punie.data.rows import Check
from punie.formats.chat import Chat
from punie.formats.code_mode import FORMAT
from punie.model import load
from punie.train import adapter, forward, loop, methods, states
from punie.stages.tokens import tokenize
folder, data, iters, batch = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
layers, threads, kept = int(sys.argv[6]), int(sys.argv[7]), sys.argv[8] == "True"
loaded = load.load(folder, float32=True, threads=threads)
chat = Chat(loaded.tokenizer, FORMAT)
rows = tokenize(data / "train.jsonl", Check(FORMAT, chat, limit=2048)).examples
description = adapter.attach(loaded.model, fine_tune_type="lora", num_layers=layers, rank=8, scale=20.0,
                             dropout=0.0, keys=None, seed=0)
recipe = loop.Recipe(iters=iters, batch_size=batch, grad_accumulation_steps=1, accumulation="per_token",
                      learning_rate=1e-4, lr_schedule=None, optimizer="adam", optimizer_config={},
                      steps_per_report=10, steps_per_eval=10**6, val_batches=1, save_every=10**6,
                      keep_checkpoints=1, select="last", grad_checkpoint=False, seed=0)
out = Path(tempfile.mkdtemp(dir=sys.argv[5]))  # a finished training would not be repeated
how = forward.fit(loaded.model, frozen=True)
how.share(loaded.model, rows)
if how.cut:
    parts = forward.Parts(loaded.model, how.arity, how.opening)
    how.states = states.States(lambda tokens: parts.below(how.cut, tokens), left=how.left)
if kept:
    below = how.states.below
    (out / "kept").mkdir()
    states.write(below, rows, out / "kept")
    how.states.read(out / "kept")
t = loop.Training(model=loaded.model, examples=rows,
                  method=methods.build("sft", how, {}),
                  valid=rows[:batch], recipe=recipe, out=out, description=description, identity=str(out),
                  report=lambda _: None).run()
print(t.supervised_tokens * t.tokens_per_second / t.tokens, mx.get_peak_memory() / 1e6)
"""


@dataclass(frozen=True)
class Side:
    """How many iterations one side runs, and on which model."""

    model: Path
    iters: int
    layers: int = -1
    """That are trained."""
    threads: int = 1
    """A second one only waits where the machine is shared."""
    kept: bool = False
    """The frozen layers' output was kept."""


def ours(side: Side, data: Path, batch: int, work: Path) -> tuple[float, float]:
    """Supervised tokens a second of one training, and its largest memory in MB."""
    how = (side.layers, side.threads, side.kept)
    given = (side.model, data, side.iters, batch, work, *how)
    rate, memory = run(sys.executable, "-c", OURS, *given).out.split()[-2:]
    return float(rate), float(memory)


def lora(side: Side, data: Path, batch: int, work: Path, openblas: bool) -> list[object]:
    """mlx-lm's command for the same."""
    return [
        sys.executable, PEER, *(["--openblas", side.threads] if openblas else []), "mlx_lm.lora", "--train",
        "--model", side.model, "--data", data, "--mask-prompt", "--num-layers", side.layers,
        "--batch-size", batch, "--iters", side.iters,
        "--learning-rate", "1e-4", "--steps-per-report", 1, "--save-every", 10**6, "--seed", 0,
        "--adapter-path", work / "adapter", "--report-to", "json",
    ]  # fmt: skip


def theirs(command: list[object]) -> tuple[float, float]:
    """The same of one training of mlx-lm's, as it reports its steps."""
    told = [json.loads(line) for line in run(*command).out.splitlines() if line.startswith("{")]
    seconds = sum(1 / each["iterations_per_second"] for each in told)
    return told[-1]["trained_tokens"] / seconds, 1e3 * max(each["peak_memory"] for each in told)


def training_rows(folder: Path, count: int | None, *, tools: int = 0) -> Path:
    """A data set of the training rows alone: without validation rows mlx-lm does not validate.

    ``tools`` is how many are declared in the system prompt.
    """
    rows = (resource("data/code_mode") / "train.jsonl").read_text("utf-8").splitlines()
    if tools:
        declared = json.loads(resource("data/tools/punie26.json").read_text("utf-8"))[:tools]
        for number, chat in enumerate(map(json.loads, rows)):
            chat["messages"][0]["content"] += "".join(f"\n{json.dumps(tool)}" for tool in declared)
            rows[number] = json.dumps(chat)
    folder.mkdir()
    kept = rows if count is None else sorted(rows, key=len)[:count]
    (folder / "train.jsonl").write_text("\n".join(kept) + "\n", "utf-8")
    return folder


def compared(
    what: str, sides: tuple[Side, Side], data: Path, batch: int, work: Path, *, openblas: bool,
    rounds: int, at_least: float | None = None,
) -> Row:  # fmt: skip
    """The speeds of both sides, ours first."""
    a, b = sides
    command = lora(b, data, batch, work, openblas)
    pairs = [(ours(a, data, batch, work)[0], theirs(command)[0]) for _ in range(rounds)]
    rates = zip(*pairs, strict=True)
    return Row(what, next(rates), "tokens/s", next(rates), shown(command, work), at_least=at_least)


def measure(rounds: int, iters: int, large: bool) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        same = partial(compared, work=work, rounds=rounds, openblas=True)
        installed = partial(compared, work=work, rounds=rounds, openblas=False)
        data = training_rows(work / "data", None)
        side = Side(models.write(work / "float32", "--float32"), iters)
        yield same("tiny, batch 8, float32 and OpenBLAS for both", (side, side), data, 8, at_least=1.2)
        model = models.write(work / "4bit", "--bits", 4)
        sides = Side(model, iters // 3), Side(model, iters // 10)
        yield installed("tiny, batch 8, 4-bit base, mlx-lm as installed", sides, data, 8, at_least=25)
        if large:
            shape, data = ("--width", 1024, "--layers", 16), training_rows(work / "short", 64)
            side = Side(models.write(work / "large-float32", *shape, "--float32"), 4)
            yield same("200 M, batch 1, float32 and OpenBLAS for both", (side, side), data, 1)
            model = models.write(work / "large-4bit", *shape, "--bits", 4)
            sides = Side(model, 4), Side(model, 1)
            yield installed("200 M, batch 1, 4-bit base, mlx-lm as installed", sides, data, 1, at_least=50)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--large", action="store_true", help="also the model of 200 M parameters")
    parser.add_argument("--rounds", type=int, default=3, help="of each comparison (default: %(default)s)")
    parser.add_argument(
        "--iters", type=int, default=60, help="of tiny; as installed, a tenth and ours a third"
    )
    arguments = parser.parse_args()
    report(measure(arguments.rounds, arguments.iters, arguments.large))
