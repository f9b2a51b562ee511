"""Build an embedded model from its seed: tokenizer, pretraining, and the files as mlx-lm reads them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from punie.embedded import model_card as card
from punie.embedded import tokenizer as bpe
from punie.embedded.code import chain
from punie.embedded.corpus import Corpus
from punie.embedded.phrasings import draw_task
from punie.embedded.specs import SPECS, Spec
from punie.embedded.values import Values, draws
from punie.formats.code_mode import wrap
from punie.formats.tools import TOOLS
from punie.model import blas
from punie.util.errors import PunieError
from punie.util.files import write_json
from punie.util.progress import Bar

_CONVERSATIONS = 5_000
"""Conversations the tokenizer learns from."""


def recipe(name: str, steps: int | None = None) -> Spec:
    """The recipe of a model, with its number of steps replaced if one is given.

    Raises:
        PunieError: No model has this name, or there are no steps.
    """
    if name not in SPECS:
        raise PunieError("There is no recipe for this model.", found=name, expected=" or ".join(SPECS))
    if steps is not None and steps < 1:
        raise PunieError(
            "A model needs steps to be trained.", where="--steps", found=steps, expected="1 or more"
        )
    return SPECS[name] if steps is None else replace(SPECS[name], steps=steps)


def build(
    name: str, out: Path, *, seed: int = 0, steps: int | None = None, progress: Bar | None = None
) -> Path:
    """Build a model folder.

    Bit-identical when repeated on the same machine with the same libraries.

    Args:
        name: One of ``punie.embedded.specs.SPECS``.
        out: The folder to make; one that is there is replaced once the new one is whole.
        seed: Decides initial weights and corpus.
        steps: Optimizer steps instead of the recipe's, for tests.
        progress: Told of every step.

    Returns:
        The folder.

    Raises:
        PunieError: No model has this name, or there are no steps.
    """
    spec = recipe(name, steps)
    blas.activate()
    import mlx.core as mx
    from mlx.utils import tree_flatten

    from punie.embedded.pretrain import new_model, pretrain

    tokenizer = bpe.train(_texts(spec, seed), spec.vocabulary)
    model = new_model(spec, seed)
    pretrain(model, tokenizer, spec, seed=seed, steps=spec.steps, bar=progress or _silent)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        folder = Path(scratch) / out.name
        folder.mkdir()
        flat = dict(tree_flatten(model.parameters()))
        weights = {key: flat[key].astype(mx.bfloat16) for key in sorted(flat)}
        mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
        _describe(folder, spec, tokenizer)
        card.write(folder, card.record(folder, spec, seed))
        if out.exists():
            shutil.rmtree(out)
        folder.rename(out)
    return out


def _silent(done: int, note: str = "") -> None:
    """A bar that shows nothing."""


def _describe(folder: Path, spec: Spec, tokenizer: bpe.Tokenizer) -> None:
    """Everything of a model folder but the weights."""
    config = spec.config()
    end, padding = (tokenizer.token_to_id(token) for token in (bpe.SPECIAL[-1], bpe.SPECIAL[0]))
    write_json(folder / "config.json", config | {"eos_token_id": end, "pad_token_id": padding})
    write_json(
        folder / "generation_config.json", {"eos_token_id": end, "pad_token_id": padding, "do_sample": False}
    )
    bpe.save(tokenizer, folder, longest=int(str(config["max_position_embeddings"])))


def _texts(spec: Spec, seed: int) -> Iterator[str]:
    """What the tokenizer learns from: the corpus, and wrapped code, which the model itself never sees."""
    corpus = Corpus(seed, spec.novel / 3)
    for _ in range(_CONVERSATIONS):
        for message in corpus.conversation():
            yield message["content"]
    values = Values(draws("wrapped", seed))
    for tool in TOOLS:
        for _ in range(20):
            yield wrap(chain([draw_task(tool, "train", values)]))
