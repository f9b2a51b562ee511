"""Slurm's own word on jobs that are gone, for clusters that keep no accounts.

submitit learns from ``sacct`` that a job ended without a result: cancelled, or killed. Without accounting
storage ``sacct`` knows nothing, and a sweep would wait for such a job for ever; ``squeue`` knows it as well.
"""

from __future__ import annotations

import subprocess

from hydra.plugins.launcher import Launcher

_EVERY = 60
"""Longest time between two questions, in seconds; it begins with two."""


def watch(launcher: Launcher) -> None:
    """Let submitit ask ``squeue`` if the launcher is its one for Slurm and ``sacct`` has no answers."""
    if getattr(launcher, "_EXECUTOR", None) != "slurm" or _has_accounts():
        return
    from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

    class QueueWatcher(SlurmInfoWatcher):
        """The states of this user's jobs; one that Slurm has already forgotten has ended."""

        def _make_command(self) -> list[str] | None:
            if not self._registered - self._finished:
                return None
            return ["squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i|%T"]

        def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
            text = string if isinstance(string, str) else string.decode()
            known = dict(line.split("|", 1) for line in text.splitlines())
            return {job: {"State": known.get(job, "COMPLETED").strip()} for job in self._registered}

    SlurmJob.watcher = QueueWatcher(delay_s=_EVERY)


def _has_accounts() -> bool:
    try:
        return subprocess.run(["sacct", "--noheader"], capture_output=True).returncode == 0
    except OSError:
        return True  # no Slurm at all: submitit tells so better
