"""report.html as text: what is in it, what is not, and what text of a model cannot do to it."""

from __future__ import annotations

import dataclasses
import re

import pytest

from punie.formats.spelling import HERMES
from punie.results.pages import plots, report, tables
from punie.results.records import Baseline, Estimate, Evaluation, Format, Metric, Sample
from tests.facts import HOSTILE, SHOWN, TRAINED, Page, call, facts, records
from tests.unit.results.made import conversation

RIGHT = call('print(read_file("src/app.py").content)')
ANSWERS = [("text_tools", RIGHT), ("text_tools", "No."), ("lsp", None), ("git", HOSTILE)]
METRICS = [
    Metric(kind="valid", iter=0, loss=4.0),
    Metric(kind="train", iter=50, loss=0.5),
    Metric(kind="score", iter=50),
    Metric(kind="valid", iter=100, loss=0.1),
]


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return records(ANSWERS)


def trained(samples: list[Sample]) -> report.Facts:
    settings = {"lora.save_every": 40}
    return dataclasses.replace(facts(samples), metrics=METRICS, info={"train": TRAINED}, settings=settings)


def test_the_format_is_named(samples: list[Sample]) -> None:
    """Both documents say how calls are written, what a call begins with, and where the tools are from."""
    plain = facts(samples)
    spelling = dataclasses.asdict(dataclasses.replace(HERMES, canonical='<call>\n{"name": "'))
    form = Format(name="native", record={"spelling": spelling})
    results = plain.results.model_copy(update={"format": form})
    native = dataclasses.replace(plain, results=results, tools_sha256="ab" * 32)
    text = report.markdown(native)
    assert 'Format native, calls begin with `"<call>\\n{\\"name\\": \\""`; tools: the file with' in text
    assert "sha256 abababababab." in text
    assert "&lt;call&gt;\\n{" in report.html(native)
    assert "tools: embedded" in report.html(plain)


def test_a_page_is_whole_and_its_links_lead_somewhere(samples: list[Sample]) -> None:
    """Every element is closed, no id stands twice, every link within the page has its target."""
    page = Page(report.html(trained(samples)))
    assert page.open == []
    assert len(page.ids()) == len(set(page.ids()))
    links = [href for tag in page.all("a") if (href := tag["href"]) is not None]
    assert [link for link in links if not link.startswith("#") or link[1:] not in page.ids()] == []


def test_hostile_output_is_text(samples: list[Sample]) -> None:
    """Tags, escapes, changes of direction and control characters are seen; no block is left."""
    text = report.html(facts(samples))
    page = Page(text)
    assert page.texts["pre"][-1].removeprefix("\n") == SHOWN
    assert page.all("img") == []
    assert re.findall(r"[^\n\t\x20-\x7e\xa0-\u2027\u202f-\ud7ff\ue000-\uffff]", text) == []
    assert text.encode()
    assert f"```\n{SHOWN}\n```\n" in report.markdown(facts(samples))
    closing = records([("lsp", "```\n# mine\n````")])
    assert "`````\n```\n# mine\n````\n`````\n" in report.markdown(facts(closing))


def test_a_long_line_is_shown_in_full() -> None:
    """A line of a million characters is on the page, all of it, once."""
    text = report.html(facts(records([("lsp", "x" * 1_000_000)])))
    assert len(text) < 1_100_000
    assert Page(text).texts["pre"][-1] == "\n" + "x" * 1_000_000


def test_a_missing_response_is_shown_as_missing(samples: list[Sample]) -> None:
    """It has its reason, no scores, and the overall score says why it is none."""
    text = report.html(facts(samples))
    page = Page(text)
    shown = page.texts["details"][2]
    assert "missing" in shown
    assert "the server <b>timed out</b>" in shown
    assert "Execution" not in shown
    assert page.all("details")[2]["data-score"] == ""
    assert "none: 1 of 4 responses are missing" in text
    assert "No response: the server <b>timed out</b>" in report.markdown(facts(samples))


