"""The records that runs and sweeps leave as JSON files: one typed model for each file.

Writers build these models and readers load them (``results/files.py``, which also converts older schemas);
outside ``results/`` nobody indexes a dictionary that came from JSON.
"""

from punie.results.records.evaluation import (
    ByTurn,
    Estimate,
    Evaluation,
    Format,
    Generation,
    Identity,
    Lock,
    LockAt,
    LockCurve,
    Margin,
    Missing,
    Named,
    Pair,
    PromptLock,
    Results,
    Sampled,
    Sampling,
    Score,
    Scores,
    Tally,
    Weights,
)
from punie.results.records.run import (
    ArtifactFiles,
    Baseline,
    Call,
    Checked,
    Criterion,
    Figure,
    File,
    Git,
    Machine,
    Metric,
    Outcome,
    Phase,
    Provenance,
    Record,
    Sample,
    Scored,
    StageStatus,
    Status,
    SweepOutcome,
    Turns,
    Verdict,
)
