"""The one pass against mlx-lm's two commands, and what it refuses."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.convert import convert
from mlx_lm.fuse import main as fuse_command

from punie.backend import blas
from punie.backend import fuse as module
from punie.backend.fuse import fuse
from tests.unit.backend.models import BASE_KEY, make_adapter, make_base, tensors

EXPERTS = ["mlp.switch_mlp.up_proj", "mlp.switch_mlp.down_proj", "mlp.gate", "self_attn.q_proj"]


def two_steps(
    base: Path, adapter: Path, out: Path, *, bits: int | None, group_size: int = 64, recipe: str | None = None
) -> Path:
    """``mlx_lm fuse --dequantize``, then ``mlx_lm convert -q``: their own code, in this process."""
    blas.set_threads(0)
    fused = out.with_name("fused")
    command = ["fuse", "--model", str(base), "--adapter-path", str(adapter), "--save-path", str(fused)]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr("sys.argv", [*command, "--dequantize"])
        fuse_command()
        convert(
            str(fused), str(out), quantize=bits is not None, q_bits=bits, q_group_size=group_size,
            quant_predicate=recipe,
        )  # fmt: skip
    return out


def one_pass(base: Path, adapter: Path, out: Path, *, bits: int | None, **options: Any) -> Path:
    out.mkdir()
    fuse(base, adapter, out, base_key=BASE_KEY, bits=bits, **({"group_size": 64} | options))
    return out


def same(ours: Path, theirs: Path) -> bool:
    mine, other = tensors(ours), tensors(theirs)
    assert mine.keys() == other.keys()
    assert {n: (a.dtype, a.shape) for n, a in mine.items()} == {
        n: (a.dtype, a.shape) for n, a in other.items()
    }
    configs = [json.loads((folder / "config.json").read_text()) for folder in (ours, theirs)]
    assert configs[0] == configs[1]
    return all(mx.array_equal(mine[name], other[name]).item() for name in mine)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces so small that the layers of these tiny models are cut too."""
    monkeypatch.setattr(module, "PIECE", 5000)


@pytest.mark.parametrize(
    ("kind", "base_bits", "options", "adapter"),
    [
        ("dense", 4, {"bits": 5}, {}),
        ("dense", 8, {"bits": 4}, {}),
        ("dense", None, {"bits": 6}, {}),
        ("dense", 4, {"bits": None}, {}),
        ("dense", 4, {"bits": 8, "group_size": 32}, {"layers": 1}),
        ("dense", 4, {"bits": 4, "recipe": "mixed_3_6"}, {}),
        ("tied", 4, {"bits": 5}, {}),
        ("tied", None, {"bits": None}, {}),
        ("tied", 4, {"bits": 5}, {"keys": ["self_attn.q_proj", "model.embed_tokens"]}),
        ("tied", 4, {"bits": 5}, {"dora": True}),
        ("biased", 4, {"bits": 5}, {}),
        ("biased", 8, {"bits": 5}, {"dora": True}),
        ("moe", 4, {"bits": 5}, {}),
        ("moe", 8, {"bits": 6}, {"keys": EXPERTS}),
        ("moe", None, {"bits": 4, "recipe": "mixed_4_6"}, {}),
        ("moe", 4, {"bits": None}, {}),
    ],
    ids=str,
)  # fmt: skip
def test_the_bytes_are_those_of_the_two_commands(
    kind: str, base_bits: int | None, options: dict[str, Any], adapter: dict[str, Any], tmp_path: Path
) -> None:
    """Every tensor, its name, type and shape, and config.json are those of fuse and convert, bit for bit."""
    base = make_base(tmp_path / "base", kind, bits=base_bits)
    lora = make_adapter(tmp_path / "adapter", base, **adapter)
    ours = one_pass(base, lora, tmp_path / "ours", **options)
    assert same(ours, two_steps(base, lora, tmp_path / "theirs", **options))
