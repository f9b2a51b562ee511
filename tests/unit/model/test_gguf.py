"""Models from GGUF files: their weights, configs and tokenizers, and files that are refused."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

gguf = pytest.importorskip("gguf", reason="needs punie[gguf]")

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402
from mlx.utils import tree_flatten  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402

from punie.config import resolve  # noqa: E402
from punie.config.compose import compose  # noqa: E402
from punie.model import load  # noqa: E402
from punie.model.folders import contents as model_contents  # noqa: E402
from punie.model.gguf import stored, weights  # noqa: E402
from punie.model.gguf.convert import convert  # noqa: E402
from punie.model.gguf.file import Refused, Tensor, read  # noqa: E402
from punie.stages import base, inputs, memory  # noqa: E402
from punie.stages.inputs import NotConverted  # noqa: E402
from punie.store.artifacts import Store  # noqa: E402
from punie.store.references import reachable  # noqa: E402
from punie.util.errors import PunieError  # noqa: E402
from punie.util.progress import Reporter  # noqa: E402
from tests import gguf_files  # noqa: E402

KINDS = [
    getattr(gguf.GGMLQuantizationType, name)
    for name in ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K",
                 "Q6_K", "IQ4_NL", "IQ4_XS", "IQ3_S", "MXFP4")
]  # fmt: skip


@pytest.mark.parametrize("name", gguf_files.MODELS)
def test_a_model_comes_back(tmp_path: Path, name: str) -> None:
    """The converted model is the one that was written: every weight, and the logits of mlx-lm's model."""
    spm = name.startswith("gemma")
    made = gguf_files.write(tmp_path / "m.gguf", name, tokenizer="llama" if spm else "gpt2")
    (out := tmp_path / "out").mkdir()
    convert(tmp_path / "m.gguf", out, dtype="float32")
    read_back, config = load.load_lazily(out)
    wanted = dict(tree_flatten(made.parameters()))
    found = dict(tree_flatten(read_back.parameters()))
    assert found.keys() == wanted.keys()
    for path, array in found.items():
        assert mx.allclose(array, wanted[path], rtol=0, atol=1e-6).item(), path
    tokens = mx.array([[5, 7, 11, 200, 3, 9, 250, 17]])
    assert mx.allclose(read_back(tokens), made(tokens), rtol=1e-3, atol=1e-4).item(), config
    tokenizer = load.tokenizer(out)
    ids = tokenizer.encode("hello hi é", add_special_tokens=False)
    assert tokenizer.decode(ids) == "hello hi é"
    assert len(ids) == 9  # "hel" is one token, or " hi"; "é" is two bytes


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_type_is_dequantized(tmp_path: Path, kind: Any) -> None:
    """A tensor of each type gives the weights that the gguf package gives, piece by piece."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    rows, blocks = 3000, 512 // block if block < 512 else 1
    packed = np.random.default_rng(0).integers(0, 60, (rows, blocks * size), np.uint8)  # no scale is infinite
    (path := tmp_path / "t").write_bytes(b"12345678" + packed.tobytes())
    tensor = Tensor("t", kind, (rows, blocks * block), 8, packed.nbytes)
    pieces = list(weights.values(path, weights.Weight("t", tensor)))
    assert len(pieces) > 1
    assert np.array_equal(np.concatenate(pieces), gguf.dequantize(packed, kind))


def test_bfloat16_rounds_and_float32_does_not(tmp_path: Path) -> None:
    """Weights in float32 are those of the file; in bfloat16 they are the nearest, and take half the space."""
    gguf_files.write(tmp_path / "m.gguf", "qwen3", kind=gguf.GGMLQuantizationType.Q8_0)
    for dtype in ("float32", "bfloat16"):
        (tmp_path / dtype).mkdir()
        convert(tmp_path / "m.gguf", tmp_path / dtype, dtype=dtype)
    exact = load_file(tmp_path / "float32/model.safetensors")
    rounded: Any = mx.load(str(tmp_path / "bfloat16/model.safetensors"))
    for name, array in exact.items():
        assert mx.array_equal(mx.array(array).astype(mx.bfloat16), rounded[name]).item()


def test_memory_stays_below_the_largest_tensor(tmp_path: Path) -> None:
    """Reading a tensor takes less memory than the tensor."""
    kind = gguf.GGMLQuantizationType.Q4_0
    block, size = gguf.GGML_QUANT_SIZES[kind]
    (path := tmp_path / "t").write_bytes(bytes(4096 * 4096 // block * size))
    tensor = Tensor("t", kind, (4096, 4096), 0, path.stat().st_size)
    tracemalloc.start()
    for piece in weights.values(path, weights.Weight("t", tensor)):
        assert piece.dtype == np.float32
    assert tracemalloc.get_traced_memory()[1] < 1.3 * 4 * 4096 * 4096
    tracemalloc.stop()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A GGUF file that is read."""
    path = tmp_path_factory.mktemp("gguf") / "m.gguf"
    gguf_files.write(path, "llama", kind=gguf.GGMLQuantizationType.Q4_0)
    return path.read_bytes()


