"""Adapters to start from: fused into the base model, whether mlx-lm or PEFT wrote them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import load_adapters
from mlx_lm.utils import dequantize_model

from punie.config import resolve as check
from punie.config.compose import compose
from punie.model import adapters, load
from punie.model.fuse import merge
from punie.stages import base as stage
from punie.stages.inputs import NotConverted, base_folder
from punie.util.errors import PunieError
from punie.util.progress import Reporter
from tests.unit.model.models import make_adapter, make_base, tensors

Arrays = dict[str, mx.array]
ATTENTION = ["self_attn.q_proj", "self_attn.v_proj"]
EMBEDDING = "model.embed_tokens"


def fused(base: Path, adapter: Path, out: Path) -> Arrays:
    """The tensors of the fused folder, after mlx-lm has loaded it."""
    out.mkdir()
    merge(base, adapters.read(adapter), out)
    model, _ = load.load_lazily(out)
    return dict(cast("list[tuple[str, mx.array]]", tree_flatten(model.parameters())))


def arrays_of(file: Path) -> Arrays:
    """The arrays of an adapter's file."""
    return cast(Arrays, mx.load(str(file)))


def reference(base: Path, adapter: Path) -> Arrays:
    """The sum as mlx-lm computes it, in floating point."""
    model, _ = load.load_lazily(base)
    model = load_adapters(model, str(adapter))
    for path, module in list(model.named_modules()):
        if hasattr(module, "fuse"):
            parent, _, name = path.rpartition(".")
            owner = dict(model.named_modules())[parent]
            owner[name] = cast(Any, module).fuse(dequantize=True)
    return dict(cast("list[tuple[str, mx.array]]", tree_flatten(dequantize_model(model).parameters())))


