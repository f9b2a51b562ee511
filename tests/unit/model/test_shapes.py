"""Sizes at real scale, without weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from punie.config import resolve
from punie.config.compose import compose
from punie.model import shards
from punie.model.fuse import fuse
from punie.model.shapes import Sizes, sizes
from punie.model.shards import read_header
from punie.util.errors import PunieError
from punie.util.paths import resource
from tests.unit.model.models import BASE_KEY, COMMON, KINDS, make_adapter, make_base

RECIPE: dict[str, Any] = {
    "fine_tune_type": "lora", "num_layers": 8, "rank": 8, "keys": None, "bits": 5, "group_size": 64,
    "recipe": None, "float32": False,
}  # fmt: skip

PRESETS = sorted(
    path.stem for path in resource("conf/model").glob("*.yaml") if "\ndimensions:" in path.read_text("utf-8")
)
"""Models whose size is known before they are here."""
NEXT: dict[str, Any] = {
    "model_type": "qwen3_next", "hidden_size": 64, "num_hidden_layers": 4, "intermediate_size": 64,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 64,
    "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 32,
    "linear_value_head_dim": 32, "linear_conv_kernel_dim": 4, "num_experts": 2, "num_experts_per_tok": 1,
    "decoder_sparse_step": 1, "shared_expert_intermediate_size": 64, "mlp_only_layers": [],
    "moe_intermediate_size": 64, "rms_norm_eps": 1e-6, "rope_theta": 1e4, "partial_rotary_factor": 0.25,
    "max_position_embeddings": 512,
}  # fmt: skip
"""Three layers of four are recurrent."""
ROPE = ("rope_theta", "partial_rotary_factor")


def size_of(config: dict[str, Any], **changes: Any) -> Sizes:
    settings: dict[str, Any] = RECIPE | changes
    return sizes(config, **settings)


def preset(name: str, **changes: Any) -> Sizes:
    return size_of(resolve(compose([f"model={name}"])).model.dimensions, **changes)


def test_the_published_figures_of_the_reference_recipe() -> None:
    """70.459 M of 30,532.123 M parameters, and a 5-bit folder of 20 to 21 GB, in next to no memory. The dense
    presets have their public size."""
    mx.reset_peak_memory()
    found = preset("qwen3_coder_30b")
    assert (found.trainable, found.parameters) == (70_459_392, 30_532_122_624)
    assert 20e9 < found.result_bytes < 21e9
    assert found.adapter_bytes == 4 * found.trainable
    assert mx.get_peak_memory() < 50e6
    assert [preset(f"qwen3_{size}b").parameters for size in (8, 14)] == [8_190_735_360, 14_768_307_200]


def test_more_of_everything_takes_more_memory() -> None:
    """Length, rows, layers and gradient sums raise the predicted peak; checkpointing lowers it."""
    plain, deeper = (preset("qwen3_8b", num_layers=layers).training for layers in (8, 16))
    step: dict[str, Any] = {"batch_size": 1, "grad_checkpoint": False}
    least = plain.step(256, **step)
    assert plain.step(512, **step) > least > plain.step(256, batch_size=1, grad_checkpoint=True) > 0
    assert plain.step(256, batch_size=2, grad_checkpoint=False) > least
    assert deeper.step(256, **step) > least
    assert plain.held(accumulates=True) > plain.held(accumulates=False) > plain.weights


def test_what_a_sequence_takes_and_what_a_token_adds() -> None:
    """Keys and values grow with the tokens, 16 bits each; what a recurrent layer keeps does not."""
    keys_and_values = 2 * NEXT["head_dim"] * 2
    convolution, state = 3 * (2 * 2 * 32 + 4 * 32) * 2, 4 * 32 * 32
    per_sequence, per_token = size_of(NEXT, num_layers=2, rank=4).cache_bytes
    assert per_token == keys_and_values
    assert per_sequence in (3 * (convolution + number * state) for number in (2, 4))


def test_a_model_of_several_parts() -> None:
    """Dimensions under text_config are those of the language model."""
    rope = {"type": "default", "mrope_section": [11, 11, 10]} | {name: NEXT[name] for name in ROPE}
    text = NEXT | {"model_type": "qwen3_5_text", "rope_parameters": rope}
    found = size_of({"model_type": "qwen3_5", "text_config": text}, num_layers=2, rank=4)
    assert (found.training.width, found.training.vocabulary) == (64, 64)


def test_what_has_no_size_is_refused() -> None:
    """Missing dimensions, and an adapter that mlx-lm does not have for a model: errors that say which."""
    with pytest.raises(PunieError, match=r"model\.dimensions"):
        size_of({"model_type": "qwen3"})
    with pytest.raises(PunieError, match="SwitchLinear doesn't support DoRA"):
        size_of(NEXT, num_layers=2, rank=4, fine_tune_type="dora")


@pytest.mark.parametrize("kind", KINDS)
def test_the_prediction_is_what_the_pass_writes(kind: str, tmp_path: Path) -> None:
    """For a model that is there, the folder predicted from its config alone is the folder that is written."""
    base = make_base(tmp_path / "base", kind)
    adapter = make_adapter(tmp_path / "adapter", base)
    (tmp_path / "out").mkdir()
    info = fuse(base, adapter, tmp_path / "out", base_key=BASE_KEY, bits=5, group_size=64)
    config = json.loads((base / "config.json").read_text())
    found = size_of(config, num_layers=2, rank=4)
    assert found.parameters == info["parameters"] == shards.parameters(base)
    assert found.bits_per_weight == pytest.approx(info["bits_per_weight"], abs=1e-3)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert found.result_bytes == index["metadata"]["total_size"]
    path = adapter / "adapters.safetensors"
    written = path.stat().st_size - read_header(path).start
    told = shards.adapter_bytes(base, fine_tune_type="lora", num_layers=2, rank=4, keys=None)
    assert told == 4 * found.trainable == written


def test_a_full_fine_tune_trains_whole_layers(tmp_path: Path) -> None:
    """All of the last layer's weights count as trainable, by the config and by the headers."""
    config = COMMON | KINDS["tied"]
    found = size_of(config, fine_tune_type="full", num_layers=1)
    assert found.trainable == 128 * 128 + 2 * 64 * 128 + 128 * 128 + 3 * 128 * 192 + 2 * 64 + 2 * 128
    base = make_base(tmp_path / "base", "tied")
    told = shards.adapter_bytes(base, fine_tune_type="full", num_layers=1, rank=4, keys=None)
    assert told == 4 * found.trainable


@pytest.mark.parametrize("name", PRESETS)
def test_presets_state_their_size(name: str) -> None:
    """The dimensions of a preset give the size that it states for the download, within a tenth."""
    model = resolve(compose([f"model={name}"])).model
    assert model.size_gb is None or size_of(model.dimensions).base_bytes / 1e9 == pytest.approx(
        model.size_gb, rel=0.1, abs=0.05
    )
