"""Everything that a run imports: a process forked from one that has imported this starts at once.

Nothing is computed here, since threads do not survive a fork.
"""

import importlib

from punie.model import blas

blas.activate()  # before mlx
MODULES = (
    "hydra._internal.hydra",
    "hydra._internal.core_plugins.basic_launcher",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "mlx_lm.models.qwen3_moe",
    "mlx_lm.generate",
    "mlx_lm.tuner.utils",
    "mlx_lm.utils",
    "punie.__main__",
    "punie.data.validate",
    "punie.evals.sandbox",
    "punie.evals.serve",
    "punie.main",
    "punie.model.fidelity",
    "punie.model.format_lock",
    "punie.model.fuse",
    "punie.model.generate",
    "punie.results.pages.report",
    "punie.results.run",
    "punie.run.pipeline",
    "punie.stages.serving",
    "punie.stages.training",
    "punie.sweep.sweeper",
    "punie.train.loop",
    "pydantic_monty",
    "transformers.models.qwen2.tokenization_qwen2",
)
for name in MODULES:
    importlib.import_module(name)
