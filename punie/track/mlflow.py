"""MLflow: a run is found again by its tag ``punie.id``, and gets what it does not have."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from punie.track.tracker import PROJECT, Told, Tracker

_LONGEST = 5000
"""Characters of a tag or a parameter, of which MLflow takes no more."""
_STATUS = {"finished": "FINISHED", "failed": "FAILED"}


class Mlflow(Tracker):
    """Reports to the server of ``MLFLOW_TRACKING_URI``; without one, to a data base in the working folder."""

    package = "mlflow"

    def start(self, told: Told) -> None:
        """Begin a run, below its sweep's."""
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        import mlflow

        self.mlflow = mlflow
        mlflow.set_experiment(self.project or os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT)
        found = self._find(told.id)
        parent = self._find(told.parent) if told.parent else None
        above = {"mlflow.parentRunId": parent} if parent else {}
        mlflow.start_run(run_id=found, run_name=told.name, log_system_metrics=False)
        known = mlflow.active_run()
        self.tag({"punie.id": told.id, "mlflow.runName": told.name, **above, **told.tags})
        data = mlflow.get_run(known.info.run_id).data
        client = mlflow.MlflowClient()
        self.known = {
            (name, each.step)
            for name in (data.metrics if found else ())
            for each in client.get_metric_history(known.info.run_id, name)
        }
        values = {_name(name): _cut(str(value)) for name, value in told.parameters.items()}
        mlflow.log_params({name: value for name, value in values.items() if name not in data.params})

    def log(self, values: Mapping[str, float], step: int | None) -> None:
        """Log metrics that the run does not have of this step."""
        at = step or 0
        new = {name: value for key, value in values.items() if ((name := _name(key)), at) not in self.known}
        if new:
            self.mlflow.log_metrics(new, step=at)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self.mlflow.set_tags({_name(name): _cut(value) for name, value in tags.items()})

    def keep(self, file: Path) -> None:
        """Log an artifact."""
        self.mlflow.log_artifact(str(file))

    def end(self, status: str) -> None:
        """End the run."""
        self.mlflow.end_run(_STATUS.get(status, "KILLED"))

    def _find(self, id_: str) -> str | None:
        """MLflow's id of a run."""
        found = self.mlflow.search_runs(
            filter_string=f"tags.`punie.id` = '{id_}'", max_results=1, output_format="list"
        )
        return found[0].info.run_id if found else None


def _name(text: str) -> str:
    """A name of the characters that MLflow takes."""
    return re.sub(r"[^\w\-. /]", "_", text)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