def test_rates_of_wrong_decisions_stand_beside_the_scores(samples: list[Sample]) -> None:
    """Each has its counts and interval, for base too where it was evaluated, on the terminal and in both
    reports; an older record, without rates, shows none."""
    made = facts([samples[0], samples[1], samples[3]])
    base = Evaluation.model_validate({**dict(made.results), "target": "base", "rates": {}})
    silent = {"missed": Estimate(mean=1.0, n=3, interval=(0.44, 1.0))}
    results = made.results.model_copy(update={"targets": {"base": base.model_copy(update={"rates": silent})}})
    made = dataclasses.replace(made, results=results)
    words = ["missed calls", "3 of 3: 1.000, 0.44 to 1.00", "2 of 3: 0.667, 0.21 to 0.94"]
    page = Page(report.html(made))
    for shown in (tables.terminal(results, None), report.markdown(made), "\n".join(page.texts["table"])):
        assert [word for word in words if word not in shown] == []
    assert "missed calls0.667 of 3 responses, 95 % interval 0.21 to 0.94" in "".join(page.texts["dl"])
    old = results.model_copy(update={"rates": {}, "targets": {}})
    assert "calls" not in tables.terminal(old, None)
    assert "missed calls" not in report.html(dataclasses.replace(made, results=old))


def test_a_conversation_is_shown_whole(samples: list[Sample]) -> None:
    """All of its turns with responses, results and replies, as text; and a table by turn everywhere."""
    talk = conversation(1.0, 0.0)
    made = facts([samples[0], talk])
    page, text = Page(report.html(made)), report.markdown(made)
    shown = page.texts["details"][1]
    for words in ("Turn 1 of 3", "answer 1", "<b>R</b>", "So.", "Turn 2 of 3", "answer 2"):
        assert words in shown
        assert words in text
    assert shown.index("answer 1") < shown.index("<b>R</b>") < shown.index("So.") < shown.index("answer 2")
    assert page.open == []
    for both in (tables.terminal(made.results, None), text, "\n".join(page.texts["table"])):
        assert "0 of 1: 0.000, 0.00 to 0.79" in both
        assert "right, of those reached" in both
    assert "Turn " not in Page(report.html(facts(samples))).texts["details"][1]
    assert "reached" not in tables.terminal(facts(samples[:1]).results, None)


def test_what_a_server_was_asked_otherwise_is_noted_everywhere(samples: list[Sample]) -> None:
    """A note is on the terminal and in both reports, as text; a call beside the text is shown with it."""
    sent = [{"name": "ls", "arguments": {"path": "<b>"}}]
    beside = Sample.model_validate({**samples[1].plain(), "tool_calls": sent})
    plain = facts([samples[0], beside])
    noted = plain.results.generation.model_copy(update={"notes": ["asked without <b>logprobs</b>"]})
    made = dataclasses.replace(plain, results=plain.results.model_copy(update={"generation": noted}))
    page = Page(report.html(made))
    for shown in ("\n".join(page.texts["p"]), report.markdown(made), tables.terminal(made.results, None)):
        assert "ote: asked without <b>logprobs</b>" in shown
    call = 'No.\n{"name": "ls", "arguments": {"path": "<b>"}}'
    assert call in page.texts["pre"][-1]
    assert call in report.markdown(made)


def test_a_response_has_its_calls_and_both_scores_with_reasons(samples: list[Sample]) -> None:
    """The calls that were made, those that were wanted, and why each score is what it is."""
    shown = Page(report.html(facts(samples))).texts["details"][0]
    for words in (
        "read_file(path='src/app.py')",
        "1.000: a tool-call block, names read_file",
        "1.000: correct",
    ):
        assert words in shown
    text = report.markdown(facts(samples))
    assert "- calls: `read_file(path='src/app.py')`\n- expected: `read_file(path='src/app.py')`\n" in text
    assert "- execution 0.000: no call\n" in text


def test_responses_can_be_filtered(samples: list[Sample]) -> None:
    """Each carries its category, its kind and its marks; the filters offer what occurs, and all marks."""
    page = Page(report.html(facts(samples)))
    found = [(tag["data-category"], tag["data-kind"], tag["data-score"]) for tag in page.all("details")]
    assert found[:3] == [
        ("text_tools", "correct", "strict-1,keyword-1"),
        ("text_tools", "no call", "strict-0,keyword-0"),
        ("lsp", "missing", ""),
    ]
    kinds = ["", "text_tools", "lsp", "git", "", "correct", "no call", "missing", ""]
    assert [tag["value"] for tag in page.all("option")] == [*kinds, *report.MARKS]


