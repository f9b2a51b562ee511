"""results.json: the scores of an evaluation, bound to what gave them."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import model_validator

from punie.results.records.run import (
    ArtifactFiles,
    Digest,
    Ends,
    File,
    Record,
    Share,
    Verdict,
    require_scores,
)


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
        if metric == "overall":
            return self.overall
        return self.categories.get(name) if group == "categories" else None


class Tally(Record):
    """How often responses ended in one way of the taxonomy."""

    count: int
    example: str
    """A sample's id."""


class ByTurn(Record):
    """How often the turn of one number was right in the conversations of a suite."""

    turn: int
    of_reached: Estimate
    """Among the conversations in which it was asked."""
    of_all: Estimate
    """Among those that have it; one that was not reached is wrong."""


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
    notes: list[str] = []
    """What a server was asked otherwise than the config says."""


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
    rates: dict[str, Estimate] = {}
    """Of wrong decisions to call (``RATES``), those that the suite has items for; empty in older records."""
    taxonomy: dict[str, Tally]
    turns: list[ByTurn] = []
    """By turn; empty where no item is a conversation."""
    missing: Missing

    @model_validator(mode="after")
    def _is_complete(self) -> Scores:
        require_scores(self.scores)
        first, *others = (each.categories.keys() for each in self.scores.values())
        if any(each != first for each in others):
            raise ValueError("the scores are of different categories")
        return self

    def find(self, score: str, metric: str = "overall") -> float | None:
        """A score's mean by dotted name (``overall``, ``categories.lsp``); None if there is none."""
        found = self.scores[score].find(metric) if score in self.scores else None
        return None if found is None else found.mean


class Format(Record):
    """How calls were written and read."""

    name: str
    """code_mode, native or prompted."""
    record: dict[str, Any] = {}
    """All that a parser of the same calls needs."""


class Evaluation(Scores, File):
    """The evaluate stage's results.json: scores bound to what gave them."""

    VERSION = 3
    KIND = "the results of an evaluation"

    target: str
    """base, adapter or quantized."""
    sampling: Sampling
    format: Format = Format(name="code_mode")
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
    """Minimum detectable difference at 80 % power; None where no prompt changed, or not even 1.0 is."""


class Text(Record):
    """The mean log-probability of a text's tokens, in nats."""

    kind: str
    """One of ``LIKELIHOODS``."""
    id: str
    tokens: int
    logprob: float


class Likelihood(File):
    """The likelihood stage's likelihood.json: texts that nothing was trained on, read by one target."""

    VERSION = 1
    KIND = "the log-probabilities of held-out texts"

    target: str
    texts: list[Text]


class ShipRow(Record):
    """A criterion of the decision, on the change from the base to the result."""

    metric: str
    """One of ``SHIPPED_ON``."""
    units: int
    """Prompts or texts that are compared."""
    change: float | None
    """None if it could not be measured."""
    interval: Ends | None
    """95 %."""
    limit: float
    rises: bool
    """The change must be above the limit; otherwise below."""
    met: bool | None
    """None if the interval holds the limit, or nothing was measured."""
    detectable: float | None
    """The smallest change that so many units show, at 80 % power."""
    needed: int | None = None
    """Units that would show a change of the margin, where these do not."""
    reason: str | None = None
    """Why there is nothing to measure, or why an interval beyond the limit decides nothing."""


Decision = Literal["SHIP", "HOLD", "CANNOT TELL"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)


class Ship(Record):
    """Whether the result may replace its base, by criteria decided before the run."""

    preset: str
    decision: Decision
    rows: list[ShipRow]


class Training(Record):
    """How a training ended."""

    iters: int
    """Micro-batches that were done."""
    planned_iters: int = 0
    """0 in records of before there was patience."""
    selected_iter: int
    """The iteration whose weights are the result."""
    stopped: str = ""
    """Why it ended before the planned ones; empty if it did not."""


class Results(Evaluation):
    """A run's results.json: its evaluation, the other targets, the verdict and the artifacts."""

    KIND = "a run's results"

    training: Training | None = None
    """None if nothing was trained, and in older records."""
    targets: dict[str, Evaluation] = {}
    """The targets beside the one whose score counts."""
    paired: list[Pair] = []
    ship: Ship | None = None
    """None if there are no criteria, or the base was not evaluated beside the result."""
    verdict: Verdict
    artifacts: dict[str, ArtifactFiles]
    """By stage."""
