"""BFCL's rules beside BFCL's own checker, case by case. CONTRIBUTING says how to run these."""

from __future__ import annotations

import copy
import importlib
import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from punie.evals import bfcl, bfcl_suites
from punie.evals.suite import Sample, load_suite
from punie.formats import Block, Completion

pytestmark = pytest.mark.bfcl

Calls = list[tuple[str, dict[str, Any]]]
AST = [name for name in bfcl_suites.CATEGORIES if "relevance" not in name]
ARGUED = {"a list as a tuple"}
"""Kinds of answers in which a disagreement is expected: docs/howto/suite.md says why."""


@pytest.fixture(scope="session")
def official(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bool]:
    """BFCL's verdict. The table of its models, which imports every provider's client, is replaced: all that
    the checker asks it is whether a model writes dots as underscores."""
    pytest.importorskip("bfcl_eval", reason="needs bfcl-eval; see CONTRIBUTING")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BFCL_PROJECT_ROOT", str(tmp_path_factory.mktemp("bfcl")))
        models = ModuleType("bfcl_eval.constants.model_config")
        names = {"dots": False, "underscores": True}
        table = {name: SimpleNamespace(underscore_to_dot=converts) for name, converts in names.items()}
        vars(models)["MODEL_CONFIG_MAPPING"] = table
        patch.setitem(sys.modules, models.__name__, models)
        checker = importlib.import_module("bfcl_eval.eval_checker.ast_eval.ast_checker")
        python = importlib.import_module("bfcl_eval.constants.enums").Language.PYTHON

    def valid(entry: Mapping[str, Any], truth: list[Any], calls: Calls, category: str, model: str) -> bool:
        made = [{name: copy.deepcopy(arguments)} for name, arguments in calls]
        result = checker.ast_checker(entry["function"], made, truth, python, category, model)
        return result["valid"]

    return valid


def read(name: str) -> list[dict[str, Any]]:
    folder = bfcl_suites.installed()
    assert folder is not None
    return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]


def drawn(truth: list[dict[str, dict[str, list[Any]]]], random: random.Random) -> Calls:
    """Right calls: of each argument one of its acceptable values, or none where it may be left out."""

    def chosen(values: list[Any]) -> Any:
        value = random.choice(values) if values else ""
        if isinstance(value, dict):
            found = {key: chosen(each) if isinstance(each, list) else each for key, each in value.items()}
            return {key: each for key, each in found.items() if each != "" or "" not in value[key]}
        if isinstance(value, list):
            return [chosen([each]) if isinstance(each, dict) else each for each in value]
        return value

    calls = []
    for call in truth:
        ((name, arguments),) = call.items()
        values = {key: chosen(each) for key, each in arguments.items()}
        calls.append((name, {k: v for k, v in values.items() if v != "" or "" not in arguments[k]}))
    return calls


