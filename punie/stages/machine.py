"""What is checked before every run: what this machine lacks for it."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from punie.config.schema import Config
from punie.model.device import device_kind
from punie.model.folders import ModelJson, read_config
from punie.stages.inputs import Settings, base_folder
from punie.stages.memory import weights_shortage
from punie.track import packages
from punie.util.errors import PunieError
from punie.util.files import disk_shortage

_FILES = 4096
"""Open files that mlx_lm asks for when it is imported; it fails if it may not have them."""


def shortages(config: Config, needed: Mapping[str, int], parameters: int | None) -> Iterator[PunieError]:
    """What this machine lacks for the run, each with what would help.

    ``needed`` are bytes of disk by stage; a stage may have its folder on a disk of its own.
    """
    store, disks = Path(config.store.dir), Counter[Path]()
    for name, size in needed.items():
        folder = store / name.partition(":")[0]
        disks[folder if folder.is_dir() and folder.stat().st_dev != store.stat().st_dev else store] += size
    for place, size in disks.items():
        if found := disk_shortage(place, size, "the stages to run"):
            yield found
    sizes = model_json(config)
    experts = bool(sizes.get("num_experts"))
    if device_kind() == "cpu" and not config.runtime.cpu_float32 and experts and "quantization" not in sizes:
        yield PunieError(
            "MLX on a CPU cannot compute experts in half precision.",
            where="runtime.cpu_float32=false",
            next_step="runtime.cpu_float32=true, or a quantized or dense model",
        )
    if config.eval.server.url:
        from punie.evals.transport import api_key, checked_url

        server = config.eval.server
        for check in (lambda: checked_url(str(server.url), server.api), lambda: api_key(server.api_key_env)):
            try:
                check()
            except PunieError as error:
                yield error
    if found := weights_shortage(config, parameters):
        yield found
    yield from packages.missing(packages.chosen(config.track))


def require_files() -> None:
    """Refuse a limit on open files under which mlx_lm cannot be imported.

    Raises:
        PunieError: The limit is lower, and cannot be raised.
    """
    if (files := resource.getrlimit(resource.RLIMIT_NOFILE)[1]) != resource.RLIM_INFINITY and files < _FILES:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, _FILES))  # as mlx_lm does when it is imported
        except (ValueError, OSError):
            raise PunieError(
                "A process may open too few files for mlx-lm.",
                where="ulimit -Hn",
                found=files,
                expected=f"{_FILES} or more",
                next_step="a shell with a higher limit; only root can raise it",
            ) from None


def model_json(settings: Settings) -> ModelJson:
    """The model's config.json; empty if it cannot be read yet."""
    try:
        return read_config(base_folder(settings))
    except PunieError:
        return {}
