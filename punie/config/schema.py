"""The schema of a composed config: every field with its meaning, unit and limits.

The dataclasses are registered with Hydra as the first entry of the defaults list, so that the YAML of
every group is merged into typed nodes. What typing cannot see (keys added with ``+``, missing values,
ranges, choices) is found by ``punie.config.check``.

A field marked ``neutral`` does not change what a stage produces and stays out of its key. A field that is
added later carries ``omit_if``: at that value it stays out of the key too, so that old artifacts keep
their keys.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

from punie.evals.scores import SCORERS
from punie.train.methods import METHODS

SCHEMA_NAME = "punie_schema"
_UNSET = object()


def option(
    doc: str,
    default: Any = MISSING,
    *,
    unit: str = "",
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    choices: tuple[object, ...] = (),
    neutral: bool = False,
    omit_if: object = _UNSET,
) -> Any:
    """A documented config field.

    Args:
        doc: One sentence that a user reads in an error, in ``--help`` and in the config reference.
        default: Its default; without one the config must supply it.
        unit: Unit of the number, such as ``tokens`` or ``GB``.
        ge: Smallest value allowed.
        gt: The value must be above this.
        le: Largest value allowed.
        choices: The only values allowed.
        neutral: It does not change what a stage produces.
        omit_if: At this value the field stays out of keys; for fields added after a release.
    """
    metadata = {
        "doc": doc, "unit": unit, "ge": ge, "gt": gt, "le": le, "choices": choices, "neutral": neutral,
    }  # fmt: skip
    if omit_if is not _UNSET:
        metadata["omit_if"] = omit_if
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


# OmegaConf reads the annotations, and knows Optional[...] on every version it supports.
@dataclass
class ModelConfig:
    """The base model. Its identity is the content of its files, so every field here is neutral."""

    name: str = option("Name shown in tables and reports.", neutral=True)
    embedded: str | None = option("One of punie's own models under data/models/.", None, neutral=True)
    path: str | None = option("A local model folder.", None, neutral=True)
    repo: str | None = option("A model on the Hugging Face hub, as owner/name.", None, neutral=True)
    revision: str = option("Commit, tag or branch of the repo.", "main", neutral=True)
    size_gb: float | None = option("Expected size of the download.", None, unit="GB", gt=0.0, neutral=True)
    recipe: dict[str, Any] = option(
        "Fields of lora that this model needs otherwise; used by lora=reference.", {}, neutral=True
    )
    dimensions: dict[str, Any] = option(
        "What its config.json says of its size; for estimates where the model is not on this machine.",
        {}, neutral=True,
    )  # fmt: skip


@dataclass
class DataConfig:
    """The training data: a folder with train.jsonl and valid.jsonl in chat format."""

    name: str = option("Name shown in tables and reports.", neutral=True)
    path: str = option("The folder; relative to the working folder, else one of punie's own.", neutral=True)
    min_examples: int = option("Fewest training rows accepted.", 20, unit="rows", ge=1, neutral=True)
    expected_train: int | None = option("Exact number of training rows expected.", None, unit="rows", ge=1)
    expected_valid: int | None = option("Exact number of validation rows expected.", None, unit="rows", ge=1)
    mix: dict[str, float] = option("Share of each kind of row `punie data build` makes.", {}, neutral=True)


@dataclass
class Schedule:
    """A learning-rate schedule of mlx.optimizers, in mlx-lm's form; steps count updates, not minibatches."""

    name: str = option("Such as cosine_decay, exponential_decay, linear_schedule or step_decay.")
    arguments: list[float] = option("Its arguments; the first is the initial learning rate.", [])
    warmup: int = option("Updates of linear warm-up before it.", 0, unit="updates", ge=0)
    warmup_init: float = option("Learning rate the warm-up starts from.", 0.0, ge=0.0)


