"""Trackio: a local data base, a Space of the hub, or a server of one's own; a sweep is a group."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from punie.track.tracker import PROJECT, Told, Tracker


class Trackio(Tracker):
    """Reports to ``TRACKIO_SPACE_ID`` or ``TRACKIO_SERVER_URL``; without them, to ``TRACKIO_DIR``."""

    package = "trackio"

    def start(self, told: Told) -> None:
        """Begin a run in place of a local one that has the same name, which holds the id."""
        import trackio

        self.trackio, self.last = trackio, 0
        project, name = self.project or os.environ.get("TRACKIO_PROJECT") or PROJECT, f"{told.name} {told.id}"
        try:
            found = [each for each in trackio.Api().runs(project) if each.name == name]
        except ValueError:  # there is no such project yet, or it is elsewhere
            found = []
        for earlier in found:
            earlier.delete()
        self.run = trackio.init(
            project=project,
            name=name,
            group=told.group or told.name,
            config={
                **told.parameters,
                "punie.id": told.id,
                **({"parent": told.parent} if told.parent else {}),
            },
            auto_log_cpu=False,
            auto_log_gpu=False,
            embed=False,
        )
        self.tags = dict(told.tags)

    def log(self, values: Mapping[str, float], step: int | None) -> None:
        """Log metrics; figures of the run as a whole are at the last step."""
        self.last = max(self.last, step or 0)
        self.run.log(dict(values), step=self.last if step is None else step)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Remember tags, which are logged together: the config of a run cannot change."""
        self.tags |= tags

    def keep(self, file: Path) -> None:
        """Log an artifact."""
        self.run.log_artifact(file, type="report")

    def end(self, status: str) -> None:
        """Log the tags as text, and wait until all is written."""
        tags = json.dumps({**self.tags, "status": status}, indent=1)
        self.run.log({"tags": self.trackio.Markdown(f"```json\n{tags}\n```")}, step=self.last)
        self.trackio.finish()
