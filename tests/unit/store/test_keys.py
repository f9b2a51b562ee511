"""Keys: one value, one key."""

from __future__ import annotations

import math

import pytest

from punie.store.keys import artifact_key, canonical_json, differences, digest


def test_order_does_not_matter_and_kinds_do() -> None:
    """The order of fields leaves a key alone; the tag and the type of a value change it."""
    assert digest("a", {"x": 1, "y": 2}) == digest("a", {"y": 2, "x": 1})
    assert digest("a", {"x": 1}) != digest("b", {"x": 1})
    assert digest("a", {"x": 1}) != digest("a", {"x": 1.0})
    assert digest("a", {"x": None}) != digest("a", {})


def test_a_key_is_known_forever() -> None:
    """This exact material has this exact key on every machine and in every release."""
    assert artifact_key({"stage": "train", "settings": {"lora.rank": 8, "lora.scale": 20.0}}) == (
        "d9b728f6b8b6ce0038c387c4ccb7c51bfd9153ccab6c6f2ac7b4ec647956c767"
    )


def test_what_is_not_json_is_refused() -> None:
    """NaN has no canonical form, and objects are not values."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(math.nan)
    with pytest.raises(TypeError):
        canonical_json({"x": object()})


def test_differences_name_the_fields() -> None:
    """Two materials differ in dotted fields, absent ones counting as None."""
    old = {"settings": {"rank": 8, "gone": 1}, "version": 1}
    new = {"settings": {"rank": 16, "added": 2}, "version": 1}
    assert differences(old, new) == [
        ("settings/added", None, 2),
        ("settings/gone", 1, None),
        ("settings/rank", 8, 16),
    ]