@dataclass
class LoraConfig:
    """Fine-tuning, under mlx-lm's names."""

    method: str = option(
        "Training method: what the loss is computed from.", "sft", choices=tuple(METHODS), omit_if="sft"
    )
    fine_tune_type: str = option(
        "An adapter, or the last layers themselves.", "lora", choices=("lora", "dora", "full")
    )
    rank: int = option("Rank of the low-rank update.", 8, ge=1)
    scale: float = option("Direct multiplier of the update (not PEFT's alpha / rank).", 20.0, gt=0.0)
    dropout: float = option("Dropout before the low-rank product.", 0.0, ge=0.0, le=0.99)
    num_layers: int = option("Transformer blocks to train, from the last one; -1 for all.", 8, ge=-1)
    keys: list[str] | None = option("Layers within a block to adapt; null for every linear one.", None)
    iters: int = option("Minibatches to train on (not optimizer updates).", 800, unit="minibatches", ge=1)
    batch_size: int = option("Rows in a minibatch, over all workers.", 1, unit="rows", ge=1)
    grad_accumulation_steps: int = option("Minibatches to an optimizer update.", 4, unit="minibatches", ge=1)
    accumulation: str = option(
        "What every weight is equal for in an update: a token, or a minibatch (mlx-lm's way).",
        "per_token", choices=("per_token", "per_batch"),
    )  # fmt: skip
    learning_rate: float = option("Learning rate, unless lr_schedule is given.", 1e-4, gt=0.0)
    lr_schedule: Schedule | None = option("Learning rate as a function of the update.", None)
    optimizer: str = option("Optimizer.", "adam", choices=("adam", "adamw", "muon", "sgd", "adafactor"))
    optimizer_config: dict[str, Any] = option("Further arguments of the optimizer.", {})
    max_seq_length: int = option(
        "Longest row; longer ones are cut off at the end.", 2048, unit="tokens", ge=8
    )
    mask_prompt: bool = option("Supervise assistant turns only; otherwise every token.", True)
    supervise: str = option(
        "Which assistant turns get loss, with mask_prompt.", "last_turn", choices=("last_turn", "all_turns")
    )
    grad_checkpoint: bool = option("Recompute activations backwards: less memory, more time.", False)
    steps_per_report: int = option(
        "Minibatches between loss reports.", 10, unit="minibatches", ge=1, neutral=True
    )
    steps_per_eval: int = option(
        "Minibatches between validations.", 50, unit="minibatches", ge=1, neutral=True
    )
    val_batches: int = option(
        "Validation minibatches, always the same rows; -1 for the whole set.", 10, unit="minibatches", ge=-1
    )
    save_every: int = option("Minibatches between checkpoints.", 200, unit="minibatches", ge=1)
    keep_checkpoints: int = option(
        "Newest checkpoints kept, besides the selected one.", 4, unit="checkpoints", ge=1, neutral=True
    )
    select: str = option(
        "Which checkpoint is the result: the last, that of lowest validation loss, or that of highest strict "
        "score on select_suite.",
        "last", choices=("last", "best_val", "best_eval"),
    )  # fmt: skip
    select_suite: str = option(
        "Suite of select=best_eval; never the evaluated one.", "select52", neutral=True
    )
    seed: int = option("Seeds the data order and, by its own stream, the initial adapter.", 0, ge=0)
    workers: int = option("Processes that share every batch, under mlx.launch.", 1, unit="processes", ge=1)
    hosts: list[str] = option("Hosts of the workers; none is this machine.", [], neutral=True)


