"""A phase registered before its run: a JSON record of what was decided, and the results document beside it.

``NAME.json`` is the registration; it is never changed, and git has its date. ``NAME.md`` shows it, has a
summary that people write, and holds a part for each recorded run between two markers.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from punie.results import files
from punie.results.difference import SOURCES
from punie.results.pages import tables
from punie.results.pages.render import environment
from punie.results.pages.text import inline
from punie.results.records import File, Git, Phase, Record
from punie.store.keys import SHORT, differences, digest
from punie.util.errors import PunieError

Fields = Mapping[str, Any]
"""What decides a run's result: config fields by dotted name, and the digests of inputs by name."""
Change = tuple[str, Any, Any]
"""A dotted name, its value as registered and as found; None where it is absent."""
BEGIN, END = "<!-- punie:results -->", "<!-- punie:end -->"
_RESULTS = re.compile(rf"(.*^{BEGIN}\r?\n)(.*)(^{END}\r?$.*)", re.DOTALL | re.MULTILINE)
_PART = re.compile(r"^<!-- punie:run (\S+) -->\r?\n", re.MULTILINE)


class Job(Record):
    """A registered run, or one job of a registered sweep."""

    values: str
    """The values of the swept overrides, in words."""
    differs: dict[str, Any]
    """The fields in which it differs from the first job."""


class Registration(File):
    """What was decided before the run, and when."""

    KIND = "a registration of punie prereg"

    registered: str
    """UTC, ISO 8601."""
    git: Git | None
    command: str
    phase: Phase
    fields: dict[str, Any]
    """Of the first job."""
    jobs: Annotated[list[Job], Field(min_length=1)]


@dataclass(frozen=True)
class Document:
    """A results document as read."""

    path: Path
    text: str
    registration: Registration
    registered: str
    """When git's commit was made of the record; the record's own time if it is not committed."""
    committed: bool

    def with_parts(self, parts: Mapping[str, str]) -> str:
        """The text with a part for each of these runs; all other text is kept."""
        head, body, tail = _split(self.text, self.path)
        _, *found = _PART.split(body)
        kept = {**dict(zip(found[::2], found[1::2], strict=True)), **parts}
        return head + "".join(f"<!-- punie:run {name} -->\n{part}" for name, part in kept.items()) + tail


def document_path(folder: Path, name: str, jobs: Sequence[Fields]) -> Path:
    """Where the document of a run, or of a sweep's jobs, is: its name has a digest of their config fields."""
    swept = [_differing(each, jobs[0]) for each in jobs] if jobs[1:] else []
    key = digest("registered config", [jobs[0], swept])[:SHORT]
    return folder / f"{name.replace('/', '-')}-{key}.md"


def jobs_of(jobs: Sequence[Fields], values: Sequence[Mapping[str, str]]) -> list[Job]:
    """The jobs of a registration, by their fields and their values of the swept overrides."""
    words = [", ".join(f"{axis}={value}" for axis, value in each.items()) for each in values]
    return [Job(values=w, differs=_differing(each, jobs[0])) for w, each in zip(words, jobs, strict=True)]


def read(path: Path) -> Document:
    """A document and the record beside it.

    Raises:
        PunieError: One of them cannot be read, or the document's markers are damaged.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise files.unreadable(path, "a document of punie prereg", str(error)) from None
    _split(text, path)
    record = path.with_suffix(".json")
    registration, committed = files.read(record, Registration), _committed(record)
    return Document(path, text, registration, committed or registration.registered, committed is not None)


def compose(registration: Registration, path: Path) -> str:
    """The document of a phase that is still to be run.

    Raises:
        PunieError: A text of the phase contains one of the document's markers.
    """
    text = render("document", registration=registration, record=path.with_suffix(".json").name)
    _split(text, path)
    return text


def render(part: str, **facts: Any) -> str:
    """A part of a results document: ``document``, ``run`` or ``sweep``."""
    template = environment(autoescape=False).get_template("registration.md.jinja")
    return template.render(part=part, begin=BEGIN, end=END, tables=tables, inline=inline, **facts)


def nearest_job(registration: Registration, found: Fields) -> tuple[int, list[Change]]:
    """The registered job that a run is nearest to, by number, and what differs."""
    first = {**registration.fields, "phase": named(registration.phase)}
    jobs = [_changes({**first, **job.differs}, found) for job in registration.jobs]
    return min(enumerate(jobs), key=lambda each: len(each[1]))


def named(phase: Phase) -> dict[str, Any]:
    """A phase as nested mappings: criteria by metric, outcomes by number, so that each has a name."""
    return {
        **phase.model_dump(exclude_none=True),
        "criteria": {f"{each.metric} {each.op}": each.value for each in phase.criteria},
        "outcomes": {str(n): each.model_dump(exclude_none=True) for n, each in enumerate(phase.outcomes, 1)},
    }


def _changes(registered: Fields, found: Fields) -> list[Change]:
    """Where both digests of an input are known, its path does not count; else only its path does."""
    unneeded = {name for name in registered.keys() ^ found.keys() if "." not in name}
    known = registered.keys() & found.keys() & SOURCES.keys()
    unneeded |= {place for name in known for place in SOURCES[name]}
    before, after = ({k: v for k, v in each.items() if k not in unneeded} for each in (registered, found))
    return [(name.replace("/", "."), *values) for name, *values in differences(before, after)]


def _differing(job: Fields, first: Fields) -> dict[str, Any]:
    return {key: value for key, value in job.items() if first.get(key) != value}


def _split(text: str, path: Path) -> tuple[str, str, str]:
    """The text before the recorded runs, theirs, and the text after them."""
    counts = [len(re.findall(rf"^{each}\r?$", text, re.MULTILINE)) for each in (BEGIN, END)]
    if counts != [1, 1] or (found := _RESULTS.fullmatch(text)) is None:
        raise PunieError(
            "The document's markers are damaged; nothing was written.",
            where=path,
            found=f"{counts[0]} times {BEGIN} and {counts[1]} times {END}",
            expected="a line of each, in this order",
            next_step="restore the lines (git diff shows them) and run the command again",
        )
    return found[1], found[2], found[3]


def _committed(path: Path) -> str | None:
    """When the file was committed as it is now, in UTC; None if it is not committed, or without git."""
    moment = _git(path, "log", "-1", "--format=%at")
    if not moment.isdigit() or _git(path, "status", "--porcelain"):
        return None
    return datetime.fromtimestamp(int(moment), UTC).isoformat(timespec="seconds")


def _git(path: Path, *words: str) -> str:
    command = ["git", "-C", str(path.parent), "-c", "core.fsmonitor=false", *words, "--", path.name]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
