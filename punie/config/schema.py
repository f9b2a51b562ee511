"""The schema of a run's config: every field with its meaning, unit, limits and default.

Hydra merges the YAML of every group into these dataclasses, which types the values. Limits, choices, unknown
keys and missing values are checked by ``punie.config.check``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from punie.config.decisions import PhaseConfig, ShipConfig
from punie.config.option import neutral, option
from punie.config.targets import TARGETS
from punie.evals.scores import SCORERS
from punie.formats import AUTO, FORMATS
from punie.train.callbacks import CALLBACKS
from punie.train.methods import METHODS


@dataclass
class ModelConfig:
    """The base model. It is identified by the content of its files, so no field here is in a cache key."""

    name: str = neutral("Name shown in tables and reports.")
    embedded: str | None = neutral("One of punie's own models under data/models/.", None)
    path: str | None = neutral("A local model folder, or a GGUF file.", None)
    package: str | None = neutral("An installed Python package that holds the model as a GGUF file.", None)
    repo: str | None = neutral("A model on the Hugging Face hub, as owner/name.", None)
    revision: str = neutral("Commit, tag or branch of the repo.", "main")
    size_gb: float | None = neutral("Expected size of the download, in GB.", None, gt=0.0)
    dtype: str = neutral(
        "Weights of a model that is read from a GGUF file; bfloat16 rounds them.",
        "bfloat16",
        choices=("bfloat16", "float32"),
    )
    adapter: str | None = neutral(
        "Folder of an adapter to start from, in mlx-lm's or PEFT's format; it is fused into the model.", None
    )
    template_args: dict[str, Any] = option(
        "Options of the chat template, such as {enable_thinking: false}.", {}, omit_if={}
    )
    template_date: str = option(
        "The date for a template that asks for it, as YYYY-MM-DD.", "2026-01-01", omit_if="2026-01-01"
    )
    recipe: dict[str, Any] = neutral("Fields of lora that this model overrides; used by lora=reference.", {})
    dimensions: dict[str, Any] = neutral("Sizes in its config.json, for estimates before a download.", {})


@dataclass
class DataConfig:
    """The training data: JSON Lines or Parquet files, or a data set of the hub, in chat format."""

    name: str = neutral("Name shown in tables and reports.")
    path: str | None = neutral(
        "A folder with train.jsonl and valid.jsonl or with Parquet files, or a Parquet file; relative to the "
        "working folder, else one of punie's own.",
        None,
    )
    repo: str | None = neutral("A data set on the Hugging Face hub, as owner/name.", None)
    revision: str = neutral("Commit, tag or branch of the repo.", "main")
    config: str | None = neutral(
        "One of the configs (subsets) that its card declares; null: the default.", None
    )
    train_split: str | None = neutral("Split to train on, or a part of one: train[:95%]; null: train.", None)
    valid_split: str | None = neutral("Split to validate on, alike; null: the one that is called so.", None)
    too_long: str = option(
        "An example over lora.max_seq_length is cut at its end, refused, or left out.",
        "truncate",
        choices=("truncate", "refuse", "drop"),
        omit_if="truncate",
    )
    min_examples: int = neutral("Fewest training examples accepted.", 20, ge=1)
    expected_train: int | None = option("Exact number of training examples expected.", None, ge=1)
    expected_valid: int | None = option("Exact number of validation examples expected.", None, ge=1)
    mix: dict[str, float] = neutral("Share of each kind of example that `punie data build` generates.", {})


@dataclass
class ToolsConfig:
    """What examples and suite items without tools of their own may call."""

    name: str = neutral("Name shown in tables and reports.", "own")
    path: str | None = neutral("JSON file of tools in OpenAI's schema; null for none.", None)


SCHEDULES = {
    "cosine_decay": {"init": "1e-4", "decay_steps": "100", "end": ""},
    "exponential_decay": {"init": "1e-4", "decay_rate": "0.999"},
    "linear_schedule": {"init": "1e-4", "end": "0", "steps": "100"},
    "step_decay": {"init": "1e-4", "decay_rate": "0.1", "step_size": "100"},
}
"""Schedules of mlx.optimizers whose arguments are numbers, each with an example; empty: not required."""
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adam": {"betas": [0.9, 0.999], "eps": 1e-8, "bias_correction": False},
    "adamw": {"betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01, "bias_correction": False},
    "muon": {"momentum": 0.95, "weight_decay": 0.01, "nesterov": True, "ns_steps": 5},
    "sgd": {"momentum": 0.0, "weight_decay": 0.0, "dampening": 0.0, "nesterov": False},
    "adafactor": {
        "eps": [1e-30, 1e-3],
        "clip_threshold": 1.0,
        "decay_rate": -0.8,
        "beta_1": None,
        "weight_decay": 0.0,
        "scale_parameter": True,
        "relative_step": True,
        "warmup_init": False,
    },
}
"""Optimizers of mlx, each with its options and their defaults."""


@dataclass
class Schedule:
    """A learning-rate schedule of mlx.optimizers, in mlx-lm's form; steps count optimizer steps."""

    name: str = option("The schedule.", choices=tuple(SCHEDULES))
    arguments: list[float] = option("Its arguments; the first is the initial learning rate.", [])
    warmup: int = option("Optimizer steps of linear warm-up before it.", 0, ge=0)
    warmup_init: float = option("Learning rate at the start of the warm-up.", 0.0, ge=0.0)

    @property
    def example(self) -> str:
        """Arguments that it takes."""
        return f"[{','.join(filter(None, self._known.values()))}]"

    @property
    def takes(self) -> str:
        """The names of its arguments."""
        return ", ".join(name if example else f"{name} (optional)" for name, example in self._known.items())

    @property
    def fits(self) -> bool:
        """Whether it takes these arguments: as many, none negative, and at least one step."""
        given = dict(zip(self._known, self.arguments, strict=False))
        return not self._known or (
            self.example.count(",") < len(self.arguments) <= len(self._known)
            and all(value >= ("step" in name) for name, value in given.items())
        )

    @property
    def _known(self) -> dict[str, str]:
        return SCHEDULES.get(self.name, {})


