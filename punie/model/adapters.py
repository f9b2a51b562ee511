"""Adapters as they are found, in mlx-lm's format or PEFT's: what they are, and which punie can fuse.

Reads configs and headers, and does not import mlx.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from punie.model import stored
from punie.model.device import device_kind, version
from punie.model.folders import ModelJson, contents, read_config
from punie.model.shards import read_header
from punie.store.artifacts import Store
from punie.store.keys import SCHEMA, content_digests
from punie.store.sources import sourced
from punie.util.errors import PunieError
from punie.util.jsonl import excerpt
from punie.util.processes import run_alone

STAGE = "fused"
_VERSION = 1
CONFIG = "adapter_config.json"
WEIGHTS = {"mlx-lm": "adapters.safetensors", "PEFT": "adapter_model.safetensors"}
"""Files of an adapter, by its format."""
_TENSOR = re.compile(
    r"base_model\.model\.(?P<path>.+)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|"
    r"lora_magnitude_vector)(?:\.weight)?"
)
_PLAIN = re.compile(r"[\w.]+", re.ASCII)
_INITIAL = (None, True, False, "gaussian", "eva", "orthogonal")
"""Ways of PEFT to begin an adapter that leave the base's weights as they are."""
_CHANGES = (
    "modules_to_save", "layer_replication", "target_parameters", "trainable_token_indices", "lora_bias",
    "alora_invocation_tokens", "use_qalora", "arrow_config", "use_bdlora", "megatron_config", "aux_loss",
)  # fmt: skip
"""Fields of PEFT's config that make more of an adapter than a product of two matrices a layer."""


BY_PEFT = "with peft: merge_and_unload() and save_pretrained(NEW); then model=local model.path=NEW"
"""What can be done with a PEFT adapter that punie does not fuse."""


