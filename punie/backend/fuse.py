"""From a base model and an adapter to a quantized model folder that mlx-lm itself loads."""

from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_unflatten
from mlx_lm.utils import compute_bits_per_weight, dequantize_model, quantize_model, save_config, save_model

from punie.backend import blas
from punie.backend.load import load_lazily
from punie.errors import PunieError

_COPIED = {".json", ".jinja", ".txt", ".model", ".tiktoken"}
_OWN = {"config.json", "model.safetensors.index.json"}


def fuse(base: Path, adapter: Path, out: Path, *, bits: int | None, group_size: int) -> dict[str, Any]:
    """Add the adapter to the base's weights and quantize the sum, lazily, tensor by tensor as it is saved.

    Args:
        base: The base model's folder.
        adapter: The adapter's folder, in mlx-lm's format.
        out: The folder to write into.
        bits: Bits per weight; None keeps the base's floating point.
        group_size: Weights that share a scale.

    Returns:
        ``bits_per_weight`` (None if not quantized) and ``size_mb`` of the weights.

    Raises:
        PunieError: No layer of the model can be quantized in groups of this size.
    """
    blas.set_threads(0)  # the deltas are thin, and must not depend on what ran before in this process
    model, config = load_lazily(base, adapter)
    fused = [
        (name, module.fuse(dequantize=True))
        for name, module in model.named_modules()
        if hasattr(module, "fuse")
    ]
    model.update_modules(tree_unflatten(fused))
    model = dequantize_model(model)
    config.pop("quantization", None)
    config.pop("quantization_config", None)
    bits_per_weight = None
    if bits is not None:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what is returned below
            model, config = quantize_model(model, config, group_size, bits)
        bits_per_weight = round(compute_bits_per_weight(model), 3)
        if not any(hasattr(module, "bits") for _, module in model.named_modules()):
            raise PunieError(
                "No layer of the model can be quantized.",
                where=f"quantize.group_size={group_size}",
                expected="a group size that divides the layers' input sizes",
                next_step="quantize.group_size=32, or quantize=none",
            )
    save_model(out, model, donate_model=True)
    save_config(config, out / "config.json")
    for path in base.iterdir():
        if path.suffix in _COPIED and path.name not in _OWN and not path.name.startswith("."):
            shutil.copyfile(path, out / path.name)
    mx.clear_cache()
    weights = sum(path.stat().st_size for path in out.glob("*.safetensors"))
    return {"bits_per_weight": bits_per_weight, "size_mb": round(weights / 1e6, 3)}