@dataclass
class LoraConfig:
    """Fine-tuning, under mlx-lm's names."""

    method: str = option("What the loss is computed from.", "sft", choices=tuple(METHODS), omit_if="sft")
    fine_tune_type: str = option(
        "LoRA, DoRA, or full training of the last layers.", "lora", choices=("lora", "dora", "full")
    )
    rank: int = option("Rank of the low-rank update.", 8, ge=1)
    scale: float = option("Direct multiplier of the update (not PEFT's alpha / rank).", 20.0, gt=0.0)
    dropout: float = option("Dropout before the low-rank product.", 0.0, ge=0.0, le=0.99)
    num_layers: int = option("Transformer blocks to train, counted from the last; -1 for all.", 8, ge=-1)
    keys: list[str] | None = option("Layers within a block to adapt; null for every linear layer.", None)
    iters: int | None = option(
        "Micro-batches to train on (not optimizer steps); null where epochs says it.", 800, ge=1
    )
    epochs: int | None = option(
        "Passes over the training examples, in place of iters.", None, ge=1, omit_if=None
    )
    batch_size: int = option("Examples in a micro-batch, over all workers.", 1, ge=1)
    grad_accumulation_steps: int = option("Micro-batches in an optimizer step.", 4, ge=1)
    accumulation: str = option(
        "Within an optimizer step, every token counts the same, or every micro-batch (mlx-lm).",
        "per_token",
        choices=("per_token", "per_batch"),
    )
    learning_rate: float = option("Learning rate, unless lr_schedule is set.", 1e-4, gt=0.0)
    lr_schedule: Schedule | None = option(
        "Learning rate by optimizer step, such as {name: cosine_decay, arguments: [1e-4, 100]}.", None
    )
    optimizer: str = option("Optimizer.", "adam", choices=tuple(OPTIMIZERS))
    optimizer_config: dict[str, Any] = option("Further arguments of the optimizer.", {})
    max_seq_length: int = option("Longest example, in tokens; longer ones are cut at the end.", 2048, ge=8)
    mask_prompt: bool = option("Compute loss on assistant turns only; otherwise on every token.", True)
    supervise: str = option(
        "Assistant turns that get loss, with mask_prompt.", "last_turn", choices=("last_turn", "all_turns")
    )
    grad_checkpoint: bool = option("Recompute activations in the backward pass to save memory.", False)
    cache_frozen: str = neutral(
        "Output of the layers below the first trained one: auto keeps it where a training, or those of a "
        "sweep together, come back to their examples, on always; off computes all with every batch.",
        "auto",
        choices=("auto", "on", "off"),
    )
    cache_gb: float = neutral("Most disk for the frozen layers' output, in GB.", 20.0, ge=0.0)
    steps_per_report: int = neutral("Micro-batches between loss reports.", 10, ge=1)
    steps_per_eval: int = neutral("Micro-batches between validations.", 50, ge=1)
    val_batches: int = option("Validation micro-batches, always the same; -1 for the whole set.", 10, ge=-1)
    save_every: int = option("Micro-batches between checkpoints.", 200, ge=1)
    keep_checkpoints: int = neutral("Newest checkpoints kept, besides the selected one.", 4, ge=1)
    select: str = option(
        "Checkpoint used: the last, lowest validation loss, or highest strict score on select_suite.",
        "last",
        choices=("last", "best_val", "best_eval"),
    )
    select_suite: str = neutral("Suite of select=best_eval; never the evaluated one.", "select52")
    patience: int | None = option(
        "Stop after so many checkpoints in a row that are no better, by what select goes by; null: never.",
        None,
        ge=1,
        omit_if=None,
    )
    seed: int = option("Training seed: data order and, from its own stream, the initial adapter.", 0, ge=0)
    workers: int = option("Processes that share every batch, under mlx.launch.", 1, ge=1)
    hosts: list[str] = neutral("Hosts of the workers; empty for this machine.", [])


