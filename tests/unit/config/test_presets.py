"""Every preset composes, with its own model and with the tiny one."""

from __future__ import annotations

from operator import attrgetter

import pytest

from punie.config import Config, resolve
from punie.config.compose import compose
from punie.config.presets import presets
from punie.util.paths import resource

CONF = resource("conf")
GROUPS = {
    group: sorted(p.stem for p in (CONF / group).glob("*.yaml"))
    for group in ("model", "data", "lora", "quantize", "eval", "track")
}
PHASES = sorted(p.stem for p in (CONF / "phase").glob("*.yaml"))
NEEDS_PATH = {
    ("model", "hub"): "model.repo=x/y",
    ("model", "local"): "model.path=x",
    ("data", "jsonl"): "data.path=x",
    ("data", "hub"): "data.repo=x/y",
}


def composed(*overrides: str) -> Config:
    return resolve(compose(list(overrides)))


@pytest.mark.parametrize(("group", "option"), [(g, o) for g, options in GROUPS.items() for o in options])
def test_every_option_of_every_group_composes(group: str, option: str) -> None:
    """Each YAML file of a group gives a config that passes the strict check."""
    extra = [NEEDS_PATH[group, option]] if (group, option) in NEEDS_PATH else []
    config = composed(f"{group}={option}", *extra)
    assert getattr(config, group) is not None


@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_composes_with_its_own_model(phase: str) -> None:
    """A phase names its hypothesis, criteria and baseline, and a model of the hub."""
    config = composed(f"+phase={phase}")
    assert config.phase is not None
    assert all((config.phase.hypothesis, config.phase.criteria, config.phase.baseline, config.model.repo))
    assert (config.phase.id, config.name) == (phase, f"phase{phase}")


@pytest.mark.parametrize(
    "overrides", [["+phase=33b", "model=tiny"], *(["model=tiny", f"+phase={each}"] for each in PHASES)]
)
def test_the_command_line_wins_over_a_phase(overrides: list[str]) -> None:
    """``model=tiny`` replaces a phase's model in either order, and brings the tiny model's recipe."""
    config = composed(*overrides)
    assert config.model.embedded == "tiny"
    assert config.lora.num_layers == 4
    assert config.lora.learning_rate == config.model.recipe["learning_rate"]


def test_the_reference_recipe_is_the_published_one() -> None:
    """Phase 33b carries the facts of the published run."""
    config = composed("+phase=33b")
    lora = config.lora
    assert config.model.repo == "mlx-community/Qwen3-Coder-30B-A3B-Instruct-4bit"
    assert (lora.iters, lora.learning_rate, lora.num_layers, lora.batch_size) == (800, 1e-4, 8, 1)
    assert (lora.grad_accumulation_steps, lora.mask_prompt, lora.save_every) == (4, True, 200)
    assert (lora.steps_per_eval, lora.val_batches, lora.rank, lora.scale) == (50, 10, 8, 20.0)
    assert (config.quantize.bits, config.quantize.group_size) == (5, 64)
    assert (config.eval.suite, config.eval.temperature) == ("core27", 0.7)
    assert (config.data.expected_train, config.data.expected_valid) == (1159, 123)
    assert config.phase
    assert config.phase.baseline
    assert config.phase.baseline.categories["lsp"] == 0.9


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        ("40", {"lora.num_layers": 16}),
        ("43b", {"lora.num_layers": 12, "eval.temperature": 0.0}),
        ("44", {"lora.seed": 42, "lora.save_every": 100, "lora.select": "best_val"}),
        ("44", {"eval.stop": ["<think>"]}),
    ],
)
def test_what_other_phases_change(phase: str, expected: dict[str, object]) -> None:
    """Phases 40, 43b and 44 differ from the reference in the published fields."""
    config = composed(f"+phase={phase}")
    assert {key: attrgetter(key)(config) for key in expected} == expected


@pytest.mark.parametrize(
    ("phase", "axes"),
    [
        ("45", {"lora": "format_fix,reference", "eval.temperature": "0.0,0.2,0.5,0.7"}),
        ("46", {"seed": "0,1,2,3,42"}),
    ],
)
def test_sweep_phases_carry_their_axes(phase: str, axes: dict[str, str]) -> None:
    """Phases 45 and 46 are sweeps, and say over what."""
    preset = presets()[phase]
    assert (preset.axes, preset.phase.sweep) == (axes, True)
