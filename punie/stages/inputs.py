"""Where a run's inputs are: the data folder, the suite, the base model."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from punie.config.schema import ModelConfig, StoreConfig
from punie.data import SPLITS, VALID
from punie.model import folders, resolve, shards
from punie.model.folders import ModelJson
from punie.model.gguf import file, stored
from punie.model.resolve import NotCached, NotInstalled
from punie.store import artifact
from punie.store.artifacts import Artifact, Store
from punie.store.keys import SHORT, content_digests
from punie.util.errors import DataError, PunieError
from punie.util.paths import resource
from punie.util.printable import in_bytes
from punie.util.progress import Reporter

if TYPE_CHECKING:
    from punie.model.adapters import Adapter

_HUB_BITS = 4.5
"""Bits a parameter of the presets' hub models, which are 4-bit in groups of 64."""
_DEEPEST = ("*.parquet", "*/*.parquet", "*/*/*.parquet")


class Data(Protocol):
    """Where the data are: a ``DataConfig``, or a slice of one."""

    @property
    def path(self) -> str | None:
        """A file or folder."""

    @property
    def repo(self) -> str | None:
        """A data set of the hub."""

    @property
    def revision(self) -> str:
        """Of the repo."""

    @property
    def config(self) -> str | None:
        """Of the data set."""

    @property
    def train_split(self) -> str | None:
        """As ``convert.convert`` takes it."""

    @property
    def valid_split(self) -> str | None:
        """Alike."""


class Settings(Protocol):
    """What a stage's slice must hold to find the base model."""

    @property
    def model(self) -> ModelConfig:
        """Which it is."""

    @property
    def store(self) -> StoreConfig:
        """Where one is that was read from a GGUF file."""


def resource_or_path(path: str) -> Path:
    """A file or folder: relative to the working folder, else one of punie's own."""
    found = Path(path).expanduser()
    if not found.is_absolute() and not found.exists():
        with contextlib.suppress(FileNotFoundError):
            return resource(path)
    return found


def data_folder(data: Data) -> Path:
    """The folder with the two splits as JSON Lines; other data are converted to such a folder.

    Raises:
        DataError: There is none, it lacks a split, or it cannot be converted.
        NotCached: The data set has to be downloaded.
    """
    if (converted := conversion(data)) is not None:
        if not (converted.path / VALID).is_file():
            from punie.data import convert

            raise DataError(
                "The data set has no validation split.",
                where="data.valid_split",
                found=f"the splits {', '.join(converted.info['available'])}",
                next_step=f"name one of these, or a part: {convert.split_hint('train')}",
            )
        return converted.path
    folder = resource_or_path(data.path or "")
    missing = [name for name in SPLITS if not (folder / name).is_file()]
    if missing:
        there = sorted(each.name for each in folder.iterdir() if each.is_file()) if folder.is_dir() else []
        others = [name for name in there if name not in SPLITS]
        beside = f"; beside them {', '.join(others[:5])}" if others else ""
        next_step = "data=jsonl data.path=FOLDER takes yours; data=code_mode is punie's own"
        if folder.is_file():
            next_step = f"put it into a folder, as {SPLITS[0]}, with some examples as {SPLITS[1]}"
        elif others or there:
            next_step = f"name the file {missing[0]}, or move some examples into it; one JSON object a line"
        raise DataError(
            "The data folder does not exist." if not folder.exists() else "The data folder is incomplete.",
            where=f"data.path={data.path}",
            found=None if not folder.exists() else "no " + " and no ".join(missing) + beside,
            expected=f"a folder with {' and '.join(SPLITS)}",
            next_step=next_step,
        )
    return folder


