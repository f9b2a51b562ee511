"""The registration and its document: what they hold, and what recording never touches."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from punie.config.presets import presets
from punie.results import files
from punie.results.records import Phase
from punie.results.registration import (
    BEGIN,
    END,
    Change,
    Document,
    Job,
    Registration,
    compose,
    named,
    nearest_job,
    read,
)
from punie.util.errors import PunieError

PHASE = Phase.model_validate(asdict(presets()["43b"].phase))
FIELDS = {"lora.seed": 0, "data.path": "here", "model.repo": "a/b", "data": {"train.jsonl": "1"}}


def registration(**fields: Any) -> Registration:
    jobs = [Job(values="", differs={})]
    given = {"registered": "2026-01-02T03:04:05+00:00", "git": None, "command": "run it", "phase": PHASE}
    return Registration.model_validate({"schema": 1, **given, "fields": FIELDS, "jobs": jobs} | fields)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A registered document."""
    path = tmp_path / "doc.md"
    path.write_text(compose(registration(), path), newline="")
    files.write(path.with_suffix(".json"), registration())
    return path


def recorded(document: Document, **parts: str) -> Document:
    document.path.write_text(document.with_parts(parts), newline="")
    return read(document.path)


def changes(**fields: Any) -> list[Change]:
    return nearest_job(registration(), {**FIELDS, **fields})[1]


def test_what_is_written_reads_back(path: Path) -> None:
    """The record holds the registration; the document shows hypothesis, criteria, outcomes and command."""
    found = read(path)
    assert (found.registration, found.committed) == (registration(), False)
    shown = [PHASE.hypothesis, "| overall | >= | 0.8 |", "| undecided | overall | 0.5 | 0.8 | – |", "run it"]
    assert [words for words in shown if words not in found.text] == []


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_people_keep_every_byte(path: Path, line_end: str) -> None:
    """Recording changes the results alone, whatever the editor's line ends; runs stand side by side."""
    words = "# found | nothing \x85 \u2028\t```\nan open fence  \n<!-- a comment -->"
    text = path.read_text().replace("To be written by people", words).replace("\n", line_end)
    path.write_text(text, newline="")
    one = recorded(read(path), r1="one\n")
    assert one.text.startswith(text.partition(END)[0])
    assert one.text.endswith(END + text.partition(END)[2])
    assert one.with_parts({"r1": "one\n"}) == one.text
    two = recorded(one, r2="two\n")
    assert recorded(two, r1="other\n").text == two.text.replace("one\n", "other\n")


@pytest.mark.parametrize(("old", "new"), [(BEGIN, ""), (END, ""), (END, END + "\n" + END), (END, "x" + END)])
def test_damaged_markers_are_named(path: Path, old: str, new: str) -> None:
    """A marker that is gone, there twice or not on its own line is an error, and nothing is written."""
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(PunieError, match="markers are damaged"):
        read(path)


def test_a_phase_cannot_forge_a_marker() -> None:
    """A phase with a marker in its text is refused before anything is written."""
    phase = PHASE.model_copy(update={"hypothesis": BEGIN})
    with pytest.raises(PunieError, match="markers are damaged"):
        compose(registration(phase=phase), Path("doc.md"))


@pytest.mark.parametrize("change", [{"phase": []}, {"schema": 2}, {"jobs": []}, {"registered": None}])
def test_a_damaged_record_is_named(path: Path, change: dict[str, Any]) -> None:
    """A record of a newer schema or of another shape is named."""
    record = path.with_suffix(".json")
    record.write_text(json.dumps(json.loads(record.read_text()) | change))
    with pytest.raises(PunieError, match=r"doc\.json"):
        read(path)


def test_git_has_the_date(path: Path) -> None:
    """A committed record has the commit's date; once it is edited, it counts as not committed."""

    def git(*words: str) -> None:
        author = ("-c", "user.name=me", "-c", "user.email=me@example.org")
        subprocess.run(["git", "-C", str(path.parent), *author, *words], check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "Register", "--date=2026-02-03T04:05:06+01:00")
    assert (read(path).registered, read(path).committed) == ("2026-02-03T03:05:06+00:00", True)
    files.write(path.with_suffix(".json"), registration(command="run another"))
    assert (read(path).registered, read(path).committed) == ("2026-01-02T03:04:05+00:00", False)


def test_changes_are_named() -> None:
    """A criterion is named by its metric, an outcome by its number, a field by its dotted name."""
    milder = PHASE.criteria[0].model_copy(update={"value": 0.3})
    other = PHASE.outcomes[0].model_copy(update={"at_least": 0.7})
    phase = PHASE.model_copy(update={"criteria": [milder], "outcomes": [other, *PHASE.outcomes[1:]]})
    assert changes(phase=named(phase)) == [
        ("phase.criteria.overall >=", 0.8, 0.3),
        ("phase.outcomes.1.at_least", 0.8, 0.7),
    ]
    assert changes(phase=named(PHASE)) == []
    assert changes(**{"lora.seed": 7}) == [("lora.seed", 0, 7)]


def test_content_decides_before_place() -> None:
    """The same bytes elsewhere are no change, other bytes are; where a digest is unknown the place counts."""
    moved = {"data.path": "there"}
    assert changes(**moved) == []
    assert changes(data={"train.jsonl": "9"}) == [("data.train.jsonl", "1", "9")]
    assert changes(**{"model.repo": "c/d"}, model={"a": "1"}) == [("model.repo", "a/b", "c/d")]
    without = {name: value for name, value in FIELDS.items() if name != "data"}
    assert nearest_job(registration(), {**without, **moved})[1] == [("data.path", "here", "there")]


def test_a_job_is_held_against_its_own_config() -> None:
    """A sweep's job is compared with the registered job that it is nearest to."""
    differs = [{}, {"lora.seed": 1}, {"lora.seed": 2, "data": {"train.jsonl": "8"}}]
    given = registration(jobs=[Job(values=str(each), differs=each) for each in differs])
    assert nearest_job(given, {**FIELDS, "lora.seed": 1}) == (1, [])
    assert nearest_job(given, {**FIELDS, "lora.seed": 3}) == (0, [("lora.seed", 0, 3)])
    other = {**FIELDS, "lora.seed": 2, "data.path": "there", "data": {"train.jsonl": "8"}}
    assert nearest_job(given, other) == (2, [])
