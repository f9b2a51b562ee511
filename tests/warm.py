"""Everything that a run imports: a process forked from one that has imported this starts at once.

Nothing is computed here that starts a thread, since threads do not survive a fork.
"""

import importlib
import os

from punie.model import blas

blas.activate()  # before mlx
MODULES = (
    "hydra._internal.hydra",
    "hydra._internal.core_plugins.bash_completion",
    "hydra._internal.core_plugins.basic_launcher",
    "hydra._internal.core_plugins.basic_sweeper",
    "hydra._internal.core_plugins.file_config_source",
    "hydra._internal.core_plugins.fish_completion",
    "hydra._internal.core_plugins.importlib_resources_config_source",
    "hydra._internal.core_plugins.structured_config_source",
    "hydra._internal.core_plugins.zsh_completion",
    "hydra._internal.logging_config",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "mlx_lm.models.qwen3_moe",
    "mlx_lm.generate",
    "mlx_lm.tuner.utils",
    "mlx_lm.utils",
    "punie.__main__",
    "punie.data.validate",
    "punie.evals.sandbox",
    "punie.evals.scorers",
    "punie.evals.serve",
    "punie.main",
    "punie.model.fidelity",
    "punie.model.format_lock",
    "punie.model.fuse",
    "punie.model.generate",
    "punie.model.shapes",
    "punie.results.comparison",
    "punie.results.pages.report",
    "punie.results.run",
    "punie.results.scoring",
    "punie.run.directory",
    "punie.run.pipeline",
    "punie.stages.locking",
    "punie.stages.serving",
    "punie.stages.training",
    "punie.sweep.sweeper",
    "punie.train.loop",
    "punie.train.methods.sft",
    "psutil",
    "pydantic_monty",
    "scipy.special",
    "transformers.models.qwen2.tokenization_qwen2",
    "transformers.models.qwen3_moe",
)
for name in MODULES:
    importlib.import_module(name)
importlib.import_module("punie.config.compose").compose([])  # the parser of overrides learns as it reads
os.environ.pop("PUNIE_RUN_ID")  # the name of one run
for name in ("report.html.jinja", "report.md.jinja"):
    render = importlib.import_module("punie.results.pages.render")
    render.environment(autoescape=".html" in name).get_template(name)
