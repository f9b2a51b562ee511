"""The one pass against mlx-lm's two commands, and what it refuses."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import mlx.core as mx
import mlx_lm
import pytest
from mlx_lm.convert import convert
from mlx_lm.fuse import main as fuse_command

from punie.model import blas
from punie.model import fuse as module
from punie.model.fuse import fuse
from punie.util.errors import PunieError
from tests.unit.model.models import BASE_KEY, make_adapter, make_base, tensors

HALF = mx.float16
"""Type of a base whose config says bfloat16: it is cast on the way."""
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
    settings: dict[str, Any] = {"group_size": 64} | options
    fuse(base, adapter, out, base_key=BASE_KEY, bits=bits, **settings)
    return out


def same(ours: Path, theirs: Path) -> bool:
    mine, other = tensors(ours), tensors(theirs)
    shapes = [{name: (a.dtype, a.shape) for name, a in each.items()} for each in (mine, other)]
    configs = [json.loads((folder / "config.json").read_text()) for folder in (ours, theirs)]
    assert shapes[0] == shapes[1]
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
        ("dense", None, {"bits": 6}, {}),
        ("dense", 4, {"bits": None}, {}),
        ("dense", 4, {"bits": 8, "group_size": 32}, {"layers": 1}),
        ("dense", 4, {"bits": 4, "recipe": "mixed_3_6"}, {}),
        ("tied", 4, {"bits": 5}, {}),
        ("tied", 4, {"bits": 5}, {"keys": ["self_attn.q_proj", "model.embed_tokens"]}),
        ("tied", 4, {"bits": 5}, {"kind": "dora"}),
        ("tied", None, {"bits": 5}, {"kind": "full"}),
        ("biased", 4, {"bits": 5}, {}),
        ("biased", 8, {"bits": 5}, {"kind": "dora"}),
        ("moe", 4, {"bits": 5}, {}),
        ("moe", 8, {"bits": 6}, {"keys": EXPERTS}),
        ("moe", None, {"bits": 4, "recipe": "mixed_4_6"}, {}),
        ("tied", HALF, {"bits": 5}, {}),
    ],
    ids=str,
)  # fmt: skip
def test_the_bytes_are_those_of_the_two_commands(
    kind: str, base_bits: Any, options: dict[str, Any], adapter: dict[str, Any], tmp_path: Path
) -> None:
    """Every tensor, its name, type and shape, and config.json are those of fuse and convert, bit for bit."""
    dtype, bits = (base_bits, None) if isinstance(base_bits, mx.Dtype) else (mx.bfloat16, base_bits)
    base = make_base(tmp_path / "base", kind, bits=bits, dtype=dtype)
    lora = make_adapter(tmp_path / "adapter", base, **adapter)
    ours = one_pass(base, lora, tmp_path / "ours", **options)
    assert same(ours, two_steps(base, lora, tmp_path / "theirs", **options))


def test_pieces_do_not_change_a_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of any size, and files of any size, hold the same tensors."""
    base = make_base(tmp_path / "base", "moe")
    lora = make_adapter(tmp_path / "adapter", base)
    small = one_pass(base, lora, tmp_path / "small", bits=5, shard_mb=1)
    monkeypatch.setattr(module, "PIECE", 1 << 30)
    whole = one_pass(base, lora, tmp_path / "whole", bits=5)
    assert same(small, whole)


def test_mlx_lm_generates_with_the_folder(tmp_path: Path) -> None:
    """``mlx_lm.load`` and ``mlx_lm.generate`` take the folder, which needs nothing but itself."""
    base = make_base(tmp_path / "base", "moe")
    lora = make_adapter(tmp_path / "adapter", base)
    model, tokenizer, *_ = mlx_lm.load(str(one_pass(base, lora, tmp_path / "out", bits=5)))
    assert model.layers[0].mlp.switch_mlp.up_proj.bits == 5
    assert isinstance(mlx_lm.generate(model, tokenizer, "hello", max_tokens=4), str)


