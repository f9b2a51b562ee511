"""The decision whether a result may replace its base."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from punie.__main__ import main
from punie.config import resolve
from punie.config.compose import compose
from punie.config.decisions import ShipConfig, ShipCriterion
from punie.evals.scores import LIKELIHOODS, SHIPPED_ON
from punie.results.pages.tables import in_text, ship_sentence, ship_table
from punie.results.records import Likelihood, Sample, Ship, Text
from punie.results.ship import decide
from punie.results.statistics import tango
from punie.util.errors import PunieError
from punie.util.paths import resource
from tests.unit.results.made import amend, conversation, make_run, records, sample

CALL = [{"tool": "git_status", "arguments": {}}]


def responses(right: int, of: int, wanted: int = 0, silent: int = 0) -> list[Sample]:
    """Responses to items that expect calls, so many right; then to items that expect none."""
    task = [sample(f"t{i:02}", float(i < right), expect=CALL) for i in range(of)]
    kinds = ["unwanted call"] * wanted + ["correct"] * silent
    return task + [
        sample(f"n{i:02}", float(kind == "correct"), taxonomy=kind, wrapper=kind != "correct")
        for i, kind in enumerate(kinds)
    ]


def texts(target: str, shift: float = 0.0, spread: float = 0.02, **kinds: float) -> Likelihood:
    """Twenty texts of each kind, whose log-probabilities are moved by so much."""
    found = [
        Text(kind=kind, id=f"{kind}-{i}", tokens=9, logprob=kinds.get(kind, shift) + spread * (i % 3 - 1) - 3)
        for kind in LIKELIHOODS
        for i in range(20)
    ]
    return Likelihood(version=1, target=target, texts=found)


def decided(
    criteria: Sequence[ShipCriterion],
    base: list[Sample],
    result: list[Sample],
    read: Mapping[str, Likelihood] | None = None,
    target: str = "quantized",
) -> Ship:
    return decide(ShipConfig("own", list(criteria)), base, result, read or {}, target)


TASK = ShipCriterion("task", gain=0.0)
UNWANTED = ShipCriterion("unwanted", margin=0.1)


@pytest.mark.parametrize(
    ("base", "result", "decision"),
    [
        (responses(2, 27, 5, 55), responses(25, 27, 5, 55), "SHIP"),
        (responses(2, 27, 5, 55), responses(25, 27, 50, 10), "HOLD"),  # the fine-tune calls whatever is asked
        (responses(25, 27, 5, 55), responses(2, 27, 5, 55), "HOLD"),  # it has lost the task
        (responses(20, 27, 5, 55), responses(21, 27, 5, 55), "CANNOT TELL"),
        (responses(2, 27, 5, 55), responses(25, 27, 11, 49), "CANNOT TELL"),  # +0.1, at the margin
        (responses(2, 27), responses(25, 27), "CANNOT TELL"),  # nothing asks for no call
    ],
)
def test_decision(base: list[Sample], result: list[Sample], decision: str) -> None:
    """All criteria met: SHIP; one missed: HOLD; else CANNOT TELL, and the sentence says what decides."""
    found = decided([TASK, UNWANTED], base, result)
    assert found.decision == decision
    words = ship_sentence(found)
    assert words.startswith(decision)
    undecided = [row for row in found.rows if row.met is not True]
    assert all(str(row.reason or "must be") in words for row in undecided)
    assert in_text(ship_table(found)).count("\n") == 1 + len(found.rows)


def test_missing_responses() -> None:
    """With a response missing no score decides."""
    base = responses(2, 27)
    result = [*responses(27, 27)[:-1], sample("t26", output=None, missing="timeout", expect=CALL)]
    found = decided([TASK], base, result)
    assert (found.decision, found.rows[0].reason) == ("CANNOT TELL", "1 prompts have no response")


@pytest.mark.parametrize(
    ("kind", "shift", "decision"),
    [("prose", 0.0, "SHIP"), ("code", -0.09, "SHIP"), ("prose", -0.1, "CANNOT TELL"), ("code", -0.2, "HOLD")],
)
def test_general_ability(kind: str, shift: float, decision: str) -> None:
    """A loss of log-probability on held-out text is held against its margin, kind by kind."""
    read = {"base": texts("base"), "quantized": texts("quantized", spread=0.021, **{kind: shift})}
    criteria = [ShipCriterion(each, margin=0.1) for each in ("prose", "code", "validation")]
    found = decided(criteria, responses(1, 2), responses(1, 2), read)
    assert found.decision == decision
    assert found.rows[LIKELIHOODS.index(kind)].change == pytest.approx(shift, abs=1e-3)


@pytest.mark.parametrize(
    ("adapter", "quantized", "decision"),
    [(1.0, 0.95, "SHIP"), (1.0, 0.5, "HOLD"), (0.02, 0.0, "CANNOT TELL")],
)
def test_gain_that_quantization_keeps(adapter: float, quantized: float, decision: str) -> None:
    """The share of the adapter's gain that quantization loses; without a gain there is no share."""
    read = {
        "base": texts("base"),
        "adapter": texts("adapter", adapter, spread=0.05),
        "quantized": texts("quantized", quantized, spread=0.06),
    }
    criterion = [ShipCriterion("kept", margin=0.2)]
    found = decided(criterion, responses(1, 2), responses(1, 2), read)
    assert found.decision == decision
    if adapter == 1.0:
        assert found.rows[0].change == pytest.approx(quantized / adapter - 1, abs=0.02)


