"""Weights & Biases: a sweep is a group, its own run and those of its jobs are in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from punie.track.tracker import PROJECT, Told, Tracker


class Wandb(Tracker):
    """Reports to the account of ``WANDB_API_KEY``; with ``WANDB_MODE=offline``, to the run's folder."""

    package = "wandb"

    def start(self, told: Told) -> None:
        """Begin a run; wandb replaces one that has the same id."""
        import wandb

        self.report = wandb.Artifact(f"report-{told.id}", type="report")
        self.run = wandb.init(
            project=self.project or os.environ.get("WANDB_PROJECT") or PROJECT,
            dir=os.environ.get("WANDB_DIR") or told.folder,
            id=told.id,
            name=told.name,
            group=told.group or told.name,
            job_type="job" if told.parent else "sweep" if "jobs" in told.parameters else "run",
            config={**told.parameters, "tags": dict(told.tags)},
            # Not of this process and its machine: provenance.json has what matters, without user and host.
            settings=wandb.Settings(
                console="off",
                disable_code=True,
                disable_git=True,
                silent=True,
                x_disable_machine_info=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )

    def log(self, values: Mapping[str, float], step: int | None) -> None:
        """Add to the history, or set figures of the summary."""
        if step is None:
            self.run.summary.update(dict(values))
        else:
            self.run.log(dict(values), step=step)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Add to ``tags`` of the config, since a tag of wandb has no value."""
        self.run.config.update({"tags": {**self.run.config["tags"], **tags}}, allow_val_change=True)

    def keep(self, file: Path) -> None:
        """Add to the artifact ``report-…``."""
        self.report.add_file(str(file))

    def end(self, status: str) -> None:
        """Log the artifact, and wait until all is sent."""
        self.run.log_artifact(self.report)
        self.run.finish(exit_code=0 if status == "finished" else 1)