def budget(folder: Path, **size: Any) -> dict[str, Any]:
    """What a pass over a tied model of this size reports."""
    folder.mkdir()
    base = make_base(folder / "base", "tied", **size)
    lora = make_adapter(folder / "adapter", base, layers=size.get("num_hidden_layers", 2))
    (folder / "out").mkdir()
    return fuse(base, lora, folder / "out", base_key=BASE_KEY, bits=5, group_size=64)


def test_the_budget_is_recorded_and_holds(tmp_path: Path) -> None:
    """Disk is predicted to the byte; the memory used is at most the prediction, and not far below it."""
    info = budget(tmp_path / "wide", hidden_size=512, intermediate_size=1024, vocab_size=8192)
    predicted, measured = info["budget"]["predicted"], info["budget"]["measured"]
    assert predicted["disk_mb"] == measured["disk_mb"] == info["size_mb"]
    assert predicted["memory_mb"] / 4 < measured["memory_mb"] <= predicted["memory_mb"]


def test_memory_does_not_grow_with_the_number_of_layers(tmp_path: Path) -> None:
    """Sixteen layers take the memory of four, to a few percent."""
    few, many = (
        budget(tmp_path / str(layers), num_hidden_layers=layers, hidden_size=256)["budget"]["measured"]
        for layers in (4, 16)
    )
    assert many["memory_mb"] < 1.1 * few["memory_mb"] + 0.1


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    base = make_base(tmp_path / "base", "dense")
    return base, make_adapter(tmp_path / "adapter", base)


def refused(pair: tuple[Path, Path], *words: str, **options: Any) -> None:
    """The pass refuses with these words, and leaves nothing behind."""
    base, adapter = pair
    out = base.with_name("out")
    out.mkdir(exist_ok=True)
    settings: dict[str, Any] = {"base_key": BASE_KEY, "bits": 5, "group_size": 64} | options
    with pytest.raises(PunieError) as caught:
        fuse(base, adapter, out, **settings)
    assert list(out.iterdir()) == []
    assert [word for word in words if word not in str(caught.value)] == []


def test_settings_that_do_not_fit_are_refused(pair: tuple[Path, Path]) -> None:
    """Another base's adapter, and groups that do not divide the layers' inputs, which mlx-lm would skip."""
    refused(pair, "another base", "b" * 64, "c" * 64, base_key="c" * 64)
    refused(pair, "group_size=128", "192", "mlp.down_proj", "quantize.group_size=64", group_size=128)


def test_an_adapter_of_another_rank_is_refused(pair: tuple[Path, Path]) -> None:
    """A config that says rank 8 over weights of rank 4 names the tensor and both shapes."""
    path = pair[1] / "adapter_config.json"
    config = json.loads(path.read_text())
    config["lora_parameters"]["rank"] = 8
    path.write_text(json.dumps(config))
    refused(pair, "(128, 4)", "(128, 8)", "lora_a", "rank 8")


@pytest.mark.parametrize(("which", "part"), [(0, "layers.1."), (1, "q_proj.lora_b")], ids=["base", "adapter"])
def test_missing_tensors_and_truncated_files_are_refused(
    which: int, part: str, pair: tuple[Path, Path]
) -> None:
    """A tensor that the base or the adapter lacks is named (mlx-lm would leave a delta at zero); a file that
    is too short is named before any weight is read."""
    (path,) = pair[which].glob("*.safetensors")
    weights = cast(dict[str, mx.array], mx.load(str(path)))
    gone = next(name for name in weights if part in name)
    mx.save_safetensors(str(path), {name: array for name, array in weights.items() if name != gone})
    refused(pair, gone if which else str(pair[0]))
    path.write_bytes(path.read_bytes()[:-100])
    refused(pair, "truncated", str(path))


def test_a_disk_that_is_too_small_is_refused(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little free disk is reported with both figures, before the first byte is written."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    refused(pair, "0.00 MB free", "expected 0.")
