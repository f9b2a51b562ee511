"""The reference and the JSON schemas of conf/: current, and as strict as punie itself."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from omegaconf import OmegaConf

from punie.config.fields import schema_fields
from punie.util.paths import PACKAGE

ROOT = PACKAGE.parent
CONF = ROOT / "conf"
FILES = sorted(path for path in CONF.rglob("*.yaml") if "hydra" not in path.relative_to(CONF).parts[:-1])
"""Hydra's own groups (launchers, logging) are Hydra's to describe."""
TYPES = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
    "null": type(None),
}  # fmt: skip
SILENT = {"$schema", "$comment", "$defs", "description", "default", "title"}


def faults(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str = "") -> Iterator[str]:
    """What is wrong with a value, by the part of JSON Schema that the generated schemas use."""
    for word, wanted in schema.items():
        if word in SILENT or word == "additionalProperties":
            continue
        elif word == "$ref":
            yield from faults(value, root["$defs"][wanted.removeprefix("#/$defs/")], root, at)
        elif word == "anyOf":
            tried = [list(faults(value, each, root, at)) for each in wanted]
            yield from [] if [] in tried else tried[0]
        elif word == "type":
            names = [wanted] if isinstance(wanted, str) else wanted
            if not any(isinstance(value, TYPES[n]) and (n == "boolean") >= (value is True or value is False)
                       for n in names):  # fmt: skip
                yield f"{at} is no {wanted}"
        elif word == "enum":
            yield from [] if value in wanted else [f"{at} is none of {wanted}"]
        elif word == "pattern":
            yield from [] if not isinstance(value, str) or re.search(wanted, value) else [f"{at}: {wanted}"]
        elif word in ("minimum", "maximum", "exclusiveMinimum"):
            number = isinstance(value, (int, float))
            holds = {"minimum": "__ge__", "maximum": "__le__", "exclusiveMinimum": "__gt__"}[word]
            yield from (
                [] if not number or getattr(float(value), holds)(wanted) else [f"{at}: {word} {wanted}"]
            )
        elif word == "items":
            for index, item in enumerate(value if isinstance(value, list) else []):
                yield from faults(item, wanted, root, f"{at}[{index}]")
        elif word == "propertyNames":
            for name in value if isinstance(value, dict) else ():
                yield from faults(name, wanted, root, f"{at}.{name}")
        elif word == "required":
            missing = set(wanted) - value.keys() if isinstance(value, dict) else set()
            yield from (f"{at} lacks {name}" for name in sorted(missing))
        elif word == "properties":
            yield from _properties(value, schema, root, at)
        else:
            raise NotImplementedError(word)


def _properties(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    for key, inner in value.items() if isinstance(value, dict) else ():
        if key in schema["properties"]:
            yield from faults(inner, schema["properties"][key], root, f"{at}.{key}")
        elif schema.get("additionalProperties") is False:
            yield f"{at}.{key} is unknown"


def check(value: Any, schema: dict[str, Any]) -> list[str]:
    return list(faults(value, schema, schema))


def named(path: Path) -> Path:
    """The schema that a file of conf/ names for editors."""
    (name,) = re.findall(r"^# yaml-language-server: \$schema=(\S+)$", path.read_text("utf-8"), re.MULTILINE)
    return path.parent / name


def load(path: Path) -> Any:
    return OmegaConf.to_container(OmegaConf.load(path), resolve=False)


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference"] = module  # its dataclasses look there for their annotations
    spec.loader.exec_module(module)
    return module


def test_what_is_generated_is_current(reference: ModuleType) -> None:
    """Reference pages and schemas are what the code gives; white space may be that of another argparse."""
    found = reference.generated()
    stale = [
        str(path) for path, text in found.items() if (ROOT / path).read_text("utf-8").split() != text.split()
    ]
    assert stale == []
    assert {path.name for path in CONF.glob("*.json")} == {
        path.name for path in found if path.suffix == ".json"
    }


def test_the_reference_has_every_field(reference: ModuleType) -> None:
    """Each field of the schema has a row, with its sentence."""
    page = reference.config_page()
    lacking = [
        field.key for field in schema_fields() if f"\n| `{field.key}` | {field.about['doc'][:20]}" not in page
    ]
    assert [key for key in lacking if "<" not in key] == []


def test_the_help_does_not_depend_on_the_terminal(
    reference: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command reference is the same on a narrow terminal."""
    wide = reference.cli_page()
    monkeypatch.setenv("COLUMNS", "40")
    assert reference.cli_page() == wide


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_a_preset_is_valid(path: Path) -> None:
    """Each file of conf/ names the schema of its group, by a relative path, and conforms to it."""
    schema = named(path)
    group = path.parent.name if path.parent != CONF else "config"
    assert schema.resolve() == CONF / f"{group}.schema.json"
    assert check(load(path), json.loads(schema.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("lora/reference.yaml", "rnak", 8),
        ("lora/reference.yaml", "rank", 0),
        ("lora/reference.yaml", "rank", 8.5),
        ("lora/reference.yaml", "rank", True),
        ("lora/reference.yaml", "select", "best"),
        ("lora/reference.yaml", "scale", "large"),
        ("model/tiny.yaml", "recipe", {"itres": 400}),
        ("quantize/q5.yaml", "bits", 7),
        ("eval/core27.yaml", "lock", {"temperatures": [11.0]}),
        ("data/jsonl.yaml", "revision", None),
        ("phase/43a.yaml", "evla", {}),
        ("phase/43a.yaml", "eval", {"temprature": 0.0}),
        ("phase/43a.yaml", "phase", {"id": "43a", "title": "no hypothesis"}),
        ("phase/43a.yaml", "phase", {"id": "", "title": "", "hypothesis": "", "criteria": [{"value": 1}]}),
        ("config.yaml", "seed", -1),
    ],
    ids=lambda value: str(value),
)  # fmt: skip
def test_a_mistake_is_refused(file: str, key: str, value: object) -> None:
    """A misspelt key, a wrong type, a value out of range or a lacking field is told with its place."""
    path = CONF / file
    (fault,) = check(load(path) | {key: value}, json.loads(named(path).read_text("utf-8")))
    assert fault.startswith(f".{key}")


@pytest.mark.parametrize(
    ("file", "more"),
    [
        ("lora/reference.yaml", {"rank": "${oc.select:model.recipe.rank,8}", "defaults": ["base", "_self_"]}),
        ("lora/reference.yaml", {"rank": "???", "keys": None, "lr_schedule": None}),
        ("quantize/q5.yaml", {"bits": None}),
        ("phase/45.yaml", {"hydra": {"sweeper": {"params": {"seed": "0,1"}}}}),
        ("config.yaml", {"defaults": ["punie_schema", {"override hydra/sweeper": "punie"}, "_self_"]}),
    ],
    ids=lambda value: str(value),
)
def test_what_hydra_takes_is_allowed(file: str, more: dict[str, object]) -> None:
    """Interpolations, ???, null where it is a value, defaults with _self_, and hydra's own keys conform."""
    path = CONF / file
    assert check(load(path) | more, json.loads(named(path).read_text("utf-8"))) == []
