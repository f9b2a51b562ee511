"""The records of a run beside its scores: status, provenance, metrics, samples, and the phase it is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from punie.evals.scores import ALWAYS, wrong_decision
from punie.evals.suite import MAX_TURNS, Match
from punie.formats import with_calls

Share = Annotated[float, Field(ge=0, le=1)]
"""A score or a rate, from 0 to 1."""
Ends = Annotated[tuple[float, float], Field(strict=False)]
"""Lower and upper end of a 95 % interval."""
Turns = Annotated[int, Field(ge=1, le=MAX_TURNS)]
"""The number of a turn, or how many there are."""
Digest = str
"""sha256 as 64 hex digits."""


class Record(BaseModel):
    """A value read from, or written to, a JSON file. Unknown fields are ignored, wrong types refused."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True)


class File(Record):
    """A record that is a file of its own."""

    VERSION: ClassVar[int] = 1
    KIND: ClassVar[str]
    """What the file is, in words, for errors."""
    version: int = Field(alias="schema")


def require_scores(found: Mapping[str, Any]) -> None:
    """Refuse scores without those that every record has."""
    if absent := [name for name in ALWAYS if name not in found]:
        raise ValueError(f"scores without {' and '.join(absent)}")


class StageStatus(Record):
    """One stage that a run reached."""

    stage: str
    """Its name; with its target behind a colon for an evaluation beside the one that counts."""
    key: str
    reused: bool
    reason: str = ""
    seconds: float
    """Time taken in this run."""


class Status(File):
    """status.json: how far a run, or a job of a sweep, got."""

    KIND = "a run's status"

    status: str
    """planned, running, finished, failed, killed, skipped or interrupted."""
    started: str | None = None
    """UTC, ISO 8601."""
    ended: str | None = None
    stages: list[StageStatus] = []
    pid: int | None = None
    store: str | None = None
    """Absolute path of the store."""
    uses: list[str] = []
    """Keys of the artifacts the run uses."""
    at: str | None = None
    """The stage being built."""
    error: str | None = None
    exit_code: int = 0
    untracked: list[str] = []
    """Trackers that do not have all of it."""


class Git(Record):
    """State of punie's checkout."""

    commit: str | None
    dirty: bool


class Machine(Record):
    """Where a run ran."""

    device: str
    chip: str
    system: str
    cores: int | None = None
    memory_gb: float | None = None


class ArtifactFiles(Record):
    """An artifact: its key and the sha256 of each file."""

    key: str
    files: dict[str, Digest]


class Provenance(File):
    """provenance.json: where and with what a run ran."""

    KIND = "a run's provenance"

    started: str | None = None
    ended: str | None = None
    command: list[str] = []
    overrides: list[str] = []
    config_sha256: str = ""
    git: Git | None = None
    packages: dict[str, str | None] = {}
    python: str | None = None
    machine: Machine | None = None
    environment: dict[str, str] = {}
    blas: str | None = None
    peak_memory_mb: float | None = None
    inputs: dict[str, Any] = {}
    """Digests of the base model, the data and the suite."""
    data: dict[str, Any] = {}
    """Of converted data: the repo and its commit, or the files, and which split each file is; else empty."""
    artifacts: dict[str, ArtifactFiles] = {}


class Metric(Record):
    """A line of train.jsonl."""

    model_config = ConfigDict(extra="allow")

    kind: str
    """train, valid or score."""
    iter: int
    update: int | None = None
    loss: float | None = None
    learning_rate: float | None = None
    gradient_norm: float | None = None
    tokens_per_second: float | None = None
    peak_memory_mb: float | None = None


class Call(Record):
    """A tool call: one that was made, or one that the suite expects."""

    tool: str
    arguments: dict[str, Any]


class Block(Record):
    """A tool-call block found in a response."""

    name: str | None
    problem: str | None


class Scored(Record):
    """What one scorer says of a response."""

    value: Share
    reason: str


class Sent(Record):
    """A call that a server sent beside a response's text."""

    name: str
    arguments: dict[str, Any] | str
    """By name; text that is no JSON object as it was sent."""


