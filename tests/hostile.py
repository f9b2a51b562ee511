"""Model folders full of code and pickles, each of which leaves a mark when it is run."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from punie.util.paths import resource

PLANTED = "planted.py"
AUTO_TOKENIZER = {"AutoTokenizer": ["planted.Planted", "planted.Planted"]}


class Bomb:
    """An object whose pickle makes a file when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.marker,)


def plant(folder: Path, marker: Path) -> Path:
    """The tiny model with Python files and pickles beside it, each of which makes the marker when run."""
    shutil.copytree(resource("data/models/tiny"), folder)
    code = f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n"
    classes = "class Planted:\n    pass\nModel = ModelArgs = Planted\n"
    for name in (PLANTED, "__init__.py", "qwen3_moe.py", "setup.py", "sitecustomize.py", "mlx_lm.py"):
        (folder / name).write_text(code + classes)
    for name in ("pytorch_model.bin", "model.pt", "optimizer.pkl", "tokenizer.pkl", "training_args.bin"):
        (folder / name).write_bytes(pickle.dumps(Bomb(marker)))
    return folder


def amend(path: Path, **fields: Any) -> None:
    """Set fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
