"""The registered document: what it holds, what it notices, and what it never touches."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from punie.config.presets import presets
from punie.results.registration import PENDING, Document, Ran, Registration, changes, compose_document, parse
from punie.util.errors import PunieError

PATH = Path("doc.md")


def registration(**fields: Any) -> Registration:
    return replace(
        Registration(
            registered="2026-01-02T03:04:05+00:00",
            git={"commit": "c" * 40, "dirty": False},
            phase=asdict(presets()["43b"].phase),
            config={"lora.seed": 0, "data.path": "here", "model.repo": "a/b"},
            inputs={"data": {"train.jsonl": "1", "valid.jsonl": "2"}},
        ),
        **fields,
    )


def document(**fields: Any) -> Document:
    prompts = [("a|b", "lsp"), ("c", "git")]
    return compose_document(registration(**fields), command="run it", prompts=prompts, path=PATH)


def changed(given: Registration, **found: Any) -> dict[str, tuple[Any, Any]]:
    run = Ran(**{"phase": given.phase, "config": given.config, "inputs": given.inputs} | found)
    return {c.key: (c.registered, c.found) for c in changes(given, run)}


def test_what_is_written_reads_back() -> None:
    """The registration is in the document as data, whole, with digests that hold."""
    written = document()
    assert written.registration == registration()
    assert written.edited == ()
    assert list(written.runs) == [PENDING]
    assert f"`{registration().digests['config']}`" in written.text


def test_the_document_shows_what_was_decided() -> None:
    """Hypothesis, criteria, outcomes and every prompt of the suite can be read before the run."""
    text = document().text
    phase = presets()["43b"].phase
    assert phase.hypothesis in text
    assert "| overall | >= 0.8 |" in text
    assert "| overall | 0.5 | 0.8 | undecided | – |" in text
    assert "| a\\|b | lsp | | | |" in text
    assert "| overall | 2 | | | 0.824 | |" in text


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_people_keep_every_byte(line_end: str) -> None:
    """Recording a run changes its own part alone, whatever the editor's line ends, and once is enough."""
    words = "# found | nothing \x85 \u2028\t```\nan open fence  \n<!-- a comment -->"
    text = document().text.replace("To be written by people", words).replace("\n", line_end)
    once = parse(text, PATH).with_run("r1", "words")
    start, end = parse(text, PATH).runs[PENDING]
    assert once.startswith(text[:start])
    assert once.endswith(text[end:])
    assert parse(once, PATH).with_run("r1", "words") == once
    assert parse(once, PATH).edited == ()


def test_runs_stand_side_by_side() -> None:
    """A second run comes after the first, and a run recorded again takes its own place."""
    two = parse(document().with_run("r1", "one"), PATH).with_run("r2", "two")
    note = two.replace("<!-- punie:run r2 -->", "a note between the two\n<!-- punie:run r2 -->")
    again = parse(note, PATH).with_run("r1", "other")
    assert list(parse(again, PATH).runs) == ["r1", "r2"]
    assert again == note.replace("\none\n", "\nother\n")


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("<!-- punie:summary -->", "<!-- punie:sumary -->", "<!-- punie:sumary -->"),
        ("<!-- punie:end summary -->\n", "", "<!-- punie:results -->"),
        ("<!-- punie:end run -->\n", "", "<!-- punie:end results -->"),
        ("<!-- punie:end content -->", "", "the end of the document"),
        ("To be written", "<!-- punie:summary -->\n", "<!-- punie:summary -->"),
    ],
)
def test_damaged_markers_are_named(old: str, new: str, found: str) -> None:
    """A marker that is misspelled, gone or there twice is an error with its line and what belongs there."""
    text = document().text
    assert text.count(old) == 1
    with pytest.raises(PunieError) as caught:
        parse(text.replace(old, new), PATH)
    assert caught.value.found == found
    assert str(caught.value.where).startswith("doc.md:")
    assert str(caught.value.expected).startswith("<!-- punie:")