def conversion(data: Data) -> Artifact | None:
    """Data that are no folder of JSON Lines, converted to one; None if they are, or if there are none.

    Raises:
        DataError: They cannot be converted.
        NotCached: The data set has to be downloaded.
    """
    parts = (data.train_split, data.valid_split, data.config)
    path = resource_or_path(data.path or "")
    whole = all((path / name).is_file() for name in SPLITS)
    other = path.exists() and (any(parts) or (not whole and _is_parquet(path)))
    if data.repo is None and not other:
        return None
    from punie.data import convert  # not above, like others below: what few runs use

    if data.repo is not None:
        return convert.convert_repo(data.repo, data.revision, *parts)
    return convert.convert(path, *parts)


def _is_parquet(path: Path) -> bool:
    return path.suffix == ".parquet" or any(next(path.glob(each), None) for each in _DEEPEST)


def data_source(data: Data) -> dict[str, Any]:
    """Where converted data came from: the repo and its commit, or digests; empty for JSON Lines."""
    converted = conversion(data)
    return {} if converted is None else {key: converted.info[key] for key in ("source", "splits")}


def data_digests(data: Data) -> dict[str, str]:
    """File name to sha256 of the two splits."""
    folder = data_folder(data)
    return content_digests(folder / name for name in SPLITS)


def suite_path(suite: str) -> Path:
    """The suite's file: one of punie's own or of BFCL by name, else a path.

    Raises:
        DataError: There is none.
    """
    own = resource("data/suites")
    for path in (own / f"{suite}.jsonl", Path(suite).expanduser()):
        if path.is_file():
            return path
    from punie.evals import bfcl_suites

    if suite == bfcl_suites.ALL or suite in bfcl_suites.SUITES:
        return bfcl_suites.find(suite)
    known = [*sorted(path.stem for path in own.glob("*.jsonl")), bfcl_suites.ALL, *bfcl_suites.SUITES]
    raise DataError(
        "There is no such suite.",
        where=f"eval.suite={suite}",
        expected=f"{', '.join(known)}, or a path to a JSONL file",
    )


def suite_digest(suite: str) -> str:
    """sha256 of the suite's file."""
    return next(iter(content_digests([suite_path(suite)]).values()))


class NotConverted(NotCached):
    """The model is a GGUF file that has yet to be read, or has an adapter that has yet to be fused."""


def model_parameters(settings: Settings) -> int | None:
    """Parameters of the base model; of one still to be downloaded by its size there; None if unknown."""
    model = settings.model
    try:
        return shards.parameters(base_folder(settings)) or None
    except NotConverted:
        return described(settings).parameters
    except NotCached:
        return int((model.size_gb or 0) * 1e9 * 8 / _HUB_BITS) or None
    except PunieError:
        return None


def model_config(settings: Settings) -> ModelJson:
    """The base model's config.json, or before it is on this machine, what is known of it.

    Raises:
        PunieError: See :func:`base_folder`.
    """
    try:
        return folders.read_config(base_folder(settings))
    except NotConverted:
        return described(settings).config
    except (NotCached, NotInstalled):  # the dimensions in its preset
        return settings.model.dimensions


def base_folder(settings: Settings) -> Path:
    """The base model's folder on this machine, with ``model.adapter`` fused into it.

    Raises:
        PunieError: See ``resolve.locate`` and ``adapters.read``.
        NotConverted: :func:`prepare` makes it.
    """
    folder = plain_folder(settings)
    if (adapter := adapter_folder(settings)) is None:
        return folder
    from punie.model import adapters

    if fused := adapters.find(folder, adapter, Store(Path(settings.store.dir))):
        return fused
    raise NotConverted(
        "The adapter has not been fused into the model yet.",
        where=f"model.adapter={adapter}",
        next_step="the run fuses it once, into the store",
    )


def plain_folder(settings: Settings) -> Path:
    """The base model's folder without ``model.adapter``.

    Raises:
        PunieError: See ``resolve.locate``.
        NotConverted: It is a GGUF file.
    """
    model = settings.model
    if path := gguf_file(model):
        if folder := stored.find(path, dtype=model.dtype, store=Store(Path(settings.store.dir))):
            return folder
        stored.describe(path, dtype=model.dtype)
        raise NotConverted(
            "The GGUF file has not been read yet.",
            where=path,
            next_step="the run reads it once, into the store",
        )
    return resolve.locate(embedded=model.embedded, path=model.path, repo=model.repo, revision=model.revision)


