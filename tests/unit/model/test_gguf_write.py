"""GGUF files of tuned models: read back they are the model, and what they cannot hold is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

gguf = pytest.importorskip("gguf", reason="needs punie[gguf]")

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402

from punie.model import fuse, load  # noqa: E402
from punie.model.gguf.convert import convert  # noqa: E402
from punie.model.gguf.write import write  # noqa: E402
from punie.store.keys import content_digests  # noqa: E402
from punie.util.errors import PunieError  # noqa: E402
from tests import adapters, gguf_files  # noqa: E402

TEXTS = ("hello hi é\n", "<|im_start|>user\n123 they're\t 日本 <0x41>", "")


def base(folder: Path, name: str) -> Path:
    """A random model's folder, in float32."""
    spm = name.startswith("gemma")
    gguf_files.write(folder / "base.gguf", name, tokenizer="llama" if spm else "gpt2")
    (out := folder / "base").mkdir()
    convert(folder / "base.gguf", out, dtype="float32")
    return out


def rounded(kind: str, array: np.ndarray) -> np.ndarray:
    """What is left of float32 in a type."""
    number = gguf.GGMLQuantizationType[kind.upper()]
    return gguf.dequantize(gguf.quantize(array, number), number)


@pytest.mark.parametrize(
    ("name", "kind", "tuned"),
    [(name, "f16", {}) for name in gguf_files.MODELS]
    + [("llama", "bf16", {}), *((name, "q8_0", {}) for name in ("llama with biases", "gemma", "qwen3moe"))]
    + [("qwen2", "f16", {"fine_tune_type": "dora"}), ("llama", "f16", {"fine_tune_type": "full"})],
)  # fmt: skip
def test_a_tuned_model_comes_back(tmp_path: Path, name: str, kind: str, tuned: dict[str, Any]) -> None:
    """Every weight is the fused one in the file's type; config and tokenizer are the model's."""
    given = base(tmp_path, name)
    adapter = adapters.write(given, tmp_path / "adapter", **tuned)
    write(given, adapter, tmp_path / "m.gguf", base_key=adapters.KEY, name="mine", kind=kind)
    for each in ("fused", "back"):
        (tmp_path / each).mkdir()
    fuse.fuse(given, adapter, tmp_path / "fused", base_key=adapters.KEY, bits=None, group_size=64)
    convert(tmp_path / "m.gguf", tmp_path / "back", dtype="float32")
    wanted, found = (load_file(tmp_path / each / "model.safetensors") for each in ("fused", "back"))
    assert found.keys() == wanted.keys()
    plain = load_file(given / "model.safetensors")
    assert any(not np.array_equal(array, plain[path]) for path, array in wanted.items())
    for path, array in wanted.items():
        exact = array.ndim == 1 or path.endswith("mlp.gate.weight")
        assert np.allclose(found[path], array if exact else rounded(kind, array), rtol=0, atol=1e-6), path
    configs = [json.loads((each / "config.json").read_text()) for each in (given, tmp_path / "back")]
    assert configs[0] == configs[1]
    one, other = load.tokenizer(given), load.tokenizer(tmp_path / "back")
    assert [other.encode(text) for text in TEXTS] == [one.encode(text) for text in TEXTS]
    assert other.chat_template == one.chat_template
    assert other.eos_token_ids == one.eos_token_ids


def test_a_base_in_half_precision_is_not_rounded_again(tmp_path: Path) -> None:
    """Base and adapter are added in float32, so that a base in bfloat16 loses nothing of its adapter."""
    given = base(tmp_path, "llama")
    arrays: Any = mx.load(str(given / "model.safetensors"))
    halves = {path: array.astype(mx.bfloat16) for path, array in arrays.items()}
    mx.save_safetensors(str(given / "model.safetensors"), halves)
    amend(given / "config.json", torch_dtype="bfloat16")
    adapter = adapters.write(given, tmp_path / "adapter")
    write(given, adapter, tmp_path / "m.gguf", base_key=adapters.KEY, name="mine", kind="f16")
    (tmp_path / "back").mkdir()
    convert(tmp_path / "m.gguf", tmp_path / "back", dtype="float32")
    tuned: Any = load.load(given, adapter=adapter, float32=True).model
    again: Any = load.load(tmp_path / "back", float32=True).model
    tokens = mx.array([[5, 7, 11, 200]])
    logits, back = (np.array(model(tokens)) for model in (tuned, again))
    assert np.abs(logits - back).max() < 3e-3  # bfloat16 gives ten times as much


