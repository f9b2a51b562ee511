"""The embedded model and some of its rows, in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from punie.data import SPLITS
from punie.util.paths import resource

RECIPE: dict[str, Any] = {
    "iters": 8,
    "batch_size": 2,
    "grad_accumulation_steps": 2,
    "accumulation": "per_token",
    "learning_rate": 1e-3,
    "lr_schedule": None,
    "optimizer": "adam",
    "optimizer_config": {},
    "steps_per_report": 2,
    "steps_per_eval": 4,
    "val_batches": 2,
    "save_every": 4,
    "keep_checkpoints": 4,
    "select": "last",
    "grad_checkpoint": False,
    "seed": 0,
    "patience": None,
}
ADAPTER: dict[str, Any] = {
    "fine_tune_type": "lora",
    "num_layers": 2,
    "rank": 4,
    "scale": 20.0,
    "dropout": 0.0,
    "keys": None,
    "seed": 0,
}


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The tiny model's tokenizer."""
    from punie.model import load

    return load.tokenizer(resource("data/models/tiny"))


@pytest.fixture(scope="session")
def splits(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """The first rows of code_mode, tokenized."""
    from punie.data.rows import Check
    from punie.formats.chat import Chat
    from punie.formats.code_mode import FORMAT
    from punie.stages.tokens import tokenize

    check, folder = Check(FORMAT, Chat(tokenizer, FORMAT)), tmp_path_factory.mktemp("splits")
    for name in SPLITS:
        rows = resource(f"data/code_mode/{name}").read_text("utf-8").splitlines(keepends=True)
        (folder / name).write_text("".join(rows[:30]), "utf-8")
    return {name.partition(".")[0]: tokenize(folder / name, check).examples for name in SPLITS}


@pytest.fixture
def fresh() -> Callable[..., Any]:
    """Makes a new copy of the tiny model in float32, with an adapter attached: (model, description)."""
    from punie.model import load
    from punie.train import adapter

    def make(**options: Any) -> tuple[Any, dict[str, Any]]:
        model = load.load(resource("data/models/tiny"), float32=True).model
        return model, adapter.attach(model, **{**ADAPTER, **options})

    return make
