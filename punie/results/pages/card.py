"""The model card of an exported model: what it is, its scores, and the digests they belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from punie.results.pages.render import environment
from punie.results.pages.tables import score_table

if TYPE_CHECKING:
    from punie.results.run import Run


def model_card(run: Run, *, folder: str, quantize: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """README.md of an exported model folder.

    Args:
        run: The run that scored the model.
        folder: The path that the reader will load.
        quantize: What the quantize stage recorded.
        files: sha256 of the folder's files, by name.
    """
    template = environment(autoescape=False).get_template("model_card.md.jinja")
    return template.render(
        name=run.config.name,
        folder=json.dumps(folder, ensure_ascii=False),
        model=run.config.value("model.name"),
        repo=run.config.value("model.repo"),
        data=run.config.value("data.name"),
        results=run.results,
        quantize=quantize,
        fidelity=quantize.get("fidelity"),
        files=files,
        score_table=score_table(run.results),
    )
