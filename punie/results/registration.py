"""A phase's results document: registered before the run, filled in after it.

Lines of the form ``<!-- punie:NAME -->`` divide it: ``registered`` is what was decided before the run,
``summary`` belongs to people, ``results`` holds a part for each run that was recorded, ``content`` is the
registration as data. Recording replaces the part of one run and keeps every other byte.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from punie.results.difference import SOURCES
from punie.results.pages.documents import environment
from punie.store.keys import canonical_json, differences, digest
from punie.util.errors import PunieError
from punie.util.jsonl import excerpt
from punie.util.plain import parse_json

PENDING = "?"
"""Stands for the run in a document that has none; no folder's name is written like that."""
_SCHEMA = 1
_PARTS = ("registered", "summary", "results", "content")
_MARKER = re.compile(r"<!--\s*punie:.*")
_FENCE = re.compile(r"```json\r?\n(?P<json>.*?)\r?\n```", re.DOTALL)


@dataclass(frozen=True)
class Registration:
    """What was decided, and when."""

    registered: str
    """The time in UTC, as ISO 8601."""
    git: Mapping[str, Any] | None
    """Commit and dirtiness of punie's checkout."""
    phase: Mapping[str, Any]
    config: Mapping[str, Any]
    """The fields that decide the result, by dotted name."""
    inputs: Mapping[str, Any]
    """Digests of the inputs that were known."""
    jobs: Sequence[Mapping[str, Any]] = field(default_factory=list)
    """Of a sweep: in which fields each job differs from ``config``."""

    @property
    def digests(self) -> dict[str, str]:
        """sha256 of the phase with its criteria, of the config (a sweep's jobs included), of the inputs."""
        return {
            "phase": digest("registered phase", _comparable(self.phase)),
            "config": digest("registered config", [self.config, list(self.jobs)]),
            "inputs": digest("registered inputs", self.inputs),
        }


@dataclass(frozen=True)
class Ran:
    """What of a run is held against a registration."""

    phase: Mapping[str, Any]
    config: Mapping[str, Any]
    """The fields that decide the result, by dotted name."""
    inputs: Mapping[str, Any]
    """Digests of the inputs, as far as they are known; then it does not matter where an input is."""


@dataclass(frozen=True)
class Changed:
    """A value that is not as it was registered."""

    key: str
    registered: Any
    found: Any


@dataclass(frozen=True)
class Document:
    """A document as read, cut at its markers."""

    path: Path
    text: str
    registration: Registration
    edited: tuple[str, ...]
    """What no longer has the digest it was registered with."""
    runs: Mapping[str, tuple[int, int]]
    """By run id, where its part begins and ends, markers included."""
    end: int
    """Where the part of a further run goes."""

    def with_run(self, run: str, body: str) -> str:
        """The text with a run's part put in: over its old one, over the pending one, or after the others."""
        part = f"<!-- punie:run {run} -->\n{body.strip()}\n<!-- punie:end run -->\n"
        start, end = self.runs.get(run) or self.runs.get(PENDING) or (self.end, self.end)
        return self.text[:start] + part + self.text[end:]


def compose_document(
    registration: Registration,
    *,
    command: str,
    prompts: Sequence[tuple[str, str]],
    places: Sequence[Mapping[str, str]] = (),
    path: Path,
) -> Document:
    """The document of a phase that is still to be run.

    Args:
        registration: What is decided.
        command: What will run it.
        prompts: Id and category of each prompt of the suite.
        places: Of a sweep, the value of each job on each axis, as on the command line.
        path: Where it will be.

    Raises:
        PunieError: A text of the phase would be taken for one of the document's markers.
    """
    template = environment(autoescape=False).get_template("registration.md.jinja")

    def render(text_digest: str) -> str:
        content = {"schema": _SCHEMA, **asdict(registration)}
        content["digests"] = registration.digests | {"text": text_digest}
        return template.render(
            registration=registration,
            phase=registration.phase,
            categories=_categories(registration.phase, prompts),
            prompts=prompts,
            command=command,
            places=places,
            axes=_axes(places),
            digests=registration.digests,
            content=json.dumps(content, indent=1, ensure_ascii=False),
            pending=PENDING,
        )

    draft = render("")
    spans = _spans(draft, path)
    return parse(render(_text_digest(draft, spans["registered"])), path)


