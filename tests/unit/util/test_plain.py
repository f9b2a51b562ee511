"""JSON and YAML from elsewhere: how deep is read, and what is refused ahead of a loader."""

from __future__ import annotations

import pytest
import yaml
from omegaconf import OmegaConf

from punie.config.compose import compose
from punie.util.plain import MAX_DEPTH, is_text, parse_json, require_plain_yaml


@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_json_depth(opened: str, closed: str) -> None:
    """JSON is read to the bound, and refused one level deeper as well as where its parser gives up."""
    value = parse_json(opened * MAX_DEPTH + "1" + closed * MAX_DEPTH)
    for _ in range(MAX_DEPTH):
        (value,) = value.values() if isinstance(value, dict) else value
    assert value == 1
    for depth in (MAX_DEPTH + 1, 900, 100_000):
        with pytest.raises(ValueError, match="nested"):
            parse_json(opened * depth + "1" + closed * depth)


def test_text() -> None:
    """Half of a surrogate pair is found wherever it is, in a name, too."""
    assert is_text(["é", {"\U0001f600": 1}])
    assert not is_text([{"a": {"\udfff": 1}}])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 20_000, "nested"),
        ("{a: " * 101 + "1" + "}" * 101, "nested"),
        ("- " * 101 + "1", "nested"),
        ("? " * 101 + "1", "nested"),
        ("\n".join(" " * depth + "a:" for depth in range(101)), "nested"),
        ("a: &a [1]\nb: *a", "alias"),
    ],
)
def test_yaml_refused(text: str, words: str) -> None:
    """Depth by any of YAML's ways is refused before a loader sees it, and so is an alias."""
    with pytest.raises(ValueError, match=words):
        require_plain_yaml(text)


def test_yaml_accepted() -> None:
    """A run's own config passes, and so does a text with a star and a hundred brackets in it."""
    require_plain_yaml(OmegaConf.to_yaml(compose([]), resolve=True))
    require_plain_yaml(yaml.safe_dump({"system_prompt": "[" * 200 + " * &a"}))
