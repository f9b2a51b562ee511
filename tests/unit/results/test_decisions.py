"""The tree of phases: what follows from an outcome."""

from __future__ import annotations

import pytest

from punie.config import resolve
from punie.config.compose import compose, quote_phases
from punie.config.presets import presets
from punie.results.config import phase_record
from punie.results.decisions import decide
from punie.results.records import Phase
from punie.results.verdict import fits


def phase(name: str) -> Phase:
    found = phase_record(presets()[name].phase)
    assert found
    return found


def verdict(name: str, figure: float) -> str:
    """That of the first outcome whose range holds the figure."""
    return next(each.verdict for each in phase(name).outcomes if fits(each, figure))


@pytest.mark.parametrize(
    ("name", "figure", "command"),
    [
        ("45", 0.8, None),
        ("45", 0.79, "python -m punie -m +phase=46"),
        ("46", 3, None),
        ("46", 2, "python -m punie -m +phase=46 seed=4,5,6,7,8"),
        ("46", 1, "python -m punie +phase=43b"),
        ("43b", 0.8, None),
        ("43b", 0.6, None),
        ("43b", 0.49, None),
    ],
)
def test_what_a_figure_leads_to(name: str, figure: float, command: str | None) -> None:
    """Each pre-registered threshold leads to its phase, and the command runs it as it is meant to be run."""
    decision = decide(phase(name), verdict(name, figure))
    assert decision is not None
    assert decision.command == command
    assert str(decision).startswith(command or "nothing")


def test_a_decision_knows_its_place() -> None:
    """The path begins at the root of the tree, and what leads back to the same phase ends it."""
    decision = decide(phase("43b"), "dense is viable")
    assert decision is not None
    assert decision.path == ("45", "46", "43b")
    again = decide(phase("46"), "undecided")
    assert str(again).endswith("(45 → 46 → 46)")


def test_what_it_ran_on_is_carried_on() -> None:
    """Overrides of model and data hold for the next phase; those of the recipe and the phase do not."""
    overrides = ["+phase='45'", "model=tiny", "+data.mix.none=0.5", "lora.iters=3", "data.path=my data"]
    decision = decide(phase("45"), verdict("45", 0.1), overrides)
    assert decision is not None
    assert (
        decision.command == "python -m punie -m +phase=46 model=tiny +data.mix.none=0.5 'data.path=my data'"
    )


@pytest.mark.parametrize("given", [None, "of another time"])
def test_no_outcome_no_decision(given: str | None) -> None:
    """Without an outcome of the phase, nothing is decided."""
    assert decide(phase("45"), given) is None


@pytest.mark.parametrize("name", presets())
def test_a_preset_read_is_the_preset_composed(name: str) -> None:
    """What is read from the file alone is what Hydra composes, so the tree is that of the runs."""
    config = resolve(compose(quote_phases([f"+phase={name}"])))
    assert presets()[name].phase == config.phase
    assert presets()[name].groups.keys() == {"model", "data", "lora", "quantize", "eval"}
    assert bool(presets()[name].axes) is presets()[name].phase.sweep
