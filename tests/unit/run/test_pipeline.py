"""A run holds what it uses, from before it looks until its end."""

from __future__ import annotations

from pathlib import Path

from punie.config.compose import composition
from punie.run import pipeline
from punie.store.artifacts import Store
from punie.store.leases import drop
from punie.util.progress import Reporter


def test_what_was_deleted_since_the_plan_is_built_again(tmp_path: Path) -> None:
    """Between plan and run a gc may delete a hit; afterwards it cannot, and the record is written then."""
    config, store = composition(["model=tiny"]).config, Store(tmp_path)
    recorded: list[str] = []

    def run(plan: pipeline.Plan, *, there: bool) -> None:
        def uses(keys: list[str]) -> None:
            recorded[:] = keys
            assert bool(drop(store, [*store.artifacts()])) is False
            assert bool([*store.artifacts()]) is there

        pipeline.run(plan, config, store, Reporter(), wanted=("base",), uses=uses)

    run(pipeline.plan(config, store), there=False)
    plan = pipeline.plan(config, store)
    (base,) = store.artifacts()
    assert drop(store, [base]) == [base]
    assert plan.by_name["base"].artifact is not None
    run(plan, there=False)
    assert not plan.by_name["base"].reused
    assert [each.key for each in store.artifacts()] == [base.key]
    assert recorded == sorted(step.key for step in plan.steps if step.key)
    run(pipeline.plan(config, store), there=True)
