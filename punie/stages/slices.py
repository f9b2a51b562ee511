"""What each stage may read of the config, as types; what is not here is in no key and out of reach."""

from __future__ import annotations

from dataclasses import dataclass

from punie.config.schema import (
    DataConfig,
    EvalConfig,
    LoraConfig,
    ModelConfig,
    PhaseConfig,
    QuantizeConfig,
    ShipConfig,
    StoreConfig,
    ToolsConfig,
)
from punie.model.device import device_kind

# Parts of groups.


@dataclass(frozen=True)
class DataPath:
    """Where the data are, and what becomes of long examples."""

    path: str | None
    repo: str | None
    revision: str
    config: str | None
    train_split: str | None
    valid_split: str | None
    too_long: str


@dataclass(frozen=True)
class Named:
    """A group by its name."""

    name: str


@dataclass(frozen=True)
class Computing:
    """How a stage computes."""

    blas: bool
    cpu_float32: bool
    threads: int | None

    @property
    def float32(self) -> bool:
        """Whether the model is dequantized and computes in float32 on this machine."""
        return self.cpu_float32 and device_kind() == "cpu"


@dataclass(frozen=True)
class Masking:
    """How examples are cut and masked."""

    max_seq_length: int
    mask_prompt: bool


@dataclass(frozen=True)
class CheckedRecipe(Masking):
    """What preflight checks of a recipe."""

    batch_size: int
    num_layers: int
    select: str
    select_suite: str
    supervise: str


@dataclass(frozen=True)
class CheckedEval:
    """What preflight checks of an evaluation."""

    suite: str
    system_prompt: str | None


@dataclass(frozen=True)
class Target:
    """Whose weights."""

    target: str


@dataclass(frozen=True)
class Targets:
    """What is evaluated, and on what."""

    suite: str
    target: str
    targets: list[str]


# One slice for each stage, under its name.


@dataclass(frozen=True)
class Nothing:
    """Of a stage that reads no config."""


@dataclass(frozen=True)
class Preflight:
    model: ModelConfig
    data: DataConfig
    tools: ToolsConfig
    format: str
    eval: CheckedEval
    lora: CheckedRecipe
    store: StoreConfig


@dataclass(frozen=True)
class Base:
    model: ModelConfig
    store: StoreConfig


@dataclass(frozen=True)
class Train:
    model: ModelConfig
    data: DataPath
    tools: ToolsConfig
    format: str
    lora: LoraConfig
    store: StoreConfig
    runtime: Computing


@dataclass(frozen=True)
class Quantize:
    model: ModelConfig
    data: DataPath
    tools: ToolsConfig
    format: str
    quantize: QuantizeConfig
    lora: Masking
    store: StoreConfig
    runtime: Computing


@dataclass(frozen=True)
class Evaluate:
    model: ModelConfig
    data: DataPath
    tools: ToolsConfig
    format: str
    eval: EvalConfig
    store: StoreConfig
    runtime: Computing


@dataclass(frozen=True)
class Likelihood:
    model: ModelConfig
    data: DataPath
    tools: ToolsConfig
    format: str
    lora: Masking
    eval: Target
    store: StoreConfig
    runtime: Computing


@dataclass(frozen=True)
class Report:
    name: str
    phase: PhaseConfig | None
    ship: ShipConfig
    model: Named
    data: Named
    eval: Targets