@dataclass
class QuantizeConfig:
    """Fusing the adapter and quantizing the result."""

    bits: int | None = option(
        "Bits per weight; null keeps the base's floating point.",
        5,
        unit="bits",
        choices=(None, 2, 3, 4, 5, 6, 8),
    )
    group_size: int = option("Weights that share a scale.", 64, unit="weights", choices=(32, 64, 128))
    recipe: str | None = option(
        "One of mlx-lm's mixed recipes: more bits for the layers that need them; null for none.", None,
        choices=(None, "mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6"),
    )  # fmt: skip
    shard_mb: int = option("Largest weight file; a tensor is never divided.", 5000, unit="MB", ge=1)
    fidelity_rows: int = option(
        "Validation rows on which base, adapter and result are compared; 0 compares nothing.",
        16, unit="rows", ge=0,
    )  # fmt: skip
    min_gain_kept: float = option(
        "Share of the adapter's log-probability gain that must be left; below it the run fails.", 0.5, le=1.0
    )
    keep: str = option(
        "until_evaluated deletes the model once it is scored; it is rebuilt when something needs it.",
        "always", choices=("always", "until_evaluated"), neutral=True,
    )  # fmt: skip


@dataclass
class LockConfig:
    """The format lock: the exact probability that an answer opens the wrapper, over temperatures."""

    temperatures: list[float] = option(
        "Grid of temperatures, besides the run's own; empty computes no lock.",
        [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5], ge=0.0, le=10.0,
    )  # fmt: skip
    top_p: list[float] = option("One more curve for each of these top-p values.", [0.9], gt=0.0, le=1.0)


@dataclass
class ServerConfig:
    """The server of eval.backend=server."""

    url: str | None = option(
        "An OpenAI-compatible endpoint; null starts mlx_lm.server on this machine.", None
    )
    model: str | None = option("Model name sent with requests; null sends none.", None)
    timeout: float = option("Longest wait for one answer.", 120.0, unit="s", gt=0.0, neutral=True)
    retries: int = option("Further attempts at an answer that did not arrive.", 2, ge=0, neutral=True)


@dataclass
class EvalConfig:
    """The evaluation: which suite, which model, how to sample."""

    suite: str = option("core27, another of punie's own suites, or a path to a JSONL file.", neutral=True)
    target: str = option("Which weights to score.", "quantized", choices=("base", "adapter", "quantized"))
    targets: list[str] = option(
        "Evaluate all of these, target among them, and pair them prompt by prompt.", [],
        choices=("base", "adapter", "quantized"), neutral=True,
    )  # fmt: skip
    temperature: float = option("Sampling temperature; 0 is greedy.", 0.7, ge=0.0, le=10.0)
    top_p: float = option("Nucleus sampling; 1 keeps every token.", 1.0, gt=0.0, le=1.0)
    top_k: int = option("Keep only the k likeliest tokens; 0 keeps all.", 0, unit="tokens", ge=0)
    min_p: float = option(
        "Drop tokens below this share of the likeliest one's probability.", 0.0, ge=0.0, le=1.0
    )
    repeats: int = option("Answers to each prompt.", 1, unit="answers", ge=1)
    max_tokens: int = option(
        "Longest answer; an item of the suite may set its own.", 256, unit="tokens", ge=1
    )
    stop: list[str] = option("Texts that end an answer, besides the model's own end tokens.", [])
    system_prompt: str | None = option("System prompt; null for the one code_mode is trained with.", None)
    seed: int = option("Seeds sampling, together with sample id, repeat and position.", 0, ge=0)
    batch_size: int = option(
        "Answers generated together; changes the last bits of log-probabilities, and no draw.",
        64, unit="answers", ge=1,
    )  # fmt: skip
    logprobs: bool = option("Record the log-probability of every generated token.", True)
    lock: LockConfig = dataclasses.field(default_factory=LockConfig)
    backend: str = option("Generate in this process, or by a server.", "mlx", choices=("mlx", "server"))
    server: ServerConfig = dataclasses.field(default_factory=ServerConfig)
    allow_missing: bool = option("Score a suite although answers are missing (server only).", False)
    fail_under: float | None = option(
        "Exit with code 3 if the score is below this, as a share of 1.", None, ge=0.0, le=1.0, neutral=True
    )
    fail_on: str = option(
        "What must reach it: the lower end of the 95 % interval, or the mean.", "lower_bound",
        choices=("lower_bound", "estimate"), neutral=True,
    )  # fmt: skip
    fail_score: str = option("Which score.", "strict", choices=tuple(SCORERS), neutral=True)


