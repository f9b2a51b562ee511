"""How rope is scaled: by the metadata of a GGUF file, and by a config.json."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from punie.model.folders import ModelJson
from punie.model.gguf.file import File, Refused
from punie.model.gguf.weights import Weight, values
from punie.util.jsonl import excerpt

if TYPE_CHECKING:
    from punie.model.gguf.architecture import Fields

_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""What all models with Llama 3's scaling of rope have; their GGUFs hold its result, in rope_freqs.weight."""
SCALINGS = ("linear", "yarn")
FIELDS = {"factor": "factor", "original_max_position_embeddings": "original_context_length"}
"""What scales rope: by config.json's key the field after ``rope.scaling``."""


def read(file: File, fields: Fields, stated: ModelJson) -> ModelJson | None:
    """How rope is scaled, in config.json's form."""
    scaling = fields.metadata.get(f"{fields.prefix}.rope.scaling.type", "none")
    if "rope_freqs.weight" in file.tensors:
        return _llama3(file, stated)
    if scaling in ("none", ""):
        return None
    if scaling not in SCALINGS or fields.prefix in ("gemma", "gemma2"):
        raise Refused(
            "The GGUF file scales rope in a way that punie does not read.",
            where=f"{fields.prefix}.rope.scaling.type",
            found=excerpt(scaling),
            expected="none, linear or yarn",
        )
    found = {"rope_type": scaling, "factor": fields.number("rope.scaling.factor")}
    if scaling == "yarn":
        found["original_max_position_embeddings"] = fields.extent("rope.scaling.original_context_length")
    return found


def _llama3(file: File, stated: ModelJson) -> ModelJson:
    """Llama 3's scaling, by the factors it leads to.

    Raises:
        Refused: They are not those of Llama 3's scaling.
    """
    tensor = file.tensors["rope_freqs.weight"]
    half = stated["head_dim"] // 2
    if tensor.shape == (half,) and stated["model_type"] == "llama":
        given = np.concatenate(list(values(file.path, Weight("", tensor))))
        factor = float(given.max())
        if np.allclose(given, llama3_factors(half, stated["rope_theta"], factor), rtol=1e-3):
            return {"rope_type": "llama3", "factor": factor, **_LLAMA3}
    raise Refused(
        "The GGUF file scales rope in a way that punie does not read.",
        where=f"{file.path}: rope_freqs.weight",
        expected="the factors of Llama 3's scaling",
    )


def llama3_factors(half: int, base: float, factor: float) -> np.ndarray:
    """What the wavelength of each of ``half`` frequencies is multiplied by, in Llama 3's scaling.

    Source: https://arxiv.org/abs/2407.21783 and the rope_utils of its implementations.
    """
    waves = 2 * np.pi * base ** (np.arange(half) / half)
    low, high = _LLAMA3["low_freq_factor"], _LLAMA3["high_freq_factor"]
    smooth = np.clip((_LLAMA3["original_max_position_embeddings"] / waves - low) / (high - low), 0, 1)
    return 1 / ((1 - smooth) / factor + smooth)


def scaled(config: ModelJson) -> ModelJson | None:
    """How a config.json scales rope, in the form that ``config`` gives it; None if it does not."""
    given = config.get("rope_scaling") or {}
    kind = given.get("rope_type", given.get("type", "default"))
    if kind == "default":
        return None
    return {
        "rope_type": kind,
        **{k: v for k, v in given.items() if k not in ("type", "rope_type", "rope_theta")},
    }