def as_number(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 7


VALUES: dict[str, Callable[[Any], Any]] = {
    "a value as text": str,
    "a value as a number": as_number,
    "a value as an integer": lambda value: int(as_number(value)) if abs(as_number(value)) < 1e9 else 1,
    "an integer as a float": lambda value: float(value) if type(value) is int else value,
    "a value as a boolean": bool,
    "null": lambda value: None,
    "an empty text": lambda value: "",
    "an empty list": lambda value: [],
    "an empty object": lambda value: {},
    "the name of a variable": lambda value: "some_variable",
    "upper case": lambda value: deep(value, lambda text: text.upper()),
    "white space": lambda value: deep(value, lambda text: f" {text} "),
    "punctuation left out": lambda value: deep(value, lambda text: text.replace(",", "").replace("-", "")),
    "punctuation put in": lambda value: deep(value, lambda text: f"{text[:1]}.{text[1:]}*^_/"),
    "quotation marks": lambda value: deep(value, lambda text: text.replace("'", '"')),
    "another ending": lambda value: deep(value, lambda text: f"{text}x"),
    "another number": lambda value: value + 1 if isinstance(value, int | float) else value,
    "a value in a list": lambda value: [value],
    "the first of a list": lambda value: value[0] if isinstance(value, list) and value else value,
    "a list as a tuple": lambda value: tuple(value) if isinstance(value, list) else (value,),
    "a list reversed": lambda value: value[::-1] if isinstance(value, list) else value,
    "a list without its last": lambda value: value[:-1] if isinstance(value, list) else value,
    "a list with one more": lambda value: [*value, *value[-1:]] if isinstance(value, list) else value,
    "a list of texts": lambda value: [str(each) for each in value] if isinstance(value, list) else value,
    "an object without its first key": lambda value: shortened(value),
    "an object with one more key": lambda value: each_object(value, lambda found: {**found, "extra": 1}),
    "an object with another value": lambda value: each_object(value, lambda found: dict.fromkeys(found, "x")),
    "an object in an object": lambda value: each_object(
        value, lambda found: {key: {"inner": each} for key, each in found.items()}
    ),
    "an object in a list": lambda value: [value] if isinstance(value, dict) else value,
}
"""What may become of one argument's value."""


def deep(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [deep(each, change) for each in value]
    return {key: deep(each, change) for key, each in value.items()} if isinstance(value, dict) else value


def each_object(value: Any, change: Callable[[dict[str, Any]], Any]) -> Any:
    if isinstance(value, list):
        return [each_object(each, change) for each in value]
    return change(value) if isinstance(value, dict) else value


def shortened(value: Any) -> Any:
    return each_object(value, lambda found: dict(list(found.items())[1:]))


def answers(entry: Mapping[str, Any], truth: list[Any], random: random.Random) -> Iterator[tuple[str, Calls]]:
    """Answers to an item, each with its kind."""
    for _ in range(3):
        yield "right", drawn(truth, random)
    calls = drawn(truth, random)
    functions = [each["name"] for each in entry["function"]]
    at = random.randrange(len(calls))
    name, arguments = calls[at]

    def changed(name: str, arguments: dict[str, Any]) -> Calls:
        return [*calls[:at], (name, arguments), *calls[at + 1 :]]

    yield "no call", []
    yield "a call less", calls[:-1]
    yield "a call twice", [*calls, calls[0]]
    yield "another call as well", [*calls, (random.choice(functions), {})]
    yield "another order", calls[::-1]
    yield "the first call for all", [calls[0]] * len(calls)
    yield "another function", changed(random.choice([*functions, "no_such_function"]), arguments)
    yield "underscores in the name", changed(name.replace(".", "_"), arguments)
    yield "upper case in the name", changed(name.upper(), arguments)
    yield "an argument more", changed(name, {**arguments, "not_an_argument": 1})
    declared = next(each for each in entry["function"] if each["name"] == name)["parameters"]["properties"]
    if others := sorted(declared.keys() - arguments.keys()):
        yield "an optional argument", changed(name, {**arguments, random.choice(others): 1})
    if not arguments:
        return
    key = random.choice(list(arguments))
    rest = {other: value for other, value in arguments.items() if other != key}
    yield "an argument less", changed(name, rest)
    yield "no arguments", changed(name, {})
    yield "an argument's alias", changed(name, {**rest, f"{key}_": arguments[key]})
    yield "another argument's value", changed(name, {**rest, key: random.choice([*arguments.values()])})
    keys = random.sample(list(arguments), len(arguments))
    for kind, change in VALUES.items():
        values = ((key, change(arguments[key])) for key in keys)
        if other := next((pair for pair in values if repr(pair[1]) != repr(arguments[pair[0]])), None):
            yield kind, changed(name, {**arguments, other[0]: other[1]})


def ours(sample: Sample, calls: Calls) -> bool:
    """punie's verdict, of the calls as JSON holds them."""
    blocks = [Block(name, json.loads(json.dumps(arguments))) for name, arguments in calls]
    return bfcl.judge(sample, Completion("", tuple(blocks)))[0] == "correct"


@pytest.mark.parametrize("model", ["dots", "underscores"])
def test_the_rules_are_those_of_the_official_checker(
    official: Callable[..., bool], model: str, tmp_path: Path
) -> None:
    """Over every Python category, on right answers and on 44 kinds of others, punie's verdict is the official
    checker's, and each kind is counted."""
    source = bfcl_suites.installed()
    assert source is not None
    bfcl_suites.write(tmp_path, bfcl_suites.suites(source, underscores=model == "underscores"))
    total: Counter[str] = Counter()
    valid: Counter[str] = Counter()
    raised: Counter[str] = Counter()
    disagreed: defaultdict[str, list[str]] = defaultdict(list)
    for category in AST:
        suite = load_suite(tmp_path / f"bfcl_{category.removesuffix('_python')}.jsonl")
        truths = read(f"possible_answer/BFCL_v4_{category}.json")
        items = list(zip(suite, read(f"BFCL_v4_{category}.json"), truths, strict=True))
        for sample, entry, truth in items if model == "dots" else items[::4]:
            chance = random.Random(sample.id)
            for kind, calls in answers(entry, truth["ground_truth"], chance):
                if model == "underscores" and kind != "upper case in the name":
                    calls = [(name.replace(".", "_"), arguments) for name, arguments in calls]
                try:
                    verdict = official(entry, truth["ground_truth"], calls, category, model)
                except (TypeError, AttributeError, KeyError, OverflowError):
                    raised[kind] += 1
                    verdict = False
                total[kind] += 1
                valid[kind] += verdict
                if ours(sample, calls) != verdict:
                    disagreed[kind].append(f"{sample.id}: {calls}, by BFCL {verdict}")
    print(f"\n{total.total():,} answers, {valid.total():,} right; the checker raised on {raised.total():,}")
    print(f"{'kind':32} answers  right raised disagreed")
    for kind in total:
        wrong = len(disagreed.get(kind, ()))
        print(f"{kind:32} {total[kind]:7} {valid[kind]:6} {raised[kind]:6} {wrong:9}")
    for kind in disagreed:
        print(kind, *disagreed[kind][:1], sep="\n  ")
    assert total.total() >= (20_000 if model == "dots" else 15_000)
    assert 0.05 < valid.total() / total.total() < 0.95
    assert disagreed.keys() <= ARGUED


@pytest.mark.parametrize(
    ("category", "blocks", "right"),
    [
        ("irrelevance", [], True),
        ("irrelevance", [Block("any", {})], False),
        ("irrelevance", [Block(None, {}, "malformed")], True),
        ("live_relevance", [], False),
        ("live_relevance", [Block("any", {})], True),
        ("live_relevance", [Block(None, {}, "malformed")], False),
    ],
)
def test_relevance_is_whether_a_call_can_be_read(
    category: str, blocks: Sequence[Block], right: bool, tmp_path: Path
) -> None:
    """In irrelevance no call that can be read is right, in relevance any, by the official test."""
    utils = pytest.importorskip("bfcl_eval.utils", reason="needs bfcl-eval; see CONTRIBUTING")
    source = bfcl_suites.installed()
    assert source is not None
    bfcl_suites.write(tmp_path, bfcl_suites.suites(source))
    sample = load_suite(tmp_path / f"bfcl_{category}.jsonl")[0]
    completion = Completion("", tuple(blocks))
    empty = utils.is_empty_output([{call.tool: dict(call.arguments)} for call in completion.calls])
    assert (bfcl.judge(sample, completion)[0] == "correct") is right
    assert right is (empty if category == "irrelevance" else not empty)