def adapter_folder(settings: Settings) -> Path | None:
    """The folder that ``model.adapter`` names; None if it names none."""
    return Path(settings.model.adapter).expanduser() if settings.model.adapter else None


def target_folders(
    settings: Settings, target: str, inputs: Mapping[str, Artifact]
) -> tuple[Path, Path | None]:
    """The model's folder that a target is loaded from, and that of the adapter on it, if there is one."""
    folder = inputs["quantize"].path if target == "quantized" else base_folder(settings)
    return folder, inputs["train"].path if target == "adapter" else None


def gguf_file(model: ModelConfig) -> Path | None:
    """The GGUF file that the model is; None if it is none.

    Raises:
        PunieError: The package that should hold it does not.
    """
    if model.package:
        return resolve.packaged(model.package)
    path = Path(model.path).expanduser() if model.path else None
    return path if path and file.is_gguf(path) else None


def described(settings: Settings) -> stored.Described:
    """What is known of a model that has yet to be prepared."""
    if path := gguf_file(settings.model):
        return stored.describe(path, dtype=settings.model.dtype)
    folder = plain_folder(settings)
    return stored.Described(folders.read_config(folder), shards.parameters(folder))


def prepared_bytes(settings: Settings) -> int:
    """Bytes that :func:`prepare` writes, roughly."""
    model, adapter = settings.model, adapter_folder(settings)
    try:
        folder = plain_folder(settings)
    except NotConverted:
        copies = 1 if adapter is None else 2
        return copies * described(settings).parameters * (4 if model.dtype == "float32" else 2)
    if adapter is None:
        return 0
    from punie.model import adapters

    return _stored_bytes(folder) + 2 * adapters.read(adapter).weights


def _stored_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folders.weight_files(folder))


def prepare(settings: Settings, reporter: Reporter) -> None:
    """Make the base model's folder in the store: read its GGUF file, and fuse the adapter into it.

    Raises:
        PunieError: The file is damaged, or of a kind that punie does not read; or the adapter does not fit.
    """
    model, store = settings.model, Store(Path(settings.store.dir))
    try:
        folder = plain_folder(settings)
    except NotConverted:
        path = gguf_file(model)
        assert path is not None  # noqa: S101 - the model is not converted
        reporter.line(f"  reading {path.name} ({in_bytes(path.stat().st_size)}) as {model.dtype} ...")
        folder = stored.build(path, dtype=model.dtype, store=store)
    if adapter := adapter_folder(settings):
        from punie.model import adapters

        about = adapters.read(adapter)
        _require_its_base(about, folder, store)
        reporter.line(f"  fusing the {about.kind} adapter {adapter} into the model ...")
        adapters.build(folder, adapter, store)


def _require_its_base(adapter: Adapter, folder: Path, store: Store) -> None:
    """Refuse an adapter of punie's that was trained on other weights, where a store still knows them."""
    key = adapter.config.get("base_key")
    if not isinstance(key, str) or not re.fullmatch("[0-9a-f]{64}", key):
        return
    for root in (store.root, adapter.folder.absolute().parent.parent):
        if (base := artifact.read(root / "base" / key)) is None:
            continue
        trained = json.loads(base.file("base.json").read_text("utf-8"))["files"]
        here = folders.contents(folder)
        if {n: d for n, d in trained.items() if n.endswith(".safetensors")} != {
            n: d for n, d in here.items() if n.endswith(".safetensors")
        }:
            raise PunieError(
                "The adapter was trained on another base model.",
                where=f"model.adapter={adapter.folder}",
                found=f"base_key {key[:SHORT]}, whose weights differ from those of {folder}",
                next_step="give the model that the run which trained it had",
            )
