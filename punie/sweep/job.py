"""Runs one job of a sweep and records how it ended, whatever happens.

A job raises nothing but the interruption of the sweep itself: an exception may not be picklable, and the
launchers stop at a ``SystemExit``. What happened is recorded in the job's folder.
"""

from __future__ import annotations

import contextlib
import re
import traceback
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from punie.main import task
from punie.results import files
from punie.results.config import RunConfig
from punie.results.run import STATUS, read_status
from punie.run.capture import now
from punie.run.directory import LOCK
from punie.store.keys import SHORT
from punie.util.errors import ConfigError, PunieError
from punie.util.files import write_text
from punie.util.interrupts import check
from punie.util.progress import Reporter

TRACEBACK = "traceback.txt"
PROGRESS = "progress.log"
STOP = "stopped"
"""In the sweep's folder: no further job starts."""
SHARED = "PUNIE_SHARED"
"""Set in ``hydra.job.env_set`` of a job that shares its frozen layers' output with others."""
GATE = 3
"""Exit code of a run that is complete and fails ``eval.fail_under``."""
_FOLDER = re.compile(rf"\d+-(?P<id>[0-9a-f]{{{SHORT}}})")


class SweepInterrupted(KeyboardInterrupt):
    """The sweep is to stop; a plain KeyboardInterrupt concerns the job alone."""


def run_job(composed: DictConfig) -> float | None:
    """Run one composed job, in the folder in which the sweep was started; Ray's workers start elsewhere.

    Returns:
        Its score; None if it has none.

    Raises:
        SweepInterrupted: The sweep is to stop.
    """
    runtime = HydraConfig.get().runtime
    folder = Path(runtime.output_dir)
    try:
        with contextlib.chdir(runtime.cwd), FileLock(folder / LOCK, timeout=0):
            return _run(composed, folder)
    except Timeout:
        return None  # a launcher that gave up on it too early has left it running


def _run(composed: DictConfig, folder: Path) -> float | None:
    check()
    if read_status(folder).status not in ("planned", "running"):
        return None  # it was launched a second time, and has ended meanwhile
    sweep = folder.parent.parent
    if (sweep / STOP).exists():
        end(folder, "skipped", "another job failed (sweep.fail_fast)")
        return None
    (folder / TRACEBACK).unlink(missing_ok=True)
    try:
        _require_planned(composed, folder)
        with (folder / PROGRESS).open("a", encoding="utf-8") as stream:
            reporter = Reporter(Console(file=stream, highlight=False, width=110))
            return task(composed, reporter, shares=SHARED in HydraConfig.get().job.env_set)
    except SweepInterrupted:
        end(folder, "interrupted", "the sweep was interrupted")
        raise
    except BaseException as error:
        write_text(folder / TRACEBACK, traceback.format_exc())
        interrupted = isinstance(error, KeyboardInterrupt)
        message = str(error) if isinstance(error, PunieError) else f"{type(error).__name__}: {error}"
        end(folder, "interrupted" if interrupted else "failed", message, getattr(error, "exit_code", 1))
        if bool(OmegaConf.select(composed, "sweep.fail_fast")) and read_status(folder).status == "failed":
            (sweep / STOP).touch()
        return None


def headline(error: str) -> str:
    """An error in a line: its first, and of several problems the first one."""
    first, *rest = error.splitlines() or [""]
    return f"{first} {rest[0].strip().removeprefix('1. ')}" if first.endswith(":") and rest else first


def end(folder: Path, status: str, error: str, exit_code: int = 1) -> None:
    """Complete a job's status; what the run itself wrote of its end stays.

    ``exit_code`` is what a single run would have ended with; 3 for a finished one below its gate.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = read_status(folder)
    changes = {"error": found.error or error, "exit_code": exit_code}
    if found.status in ("planned", "running"):
        changes |= {"status": status, "ended": now()}
    files.write(folder / STATUS, found.model_copy(update=changes))


def _require_planned(composed: DictConfig, folder: Path) -> None:
    """Refuse a config that is not the one in the plan: its digest is in the folder's name."""
    plain: Any = OmegaConf.to_container(composed, resolve=True)
    config, name = RunConfig(plain), _FOLDER.fullmatch(folder.name)
    if name is None or config.sha256[:SHORT] == name["id"]:
        return
    from punie.results.sweep import SweepPlan
    from punie.sweep.plan import config_changes

    planned = SweepPlan.read(folder.parent.parent).by_folder[folder.name]
    raise ConfigError(
        "The job's config is not the planned one.",
        where=folder,
        found="; ".join(config_changes(planned.config, config)[:5]) or "another digest",
        expected="the config in plan.json, which does not change while a sweep runs",
        next_step=f"undo the change, then: punie resume {folder.parent.parent}",
    )
