"""The pipeline's stages, one file each; here config, core and I/O meet.

Adding a stage is one file, imported here, and one line in ``STAGES``: CONTRIBUTING has an example.
"""

from punie.stages import base, evaluate, preflight, quantize, report, train
from punie.stages.contract import Stage

STAGES: tuple[Stage, ...] = (
    preflight.STAGE,
    base.STAGE,
    train.STAGE,
    quantize.STAGE,
    evaluate.STAGE,
    report.STAGE,
)
"""In the order they run."""

COPIES = {stage.name: stage.shows for stage in STAGES if stage.shows}
"""The files a run directory takes from the store, by stage."""
