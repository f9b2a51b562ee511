"""The records that runs and sweeps leave as JSON files: one typed model for each file.

Writers build these models and readers load them (``results/files.py``, which also converts older schemas);
outside ``results/`` nobody indexes a dictionary that came from JSON.
"""

from punie.results.records.base import Digest, Ends, File, Record, Share
from punie.results.records.evaluation import (
    Estimate,
    Evaluation,
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
from punie.results.records.phase import (
    Baseline,
    Checked,
    Criterion,
    Figure,
    Outcome,
    Phase,
    SweepOutcome,
    Verdict,
)
from punie.results.records.run import ArtifactFiles, Git, Machine, Metric, Provenance, StageStatus, Status
from punie.results.records.sample import Block, Call, Sample, Scored