def test_unverified_responses() -> None:
    """Where another model may have responded, no score decides."""
    given = (responses(2, 27, 5, 55), responses(25, 27, 5, 55), {}, "quantized")
    found = decide(ShipConfig("own", [TASK, UNWANTED]), *given, doubts=["base: a foreign endpoint"])
    assert found.decision == "CANNOT TELL"
    assert {row.reason for row in found.rows} == {"identity unverified: base: a foreign endpoint"}


def test_the_outcome_does_not_choose_the_prompts() -> None:
    """A conversation counts for the task although its turn with a call was not reached."""
    base = [conversation(0.0, turns=2, id=f"c{i}", expect=[]) for i in range(12)]
    result = [
        conversation(*((1.0, 1.0) if i < 4 else (0.0,)), turns=2, id=f"c{i}", expect=[]) for i in range(12)
    ]
    (row,) = decided([TASK], base, result).rows
    assert (row.units, row.change) == (12, pytest.approx(4 / 12))


@pytest.mark.parametrize(("worse", "better"), [(0.1, 0.0), (0.15, 0.05), (0.2, 0.1), (0.3, 0.2)])
def test_error_at_the_margin(worse: float, better: float) -> None:
    """Summed over all outcomes, a rise of exactly the margin is called smaller in at most 3 % of suites."""
    prompts, total = 27, 0.0
    for up in range(prompts + 1):
        for down in range(prompts + 1 - up if better else 1):
            same = prompts - up - down
            ways = math.comb(prompts, up) * math.comb(prompts - up, down)
            changes = [1.0] * up + [-1.0] * down + [0.0] * same
            if tango(changes).high < 0.1:
                total += ways * worse**up * better**down * (1 - worse - better) ** same
    assert total <= 0.03


def test_an_adapter_has_nothing_to_keep() -> None:
    """Where the result is an adapter, quantization is not among the criteria."""
    criteria = [TASK, ShipCriterion("kept", margin=0.2)]
    found = decided(criteria, responses(2, 27), responses(25, 27), {}, "adapter")
    assert (found.decision, [row.metric for row in found.rows]) == ("SHIP", ["task"])
    assert decided(criteria[1:], responses(2, 27), responses(25, 27), {}, "adapter").decision == "CANNOT TELL"


def test_what_so_few_prompts_could_show() -> None:
    """Where a margin is too narrow for the suite, the number of prompts that would do is named."""
    found = decided([UNWANTED], responses(1, 2, 2, 8), responses(1, 2, 2, 8)).rows[0]
    assert found.met is None
    assert found.detectable is not None
    assert found.detectable > 0.1
    assert found.needed is not None
    assert found.needed > 10


def test_beyond_the_limit_by_one_interval_alone() -> None:
    """With several criteria, an interval that is only just beyond its limit holds nothing back."""
    base, result = responses(2, 27, 5, 55), responses(25, 27, 16, 44)
    alone, many = (decided([UNWANTED] * count, base, result) for count in (1, 6))
    assert (alone.decision, many.decision) == ("HOLD", "CANNOT TELL")
    assert "chance alone" in ship_sentence(many)


@pytest.mark.parametrize(
    ("criterion", "words"),
    [
        ("{metric: toxicity, margin: 0.1}", "task, keyword, strict"),
        ("{metric: unwanted}", "a gain or a margin"),
        ("{metric: unwanted, gain: 0, margin: 0.1}", "a gain or a margin"),
        ("{metric: unwanted, margin: -1}", "> 0"),
        ("{metric: unwanted, margin: 0.1}, {metric: unwanted, margin: 0.2}", "two criteria"),
    ],
)
def test_wrong_presets(criterion: str, words: str) -> None:
    """A criterion on what nobody computes, or without one limit, is refused before anything runs."""
    with pytest.raises(PunieError, match=words):
        resolve(compose([f"ship.criteria=[{criterion}]"]))


def test_shipped_presets_and_texts() -> None:
    """The default preset names what there is; held-out texts are distinct, and no example holds one."""
    config = resolve(compose([]))
    assert {each.metric for each in config.ship.criteria} <= {*SHIPPED_ON}
    assert resolve(compose(["ship=none"])).ship.criteria == []
    trained = "".join(
        resource(f"data/{name}/{split}.jsonl").read_text("utf-8")
        for name in ("code_mode", "native_tools")
        for split in ("train", "valid")
    )
    for kind in ("prose", "code"):
        lines = resource(f"data/held_out/{kind}.jsonl").read_text("utf-8").splitlines()
        items = [json.loads(line) for line in lines]
        assert len({item["id"] for item in items}) == len({item["text"] for item in items}) == 20
        assert not any(json.dumps(item["text"])[1:60] in trained for item in items)


@pytest.mark.parametrize(("decision", "code"), [("SHIP", 0), ("HOLD", 3), ("CANNOT TELL", 4)])
def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], decision: str, code: int) -> None:
    """The exit code says the decision, which stands in what is printed."""
    shifts = {"SHIP": 0.0, "HOLD": -1.0, "CANNOT TELL": -0.1}
    read = {"base": texts("base"), "quantized": texts("quantized", shifts[decision], spread=0.021)}
    found = decided([ShipCriterion("prose", margin=0.1)], responses(1, 2), responses(1, 2), read)
    run = make_run(tmp_path / "run", records(), ["name=mine"])
    amend(run / "results.json", ship=found.model_dump(mode="json"))
    assert main(["ship", str(run)]) == code
    assert f"\n{decision}: " in capsys.readouterr().out


def test_a_run_that_decided_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run without the base beside its result is refused, with the command that gives both."""
    run = make_run(tmp_path / "run", records(), ["name=mine"])
    assert main(["ship", str(run)]) == 1
    assert "eval.targets=[base,quantized]" in capsys.readouterr().err