class Sample(Record):
    """A line of samples.jsonl: one response to one item of the suite, with its scores.

    A response that is missing has a reason in ``missing`` and no scores.
    """

    model_config = ConfigDict(extra="allow")  # a record scored again keeps what it does not know

    id: str
    """The suite item's."""
    repeat: Annotated[int, Field(ge=0)]
    category: str
    prompt: str
    prompt_sha256: str
    prompt_tokens: Annotated[int, Field(ge=0)]
    expect: list[Call]
    match: Match
    rules: Literal["punie", "bfcl"] = "punie"
    """Whose rules the strict score goes by."""
    tools: list[dict[str, Any]] = []
    """What may be called, in OpenAI's schema; empty where calls are code."""
    missing: str | None
    """Why there is no response; None if there is one."""
    output: str | None
    tool_calls: list[Sent] = []
    """Calls that a server sent beside the output."""
    tokens: list[Annotated[int, Field(ge=0)]] | None = None
    output_tokens: int | None = None
    logprobs: list[float] | None = None
    finish_reason: str | None = None
    seconds: float | None = None
    wrapper: bool = False
    """The response holds a tool-call marker."""
    opening: str | None = None
    blocks: list[Block] = []
    calls: list[Call] = []
    """The calls that were made, in order."""
    execution: str | None = None
    """How the code ended; None without code."""
    scores: dict[str, Scored] = {}
    """Of a conversation as a whole; of an earlier turn, its own."""
    taxonomy: str = ""
    turn: Turns = 1
    """Of a conversation, the turn that decided: the first wrong one, else the last. The record is of it."""
    turns: Turns = 1
    """How many turns the item has."""
    earlier: list[Sample] = []
    """The records of the turns before it, each right."""
    results: list[str] = []
    """Of an earlier turn, what its calls returned."""
    reply: str = ""
    """Of an earlier turn, what the assistant then said, as recorded in the suite."""

    @model_validator(mode="after")
    def _is_scored(self) -> Sample:
        if not len(self.earlier) + 1 == self.turn <= self.turns:
            raise ValueError(f"turn {self.turn} of {self.turns} after {len(self.earlier)} others")
        if any(each.earlier or not each.answered for each in self.earlier):
            raise ValueError("a turn before the last without a response, or with turns of its own")
        if self.missing is None:
            needed = {"output", "finish_reason", "wrapper", "calls", "scores", "taxonomy"}
            absent = ", ".join(sorted(needed - self.model_fields_set))
            if absent or self.output is None or self.finish_reason is None:
                raise ValueError(f"a response without {absent or 'output or finish_reason'}")
            require_scores(self.scores)
        return self

    @property
    def answered(self) -> bool:
        """There is a response."""
        return self.missing is None

    @property
    def reached(self) -> list[Sample]:
        """The records of all turns that were asked; the last one is this."""
        return [*self.earlier, self]

    @property
    def wrong_decision(self) -> tuple[str, float]:
        """The rate of wrong decisions to call that the turn counts for, and its value, 1.0 or 0.0."""
        return wrong_decision(bool(self.expect), self.taxonomy, self.wrapper)

    @property
    def wrong_decisions(self) -> dict[str, float]:
        """By rate, whether any turn is a wrong decision to call; one rate for an item of one turn."""
        return dict(each.wrong_decision for each in self.reached)  # only the last can be wrong

    @property
    def response(self) -> str:
        """The output, with the calls that were sent beside it."""
        return with_calls(self.output or "", self.sent)

    @property
    def transcript(self) -> str:
        """The response; of a conversation all of it, with the user's turns between."""
        if not self.earlier:
            return self.response
        return "\n".join(f"> {each.prompt}\n{each.response}" for each in self.reached)

    @property
    def sent(self) -> list[dict[str, Any]]:
        """The calls that a server sent beside the output, as plain values."""
        return [each.model_dump() for each in self.tool_calls]

    def plain(self) -> dict[str, Any]:
        """The record as it is written: JSON values, fields that were not set left out."""
        return self.model_dump(mode="json", exclude_unset=True)


class Criterion(Record):
    """A bound that a run's score has to meet; fixed before the run."""

    metric: str
    """``overall`` or ``categories.NAME``."""
    op: Literal[">=", ">"] = ">="
    value: float


class Outcome(Record):
    """What a figure between two bounds means, and the phase that follows."""

    metric: str
    verdict: str
    at_least: float | None = None
    below: float | None = None
    next: str | None = None
    """The phase to run next, with overrides."""


class Baseline(Record):
    """Published figures."""

    source: str = ""
    overall: float | None = None
    categories: dict[str, float] = {}
    training_peak_gb: float | None = None


class Phase(Record):
    """A phase as composed: hypothesis, criteria and outcomes decided before the run."""

    id: str
    title: str = ""
    hypothesis: str = ""
    references: list[str] = []
    baseline: Baseline | None = None
    score: str = "keyword"
    """The score that criteria and outcomes are about."""
    criteria: list[Criterion] = []
    outcomes: list[Outcome] = []
    sweep: bool = False


class Checked(Criterion):
    """A criterion with what was found."""

    found: float | None
    """None where the suite has no such category, or responses are missing."""
    met: bool


class Verdict(Record):
    """What a phase's criteria and outcomes say of one run."""

    summary: str
    passed: bool | None
    """None without criteria."""
    criteria: list[Checked]
    outcome: str | None


class Figure(Record):
    """A metric over the jobs of a sweep, with the range it may lie in."""

    value: float | None
    """None if no job that finished gives it."""
    interval: Ends


class SweepOutcome(Record):
    """What the jobs of a phase say of it, by the outcomes decided before they ran."""

    phase: str
    verdict: str
    """The outcome's; ``open`` as long as jobs are missing that could change it."""
    supported: bool = False
    """Every value in the figure's range has this verdict."""
    figures: dict[str, Figure] = {}
    why: str
    next: str | None = None
    """The command that follows in the tree of phases."""
