"""The model card of an exported model: what it is, what it scored, and which bytes scored it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from punie.results.pages.documents import environment


def model_card(
    *,
    name: str,
    folder: str,
    model: str,
    repo: str | None,
    data: str,
    results: Mapping[str, Any],
    quantize: Mapping[str, Any],
    files: Mapping[str, str],
) -> str:
    """README.md of an exported model folder.

    Args:
        name: The run's name.
        folder: What the reader will load.
        model: Name of the base model.
        repo: Its repository on the hub, if it has one.
        data: Name of the training data.
        results: The run's results.json.
        quantize: What the quantize stage recorded.
        files: File name to sha256 of the folder's files.
    """
    scores = results["scores"]
    entries = [(c, scores["strict"]["categories"][c], scores["keyword"]["categories"][c])
               for c in scores["strict"]["categories"]]  # fmt: skip
    entries.append(("overall", scores["strict"]["overall"], scores["keyword"]["overall"]))
    rows = [
        {
            "name": entry,
            "n": strict["n"],
            "strict": strict["mean"],
            "interval": strict["interval"],
            "keyword": keyword["mean"],
            "stderr": keyword["stderr"],
        }
        for entry, strict, keyword in entries
    ]
    return environment(autoescape=False).get_template("model_card.md.jinja").render(
        name=name, folder=json.dumps(folder, ensure_ascii=False), model=model,
        repo=repo, data=data, results=results, quantize=quantize,
        files=files, rows=rows,
    )  # fmt: skip
