"""Hydra and OmegaConf still behave as ``punie.config.compat`` expects."""

from __future__ import annotations

from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from punie.config import compat
from punie.config.compose import prepare


def raised(*overrides: str) -> Exception:
    """What Hydra raises for overrides of punie's config."""
    with (
        hydra.initialize_config_dir(prepare(), **compat.version_base()),
        pytest.raises(Exception) as caught,
    ):
        hydra.compose("config", overrides=list(overrides))
    return caught.value


@pytest.mark.parametrize("key", ["phase", "lora.rnak", "nope"])
def test_an_unknown_override_is_named(key: str) -> None:
    """Hydra's error for a key or group that it cannot override names it."""
    assert compat.unknown_override(raised(f"{key}='1'")) == key


def test_a_refused_value_is_named_with_its_override() -> None:
    """Hydra's error for a value of the wrong type names the override."""
    error = raised("lora.rank=many")
    assert compat.failed_override(error) == "lora.rank=many"
    assert isinstance(error.__cause__, OmegaConfBaseException)
    assert error.__cause__.full_key == "lora.rank"


def test_a_field_of_null_is_recognized() -> None:
    """OmegaConf raises AssertionError for a field within a value that is null."""
    assert compat.is_within_null(raised("phase.id='1'"))


def test_the_words_of_a_resolver_are_found() -> None:
    """OmegaConf's error for an interpolation holds what the resolver's ValueError said."""
    config = OmegaConf.create({"a": "${oc.env:NOTHING_OF_PUNIE}"})
    with pytest.raises(InterpolationResolutionError) as caught:
        OmegaConf.resolve(config)
    assert "environment variable NOTHING_OF_PUNIE" in str(compat.refusal(caught.value))


def test_no_other_file_uses_private_modules() -> None:
    """Only compat.py may import from Hydra's private modules."""
    package = Path(compat.__file__).parents[1]
    found = [path for path in package.rglob("*.py") if "hydra._internal" in path.read_text()]
    assert found == []
