"""One job of a sweep: run it, and leave a record of how it ended, whatever happens.

Nothing that a job raises gets out of it, but the interruption of the sweep itself: an exception could be
one that cannot be pickled, and the launchers stop at a ``SystemExit``. What happened is in the job's folder.
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
from punie.run.capture import now
from punie.store.keys import SHORT, digest
from punie.sweep.compose import differences
from punie.util.errors import ConfigError, PunieError
from punie.util.files import write_json, write_text
from punie.util.interrupts import check
from punie.util.plain import parse_json
from punie.util.progress import Reporter

STATUS = "status.json"
TRACEBACK = "traceback.txt"
PROGRESS = "progress.log"
LOCK = ".lock"
STOP = "stopped"
"""In the sweep's folder: no further job starts."""
GATE = 3
"""Exit code of a run that is complete and fails ``eval.fail_under``."""
_FOLDER = re.compile(rf"\d+-(?P<id>[0-9a-f]{{{SHORT}}})")


class SweepInterrupted(KeyboardInterrupt):
    """The sweep was told to stop; a plain KeyboardInterrupt is the job's own."""


def run_job(composed: DictConfig) -> float | None:
    """Run one composed job, in the folder in which the sweep was started: workers of Ray's have another.

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


def is_running(folder: Path) -> bool:
    """Whether a process has the job; its lock tells, on any host that shares the folder."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True


def _run(composed: DictConfig, folder: Path) -> float | None:
    check()
    if read_status(folder)["status"] not in ("planned", "running"):
        return None  # it was launched a second time, and has ended meanwhile
    sweep = folder.parent.parent
    if (sweep / STOP).exists():
        end(folder, "skipped", "another job failed (sweep.fail_fast)")
        return None
    (folder / TRACEBACK).unlink(missing_ok=True)
    try:
        _require_planned(composed, folder)
        with (folder / PROGRESS).open("a", encoding="utf-8") as stream:
            return task(composed, Reporter(Console(file=stream, highlight=False, width=110)))
    except SweepInterrupted:
        end(folder, "interrupted", "the sweep was interrupted")
        raise
    except BaseException as error:
        write_text(folder / TRACEBACK, traceback.format_exc())
        interrupted = isinstance(error, KeyboardInterrupt)
        message = str(error) if isinstance(error, PunieError) else f"{type(error).__name__}: {error}"
        end(folder, "interrupted" if interrupted else "failed", message, getattr(error, "exit_code", 1))
        if bool(OmegaConf.select(composed, "sweep.fail_fast")) and read_status(folder)["status"] == "failed":
            (sweep / STOP).touch()
        return None


def read_status(folder: Path) -> dict[str, Any]:
    """What a job's folder says of it; ``{"status": "planned"}`` before it starts.

    Raises:
        PunieError: It is not what a job writes.
    """
    path = folder / STATUS
    try:
        record = parse_json(path.read_bytes())
        if not (isinstance(record, dict) and isinstance(record.get("status"), str)):
            raise ValueError("no JSON object with a status")
    except FileNotFoundError:
        return {"status": "planned"}
    except ValueError as error:
        raise PunieError(
            "A job's status cannot be read.",
            where=path,
            found=error,
            next_step="delete the file, and resume the sweep: what is finished is reused",
        ) from None
    return record


def headline(error: str) -> str:
    """An error in a line: its first, and of several problems the first one."""
    first, *rest = error.splitlines() or [""]
    return f"{first} {rest[0].strip().removeprefix('1. ')}" if first.endswith(":") and rest else first


def end(folder: Path, status: str, error: str, exit_code: int = 1) -> None:
    """Complete a job's record; what the run itself wrote of its end stays.

    Args:
        folder: The job's; made if it is not there.
        status: ``failed``, ``killed``, ``interrupted`` or ``skipped``.
        error: What went wrong.
        exit_code: What a single run would have ended with; 3 for a finished one below its gate.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = read_status(folder)
    if record["status"] in ("planned", "running"):
        record |= {"status": status, "ended": now()}
    record |= {"error": record.get("error") or error, "exit_code": exit_code}
    write_json(folder / STATUS, {"schema": 1, **record})


def _require_planned(composed: DictConfig, folder: Path) -> None:
    """Refuse a config that is not the one in the plan: its digest is in the folder's name.

    Raises:
        ConfigError: They differ.
    """
    name = _FOLDER.fullmatch(folder.name)
    plain: Any = OmegaConf.to_container(composed, resolve=True)
    if name is None or digest("config", plain)[:SHORT] == name["id"]:
        return
    from punie.sweep.plan import read

    planned = read(folder.parent.parent).by_folder[folder.name]
    raise ConfigError(
        "The job's config is not the planned one.",
        where=folder,
        found="; ".join(differences(planned.config, plain)[:5]) or "another digest",
        expected="the config in plan.json: nothing changes while a sweep runs",
        next_step=f"undo the change, then: punie resume {folder.parent.parent}",
    )
