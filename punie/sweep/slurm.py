"""What punie uses of submitit beyond its public interface: its watcher of Slurm jobs.

submitit asks ``sacct`` whether a job was cancelled or killed. Without accounting storage it has no answer
and a sweep would wait for ever, so ``squeue`` is asked instead. The tests marked ``slurm`` fail when submitit
changes.
"""

from __future__ import annotations

import subprocess

_EVERY = 60
"""Longest time between two queries, in seconds; the first are two seconds apart."""


def watch(launcher: str) -> None:
    """Make submitit ask ``squeue`` where ``sacct`` has no answers, if the launcher is its own for Slurm."""
    if not launcher.endswith(".SlurmLauncher") or _has_accounts():
        return
    from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

    class QueueWatcher(SlurmInfoWatcher):
        """Reads the states of this user's jobs; a job that Slurm no longer lists has ended."""

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
        return True  # no Slurm at all: submitit's own error is better