def renamed(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """A change of bytes that are there."""

    def change(content: bytes) -> bytes:
        assert old in content
        return content.replace(old, new)

    return change


def field(name: str, value: bytes) -> Callable[[bytes], bytes]:
    """A change of a metadata field's value, by the bytes after its name and type."""

    def change(content: bytes) -> bytes:
        at = content.index(name.encode()) + len(name) + 4
        return content[:at] + value + content[at + len(value) :]

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _: b"", "not a GGUF"),
        (lambda _: b"PK\3\4" + bytes(100), "not a GGUF"),
        (lambda c: c[:4] + b"\1" + c[5:], "version 1"),
        (lambda c: c[:4] + b"\0\0\0\3" + c[8:], "big-endian"),
        (lambda c: c[:300], "damaged"),
        (lambda c: c[:-100], "damaged"),
        (lambda c: c[:8] + b"\xff" * 8 + c[16:], "tensors"),
        (lambda c: c[:16] + b"\xff" * 8 + c[24:], "metadata fields"),
        (field("general.architecture", b"\5\0\0\0\0\0\0\0mamba"), "llama, qwen2, qwen3"),
        (field("llama.block_count", b"\xff\xff\xff\x7f"), "lacks tensors"),
        (field("llama.block_count", b"\0\0\0\0"), "positive number"),
        (field("llama.embedding_length", b"\x41"), "does not fit its metadata"),
        (renamed(b"llama.attention.head_count\4", b"llama.attention.head_xount\4"), "head_count"),
        (renamed(b"blk.1.attn_k.weight", b"blk.1.attn_x.weight"), r"blk\.1\.attn_k"),
        (renamed(b"blk.1.attn_k.weight", b"blk.0.attn_k.weight"), "two tensors"),
        (renamed(b"tokenizer.ggml.model", b"tokenizer.ggml.xodel"), "no tokenizer"),
        (renamed(b"\6\0\0\0\0\0\0\0smollm", b"\6\0\0\0\0\0\0\0xmollm"), "qwen2"),
        (renamed(b"h e", b"h z"), "what are not tokens"),
        (renamed(b"he l", b"hexl"), "what are not tokens"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    tmp_path: Path, whole: bytes, change: Callable[[bytes], bytes], words: str
) -> None:
    """A file that is no GGUF, is cut short, lies, or holds what punie does not read is refused by name."""
    (path := tmp_path / "m.gguf").write_bytes(change(whole))
    with pytest.raises(PunieError, match=words):
        convert(path, tmp_path, dtype="float32")
    assert not (tmp_path / "config.json").exists()


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    """A tensor with an infinite weight is refused by its name."""
    (path := tmp_path / "t").write_bytes(np.array([[1, np.inf]], np.float32).tobytes())
    with pytest.raises(Refused, match=r"t: blk\.0"):
        list(
            weights.values(
                path, weights.Weight("", Tensor("blk.0", gguf.GGMLQuantizationType.F32, (1, 2), 0, 8))
            )
        )


def test_a_package_that_is_missing_is_said(
    monkeypatch: pytest.MonkeyPatch, whole: bytes, tmp_path: Path
) -> None:
    """Without the gguf package, the command that installs it is given."""
    (path := tmp_path / "m.gguf").write_bytes(whole)
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(PunieError, match=r"pip install 'punie\[gguf\]'"):
        read(path)


def test_a_model_is_converted_once(tmp_path: Path, whole: bytes) -> None:
    """The store keeps a model by the file's content and the type of its weights, and not a damaged one."""
    store = Store(tmp_path / "store")
    for name in ("one.gguf", "two.gguf"):
        (tmp_path / name).write_bytes(whole)
    assert stored.find(tmp_path / "one.gguf", dtype="float32", store=store) is None
    folder = stored.build(tmp_path / "one.gguf", dtype="float32", store=store)
    assert stored.find(tmp_path / "two.gguf", dtype="float32", store=store) == folder
    assert stored.find(tmp_path / "two.gguf", dtype="bfloat16", store=store) is None
    before = (folder / "config.json").read_text()
    (folder / "config.json").write_text(before.replace("64", "65"))
    assert stored.find(tmp_path / "one.gguf", dtype="float32", store=store) is None
    assert stored.build(tmp_path / "one.gguf", dtype="float32", store=store) == folder
    assert (folder / "config.json").read_text() == before
    described = stored.describe(tmp_path / "one.gguf", dtype="float32")
    assert described.config == json.loads(before)
    assert described.parameters == sum(
        array.size for array in load_file(folder / "model.safetensors").values()
    )


def test_a_run_reads_the_file_first(tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is read the model is known by the file's header; then it is the folder in the store, whose
    artifact is kept as long as a run speaks of the base."""
    monkeypatch.chdir(tmp_path)
    Path("m.gguf").write_bytes(whole)
    places = ["model=local", "model.path=m.gguf", "model.dtype=float32", "store.dir=store"]
    config = resolve(compose([*places, "lora.num_layers=-1"]))
    settings = base.STAGE.settings(config)
    with pytest.raises(NotConverted):
        base.contents(settings)
    described = memory.sizes(config, float32=False)
    assert inputs.model_parameters(config) == described.parameters == base.disk(settings, 0) // 4
    folder = base.ready(config, Reporter())
    assert base.contents(settings) == {"model": model_contents(folder)}
    (out := tmp_path / "out").mkdir()
    key = folder.name
    assert base.run(settings, {}, out, Reporter())["artifact"] == key
    assert memory.sizes(config, float32=False) == described
    store = Store(tmp_path / "store")
    artifact, _ = store.get_or_build("base", {}, lambda _: {"artifact": key})
    assert reachable(store.artifacts(), {artifact.key}) == {artifact.key, key}
