"""The suite that checkpoints are selected by."""

from __future__ import annotations

import json

from punie.data.load import load_rows
from punie.embedded.selection import selection_suite
from punie.evals.suite import load_suite
from punie.formats.tools import TOOLS
from punie.util.paths import resource


def test_the_shipped_suite_is_the_generated_one() -> None:
    """data/suites/select52.jsonl is what ``punie data suite`` writes: a valid suite of every tool twice."""
    path = resource("data/suites/select52.jsonl")
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == selection_suite()
    assert sorted(sample.expect[0].tool for sample in load_suite(path)) == sorted([*TOOLS, *TOOLS])


def test_nothing_of_it_is_trained_or_evaluated() -> None:
    """It shares no prompt with the training data, nor with the suites that are evaluated."""
    prompts = {str(item["prompt"]).casefold() for item in selection_suite()}
    trained = {
        str(message["content"]).casefold()
        for row in load_rows(resource("data/code_mode/train.jsonl"))
        for message in row.messages
    }
    evaluated = {
        sample.prompt.casefold()
        for name in ("core27", "wide270")
        for sample in load_suite(resource(f"data/suites/{name}.jsonl"))
    }
    assert not prompts & (trained | evaluated)
