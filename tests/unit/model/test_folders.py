"""Model folders as they are found: what counts of them, what is in their key, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from punie.config import resolve as check
from punie.config.compose import compose
from punie.model import folders, load, resolve, shards
from punie.model.fuse import fuse
from punie.model.resolve import NotEstimated
from punie.model.shapes import sizes
from punie.stages import base
from punie.util.errors import PunieError
from punie.util.progress import Reporter
from tests.unit.model.models import BASE_KEY, COMMON, DENSE, TIED, make_adapter, make_base, tensors
from tests.unit.model.test_shapes import NEXT, RECIPE

Arrays = dict[str, mx.array]
Q = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("small") / "base", "tied", bits=None)


@pytest.fixture(scope="module")
def weights(small: Path) -> Arrays:
    return tensors(small)


def made(
    folder: Path, like: Path, files: Mapping[str, Arrays | bytes], index: dict[str, str] | None = None
) -> Path:
    """A copy of a model folder with other weight files, and an index if one is given."""
    shutil.copytree(like, folder)
    for path in folder.glob("model*"):
        path.unlink()
    for name, arrays in files.items():
        if isinstance(arrays, bytes):
            (folder / name).write_bytes(arrays)
        else:
            mx.save_safetensors(str(folder / name), arrays, {"format": "mlx"})
    if index is not None:
        (folder / folders.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


def located(folder: Path) -> Path:
    return resolve.locate(embedded=None, path=str(folder), repo=None, revision="main")


def base_stage(folder: Path, out: Path) -> str:
    """What the stage says of a folder, as one text."""
    settings = base.STAGE.settings(check(compose(["model=local", f"model.path='{folder}'"])))
    lines: list[str] = []

    class Lines(Reporter):
        def line(self, text: str, style: str | None = None) -> None:
            lines.append(text)

    out.mkdir()
    base.run(settings, {}, out, Lines())
    return "\n".join(lines)


def halves(weights: Arrays) -> tuple[Arrays, Arrays]:
    names = sorted(weights)
    first, second = names[: len(names) // 2], names[len(names) // 2 :]
    return {name: weights[name] for name in first}, {name: weights[name] for name in second}


FILES = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def layouts(weights: Arrays) -> dict[str, tuple[dict[str, Arrays], dict[str, str] | None, list[str]]]:
    """By kind: the files of a folder, its index, and the files that do not belong to the model."""
    one, two = halves(weights)
    wrong = {name: mx.zeros_like(array) for name, array in two.items()}
    shards_of = dict.fromkeys(one, FILES[0]) | dict.fromkeys(two, FILES[1])
    whole = dict.fromkeys(weights, "model.safetensors")
    beyond = dict.fromkeys(one, FILES[0]) | dict.fromkeys(two, "extra.safetensors")
    return {
        "shards": ({FILES[0]: one, FILES[1]: two}, shards_of, []),
        "shards without an index": ({FILES[0]: one, FILES[1]: two}, None, []),
        "a stale shard": ({"model.safetensors": weights, FILES[1]: wrong}, whole, [FILES[1]]),
        "a stale shard, no index": ({"model.safetensors": weights, FILES[1]: wrong}, None, [FILES[1]]),
        "a stale whole": (
            {FILES[0]: one, FILES[1]: two, "model.safetensors": wrong},
            shards_of,
            ["model.safetensors"],
        ),
        "a file of another name": ({FILES[0]: one, "extra.safetensors": two}, beyond, []),
    }


@pytest.mark.parametrize(
    "kind",
    ["shards", "shards without an index", "a stale shard", "a stale shard, no index", "a stale whole",
     "a file of another name"],
)  # fmt: skip
def test_only_the_models_own_weights_are_read(
    kind: str, tmp_path: Path, small: Path, weights: Arrays
) -> None:
    """The index decides; without one model.safetensors does. What is left over is neither loaded nor in the
    key, and is named."""
    files, index, left = layouts(weights)[kind]
    folder = located(made(tmp_path / "m", small, files, index))
    model, _ = load.load_lazily(folder)
    found = dict(cast("list[tuple[str, mx.array]]", tree_flatten(model.parameters())))
    assert {name for name in weights if not mx.array_equal(found[name], weights[name]).item()} == set()
    assert shards.parameters(folder) == shards.parameters(small)
    assert not set(left) & folders.contents(folder).keys()
    assert base_stage(folder, tmp_path / "out") == ""
    said = list(base.notes(check(compose(["model=local", f"model.path='{folder}'"]))))
    assert said == [f"does not belong to the model, and is not read: {name}" for name in left]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda one, two: {"model.safetensors": b"version https://git-lfs"}, "truncated or damaged"),
        (lambda one, two: {FILES[0]: one}, r"lacks weights[\s\S]*no model-00002-of-00002"),
        (lambda one, two: {FILES[0]: one, FILES[1]: one | two}, "same tensor.*\n.*\n.*embed_tokens.*-00002-"),
        (lambda one, two: {"model-a.safetensors": one, "model-b.safetensors": two | one}, "same tensor"),
        (lambda one, two: {FILES[0]: one, FILES[1]: dict(list(two.items())[1:])}, "Missing 1 parameters"),
    ],
)
def test_weights_that_are_no_model_are_refused(
    change: Callable[[Arrays, Arrays], Mapping[str, Arrays | bytes]],
    words: str,
    tmp_path: Path,
    small: Path,
    weights: Arrays,
) -> None:
    """A pointer of Git LFS, a shard that is missing, a tensor in two files, or one in none end the base stage
    at the latest."""
    folder = made(tmp_path / "m", small, change(*halves(weights)))
    with pytest.raises(PunieError, match=words):
        base_stage(located(folder), tmp_path / "out")


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16, mx.float32])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_weights_that_are_not_finite_are_refused(
    dtype: mx.Dtype, value: str, tmp_path: Path, small: Path, weights: Arrays
) -> None:
    """A tensor is named with the count of its numbers that are infinite or NaN, in every type."""
    bad = {name: array.astype(dtype) for name, array in weights.items()}
    bad[Q][3, 2:4] = float(value)
    folder = made(tmp_path / "m", small, {"model.safetensors": bad})
    with pytest.raises(PunieError, match=rf"not finite[\s\S]*{Q}: 2 numbers"):
        base_stage(folder, tmp_path / "out")


@pytest.mark.parametrize("bits", [None, 4])
@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_a_sum_that_overflows_is_not_published(
    dtype: mx.Dtype, bits: int | None, tmp_path: Path, small: Path, weights: Arrays
) -> None:
    """A delta beyond float16 ends the fuse with a tensor's name, quantized or not; in bfloat16 it fits."""
    arrays = {name: array.astype(dtype) for name, array in weights.items()}
    folder = made(tmp_path / "m", small, {"model.safetensors": arrays})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"torch_dtype": str(dtype).rpartition(".")[2]}))
    adapter = make_adapter(tmp_path / "adapter", folder)
    path = str(adapter / "adapters.safetensors")
    mx.save_safetensors(path, {n: a * 1000 for n, a in cast(Arrays, mx.load(path)).items()})
    (out := tmp_path / "out").mkdir()

    def run() -> None:
        fuse(folder, adapter, out, base_key=BASE_KEY, bits=bits, group_size=64)

    if dtype == mx.bfloat16:
        return run()
    with pytest.raises(PunieError, match=r"not finite[\s\S]*layers\.\d[\s\S]*in F16[\s\S]*65,504"):
        run()


