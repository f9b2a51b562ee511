"""What a plan says a run will do is what the run does."""

from __future__ import annotations

from pathlib import Path

import pytest

from punie.config.compose import composition
from punie.run.plan import Plan, plan
from punie.store.artifact import Miss
from punie.store.artifacts import Store


def built(store: Store, found: Plan, info: dict[str, object]) -> None:
    """Put an artifact for every step of a plan into the store."""
    for step in found.steps:
        assert step.material is not None

        def build(out: Path, name: str = step.name) -> dict[str, object]:
            (out / "made").write_text(name)
            return info if name == "evaluate" else {}

        store.get_or_build(step.name, step.material, build)


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ({"missing": 0, "unverified": None}, None),
        ({"missing": 0, "unverified": "no ids"}, "the server's model could not be verified"),
        ({"missing": 2, "unverified": None}, "2 answers are missing"),
    ],
)
def test_answers_that_are_asked_for_again(
    info: dict[str, object], reason: str | None, tmp_path: Path
) -> None:
    """They and the report are stages to run, with the reason; the rest is cached."""
    config, store = composition(["model=tiny"]).config, Store(tmp_path)
    built(store, plan(config, store), info)
    found = {step.name: step for step in plan(config, store).steps}
    again = {} if reason is None else {"evaluate": reason, "report": "evaluate runs again"}
    assert {name: step.reason for name, step in found.items() if step.state == "miss"} == again
    assert {name for name, step in found.items() if step.state == "hit"} == {*found} - {*again}


@pytest.mark.parametrize(
    "value", ["You are " + "x" * 600, ["a" * 50] * 20, {"seed": "y" * 99, "path": "z" * 99}]
)
def test_a_long_value_is_shortened_in_a_reason(value: object) -> None:
    """A reason shows the beginning of a long value, old and new, in one line."""
    words = str(Miss((("settings/eval.system_prompt", value, f"line\n{value}"),), nearest=object()))  # ty: ignore
    assert words.startswith("eval.system_prompt ")
    assert "\n" not in words
    assert len(words) < 160
