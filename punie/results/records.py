"""The records that runs and sweeps leave as JSON files: one typed model for each file.

Writers build these models and readers load them (``results/files.py``); outside ``results/`` nobody indexes
a dictionary that came from JSON. Each file has a schema number; ``results/versions.py`` converts older ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from punie.evals.scores import ALWAYS

if TYPE_CHECKING:
    from collections.abc import Mapping

Share = Annotated[float, Field(ge=0, le=1)]
"""A score or a rate, from 0 to 1."""
Ends = Annotated[tuple[float, float], Field(strict=False)]
"""Lower and upper end of a 95 % interval."""
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


# The config's part that results are judged by.


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


# status.json


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

    status: str = "planned"
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


# provenance.json


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
    artifacts: dict[str, ArtifactFiles] = {}


# samples.jsonl


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
    match: Literal["any", "all"]
    missing: str | None
    """Why there is no response; None if there is one."""
    output: str | None
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
    taxonomy: str = ""

    @model_validator(mode="after")
    def _is_scored(self) -> Sample:
        if self.missing is None:
            absent = {
                "output",
                "finish_reason",
                "wrapper",
                "calls",
                "scores",
                "taxonomy",
            } - self.model_fields_set
            if absent or self.output is None or self.finish_reason is None:
                raise ValueError(
                    f"a response without {', '.join(sorted(absent)) or 'output or finish_reason'}"
                )
            _require_scores(self.scores)
        return self

    @property
    def answered(self) -> bool:
        """There is a response."""
        return self.missing is None

    def plain(self) -> dict[str, Any]:
        """The record as it is written: JSON values, fields that were not set left out."""
        return self.model_dump(mode="json", exclude_unset=True)


# results.json


class Estimate(Record):
    """A mean over responses."""

    mean: float | None
    """None while responses are missing."""
    n: int
    """Responses."""
    stderr: float | None = None
    """Clustered by prompt."""
    interval: Ends | None = None
    """Wilson's 95 % interval over prompts, for scores of 0 and 1 alone."""


class Score(Record):
    """One score of a suite."""

    overall: Estimate
    categories: dict[str, Estimate]

    def find(self, metric: str) -> Estimate | None:
        """The estimate of ``overall`` or ``categories.NAME``; None if there is none."""
        group, _, name = metric.partition(".")
        return (
            self.overall
            if metric == "overall"
            else self.categories.get(name)
            if group == "categories"
            else None
        )


class Tally(Record):
    """How often responses ended in one way of the taxonomy."""

    count: int
    example: str
    """A sample's id."""


class Missing(Record):
    """Responses that are missing, by reason."""

    count: int
    reasons: dict[str, int]


class Sampling(Record):
    """The sampling parameters that were used."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int
    repeats: int
    max_tokens: int
    stop: list[str]


class Weights(Record):
    """Digests of weights: as a whole, by file and by tensor."""

    whole: Digest | None
    files: dict[str, Digest] | None = None
    tensors: dict[str, Digest] | None = None


class Named(Record):
    """A file by name and digest."""

    name: str
    sha256: Digest


class Identity(Record):
    """The digests of all that decides an evaluation's responses besides the sampling."""

    unverified: str | None
    """Why it is not certain that these weights answered; None if it is."""
    weights: Weights
    model: Digest
    tokenizer: Digest
    chat_template: Digest
    suite: Named
    prompts: Digest


class Generation(Record):
    """How the responses were generated."""

    backend: str
    samples: int
    tokens: int
    seconds: float
    tokens_per_second: float | None = None


class LockCurve(Record):
    """The format lock by temperature under one setting of truncation, mean over prompts."""

    top_p: float
    top_k: int
    min_p: float
    own: bool
    """These are the run's own settings."""
    strict: list[float]
    total: list[float]
    branches: dict[str, list[float]]


class PromptLock(Record):
    """The format lock of one prompt, by temperature."""

    margin: float | None
    strict: list[float]
    total: list[Share]


class Margin(Record):
    """The smallest logit margin along the opening, and its prompt."""

    value: float | None
    prompt: str


class Sampled(Record):
    """The rate among the sampled responses."""

    rate: float
    n: int
    interval: Ends


class LockAt(Record):
    """The format lock at the run's own sampling."""

    temperature: float
    strict: float
    total: float
    sampled: Sampled


class Lock(Record):
    """The format lock: exact probability that a response opens a tool call."""

    temperatures: list[float]
    curves: list[LockCurve]
    prompts: dict[str, PromptLock]
    margin: Margin
    at: LockAt

    def of_prompt(self, name: str) -> float | None:
        """The exact probability of a prompt at the run's own temperature; None if it was not measured."""
        found = self.prompts.get(name)
        return None if found is None else found.total[self.temperatures.index(self.at.temperature)]


class Scores(Record):
    """The scores of a suite's responses."""

    scores: dict[str, Score]
    """By name of the scorer."""
    wrapper_rate: Estimate
    taxonomy: dict[str, Tally]
    missing: Missing

    @model_validator(mode="after")
    def _is_complete(self) -> Scores:
        _require_scores(self.scores)
        if any(
            each.categories.keys() != self.scores[ALWAYS[0]].categories.keys()
            for each in self.scores.values()
        ):
            raise ValueError("the scores are of different categories")
        return self

    def find(self, score: str, metric: str = "overall") -> float | None:
        """A score's mean by dotted name (``overall``, ``categories.lsp``); None if there is none."""
        found = self.scores[score].find(metric) if score in self.scores else None
        return None if found is None else found.mean


class Evaluation(Scores, File):
    """The evaluate stage's results.json: scores bound to what gave them."""

    VERSION = 3
    KIND = "the results of an evaluation"

    target: str
    """base, adapter or quantized."""
    sampling: Sampling
    identity: Identity
    generation: Generation
    answers: Digest = ""
    """Of samples.jsonl without times."""
    lock: Lock | None = None


class Pair(Record):
    """Two targets of one run compared on the same prompts, by one score."""

    before: str
    after: str
    score: str
    prompts: int
    left_out: int
    """Prompts without a response in both."""
    difference: float
    """After minus before."""
    interval: Ends
    p_value: float
    """Sign-flip test."""
    exact: bool
    mcnemar: float | None = None
    up: list[str]
    down: list[str]
    detectable: float | None
    """Minimum detectable difference at 80 % power; None where no prompt changed."""


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


class Results(Evaluation):
    """A run's results.json: its evaluation, the other targets, the verdict and the artifacts."""

    KIND = "a run's results"

    targets: dict[str, Evaluation] = {}
    """The targets beside the one whose score counts."""
    paired: list[Pair] = []
    verdict: Verdict
    artifacts: dict[str, ArtifactFiles]
    """By stage."""


# train.jsonl


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


# What a phase's sweep means.


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


def _require_scores(found: Mapping[str, Any]) -> None:
    if absent := [name for name in ALWAYS if name not in found]:
        raise ValueError(f"scores without {' and '.join(absent)}")