def test_a_run_twice_is_refused() -> None:
    """Two parts of one run cannot both be kept up to date."""
    once = document().with_run("r1", "one")
    doubled = once.replace("<!-- punie:end results -->", "<!-- punie:run r1 -->\n<!-- punie:end run -->\n\\g")
    with pytest.raises(PunieError, match="markers are damaged"):
        parse(doubled.replace("\\g", "<!-- punie:end results -->"), PATH)


@pytest.mark.parametrize(
    ("old", "new"),
    [('"phase": {', '"phase": ['), ('"schema": 1', '"schema": 2'), ('"jobs": []', '"jobs": 3')],
)
def test_damaged_content_is_an_error_for_people(old: str, new: str) -> None:
    """Content that is no JSON, of another schema or of another shape is told as such."""
    with pytest.raises(PunieError, match="registered content cannot be read"):
        parse(document().text.replace(old, new), PATH)


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("| overall | >= 0.8 |", "| overall | >= 0.3 |", "text"),
        ('"op": ">=",\n    "value": 0.8', '"op": ">=",\n    "value": 0.3', "phase"),
        ('"lora.seed": 0', '"lora.seed": 1', "config"),
        ('"train.jsonl": "1"', '"train.jsonl": "3"', "inputs"),
    ],
)
def test_an_edited_registration_is_noticed(old: str, new: str, part: str) -> None:
    """What people see and what is compared are both held by a digest."""
    text = document().text
    assert text.count(old) == 1
    assert parse(text.replace(old, new), PATH).edited == (part,)


def test_a_phase_cannot_forge_a_marker() -> None:
    """A phase whose title is a line of the document's own structure is refused before anything is written."""
    phase = asdict(presets()["43b"].phase) | {"hypothesis": "<!-- punie:summary -->"}
    with pytest.raises(PunieError, match="markers are damaged"):
        document(phase=phase)


def test_changes_are_named() -> None:
    """A criterion is named by its metric, an outcome by its number, a field by its dotted name."""
    given = registration()
    phase = {
        **given.phase,
        "criteria": [{"metric": "overall", "op": ">=", "value": 0.3}],
        "outcomes": [{**given.phase["outcomes"][0], "at_least": 0.7}, *given.phase["outcomes"][1:]],
    }
    found = changed(given, phase=phase, config={**given.config, "lora.seed": 7})
    assert found == {
        "phase.criteria.overall": (">= 0.8", ">= 0.3"),
        "phase.outcomes.1.at_least": (0.8, 0.7),
        "lora.seed": (0, 7),
    }
    assert changed(given) == {}


def test_content_decides_before_place() -> None:
    """The same bytes elsewhere are no change, others at the same place are; unknown ones go by place."""
    given = registration()
    moved = {**given.config, "data.path": "there"}
    assert changed(given, config=moved) == {}
    assert changed(given, inputs={"data": {"train.jsonl": "9", "valid.jsonl": "2"}}) == {
        "data.train.jsonl": ("1", "9")
    }
    assert changed(given, config=moved, inputs={}) == {"data.path": ("here", "there")}
    assert changed(given, config={**given.config, "model.repo": "c/d"}) == {"model.repo": ("a/b", "c/d")}


def test_a_job_is_held_against_its_own_config() -> None:
    """A sweep's job is compared with the registered job that it is nearest to."""
    given = registration(jobs=[{}, {"lora.seed": 1}, {"lora.seed": 2, "data.path": "there"}])
    assert changed(given, config={**given.config, "lora.seed": 1}) == {}
    assert changed(given, config={**given.config, "lora.seed": 3}) == {"lora.seed": (0, 3)}
    other = {**given.config, "lora.seed": 2, "data.path": "there"}
    assert changed(given, config=other, inputs={"data": {"train.jsonl": "8"}}) == {}
