"""What scores belong to, recomputed from what was loaded and rendered, not from the config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from punie.model import resolve
from punie.store.keys import content_digests, digest

if TYPE_CHECKING:
    from punie.model.generate import Request
    from punie.results.records import Identity


def identity(
    loaded: Any, folder: Path, adapter: Path | None, suite: Path, asked: Sequence[Request]
) -> Identity:
    """The digests, sha256 as hex digits, of all that decides an evaluation's answers besides the sampling.

    Arrays are hashed as they lie in memory, dequantized ones as float32.
    """
    from punie.model.arrays import digests
    from punie.results.records import Identity, Named, Weights

    files = resolve.contents(folder)
    weights = _weights(files)
    if adapter is not None:
        weights |= _weights(resolve.contents(adapter))
    tensors = digests(loaded.model)
    return Identity(
        unverified=None,
        weights=Weights(whole=digest("weights", tensors), files=weights, tensors=tensors),
        model=digest("model", files | weights),
        tokenizer=digest("tokenizer", _tokenizer(loaded.tokenizer)),
        chat_template=digest("chat template", loaded.tokenizer.chat_template),
        suite=Named(name=suite.stem, sha256=next(iter(content_digests([suite]).values()))),
        prompts=digest("prompts", {request.id.rpartition("#")[0]: request.prompt for request in asked}),
    )


def _weights(files: Mapping[str, str]) -> dict[str, str]:
    return {name: sha for name, sha in files.items() if name.endswith(".safetensors")}


def _tokenizer(tokenizer: Any) -> dict[str, object]:
    """All that decides how text becomes tokens, and which of them end an answer."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return {
        "serialized": backend.to_str() if backend is not None else tokenizer.get_vocab(),
        "ends": sorted(tokenizer.eos_token_ids),
    }