@dataclass
class Criterion:
    """One pre-registered condition on a score."""

    metric: str = option("overall, or categories.<name>.")
    op: str = option("Comparison.", ">=", choices=(">=", ">"))
    value: float = option("Threshold, as a share of 1.", ge=0.0, le=1.0)


@dataclass
class Outcome:
    """What a result in a range means, decided before the run."""

    metric: str = option("overall, categories.<name>, or a figure of the sweep.")
    at_least: float | None = option("Lower bound, inclusive.", None)
    below: float | None = option("Upper bound, exclusive.", None)
    verdict: str = option("What it then means.")
    next: str | None = option(
        "The phase to run then, and overrides of it; null where the tree of phases ends.", None, omit_if=None
    )


@dataclass
class Baseline:
    """Published figures to compare with."""

    source: str = option("Where the figures come from.")
    overall: float = option("Overall keyword score, as a share of 1.", ge=0.0, le=1.0)
    categories: dict[str, float] = option("Keyword score by category.", {})
    training_peak_gb: float | None = option("Peak memory of training.", None, unit="GB", gt=0.0)


@dataclass
class PhaseConfig:
    """An experiment's scientific half: what is asked, and what would answer it."""

    id: str = option("Short name, such as 43a.")
    title: str = option("One line.")
    hypothesis: str = option("What the phase sets out to show.")
    references: list[str] = option("What it builds on.", [])
    score: str = option("Which score the criteria speak of.", "keyword", choices=tuple(SCORERS))
    baseline: Baseline | None = option("Published figures.", None)
    criteria: list[Criterion] = option("All must hold for the phase to pass.", [])
    outcomes: list[Outcome] = option("Verdicts by range; the first that fits is given.", [])
    sweep: bool = option("Meant to be run with -m.", False)


@dataclass
class StoreConfig:
    """Where artifacts live."""

    dir: str = option("Folder of the artifact store.", "outputs/store", neutral=True)


@dataclass
class RuntimeConfig:
    """How to compute. The two CPU switches change rounding, so they are part of the keys."""

    blas: bool = option("On a Linux CPU, load an optimised BLAS before mlx.", True)
    cpu_float32: bool = option(
        "On the CPU, dequantize the model to float32 for training and evaluation.", True
    )
    threads: int | None = option(
        "Threads of a product on the CPU; null: one for a small model, every core for a large one.",
        None, ge=1,
    )  # fmt: skip
    isolation: str = option(
        "Run accelerator stages in a process of their own: auto does so on a GPU.",
        "auto", choices=("auto", "process", "none"), neutral=True,
    )  # fmt: skip
    device_jobs: int | None = option(
        "Jobs that compute at once on this machine's device; null: one on a GPU, any number on a CPU.",
        None, ge=1, neutral=True,
    )  # fmt: skip


@dataclass
class SweepConfig:
    """How a sweep goes on."""

    fail_fast: bool = option("Start no further job once one has failed.", False, neutral=True)


@dataclass
class Config:
    """One run, fully composed."""

    name: str = option("Names the run's folder.", "default", neutral=True)
    seed: int = option("Default of lora.seed and eval.seed.", 0, ge=0, neutral=True)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    lora: LoraConfig = dataclasses.field(default_factory=LoraConfig)
    quantize: QuantizeConfig = dataclasses.field(default_factory=QuantizeConfig)
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)
    phase: PhaseConfig | None = None
    store: StoreConfig = dataclasses.field(default_factory=StoreConfig)
    runtime: RuntimeConfig = dataclasses.field(default_factory=RuntimeConfig)
    sweep: SweepConfig = dataclasses.field(default_factory=SweepConfig)


def register() -> None:
    """Make the schema known to Hydra under ``SCHEMA_NAME``."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name=SCHEMA_NAME, node=Config)