def test_a_part_that_is_not_loaded_is_said(tmp_path: Path, small: Path, weights: Arrays) -> None:
    """A vision tower and a head beside tied embeddings are named with their size; a whole model has none."""
    tower = {"model.visual.patch_embed.proj.weight": mx.ones((32, 48), mx.bfloat16)}
    tower["model.visual.blocks.0.attn.qkv.weight"] = mx.ones((4, 4), mx.bfloat16)
    text = {f"model.language_model.{name.removeprefix('model.')}": array for name, array in weights.items()}
    seeing = made(tmp_path / "seeing", small, {"model.safetensors": text | tower})
    config = json.loads((seeing / "config.json").read_text())
    (seeing / "config.json").write_text(
        json.dumps({"model_type": "qwen3_vl", "text_config": config, "vision_config": {"depth": 1}})
    )
    assert "model.visual is not loaded by mlx-lm (1,552 parameters)" in base_stage(seeing, tmp_path / "1")
    head = {"lm_head.weight": weights["model.embed_tokens.weight"]}
    both = made(tmp_path / "both", small, {"model.safetensors": weights | head})
    assert "lm_head is not loaded by mlx-lm (131,072 parameters)" in base_stage(both, tmp_path / "2")
    assert base_stage(small, tmp_path / "3") == ""


