"""The tree of phases: what follows from an outcome."""

from __future__ import annotations

import pytest

from punie.config import resolve
from punie.config.compose import compose, quote_phases
from punie.config.presets import presets
from punie.results.config import phase_record
from punie.results.verdict import decide, fits


def decided(name: str, figure: float, *overrides: str) -> str:
    """What follows from the first outcome whose range holds the figure."""
    phase = phase_record(presets()[name].phase)
    assert phase
    found = decide(phase, next(each.verdict for each in phase.outcomes if fits(each, figure)), overrides)
    assert found
    assert (decide(phase, None), decide(phase, "of another time")) == (None, None)
    return found


@pytest.mark.parametrize(
    ("name", "figure", "words"),
    [
        ("45", 0.8, "nothing, the tree of phases ends here (45: "),
        ("45", 0.79, "python -m punie -m +phase=46  (45 → 46)"),
        ("46", 3, "nothing, the tree of phases ends here (45 → 46: "),
        ("46", 2, "python -m punie -m +phase=46 seed=4,5,6,7,8  (45 → 46 → 46)"),
        ("46", 1, "python -m punie +phase=43b  (45 → 46 → 43b)"),
        ("43b", 0.8, "nothing, the tree of phases ends here (45 → 46 → 43b: dense is viable)"),
        ("43b", 0.6, "nothing"),
        ("43b", 0.49, "nothing"),
    ],
)
def test_what_a_figure_leads_to(name: str, figure: float, words: str) -> None:
    """Each pre-registered threshold leads to its phase, from the root of the tree, by its command."""
    assert decided(name, figure).startswith(words)


def test_what_it_ran_on_is_carried_on() -> None:
    """Overrides of model and data hold for the next phase; those of the recipe and the phase do not."""
    overrides = ["+phase='45'", "model=tiny", "+data.mix.none=0.5", "lora.iters=3", "data.path=my data"]
    command, _, _ = decided("45", 0.1, *overrides).partition("  (")
    assert command == "python -m punie -m +phase=46 model=tiny +data.mix.none=0.5 'data.path=my data'"


@pytest.mark.parametrize("name", presets())
def test_a_preset_read_is_the_preset_composed(name: str) -> None:
    """What is read from the file alone is what Hydra composes, so the tree is that of the runs."""
    config = resolve(compose(quote_phases([f"+phase={name}"])))
    assert presets()[name].phase == config.phase
    assert presets()[name].groups.keys() == {"model", "data", "lora", "quantize", "eval"}
    assert bool(presets()[name].axes) is presets()[name].phase.sweep