def test_sections_are_there_only_with_something_to_show(samples: list[Sample]) -> None:
    """Without a training, a lock or other targets the page has no section and no picture of them."""
    plain, full = Page(report.html(facts(samples))), Page(report.html(trained(samples)))
    one_point = Page(report.html(dataclasses.replace(trained(samples), metrics=METRICS[:1])))
    assert [len(page.all("svg")) for page in (plain, full, one_point)] == [1, 2, 1]
    assert {"training", "lock", "targets", "fidelity"} & set(plain.ids()) == set()
    assert "training" in full.ids()


def test_a_picture_has_a_label_and_the_same_bytes_each_time(samples: list[Sample]) -> None:
    """Drawn twice it is the same; it names the selected checkpoint, and takes the page's colours."""
    scores = facts(samples).results.scores
    assert plots.category_scores(scores, None) == plots.category_scores(scores, None)
    drawn = plots.loss_curves(METRICS, [40, 80, 100], 80) or ""
    assert drawn == plots.loss_curves(METRICS, [40, 80, 100], 80)
    label = 'role="img" aria-label="Training and validation loss by iteration"'
    for words in (label, "selected: iteration 80", "var(--accent, #3567b5)"):
        assert words in drawn
    assert "baseline" not in plots.category_scores(scores, None)
    assert "baseline" in plots.category_scores(scores, Baseline(overall=0.8, categories={"git": 1.0}))


def test_what_a_training_took_is_drawn(samples: list[Sample]) -> None:
    """Learning rate, gradient norm, speed and memory are a small labelled picture each, of a bounded number
    of points; one that no record has is left out."""
    figures: dict[str, float] = {
        "loss": 1.0,
        "learning_rate": 1e-4,
        "gradient_norm": 2.0,
        "tokens_per_second": 90.5,
    }
    metrics = [Metric.model_validate({"kind": "train", "iter": it, **figures}) for it in range(1, 2_000)]
    page = Page(report.html(dataclasses.replace(trained(samples), metrics=metrics)))
    labels = [tag.get("aria-label") for tag in page.all("svg")]
    names = ("Learning rate", "Gradient norm", "Tokens per second")
    assert labels[-3:] == [f"{name} by iteration" for name in names]
    assert plots.training_curves(metrics[:1]) == []
    assert [plots.thinned(range(n))[-1] for n in (1, 2, 200, 201, 9_999)] == [0, 1, 199, 200, 9_998]
    assert len(plots.thinned(range(9_999))) == plots.MOST_POINTS
    assert sum(map(len, plots.training_curves(metrics))) < 60_000


def test_checkpoints_are_those_that_were_saved(samples: list[Sample]) -> None:
    """One every so often, and one in the end, which is not there twice."""
    assert "Checkpoints at 40, 80, 100." in report.markdown(trained(samples))
    even = dataclasses.replace(trained(samples), settings={"lora.save_every": 50})
    assert "Checkpoints at 50, 100." in report.markdown(even)


def test_scores_have_their_intervals(samples: list[Sample]) -> None:
    """The table has strict's interval and keyword's standard error, and none where answers are missing."""
    headers, rows = tables.score_table(facts(samples).results)
    assert headers == ["category", "n", "keyword match", "stderr", "execution", "95 % interval"]
    assert rows[0] == ["text_tools", "2", "0.500", "0.500", "0.500", "0.09 to 0.91"]
    assert rows[-1] == ["overall", "3", "–", "–", "–", "–"]


@pytest.mark.parametrize(
    ("published", "ending"),
    [(0.9, "excludes it"), (0.5, "includes it"), (0.8, "excluding it needs 7 prompts")],
)
def test_a_published_score_stands_beside_what_the_prompts_can_tell(published: float, ending: str) -> None:
    """The baseline is inside the interval or outside; inside, the prompts that would exclude it are given."""
    found = facts(records([("git", RIGHT), ("git", "No.")] * 3))
    assert found.phase is not None
    phase = found.phase.model_copy(update={"baseline": Baseline(source="33b", overall=published)})
    words = tables.baseline_sentence(found.results, phase)
    assert (words or "").endswith(ending)
    assert tables.baseline_sentence(found.results, None) is None
