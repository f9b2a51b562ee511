"""BFCL's rules, and its data as suites; tests/integration/test_bfcl.py has the official rules beside them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from punie.__main__ import parser
from punie.commands import suite as command
from punie.evals import bfcl_suites
from punie.evals.bfcl_suites import CATEGORIES
from punie.evals.scorers import strict, taxonomy
from punie.evals.suite import Expectation, Sample, load_suite
from punie.formats import Block, Completion
from punie.formats.tools import read_tools
from punie.results.records import Estimate, Score
from punie.results.scoring import averages
from punie.results.statistics import wilson
from punie.stages import inputs
from punie.util.errors import DataError, Problems, PunieError

PROPERTIES = {
    "whole": {"type": "integer"},
    "real": {"type": "float"},
    "text": {"type": "string"},
    "yes": {"type": "boolean"},
    "words": {"type": "array", "items": {"type": "string"}},
    "pair": {"type": "tuple", "items": {"type": "float"}},
    "rule": {"type": "dict", "properties": {"from": {"type": "string"}}},
    "rules": {"type": "array", "items": {"type": "dict"}},
    "thing": {"type": "any"},
}
TOOLS = read_tools(
    [
        {"name": f"lab.{name}", "description": name, "parameters": {"type": "dict", "properties": PROPERTIES}}
        for name in ("run", "stop")
    ],
    "here",
)


def sample(*expect: tuple[str, dict[str, Any]], match: Any = "all") -> Sample:
    calls = tuple(Expectation(*each) for each in expect)
    return Sample("a", "x", "Go!", calls, match, tools=tuple(TOOLS), rules="bfcl")


def verdict(asked: Sample, *calls: tuple[str, dict[str, Any]] | None) -> str:
    """What becomes of calls; None is one that cannot be read."""
    blocks = [Block(None, {}, "malformed") if each is None else Block(*each) for each in calls]
    completion = Completion("", tuple(blocks))
    found = taxonomy(asked, completion, None)
    assert strict(asked, completion, None).value == float(found == "correct")
    return found


@pytest.mark.parametrize(
    ("name", "accepted", "right", "wrong"),
    [
        ("whole", [3, ""], [3], [3.0, "3", True, [3], None, ""]),
        ("real", [2.0], [2, 2.0], ["2", 2.5, 10**400]),
        ("yes", [True], [True], [1, "true", False]),
        ("text", ["New York, NY", "it's"], ["new-york ny", 'IT"S'], ["New Yorks", 1, ["New York"]]),
        ("words", [["a b", "c"]], [["A-B", "c"]], [["c", "a b"], ["a b"], [1, "c"], "a b"]),
        ("pair", [[1.0, 2]], [[1.0, 2.0]], [[2.0, 1.0], [1, 2], [1.0], "1, 2"]),
        ("rule", [{"from": ["b.1"], "n": [1, ""]}], [{"from": "B1"}, {"from": "b1", "n": 1}], [{}, {"n": 1}]),
        ("rules", [[{"k": [1]}, {"k": [2]}]], [[{"k": 1}, {"k": 2}]], [[{"k": 2}, {"k": 1}], [{"k": 1}]]),
        ("thing", ["x"], ["X"], [1]),
        ("whole", ["count"], ["count"], ["Count", 3]),
    ],
    ids=str,
)  # fmt: skip
def test_values_are_compared_as_in_bfcl(
    name: str, accepted: list[Any], right: list[Any], wrong: list[Any]
) -> None:
    """Types, with integers for floats; text without case and punctuation; lists in order; objects by key; the
    name of a variable as it is."""
    asked = sample(("lab.run", {name: accepted}))
    assert [verdict(asked, ("lab.run", {name: value})) for value in right] == ["correct"] * len(right)
    assert {verdict(asked, ("lab.run", {name: value})) for value in wrong} == {"wrong arguments"}
    without = verdict(asked, ("lab.run", {}))
    assert without == ("correct" if "" in accepted else "wrong arguments")


@pytest.mark.parametrize(
    ("asked", "calls", "found"),
    [
        (sample(("lab.run", {})), [("lab.run", {"whole": 1})], "wrong arguments"),
        (sample(("lab.run", {})), [("lab.stop", {})], "wrong tool"),
        (sample(("lab.run", {})), [("lab_run", {})], "unknown tool"),
        (sample(("lab.run", {})), [("lab.run", {}), ("lab.run", {})], "wrong tool"),
        (sample(("lab.run", {})), [("lab.run", {}), None], "malformed wrapper"),
        (sample(("lab.run", {})), [], "no call"),
        (sample(("lab.run", {}), ("lab.stop", {})), [("lab.stop", {}), ("lab.run", {})], "correct"),
        (sample(("lab.run", {}), ("lab.stop", {})), [("lab.stop", {}), ("lab.stop", {})], "wrong tool"),
        (sample(), [], "correct"),
        (sample(), [None], "correct"),
        (sample(), [("lab.run", {})], "unwanted call"),
        (sample(("lab.run", {}), match="any"), [("anything", {})], "correct"),
        (sample(("lab.run", {}), match="any"), [None], "malformed wrapper"),
    ],
)
def test_calls_are_counted_as_in_bfcl(asked: Sample, calls: list[Any], found: str) -> None:
    """Parallel calls come in any order, none more or less; where BFCL judges relevance, no call that can be
    read is right, or any."""
    assert verdict(asked, *calls) == found


def made(folder: Path) -> Path:
    """Data in the shape of BFCL's, with four items of each category."""
    (folder / "possible_answer").mkdir(parents=True)
    for category in CATEGORIES:
        function = {"name": "a.b", "description": "Does.", "parameters": {"type": "dict", "properties": {}}}
        question = [[{"role": "user", "content": "Go!"}]]
        ids = [f"{category}_{at}" for at in range(4)]
        rows = [{"id": each, "question": question, "function": [function]} for each in ids]
        write(folder / f"BFCL_v4_{category}.json", rows)
        if "relevance" not in category:
            truths = [{"id": each, "ground_truth": [{"a.b": {}}]} for each in ids]
            write(folder / f"possible_answer/BFCL_v4_{category}.json", truths)
    return folder


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data as in a wheel, unpacked; the cache is a folder of its own, and no bfcl-eval is installed."""
    monkeypatch.setattr(bfcl_suites, "user_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(bfcl_suites, "installed", lambda: None)
    monkeypatch.setattr(bfcl_suites, "CATEGORIES", dict.fromkeys(CATEGORIES, 4))
    return made(tmp_path / "bfcl_eval" / "data")


def imported(*words: object) -> int:
    return command.run(parser("suite").parse_args(["import", "bfcl", *map(str, words)]))


def test_a_wheel_is_converted_once_for_every_evaluation(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """eval=bfcl_simple says how to get the data; after an import from the wheel or its folder it is one file
    by content, with hints, rules and expected calls."""
    with pytest.raises(DataError, match="pip install --no-deps bfcl-eval"):
        inputs.suite_path("bfcl_simple")
    wheel = tmp_path / "bfcl_eval.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        for path in data.rglob("*.json"):
            file.write(path, path.relative_to(tmp_path))
    assert imported(wheel) == 0
    place = inputs.suite_path("bfcl_simple")
    assert imported(tmp_path) == 0
    assert inputs.suite_path("bfcl_simple") == place
    assert "44 items in 11 categories" in capsys.readouterr().out
    first = load_suite(place)[0]
    assert (first.category, first.rules, first.expect) == ("simple_python", "bfcl", (Expectation("a.b"),))
    assert first.tools[0].description == "Does. Note that the provided function is in Python 3 syntax."
    assert load_suite(inputs.suite_path("bfcl_live_relevance"))[0].match == "any"
    assert load_suite(inputs.suite_path("bfcl_parallel"))[0].match == "all"
    assert {each.category for each in load_suite(inputs.suite_path("bfcl"))} == CATEGORIES.keys()


def test_names_without_dots_go_into_a_folder_of_their_own(data: Path, tmp_path: Path) -> None:
    """--underscores needs --out, and replaces the dots in tools and expected calls alike."""
    with pytest.raises(PunieError, match="--out FOLDER"):
        imported(data, "--underscores")
    assert imported(data, "--underscores", "--out", tmp_path / "out") == 0
    first = load_suite(tmp_path / "out" / "bfcl_simple.jsonl")[0]
    assert (first.tools[0].name, first.expect[0].tool) == ("a_b", "a_b")


def cut(data: Path) -> None:
    path = data / "BFCL_v4_multiple.json"
    path.write_text("\n".join(path.read_text("utf-8").splitlines()[:-1]), "utf-8")


def torn(data: Path) -> None:
    path = data / "BFCL_v4_multiple.json"
    path.write_bytes(path.read_bytes()[:-9])


def older(data: Path) -> None:
    for path in [*data.rglob("BFCL_v4_*.json")]:
        path.rename(path.with_name(path.name.replace("v4", "v3")))


def unanswered(data: Path) -> None:
    (data / "possible_answer/BFCL_v4_parallel.json").unlink()


def mixed_up(data: Path) -> None:
    path = data / "possible_answer/BFCL_v4_parallel.json"
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join(lines[1:] + lines[:1]), "utf-8")


def empty(data: Path) -> None:
    path = data / "possible_answer/BFCL_v4_live_simple.json"
    path.write_text(path.read_text("utf-8").replace("[{", "[3, {", 1), "utf-8")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, r"cut short[\s\S]*BFCL_v4_multiple.json[\s\S]*3 items[\s\S]*the 4"),
        (torn, r"The line is not JSON[\s\S]*multiple.json:4"),
        (older, r"not those of BFCL v4[\s\S]*BFCL_v3_"),
        (unanswered, r"answers are missing[\s\S]*possible_answer/BFCL_v4_parallel.json"),
        (mixed_up, r"another item's[\s\S]*parallel.json:1[\s\S]*parallel_1"),
        (empty, r"'ground_truth' is wrong[\s\S]*live_simple.json:1"),
        (lambda data: data.rename(data.with_name("elsewhere")), "no such file"),
    ],
)  # fmt: skip
def test_data_that_are_not_whole_are_refused(
    damage: Callable[[Path], None], words: str, data: Path, tmp_path: Path
) -> None:
    """A cut, torn, older, unanswered or mixed-up data set is named with its place and the version to take."""
    damage(data)
    with pytest.raises((DataError, Problems), match=words) as raised:
        imported(data)
    assert "bfcl" in str(raised.value).rpartition("next")[2]
    assert not [*tmp_path.glob("cache/bfcl/*")]


def test_a_file_that_is_no_wheel_is_refused(tmp_path: Path) -> None:
    """A file that is no zip archive is named."""
    (tmp_path / "x.whl").write_text("no wheel")
    with pytest.raises(DataError, match="cannot be read"):
        bfcl_suites.suites(tmp_path / "x.whl")


def test_averages_are_bfcls() -> None:
    """Non-live categories weigh the same, live ones by their items; an average that lacks a category is left
    out, and all are while responses are missing."""
    means = dict(zip(CATEGORIES, (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0, 1.0), strict=True))
    found = {
        name: Estimate(mean=mean, n=CATEGORIES[name], stderr=0.01, interval=wilson(mean, CATEGORIES[name]))
        for name, mean in means.items()
    }
    overall = Estimate(mean=0.5, n=3491)
    rows = averages(Score(overall=overall, categories=found))
    live = (0.4 * 258 + 0.3 * 1053 + 0.2 * 16 + 0.1 * 24) / 1351
    wanted = {"non-live": 0.75, "live": live, "irrelevance, both": 0.25, "single turn": (1 + live) / 3}
    assert {name.removeprefix("BFCL: "): each.mean for name, each in rows.items()} == pytest.approx(wanted)
    first = rows["BFCL: non-live"]
    assert first.stderr == pytest.approx(0.005)
    assert first.n == 1000
    assert first.interval is not None
    assert 0.70 < first.interval[0] < 0.75 < first.interval[1] < 0.80
    part = {name: found[name] for name in found if not name.startswith("live")}
    assert [*averages(Score(overall=overall, categories=part))] == ["BFCL: non-live"]
    assert averages(Score(overall=Estimate(mean=None, n=3491), categories=found)) == {}