def as_peft(adapter: Path, folder: Path, **config: Any) -> Path:
    """The same adapter as PEFT would have written it."""
    about = json.loads((adapter / "adapter_config.json").read_text())
    rank, scale = about["lora_parameters"]["rank"], about["lora_parameters"]["scale"]
    dora = about["fine_tune_type"] == "dora"
    arrays: Arrays = {}
    for name, array in arrays_of(adapter / "adapters.safetensors").items():
        path, _, leaf = name.rpartition(".")
        embedding = "embedding_" if path.endswith("embed_tokens") else ""
        part = "lora_magnitude_vector" if leaf == "m" else f"lora_{embedding}{leaf[-1].upper()}"
        arrays[f"base_model.model.{path}.{part}" + ("" if embedding else ".weight")] = (
            array if leaf == "m" else mx.contiguous(array.T)
        )
    folder.mkdir()
    mx.save_safetensors(str(folder / "adapter_model.safetensors"), arrays)
    stated = {
        "peft_type": "LORA",
        "base_model_name_or_path": "owner/model",
        "r": rank,
        "lora_alpha": scale * rank,
        "bias": "none",
        "use_dora": dora,
        "modules_to_save": None,
        "target_modules": ["q_proj", "v_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(stated | config))
    return folder


@pytest.mark.parametrize(
    ("kind", "bits", "adapter"),
    [("dense", 4, "lora"), ("dense", 4, "dora"), ("tied", None, "full"), ("moe", 4, "lora"),
     ("biased", 8, "lora")],
)  # fmt: skip
def test_the_sum_is_mlx_lms_and_the_rest_stays(
    kind: str, bits: int | None, adapter: str, tmp_path: Path
) -> None:
    """What the adapter changes equals mlx-lm's own fused layer; every other tensor has the base's bytes."""
    base = make_base(tmp_path / "base", kind, bits=bits)
    given = make_adapter(tmp_path / "adapter", base, kind=adapter, layers=1)
    found, right = fused(base, given, tmp_path / "out"), reference(base, given)
    before = tensors(base)
    changed = [name for name in found if name not in before or not mx.array_equal(found[name], before[name])]
    assert changed
    assert all(name.startswith("model.layers.1.") for name in changed)
    for name in changed:
        assert found[name].dtype == mx.bfloat16
        assert mx.array_equal(found[name], right[name].astype(mx.bfloat16)), name
    assert {name for name in before if ".layers.0." in name} <= set(found)


@pytest.mark.parametrize(
    ("keys", "kind", "config"),
    [
        (ATTENTION, "lora", {}),
        (ATTENTION, "dora", {}),
        ([*ATTENTION, EMBEDDING], "lora", {}),
        (ATTENTION, "lora", {"use_rslora": True, "lora_alpha": 20.0 * math.sqrt(4)}),
        (ATTENTION, "lora", {"lora_alpha": 1, "alpha_pattern": {"q_proj": 80.0, "self_attn.v_proj": 80.0}}),
        (ATTENTION, "lora", {"r": 2, "rank_pattern": {"q_proj": 4, "v_proj": 4}, "init_lora_weights": "eva"}),
    ],
)  # fmt: skip
def test_a_peft_adapter_gives_the_same_bytes(
    keys: list[str], kind: str, config: dict[str, Any], tmp_path: Path
) -> None:
    base = make_base(tmp_path / "base", "dense")
    given = make_adapter(tmp_path / "adapter", base, kind=kind, keys=keys)
    other = as_peft(given, tmp_path / "peft", **config)
    ours, theirs = fused(base, given, tmp_path / "a"), fused(base, other, tmp_path / "b")
    assert ours.keys() == theirs.keys()
    assert all(mx.array_equal(ours[name], theirs[name]) for name in ours)
    assert adapters.read(other).base == "owner/model"
    assert adapters.read(given).weights == adapters.read(other).weights


def renamed(old: str, new: str) -> Callable[[Path], None]:
    """A damage: a tensor under another name."""

    def change(folder: Path) -> None:
        file = folder / "adapter_model.safetensors"
        arrays = {name.replace(old, new): mx.array(array) for name, array in arrays_of(file).items()}
        mx.eval(arrays)
        mx.save_safetensors(str(file), arrays)

    return change


def cut(folder: Path) -> None:
    """A damage: the last bytes are missing."""
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def pickled(folder: Path) -> None:
    """A damage: the weights are pickled."""
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


@pytest.mark.parametrize(
    ("config", "damage", "said"),
    [
        ({"peft_type": "IA3"}, None, ["no PEFT adapter of this kind", "IA3"]),
        ({"modules_to_save": ["lm_head"]}, None, ["more than LoRA", "lm_head", "merge_and_unload"]),
        ({"bias": "all"}, None, ["trains biases"]),
        ({"init_lora_weights": "pissa_niter_4"}, None, ["whose weights it changed", "pissa"]),
        ({"alpha_pattern": {".*q_proj$": 1}}, None, ["regular expressions", ".*q_proj$"]),
        ({"lora_alpha": "NaN"}, None, ["scale is no number"]),
        ({"lora_alpha": True}, None, ["scale is no number"]),
        ({"lora_alpha": 10**400}, None, ["scale is no number"]),
        ({"r": 8}, None, ["belongs to other weights", "r 8"]),
        ({"use_dora": True}, None, ["incomplete"]),
        ({}, renamed("lora_A", "lora_C"), ["does not know", "lora_C"]),
        ({}, renamed("q_proj.lora_A", "k_proj.lora_A"), ["incomplete", "k_proj"]),
        ({}, renamed("q_proj", "query"), ["does not have", "self_attn.query", "and 1 more"]),
        ({}, renamed("self_attn.q_proj", "mlp.down_proj"), ["of other sizes", "down_proj", "owner/model"]),
        ({}, cut, ["truncated or damaged"]),
        ({}, pickled, ["no safetensors file", "adapter_model.bin"]),
    ],
)  # fmt: skip
def test_what_cannot_be_fused_is_refused(
    config: dict[str, Any],
    damage: Callable[[Path], None] | None,
    said: list[str],
    tmp_path: Path,
    dense: Path,
) -> None:
    given = make_adapter(tmp_path / "adapter", dense, keys=ATTENTION)
    folder = as_peft(given, tmp_path / "peft", **config)
    if damage:
        damage(folder)
    (tmp_path / "out").mkdir()
    with pytest.raises(PunieError) as raised:
        merge(dense, adapters.read(folder), tmp_path / "out")
    assert all(part in str(raised.value) for part in said), str(raised.value)
    assert not list((tmp_path / "out").iterdir())


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("dense") / "base", "dense")


@pytest.mark.parametrize(
    ("file", "value", "said"),
    [
        ("adapter_config.json", None, ["holds no adapter"]),
        ("adapters.safetensors", None, ["no safetensors file"]),
        ("adapter_config.json", {"fine_tune_type": "lora"}, ["do not fit", "num_layers"]),
        ("adapter_config.json", {"num_layers": 2, "lora_parameters": {"scale": "x"}}, ["scale is no number"]),
        ("adapter_config.json", {"num_layers": 2, "lora_parameters": {"rank": 4}}, ["do not fit"]),
        (
            "adapter_config.json",
            {"num_layers": 1, "lora_parameters": {"rank": 4, "scale": 1.0, "dropout": 0.0}},
            ["do not fit", "model.layers.0.", "not an adapter parameter"],
        ),
    ],
)  # fmt: skip
def test_an_mlx_lm_adapter_that_does_not_fit(
    file: str, value: Any, said: list[str], tmp_path: Path, dense: Path
) -> None:
    given = make_adapter(tmp_path / "adapter", dense)
    (given / file).unlink()
    if value is not None:
        (given / file).write_text(json.dumps(value))
    with pytest.raises(PunieError) as raised:
        merge(dense, adapters.read(given), tmp_path)
    assert all(part in str(raised.value) for part in said), str(raised.value)


def test_a_run_starts_from_it(tmp_path: Path, dense: Path) -> None:
    """Fused once, by content: a plan says that it is missing, a run makes it."""
    given = make_adapter(tmp_path / "adapter", dense)
    lines: list[str] = []

    class Lines(Reporter):
        def line(self, text: str, style: str | None = None) -> None:
            lines.append(text)

    def settings(folder: Path) -> Any:
        places = [f"model.path='{dense}'", f"model.adapter='{folder}'", f"store.dir='{tmp_path}/store'"]
        return check(compose(["model=local", *places]))

    with pytest.raises(NotConverted):
        base_folder(settings(given))
    assert stage.disk(stage.STAGE.settings(settings(given)), 0) > 0
    folder = stage.ready(settings(given), Lines())
    assert "fusing the mlx-lm adapter" in "".join(lines)
    assert folder == base_folder(settings(given)) == stage.ready(settings(given), Lines())
    assert len(lines) == 1
    assert [*stage.notes(settings(given))] == [f"the model has the mlx-lm adapter {given} fused into it"]
    out = tmp_path / "base"
    out.mkdir()
    stage.run(stage.STAGE.settings(settings(given)), {}, out, Lines())
    other = shutil.copytree(given, tmp_path / "other")
    about = json.loads((other / "adapter_config.json").read_text())
    about["lora_parameters"]["scale"] = 1.0
    (other / "adapter_config.json").write_text(json.dumps(about))
    with pytest.raises(NotConverted):
        base_folder(settings(other))
    assert stage.ready(settings(other), Lines()) != folder
    with pytest.raises(PunieError, match="not an adapter"):
        base_folder(settings(dense))