PARTS = {
    "additional_chat_templates/default.jinja": "{{ messages[0].content }} default",
    "additional_chat_templates/tool_use.jinja": "{{ messages[0].content }} tools",
    "added_tokens.json": "{}",
    "special_tokens_map.json": "{}",
    "generation_config.json": '{"eos_token_id": 2}',
    "hf_quant_config.json": "{}",
    "preprocessor_config.json": "{}",
    "tokenizer.4.0.0.json": "",
    "vocab.txt": "",
    "tekken.json": "{}",
    "spiece.model": "",
}
"""Files that a folder may have, with a content that changes nothing or, of templates, everything."""
_opened: list[str] | None = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None and isinstance(arguments[0], str | bytes):
        _opened.append(str(arguments[0]))


def opened(call: Callable[[], object]) -> set[Path]:
    """The files that a call opens from Python."""
    global _opened
    if _opened is None:
        sys.addaudithook(_note)  # for good: it cannot be removed
    _opened = found = []
    call()
    _opened = []
    return {Path(each) for each in found}


def test_all_that_a_load_opens_is_in_the_key(tmp_path: Path, small: Path) -> None:
    """Of a folder with every file that a tokenizer may have, what loading opens is in the base's key, and
    nothing beside the folder is opened. A file more is another key; templates and vocabularies are in the
    tokenizer's, too."""
    shutil.copytree(small, folder := tmp_path / "m" / "base")
    (folder / "additional_chat_templates").mkdir()
    before = {"base": folders.contents(folder), "tokenizer": folders.tokenizer_contents(folder)}
    for name, content in PARTS.items():
        if name.startswith("tokenizer."):
            content = (folder / "tokenizer.json").read_text()
        (folder / name).write_text(content)
        now = {"base": folders.contents(folder), "tokenizer": folders.tokenizer_contents(folder)}
        assert now["base"].keys() - before["base"].keys() == {name}
        of_config = name.endswith("config.json")
        assert (now["tokenizer"] == before["tokenizer"]) == of_config, name
        before = now
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tokenizer_class": "LlamaTokenizer"}))
    assert folders.tokenizer_contents(folder) != before["tokenizer"]
    (folder / "config.json").write_text(json.dumps(config))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"fast_tokenizer_files": ["tokenizer.4.0.0.json"], "tokenizer_file": str(tmp_path / "other")}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    loaded: list[Any] = []
    found = opened(lambda: loaded.append(load.load(folder)))
    inside = {str(path.relative_to(folder)) for path in found if path.is_relative_to(folder)}
    assert inside >= {"config.json", "tokenizer_config.json", "additional_chat_templates/default.jinja"}
    assert inside <= before["base"].keys()
    assert {
        path for path in found if path.is_relative_to(tmp_path) and not path.is_relative_to(folder)
    } == set()
    turn = [{"role": "user", "content": "hi"}]
    assert loaded[0].tokenizer.apply_chat_template(turn, tokenize=False) == "hi default"


def test_what_training_rendered_with_is_copied(tmp_path: Path, small: Path) -> None:
    """The fused model renders as its base does, templates of the sub-folder included."""
    shutil.copytree(small, folder := tmp_path / "base")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "default.jinja").write_text("{{ messages[0].content }}!")
    (out := tmp_path / "out").mkdir()
    fuse(folder, make_adapter(tmp_path / "a", folder), out, base_key=BASE_KEY, bits=4, group_size=64)
    assert folders.companions(out) == folders.companions(folder)
    assert folders.tokenizer_contents(out) == folders.tokenizer_contents(folder)


