"""What a stage may read is what its key holds."""

from __future__ import annotations

import pytest

from punie.config import Config, resolve
from punie.config.compose import compose
from punie.config.fields import find_field
from punie.stages import STAGES
from punie.stages.contract import Stage


@pytest.fixture(scope="module")
def config() -> Config:
    return resolve(compose([]))


def stage(name: str) -> Stage:
    return next(stage for stage in STAGES if stage.name == name)


def test_undeclared_config_cannot_be_read(config: Config) -> None:
    """A stage that reads what it did not declare fails at once, rather than reuse a stale artifact."""
    settings = stage("train").settings(config)
    assert settings.lora.rank == 8
    with pytest.raises(AttributeError):
        settings.quantize  # noqa: B018
    with pytest.raises(AttributeError):
        settings.runtime.isolation  # noqa: B018


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_what_is_declared_exists(stage: Stage, config: Config) -> None:
    """Every declared group and field is one of the schema's, and the identity is of plain values."""
    assert all(find_field(dotted) for dotted in stage.fields)
    for value in stage.identity(config).values():
        assert isinstance(value, (str, int, float, bool, list, dict, type(None)))


def test_neutral_fields_stay_out_of_keys(config: Config) -> None:
    """Folders, names and how often one looks do not change a result; an evaluation never retrains."""
    for name in ("preflight", "base", "train", "quantize", "evaluate"):
        identity = stage(name).identity(config)
        assert not [
            key for key in identity if key.startswith("model.") or key in ("data.path", "lora.steps_per_eval")
        ]
    assert stage("evaluate").identity(config)["eval.temperature"] == 0.7
    assert {key.split(".")[0] for key in stage("train").identity(config)} == {"lora", "runtime"}


def test_a_later_field_of_the_server_is_in_no_key_at_its_default(config: Config) -> None:
    """The API of a server decides the prompt, and counts unless it is the one that there has always been; the
    variable of the key never counts."""
    before = stage("evaluate").identity(config)
    options = ["eval.backend=server", "eval.server.url=http://host", "eval.server.api_key_env=MY_KEY"]
    keyed = stage("evaluate").identity(resolve(compose(options)))
    changed = {"eval.backend": "server", "eval.server.url": "http://host"}
    assert keyed == before | changed
    assert stage("evaluate").identity(resolve(compose([*options, "eval.server.api=chat"]))) == keyed | {
        "eval.server.api": "chat"
    }


def test_a_later_field_at_its_default_is_in_no_key_of_a_list(config: Config) -> None:
    """An outcome without ``next`` has the key it had before there was such a field; with it, another."""
    outcomes = stage("report").identity(resolve(compose(["+phase=46"])))["phase.outcomes"]
    assert [sorted(outcome.keys() & {"verdict", "next"}) for outcome in outcomes] == [
        ["verdict"], ["next", "verdict"], ["next", "verdict"],
    ]  # fmt: skip


@pytest.mark.parametrize(("temperature", "counts"), [(0.0, False), (0.01, True), (1.0, True)])
def test_a_seed_that_samples_nothing_is_in_no_key(temperature: float, counts: bool) -> None:
    """At temperature 0 every eval.seed has the key of the default, the one of earlier versions, and the stage
    runs with that seed; the seed of a training counts as ever."""
    configs = [
        resolve(compose([f"eval.temperature={temperature}", f"eval.seed={seed}", "lora.seed=0"]))
        for seed in (0, 1, 7)
    ]
    found = [stage("evaluate").identity(config)["eval.seed"] for config in configs]
    assert found == ([0, 1, 7] if counts else [0, 0, 0])
    assert [stage("evaluate").settings(config).eval.seed for config in configs] == found
    assert stage("train").identity(resolve(compose(["lora.seed=7"])))["lora.seed"] == 7