def amend(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def stated(**fields: Any) -> Callable[[Path], None]:
    return lambda folder: amend(folder / "config.json", **fields)


def whole_words(folder: Path) -> None:
    """A way to divide text that no family has."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"]["pretokenizers"][0] = {"type": "Whitespace"}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def scaled(folder: Path) -> None:
    """A weight beyond float16."""
    arrays: Any = mx.load(str(folder / "model.safetensors"))
    arrays["model.embed_tokens.weight"] = arrays["model.embed_tokens.weight"].at[0, 0].add(1e5)
    mx.save_safetensors(str(folder / "model.safetensors"), arrays)


def unusual(folder: Path) -> None:
    """A special token that takes the space before it."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"][0]["lstrip"] = True
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def beginning(folder: Path) -> None:
    """A template that begins with the token that begins texts, where there is none."""
    path = folder / "tokenizer_config.json"
    amend(path, bos_token=None, chat_template="{{ bos_token }}" + gguf_files.TEMPLATE)


def beyond(folder: Path) -> None:
    """A token that the embedding has no row for."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append(tokenizer["added_tokens"][0] | {"id": 288, "content": "<one more>"})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (stated(rope_traditional=True), "rope_traditional=True"),
        (stated(rope_scaling={"type": "dynamic", "factor": 2.0}), "rope_scaling"),
        (stated(layer_types=["full_attention"] * 2 + ["sliding_attention"], sliding_window=9), "layer_types"),
        (stated(model_type="smollm3"), "qwen3_moe.*--to mlx"),
        (whole_words, "no name for the way.*Whitespace.*--pre NAME"),
        (unusual, "other added when read back"),
        (beyond, "<one more>.*288"),
        (beginning, "token 11"),
        (scaled, "65,504.*embed_tokens.*--type bf16"),
    ],
)  # fmt: skip
def test_what_no_file_can_hold_is_named(tmp_path: Path, change: Callable[[Path], None], words: str) -> None:
    """An option, a tokenizer or a weight for which a GGUF has no place is refused by its name."""
    given = base(tmp_path, "llama")
    adapter = adapters.write(given, tmp_path / "adapter")
    change(given)
    with pytest.raises(PunieError, match=f"(?s){words}"):
        write(given, adapter, tmp_path / "m.gguf", base_key=adapters.KEY, name="mine", kind="f16")


def test_a_named_pre_tokenizer_takes_the_place_of_one_without_a_name(tmp_path: Path) -> None:
    """With ``pre`` the weights are written, and all of the tokenizer but how it divides text."""
    given = base(tmp_path, "llama")
    whole_words(given)
    adapter = adapters.write(given, tmp_path / "adapter")
    write(given, adapter, tmp_path / "m.gguf", base_key=adapters.KEY, name="mine", kind="f16", pre="qwen2")
    (tmp_path / "back").mkdir()
    convert(tmp_path / "m.gguf", tmp_path / "back", dtype="float32")
    one, other = (json.loads((each / "tokenizer.json").read_text()) for each in (given, tmp_path / "back"))
    assert other["model"]["vocab"] == one["model"]["vocab"]
    assert other["pre_tokenizer"] != one["pre_tokenizer"]


def test_what_a_config_leaves_out_is_what_mlx_lm_computes(tmp_path: Path) -> None:
    """A config without the width of heads, or with null for it, gives the same file as one that states it."""
    given = base(tmp_path, "llama")
    adapter = adapters.write(given, tmp_path / "adapter")
    config = json.loads((given / "config.json").read_text())
    without = {key: value for key, value in config.items() if key != "head_dim"}
    files = [tmp_path / name for name in ("stated", "null", "without")]
    for file, changed in zip(files, (config, config | {"head_dim": None}, without), strict=True):
        (given / "config.json").write_text(json.dumps(changed))
        write(given, adapter, file, base_key=adapters.KEY, name="mine", kind="f16")
    assert len({*content_digests(files).values()}) == 1


def test_the_same_model_gives_the_same_file(tmp_path: Path) -> None:
    """Two files of one base and adapter are byte for byte the same."""
    given = base(tmp_path, "llama 3")
    adapter = adapters.write(given, tmp_path / "adapter")
    for name in ("one", "two"):
        write(given, adapter, tmp_path / name, base_key=adapters.KEY, name="mine", kind="q8_0")
    digests = content_digests([tmp_path / "one", tmp_path / "two"])
    assert digests["one"] == digests["two"]