@pytest.mark.parametrize("how", ["file", "folder", "fast_tokenizer_files"])
def test_nothing_outside_the_folder_counts(how: str, tmp_path: Path, small: Path) -> None:
    """A template that is a link out of the folder, a linked sub-folder, and a tokenizer's name that leads out
    are refused."""
    shutil.copytree(small, folder := tmp_path / "base")
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (elsewhere / "default.jinja").write_text("secret")
    if how == "folder":
        (folder / folders.TEMPLATES).symlink_to(elsewhere)
    elif how == "file":
        (folder / folders.TEMPLATES).mkdir()
        (folder / folders.TEMPLATES / "default.jinja").symlink_to(elsewhere / "default.jinja")
    else:
        config = json.loads((folder / "tokenizer_config.json").read_text())
        config["fast_tokenizer_files"] = ["../elsewhere/tokenizer.4.0.0.json"]
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(PunieError, match=r"leads out of its folder|outside its folder"):
        located(folder)


PLAIN = COMMON | DENSE
PACKED = PLAIN | {"quantization": {"group_size": 64, "bits": 4}}
WIDE = {"head_dim": 24, "num_attention_heads": 4}
GOOD = "self_attn.q_proj"


@pytest.mark.parametrize(
    ("config", "recipe", "words"),
    [
        (
            PLAIN | {"intermediate_size": 264},
            {},
            r"does not divide[\s\S]*264 inputs[\s\S]*next +quantize=none",
        ),
        (PLAIN | {"intermediate_size": 288}, {}, r"288 inputs[\s\S]*next +quantize.group_size=32, or quan"),
        (PLAIN | WIDE, {}, r"o_proj: 96 inputs[\s\S]*group_size=32, or"),
        (PLAIN | {"intermediate_size": 320}, {"group_size": 128}, r"320 inputs[\s\S]*group_size=64, or"),
        (PACKED, {"fine_tune_type": "full"}, "quantized layer cannot be trained as a whole"),
        (TIED | COMMON, {"num_layers": 3}, r"more layers[\s\S]*at most 2"),
        (PLAIN | {"num_attention_heads": 3, "num_key_value_heads": 2}, {}, r"dimensions[\s\S]*n_heads 3"),
        (PLAIN | {"model_type": "nothing_like_it"}, {}, r"architecture[\s\S]*nothing_like_it"),
        (PLAIN, {"keys": [GOOD, "self_attn.v_prj"]}, r"Some of[\s\S]*v_prj[\s\S]*mean self_attn.v_proj inst"),
        (
            PLAIN,
            {"keys": ["q_proj"]},
            r"No layer[\s\S]*some of mlp.down_proj, [\s\S]*self_attn.q_proj instead",
        ),
        (PLAIN, {"keys": [GOOD, "mlp.experts.0.up_proj"]}, "called mlp.experts.0.up_proj"),
        (PLAIN, {"keys": []}, "No layer"),
        (NEXT | {"num_hidden_layers": 4}, {"keys": ["self_attn.qkv_proj"]}, "called self_attn.qkv_proj"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(
    config: dict[str, Any], recipe: dict[str, Any], words: str
) -> None:
    """Known from config.json and the recipe alone, of a flat config and of one with a text_config; only group
    sizes that divide are advised."""
    forms = [config]
    if config["model_type"] == "qwen3" and "quantization" not in config:
        forms.append({"model_type": "qwen3_vl", "text_config": config})
    settings: dict[str, Any] = RECIPE | {"num_layers": -1} | recipe
    for form in forms:
        with pytest.raises(PunieError, match=words) as caught:
            sizes(form, **settings)
        assert not isinstance(caught.value, NotEstimated)


@pytest.mark.parametrize("keys", [None, [GOOD], [GOOD, "model.embed_tokens"], ["mlp.gate_proj", "lm_head"]])
def test_what_fits_is_not_refused(keys: list[str] | None) -> None:
    """Names of layers in a block, and of layers outside of them, are keys; float weights train as a whole."""
    settings: dict[str, Any] = RECIPE | {"num_layers": -1, "keys": keys}
    assert sizes(PLAIN, **settings).trainable > 0
    settings |= {"fine_tune_type": "full"}
    assert sizes(PLAIN, **settings).trainable > 0


def test_an_architecture_under_another_name() -> None:
    """What mlx-lm loads as another architecture, as it does mistral, has a size."""
    settings: dict[str, Any] = RECIPE | {"num_layers": -1}
    assert sizes(PLAIN | {"model_type": "mistral"}, **settings).parameters > 0