@dataclass(frozen=True)
class Layer:
    """One layer of a PEFT adapter."""

    parts: dict[str, str]
    """Name of the tensor by part: ``lora_a``, ``lora_b``, and ``m`` of DoRA."""
    rank: int
    scale: float


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder."""

    folder: Path
    kind: str
    """``mlx-lm`` or ``PEFT``."""
    config: ModelJson
    """Its adapter_config.json."""
    layers: dict[str, Layer]
    """Of a PEFT adapter, by the name that transformers gives to the layer."""
    weights: int
    """Weights of the layers it changes, as far as its tensors tell."""

    @property
    def base(self) -> str | None:
        """The base model that it names."""
        named = self.config.get("model" if self.kind == "mlx-lm" else "base_model_name_or_path")
        return excerpt(named, 200) if isinstance(named, str) and named else None

    @property
    def file(self) -> Path:
        """Its weights."""
        return self.folder / WEIGHTS[self.kind]


def read(folder: Path) -> Adapter:
    """Read what an adapter's config and header say.

    Raises:
        PunieError: It is none, or is one that punie does not fuse.
    """
    if not (folder / CONFIG).is_file():
        model = (folder / "config.json").is_file()
        raise PunieError(
            "The folder holds a model, not an adapter."
            if model
            else "The folder holds no adapter."
            if folder.is_dir()
            else "There is no such folder of an adapter.",
            where=f"model.adapter={folder}",
            expected=f"a folder with {CONFIG}, as mlx-lm, PEFT or a run of punie writes one",
            next_step=f"model=local model.path={folder}" if model else None,
        )
    config = read_config(folder, CONFIG)
    kind = "PEFT" if "peft_type" in config else "mlx-lm"
    file = folder / WEIGHTS[kind]
    if not file.is_file():
        pickled = sorted(path.name for each in ("*.bin", "*.npz") for path in folder.glob(each))
        raise PunieError(
            f"The {kind} adapter has no safetensors file.",
            where=folder,
            found=f"{pickled[0]}, which punie does not read" if pickled else None,
            expected=WEIGHTS[kind],
            next_step="save it again as safetensors, where you trust it",
        )
    shapes = {name: tuple(entry["shape"]) for name, entry in read_header(file).tensors.items()}
    recipe = config.get("lora_parameters")
    if kind == "mlx-lm" and isinstance(recipe, dict) and not _is_number(recipe.get("scale", 1)):
        raise PunieError(
            "The adapter's scale is no number.", where=folder / CONFIG, found=excerpt(recipe["scale"])
        )
    layers = _peft(folder, config, shapes) if kind == "PEFT" else {}
    return Adapter(folder, kind, config, layers, _dense(shapes))


def _is_number(value: Any) -> bool:
    """Whether a factor from elsewhere is a finite number that float32 holds."""
    return type(value) in (int, float) and abs(value) < 1e30


def _dense(shapes: dict[str, tuple[int, ...]]) -> int:
    """Weights of the layers that low-rank factors stand for; other tensors count as they are."""
    pairs: dict[str, dict[str, tuple[int, ...]]] = {}
    total = 0
    for name, shape in shapes.items():
        if found := re.search(r"lora_(?:embedding_)?([abAB])(?=$|\.)", name):
            pairs.setdefault(name[: found.start()], {})[found[1].lower()] = shape
        else:
            total += math.prod(shape)
    for pair in pairs.values():
        rank = min(min(shape, default=1) for shape in pair.values()) or 1
        total += math.prod(math.prod(shape) // rank for shape in pair.values())
    return total


def _peft(folder: Path, config: ModelJson, shapes: dict[str, tuple[int, ...]]) -> dict[str, Layer]:
    """The layers of a PEFT adapter."""

    def refuse(what: str, found: object, expected: str | None = None) -> PunieError:
        return PunieError(
            what,
            where=folder / CONFIG,
            found=excerpt(found, 300),
            expected=expected,
            next_step=BY_PEFT,
        )

    if config["peft_type"] != "LORA":
        raise refuse(
            "Punie fuses no PEFT adapter of this kind.", f"peft_type {config['peft_type']!r}", "LORA"
        )
    for name in _CHANGES:
        if config.get(name):
            raise refuse("The adapter is more than LoRA.", f"{name}: {config[name]!r}", f"no {name}")
    if (bias := config.get("bias", "none")) != "none":
        raise refuse("The adapter trains biases.", f"bias {bias!r}", "bias none")
    if (initial := config.get("init_lora_weights", True)) not in _INITIAL:
        raise refuse(
            "The adapter belongs to a base model whose weights it changed when it began.",
            f"init_lora_weights {initial!r}",
        )
    layers: dict[str, Layer] = {}
    parts: dict[str, dict[str, str]] = {}
    for name in shapes:
        found = _TENSOR.fullmatch(name)
        if found is None:
            raise refuse("The adapter holds a tensor that punie does not know.", name, "lora_A and lora_B")
        part = "m" if found["part"].endswith("vector") else f"lora_{found['part'][-1].lower()}"
        parts.setdefault(found["path"], {})[part] = name
    dora = config.get("use_dora") is True
    for path, names in parts.items():
        if set(names) != {"lora_a", "lora_b", *(["m"] if dora else [])} or any(
            len(shapes[names[part]]) != 2 for part in ("lora_a", "lora_b")
        ):
            raise refuse(
                "A layer of the adapter is incomplete.", f"{path}: {', '.join(sorted(names.values()))}"
            )
        rank = shapes[names["lora_a"]][0]
        alpha = _of_layer(config, "alpha_pattern", path, config.get("lora_alpha", 8))
        if not _is_number(alpha) or rank < 1:
            raise refuse("The adapter's scale is no number.", f"lora_alpha {alpha!r}, rank {rank}")
        stated = _of_layer(config, "rank_pattern", path, config.get("r", rank))
        if stated != rank:
            raise refuse(
                "The adapter's config belongs to other weights.", f"{path}: r {stated!r}, rank {rank}"
            )
        scale = alpha / (math.sqrt(rank) if config.get("use_rslora") is True else rank)
        layers[path] = Layer(names, rank, float(scale))
    if not layers:
        raise refuse("The adapter is empty.", "no tensors")
    return layers


def _of_layer(config: ModelJson, field: str, path: str, default: Any) -> Any:
    """A layer's own value, by PEFT's rule: the first pattern that is the end of its name."""
    patterns = config.get(field) or {}
    for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
        if not _PLAIN.fullmatch(pattern):
            raise PunieError(
                "Punie takes names of layers here, not regular expressions.",
                where=f"{field} of the adapter's {CONFIG}",
                found=excerpt(pattern, 100),
                next_step=BY_PEFT,
            )
        if path == pattern or path.endswith(f".{pattern}"):
            return value
    return default


def find(base: Path, adapter: Path, store: Store) -> Path | None:
    """The folder of the base model with the adapter fused into it; None if the store has none."""
    return stored.find(STAGE, _material(base, adapter), store)


def build(base: Path, adapter: Path, store: Store) -> Path:
    """Fuse an adapter into a base model, unless the store has the sum, in a process of its own.

    Layers that it does not change stay as they are; those that it changes are in floating point.

    Raises:
        PunieError: The adapter does not fit the model; or the store cannot be written.
    """
    return stored.build(
        STAGE, _material(base, adapter), store, lambda out: run_alone(_fuse, base, adapter, out)
    )


def _fuse(base: Path, adapter: Path, out: Path) -> dict[str, Any]:
    from punie.model import blas

    blas.activate()  # before what follows imports mlx
    from punie.model.fuse import merge

    return merge(base, read(adapter), out)


def _material(base: Path, adapter: Path) -> stored.Material:
    about = read(adapter)
    material = {
        "schema": SCHEMA,
        "stage": STAGE,
        "version": _VERSION,
        "contents": {"model": contents(base), "adapter": content_digests([adapter / CONFIG, about.file])},
        "libraries": {"mlx": version("mlx")},
        "device": device_kind(),
    }
    return sourced(material, "model/adapters.py", "model/fuse.py", "model/layout.py", "model/peft.py")