def read(path: Path) -> Document:
    """A document from its file.

    Raises:
        PunieError: It cannot be read, or is not a registration with all its markers.
    """
    try:
        return parse(path.read_bytes().decode("utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        found = getattr(error, "strerror", None) or error
        raise _unreadable("The document cannot be read.", path, found) from None


def parse(text: str, path: Path) -> Document:
    """A document from its text.

    Args:
        text: All of it; either kind of line end.
        path: Where it is from, for errors.

    Raises:
        PunieError: A marker is missing, damaged or out of place, or the registered content is.
    """
    spans = _spans(text, path)
    content = _content(text[slice(*spans["content"])], path)
    told = content.pop("digests")
    registration = Registration(**{each.name: content[each.name] for each in fields(Registration)})
    found = registration.digests | {"text": _text_digest(text, spans["registered"])}
    return Document(
        path=path,
        text=text,
        registration=registration,
        edited=tuple(name for name, sha in found.items() if told.get(name) != sha),
        runs={name.removeprefix("run "): span for name, span in spans.items() if name.startswith("run ")},
        end=spans["results"][1],
    )


def changes(registration: Registration, ran: Ran) -> list[Changed]:
    """What of a run is not as it was registered; for a sweep against the job that it is nearest to."""
    found = differences(_comparable(registration.phase), _comparable(ran.phase))
    _, nearest = nearest_job(registration, ran)
    return [Changed(f"phase.{key.replace('/', '.')}", *values) for key, *values in found] + nearest


def nearest_job(registration: Registration, ran: Ran) -> tuple[int, list[Changed]]:
    """The number of the registered job that a run is nearest to, and what of its config is otherwise."""
    found = [_config_changes(registration, job, ran) for job in registration.jobs or ({},)]
    return min(enumerate(found), key=lambda each: len(each[1]))


def _config_changes(registration: Registration, job: Mapping[str, Any], ran: Ran) -> list[Changed]:
    registered = {**registration.config, **job}
    found = {key: (before, after) for key, before, after in differences(registered, ran.config)}
    for name in registration.inputs.keys() & ran.inputs.keys():
        places = SOURCES.get(name, ())
        if all(registered.get(place) == registration.config.get(place) for place in places):
            for place in places:
                found.pop(place, None)
            contents = differences({name: registration.inputs[name]}, {name: ran.inputs[name]})
            found |= {key: (before, after) for key, before, after in contents}
    return [Changed(key.replace("/", "."), *values) for key, values in sorted(found.items())]


def _axes(places: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """The values of each axis, in the order of the jobs."""
    names = dict.fromkeys(name for place in places for name in place)
    return {name: list(dict.fromkeys(place[name] for place in places if name in place)) for name in names}


def _comparable(phase: Mapping[str, Any]) -> dict[str, Any]:
    """A phase so that a difference has a name: criteria by metric, outcomes by number, nothing unset."""
    criteria: dict[str, str] = {}
    for each in phase["criteria"]:
        words = f"{each['op']} {each['value']}"
        criteria[each["metric"]] = ", ".join(filter(None, [criteria.get(each["metric"]), words]))
    outcomes = {str(number): _set(each) for number, each in enumerate(phase["outcomes"], 1)}
    baseline = _set(phase["baseline"]) if phase["baseline"] else None
    return _set({**phase, "criteria": criteria, "outcomes": outcomes, "baseline": baseline})


def _set(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _categories(phase: Mapping[str, Any], prompts: Sequence[tuple[str, str]]) -> list[tuple[str, int, Any]]:
    """Name, prompts and published score of each category, and overall."""
    baseline = phase["baseline"] or {}
    published = baseline.get("categories", {})
    names = [category for _, category in prompts]
    rows = [(name, names.count(name), published.get(name)) for name in dict.fromkeys(names)]
    return [*rows, ("overall", len(names), baseline.get("overall"))]


def _spans(text: str, path: Path) -> dict[str, tuple[int, int]]:
    """Where each part is: a run's with its markers, the others between theirs.

    Raises:
        PunieError: The markers are not those of a registration, in order.
    """
    lines = re.finditer(r"^[^\n]+$", text, re.MULTILINE)
    markers = deque(line for line in lines if _MARKER.match(line.group().strip()))
    spans: dict[str, tuple[int, int]] = {}

    def refuse(found: re.Match[str] | None, expected: str) -> PunieError:
        line = 1 + text.count("\n", 0, found.start() if found else len(text))
        words = excerpt(found.group().strip(), 200) if found else "the end of the document"
        return PunieError(
            "The document's markers are damaged; nothing was written.",
            where=f"{path}:{line}",
            found=words,
            expected=expected,
            next_step="put the line back (git diff shows it), then record again",
        )

    def expect(marker: str) -> re.Match[str]:
        found = markers.popleft() if markers else None
        if found is None or found.group().strip() != marker:
            raise refuse(found, marker)
        return found

    for name in _PARTS:
        begin = expect(f"<!-- punie:{name} -->")
        while name == "results" and markers and (run := _run_id(markers[0].group().strip())):
            head, end = markers.popleft(), expect("<!-- punie:end run -->")
            if f"run {run}" in spans:
                raise refuse(head, "each run once")
            spans[f"run {run}"] = (head.start(), end.end() + 1)
        spans[name] = (begin.end() + 1, expect(f"<!-- punie:end {name} -->").start())
    if markers:
        raise refuse(markers[0], "no further marker")
    return spans


def _run_id(marker: str) -> str | None:
    match = re.fullmatch(r"<!-- punie:run (?P<id>\S+) -->", marker)
    return match["id"] if match else None


def _content(block: str, path: Path) -> dict[str, Any]:
    match = _FENCE.search(block)
    try:
        content = parse_json(match["json"]) if match else None
        canonical_json(content)  # finite numbers and whole characters, or it could have no digest
        if not isinstance(content, dict):
            raise TypeError("no JSON object in a fenced block")
        if content["schema"] != _SCHEMA:
            raise ValueError(
                f"schema {excerpt(content['schema'])}, and this version of punie reads {_SCHEMA}"
            )
        datetime.fromisoformat(content["registered"])
        _comparable(content["phase"])
        for name, kind in (("config", dict), ("inputs", dict), ("jobs", list), ("digests", dict)):
            if not isinstance(content[name], kind):
                raise TypeError(f"{name} is no {kind.__name__}")
        if not all(isinstance(job, dict) for job in content["jobs"]) or "git" not in content:
            raise TypeError("jobs or git is missing or of another kind")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _unreadable("The registered content cannot be read.", path, error) from None
    return content


def _text_digest(text: str, span: tuple[int, int]) -> str:
    """Of the registered part as people see it, whatever an editor does to line ends."""
    return digest("registered text", [line.rstrip() for line in text[slice(*span)].split("\n")])


def _unreadable(what: str, path: Path, found: object) -> PunieError:
    return PunieError(
        what, where=path, found=found,
        expected="a document that punie prereg wrote",
        next_step="restore it from git, or name another document",
    )  # fmt: skip
