"""What a model's folder consists of: the files that count, and what they state; does not import mlx."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from punie.store.artifacts import MANIFEST
from punie.store.keys import content_digests
from punie.util.errors import PunieError
from punie.util.jsonl import excerpt
from punie.util.plain import parse_json

TEMPLATES = "additional_chat_templates"
"""The sub-folder whose chat templates transformers reads, too: ``default.jinja`` there is in force."""
INDEX = "model.safetensors.index.json"
_TOKENIZER = ("tokenizer", "chat_template", "special_tokens", "added_tokens", "vocab", "merges", TEMPLATES)
_VOCABULARIES = (".model", ".tiktoken", "tekken.json")
"""How the names of other files end that hold a tokenizer."""
PARTS = {".safetensors", ".json", ".jinja", ".txt", ".model", ".tiktoken"}
"""Suffixes of the files that are read."""
FILE = re.compile(r"[^/\\\0]{1,200}")
"""Names of files directly in a folder."""

ModelJson = dict[str, Any]
"""A model's config.json."""


def read_config(folder: Path, name: str = "config.json") -> ModelJson:
    """Read a model's config.json, or another of its files.

    Raises:
        PunieError: It is missing, cannot be read, or is not a JSON object.
    """
    path, found = folder / name, "it is not a JSON object"
    try:
        value = parse_json(path.read_bytes())
        if isinstance(value, dict):
            return value
    except FileNotFoundError:
        raise PunieError(
            f"The model folder has no {name}.",
            where=folder,
            next_step="give a model folder in mlx-lm's format",
        ) from None
    except (OSError, ValueError) as error:
        found = str(error)
    raise PunieError(f"The model's {name} cannot be read.", where=path, found=found)


def contents(folder: Path) -> dict[str, str]:
    """File name to sha256 for every file of a model that can influence a result.

    The manifest that a model has in the store holds times and influences nothing. Files of a sub-folder are
    named with it.
    """
    ignored = {MANIFEST, *(path.name for path in stray_weights(folder))}
    own = content_digests(path for path in _parts(folder) if path.name not in ignored)
    return own | {f"{TEMPLATES}/{name}": sha for name, sha in content_digests(templates(folder)).items()}


def companions(folder: Path) -> list[str]:
    """Names of a model's files beside its weights and their index, relative to its folder, sorted."""
    own = [path.name for path in _parts(folder) if path.suffix != ".safetensors" and path.name != INDEX]
    return sorted([*own, *(f"{TEMPLATES}/{path.name}" for path in templates(folder))])


def _parts(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix in PARTS and not path.name.startswith(".")]


def templates(folder: Path) -> list[Path]:
    """The files that transformers finds in the sub-folder for templates."""
    return sorted((folder / TEMPLATES).glob("*.jinja"))


def weight_files(folder: Path) -> list[Path]:
    """A model's weight files: those that the index names, else model.safetensors, else its shards.

    Raises:
        PunieError: The index cannot be read.
    """
    if (folder / INDEX).exists():
        return [folder / name for name in _indexed(folder)]
    whole = folder / "model.safetensors"
    return [whole] if whole.exists() else sorted(folder.glob("model*.safetensors"))


def stray_weights(folder: Path) -> list[Path]:
    """Files that mlx-lm would read with a model's weights, and that do not belong to it."""
    return sorted(set(folder.glob("model*.safetensors")) - set(weight_files(folder)))


def tokenizer_contents(folder: Path) -> dict[str, Any]:
    """File name to sha256 for the files that decide how text becomes tokens, and what else does: the fields
    of config.json by which transformers chooses the tokenizer's class; the end ids, if they decide."""
    files = {
        name: sha
        for name, sha in contents(folder).items()
        if name.startswith(_TOKENIZER) or name.endswith(_VOCABULARIES)
    }
    config, ends = read_config(folder), decisive_ends(folder)
    kind = {name: config[name] for name in ("model_type", "tokenizer_class") if name in config}
    return {**files, **kind, **({"eos_token_id": ends} if ends else {})}


def end_ids(folder: Path) -> list[int]:
    """The ids at which generation stops, by config.json and generation_config.json, as for mlx_lm.load."""
    found: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        if (folder / name).is_file():
            value = read_config(folder, name).get("eos_token_id")
            found.update(
                each for each in (value if isinstance(value, list) else [value]) if type(each) is int
            )
    return sorted(found)


def decisive_ends(folder: Path) -> list[int]:
    """The end ids, unless they are the tokenizer's own one: earlier versions used that alone."""
    ends = end_ids(folder)
    return [] if len(ends) == 1 and _own_end(folder) in (None, *ends) else ends


def _own_end(folder: Path) -> int | None:
    """The id of the tokenizer's eos_token; None if the files do not say."""
    try:
        token = read_config(folder, "tokenizer_config.json").get("eos_token")
        listed = read_config(folder, "tokenizer.json")
    except PunieError:
        return None
    text = token.get("content") if isinstance(token, dict) else token
    added, words = listed.get("added_tokens"), listed.get("model")
    for each in added if isinstance(added, list) else []:
        if isinstance(each, dict) and each.get("content") == text and type(each.get("id")) is int:
            return each["id"]
    known = words.get("vocab") if isinstance(words, dict) else None
    found = known.get(text) if isinstance(known, dict) and isinstance(text, str) else None
    return found if type(found) is int else None


def vocabulary(folder: Path) -> int | None:
    """Rows of the model's embedding by its config.json; None if that does not say."""
    return _size(read_config(folder), "vocab_size")


def depth(config: ModelJson) -> int | None:
    """Number of a model's layers, by its config.json; None if that does not say."""
    return _size(config, "num_hidden_layers")


def width(config: ModelJson) -> int | None:
    """Numbers in a model's hidden state, by its config.json; None if that does not say."""
    return _size(config, "hidden_size")


def context(config: ModelJson) -> int | None:
    """Most tokens that a model has positions for, by its config.json; None if that does not say."""
    return _size(config, "max_position_embeddings", "n_positions")


def _size(config: ModelJson, *names: str) -> int | None:
    """The first of some sizes that a config has, its own or those of its text model."""
    text = config.get("text_config")
    parts = [config, text if isinstance(text, dict) else {}]
    sizes = [part[name] for part in parts for name in names if type(part.get(name)) is int]
    return next(iter(sizes), None)


def _indexed(folder: Path) -> list[str]:
    """Names of the files that the model's index names, sorted."""
    files = read_config(folder, INDEX).get("weight_map")
    if not isinstance(files, dict) or not all(
        isinstance(name, str) and FILE.fullmatch(name) and name.endswith(".safetensors")
        for name in files.values() or [None]
    ):
        raise PunieError(
            "The model's shard index cannot be read.",
            where=folder / INDEX,
            found=f"weight_map {excerpt(files)}",
            expected="the name of a file for each tensor",
            next_step="fetch or copy the model again",
        )
    return sorted(set(files.values()))
