"""Data sets of the hub, and folders laid out alike: where they are, and which files hold which split."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any, cast

from punie.model.resolve import NotCached
from punie.util.errors import DataError, PunieError
from punie.util.files import disk_shortage
from punie.util.jsonl import excerpt
from punie.util.plain import require_plain_yaml
from punie.util.printable import in_bytes

KINDS = (".parquet", ".jsonl", ".json")
"""Files that are read. Nothing else of a data set is, and none of its code is run."""
CARD = "README.md"
"""The file whose YAML head says which files hold which split of which config."""
_REPO = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HEAD = re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)
_MAX_CARD = 2**22

Splits = dict[str, list[Path]]
"""The files of each split, in the order of their rows."""


def library() -> ModuleType:
    """The package ``datasets``, silenced.

    Raises:
        PunieError: It is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise PunieError(
            "Parquet files and data sets of the hub need the package 'datasets'.",
            found=str(error),
            next_step='pip install "punie[datasets]"',
        ) from error
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    datasets.disable_progress_bars()
    return datasets


def commit(repo: str, revision: str) -> str:
    """The commit that a revision is on this machine.

    Raises:
        DataError: The repo's name is none.
        NotCached: The data set has to be downloaded to know.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    if not _REPO.fullmatch(repo):
        raise DataError("The name of the data set is none.", where=f"data.repo={repo}", expected="OWNER/NAME")
    reference = Path(HF_HUB_CACHE) / f"datasets--{repo.replace('/', '--')}" / "refs" / revision
    found = reference.read_text("utf-8").strip() if reference.is_file() else revision
    if not _COMMIT.fullmatch(found):
        raise _not_cached(repo, revision)
    return found


def snapshot(repo: str, revision: str, config: str | None) -> Path:
    """The folder of a data set of the hub on this machine, with every file of the config.

    Raises:
        DataError: The card is wrong, or a file is a link that leads out of the hub's cache.
        NotCached: Files have to be downloaded.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    def whole(patterns: list[str]) -> Path:
        return Path(
            snapshot_download(
                repo,
                repo_type="dataset",
                revision=commit(repo, revision),
                allow_patterns=patterns,
                local_files_only=True,
            )
        )

    try:
        folder = whole([CARD])
        folder = whole(_patterns(folder / CARD, config))
    except LocalEntryNotFoundError:  # also of a download that was interrupted
        raise _not_cached(repo, revision) from None
    home = folder.resolve().parent.parent
    for path in folder.rglob("*"):
        if not path.resolve().is_relative_to(home):
            raise DataError(
                "A file of the data set is a link that leads out of its folder.",
                where=path,
                found=f"a link to {path.resolve()}",
            )
    return folder