@dataclass
class QuantizeConfig:
    """Fusing the adapter and quantizing the result."""

    bits: int | None = option("Bits per weight; null: floating point.", 5, choices=(None, 2, 3, 4, 5, 6, 8))
    group_size: int = option("Weights that share a scale.", 64, choices=(32, 64, 128))
    recipe: str | None = option(
        "A mixed recipe of mlx-lm, which gives some layers more bits; null for none.",
        None,
        choices=(None, "mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6"),
    )
    shard_mb: int = option("Largest weight file, in MB; a tensor is never divided.", 5000, ge=1)
    fidelity_rows: int = option("Validation examples for the quantization-quality check; 0: none.", 16, ge=0)
    min_gain_kept: float = option(
        "Share of the adapter's log-probability gain that quantization must keep, or it fails.", 0.5, le=1.0
    )
    keep: str = neutral(
        "until_evaluated deletes the model after evaluation; it is rebuilt when needed.",
        "always",
        choices=("always", "until_evaluated"),
    )


@dataclass
class LockConfig:
    """The format lock: the exact probability that a response opens a tool-call block, per temperature."""

    temperatures: list[float] = option(
        "Temperatures, besides the run's own; empty computes no format lock.",
        [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
        ge=0.0,
        le=10.0,
    )
    top_p: list[float] = option("One more curve for each of these top-p values.", [0.9], gt=0.0, le=1.0)


@dataclass
class ServerConfig:
    """The server of eval.backend=server."""

    url: str | None = option("An OpenAI-compatible endpoint; null starts mlx_lm.server here.", None)
    api: str = option(
        "completions sends the prompt as punie renders it; chat the turns, which the server renders.",
        "completions",
        choices=("completions", "chat"),
        omit_if="completions",
    )
    api_key_env: str | None = neutral("Environment variable that holds the API key; null sends none.", None)
    model: str | None = option("Model name in the requests; null leaves it out.", None)
    timeout: float = neutral("Longest wait for a response, in seconds.", 120.0, gt=0.0)
    retries: int = neutral(
        "Further attempts when a response does not arrive; 0 waits for no busy server, either.", 2, ge=0
    )


@dataclass
class EvalConfig:
    """The evaluation: which suite, which model, how to sample."""

    suite: str = neutral("core27, another of punie's suites, or the path of a JSONL file.")
    target: str = option("Weights to score.", "quantized", choices=tuple(TARGETS))
    targets: list[str] = neutral(
        "Evaluate all of these, target among them, and compare by prompt.", [], choices=tuple(TARGETS)
    )
    temperature: float = option("Sampling temperature; 0 is greedy.", 0.7, ge=0.0, le=10.0)
    top_p: float = option("Nucleus sampling; 1 keeps every token.", 1.0, gt=0.0, le=1.0)
    top_k: int = option("Sample from the k most likely tokens only; 0 keeps all.", 0, ge=0)
    min_p: float = option("Least probability of a token, as a share of the highest.", 0.0, ge=0.0, le=1.0)
    repeats: int = option("Responses per prompt.", 1, ge=1)
    max_tokens: int = option("Longest response, in tokens; a sample may set its own.", 256, ge=1)
    stop: list[str] = option("Texts that end a response, besides the model's end tokens.", [])
    system_prompt: str | None = option(
        "System prompt; null for the one that code_mode trains with, and none in other formats.", None
    )
    seed: int = option(
        "Sampling seed, combined with sample id, repeat and token position; unused at temperature 0.",
        0,
        ge=0,
    )
    batch_size: int = option(
        "Responses generated together; may change last bits of log-probabilities, never a sample.", 64, ge=1
    )
    logprobs: bool = option("Record the log-probability of every generated token.", True)
    lock: LockConfig = dataclasses.field(default_factory=LockConfig)
    backend: str = option("Generate in this process or by a server.", "mlx", choices=("mlx", "server"))
    server: ServerConfig = dataclasses.field(default_factory=ServerConfig)
    allow_missing: bool = option("Score a suite even if responses are missing (server only).", False)
    fail_under: float | None = neutral("Exit with code 3 below this score, 0 to 1.", None, ge=0.0, le=1.0)
    fail_on: str = neutral(
        "Compared with fail_under: the lower end of the 95 % interval, or the mean.",
        "lower_bound",
        choices=("lower_bound", "estimate"),
    )
    fail_score: str = neutral("Score compared with fail_under.", "strict", choices=tuple(SCORERS))


@dataclass
class StoreConfig:
    """Where artifacts live."""

    dir: str = neutral("Folder of the artifact store.", "outputs/store")


@dataclass
class RuntimeConfig:
    """How to compute. blas, cpu_float32 and threads change rounding, so they are part of the cache keys."""

    blas: bool = option("On a Linux CPU, load an optimised BLAS before mlx.", True)
    cpu_float32: bool = option("On the CPU, train and evaluate the model in float32.", True)
    threads: int | None = option(
        "CPU threads of a matrix product; null: one for a small model, all cores for a large one.", None, ge=1
    )
    isolation: str = neutral(
        "Run accelerator stages in a process of their own; auto does so on a GPU.",
        "auto",
        choices=("auto", "process", "none"),
    )
    device_jobs: int | None = neutral(
        "Jobs that compute at once on this machine; null: one on a GPU, any number on a CPU.", None, ge=1
    )


@dataclass
class TrackConfig:
    """Trackers that a run reports to. Servers and keys are in their libraries' environment variables."""

    trackers: dict[str, bool] = neutral(
        "Trackers by name; track=NAME or track=[NAME,NAME] sets them.", {}, choices=tuple(CALLBACKS)
    )
    project: str | None = neutral(
        "Project, in MLflow the experiment; null: the one of the library's own variable, or punie.", None
    )


@dataclass
class SweepConfig:
    """How a sweep runs."""

    fail_fast: bool = neutral("Start no further job after one has failed.", False)


@dataclass
class Config:
    """One run, fully composed."""

    name: str = neutral("Name of the run's folder.", "default")
    seed: int = neutral("Default of lora.seed and eval.seed.", 0, ge=0)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    tools: ToolsConfig = dataclasses.field(default_factory=ToolsConfig)
    format: str = neutral(
        "How calls are written: by the chat template, in the prompt, or as code; auto decides by the data.",
        AUTO,
        choices=(AUTO, *FORMATS),
    )
    lora: LoraConfig = dataclasses.field(default_factory=LoraConfig)
    quantize: QuantizeConfig = dataclasses.field(default_factory=QuantizeConfig)
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)
    phase: PhaseConfig | None = None
    ship: ShipConfig = dataclasses.field(default_factory=ShipConfig)
    store: StoreConfig = dataclasses.field(default_factory=StoreConfig)
    runtime: RuntimeConfig = dataclasses.field(default_factory=RuntimeConfig)
    sweep: SweepConfig = dataclasses.field(default_factory=SweepConfig)
    track: TrackConfig = dataclasses.field(default_factory=TrackConfig)