def download(repo: str, revision: str, config: str | None, say: Callable[[str], None]) -> None:
    """Fetch the files of a config into the hub's cache; says how large they are first.

    Raises:
        PunieError: The hub cannot be reached or has no such data set, it has no files of a kind that is
            read, or the disk is too small.
    """
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    place = f"{repo} at {revision}"
    try:
        try:
            card = Path(hf_hub_download(repo, CARD, repo_type="dataset", revision=revision))
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            card = Path(CARD).absolute() / "none"  # a data set need not have one
        options: dict[str, Any] = {"repo_type": "dataset", "revision": revision}
        options["allow_patterns"] = _patterns(card, config)
        files: Any = snapshot_download(repo, **options, dry_run=True)
        if not any(file.filename.endswith(KINDS) for file in files):
            raise DataError(
                "The data set has no file of a kind that is read.",
                where=place,
                expected=f"{', '.join(KINDS)} (scripts are never run)",
                next_step="many data sets have a converted copy: data.revision=refs/convert/parquet",
            )
        size = sum(file.file_size for file in files if file.will_download)
        say(f"  downloading {repo} ({in_bytes(size)}) ...")
        if found := disk_shortage(Path(HF_HUB_CACHE), size, f"the data set {repo}"):
            raise found
        snapshot_download(repo, **options)
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        gated = isinstance(error, GatedRepoError)
        raise PunieError(
            "The data set is gated." if gated else "The hub has no such data set, or it is not public.",
            where=place,
            next_step="check data.repo and data.revision; for a gated data set log in with: hf auth login",
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise PunieError(
            "The data set is not on this machine and the hub cannot be reached.",
            where=place,
            found=str(error).splitlines()[0],
            next_step=(
                f"on a machine with a connection run: hf download --repo-type dataset {repo}; "
                "or use files of yours: data=jsonl data.path=FOLDER"
            ),
        ) from error


def splits(path: Path, config: str | None) -> Splits:
    """The files of each split of a folder, by its card, else by their names; a single file is ``train``.

    Raises:
        DataError: The card is wrong, or there is nothing to read.
    """
    if path.is_file():
        return {"train": [path]}
    from datasets.data_files import DataFilesDict, get_data_patterns, sanitize_patterns

    chosen = _declared(path / CARD, config)
    base = str(path / chosen.get("data_dir", ""))
    try:
        declared = chosen.get("data_files")
        patterns = get_data_patterns(base) if declared is None else sanitize_patterns(declared)
        found = DataFilesDict.from_patterns(patterns, base_path=base, allowed_extensions=list(KINDS))
        listed = {str(split): sorted(map(Path, files)) for split, files in found.items() if files}
        if not listed:
            raise FileNotFoundError("other files only")
    except (OSError, ValueError) as error:
        raise DataError(
            "The data set has no files that can be read.",
            where=path,
            found=excerpt(str(error), 200),
            expected=", ".join(KINDS),
        ) from error
    return listed


def _declared(card: Path, config: str | None) -> Mapping[str, Any]:
    """What the card says of a config, or of the default one; empty if it declares none.

    Raises:
        DataError: The card cannot be read, has no such config, or names files elsewhere.
    """
    from datasets.utils.metadata import MetadataConfigs

    configs: Mapping[str, Any] = {}
    default: str | None = None
    if card.is_file():
        try:
            with card.open(encoding="utf-8") as file:
                head = _HEAD.search(file.read(_MAX_CARD).replace("\r\n", "\n"))
            configs = MetadataConfigs.from_dataset_card_data(cast(Any, _yaml(head[1] if head else "")))
            default = MetadataConfigs(configs).get_default_config_name()
        except Exception as error:  # of YAML that may be anything
            found = excerpt(str(error), 200)
            raise DataError("The card of the data set cannot be read.", where=card, found=found) from error
    name = config or default
    if configs and name not in configs:
        raise DataError(
            f"The data set has no config '{name}'." if name else "The data set has several configs.",
            where=f"data.config={config or 'null'}",
            expected=f"one of {excerpt(', '.join(configs), 500)}",
        )
    if config and not configs:
        raise DataError(
            "The data set declares no configs.",
            where=f"data.config={config}",
            next_step="leave data.config out, or name the folder: data.path=FOLDER",
        )
    chosen = configs.get(name or "", {})
    for pattern in _texts([chosen.get("data_files"), chosen.get("data_dir")]):
        if ":" in pattern or PurePosixPath(pattern).is_absolute() or ".." in PurePosixPath(pattern).parts:
            raise DataError("The card names files that are not the data set's.", where=card, found=pattern)
    return chosen


def _yaml(text: str) -> Mapping[str, Any]:
    import yaml

    require_plain_yaml(text)
    found = yaml.safe_load(text)
    return found if isinstance(found, Mapping) else {}


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value."""
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _texts(inner)


def _patterns(card: Path, config: str | None) -> list[str]:
    """The files to download for a config, as patterns of the hub's client, in which * matches slashes."""
    library()
    from datasets.data_files import sanitize_patterns

    chosen = _declared(card, config)
    base = f"{chosen['data_dir']}/" if chosen.get("data_dir") else ""
    if (declared := chosen.get("data_files")) is None:
        return [CARD, *(f"{base}*{kind}" for kind in KINDS)]
    named = [each for patterns in sanitize_patterns(declared).values() for each in patterns]
    return [CARD, *(base + each.replace("**/", "*") for each in named)]


def _not_cached(repo: str, revision: str) -> NotCached:
    return NotCached(
        "The data set is not on this machine yet.",
        where=f"{repo} at {revision}",
        next_step=(
            "the run downloads it; or beforehand: "
            f"hf download --repo-type dataset {repo} --revision {revision}"
        ),
    )
