"""A summary in every format."""

from __future__ import annotations

import csv
import io
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

from punie.results.summary import documents
from punie.results.summary.summary import summarize
from punie.results.sweep import SweepFacts
from tests.facts import Page

from .conftest import make_run

FACTS = SweepFacts(
    version=1,
    name="x",
    command=[],
    axes=[],
    duplicates=0,
    jobs=[],
    outcome=None,
    digest="abc",
    status="failed",
)
HOSTILE = "</style><script>alert(1)</script> \x1b[31m\u202e|`"


def rendered(place: Path, style: str, **options: Any) -> str:
    return documents.render(summarize([place], start=place), style, start=place, **options)


def test_a_sweep_gets_four_files(sweep: Path) -> None:
    """write() leaves summary.json, .md, .csv and .html, and what the sweep knows of itself in the first."""
    documents.write(sweep, sweep=FACTS)
    assert sorted(path.suffix for path in sweep.glob("summary.*")) == [".csv", ".html", ".json", ".md"]
    found = json.loads((sweep / "summary.json").read_text())
    assert found["sweep"]["digest"] == "abc"
    assert [run["state"] for run in found["runs"]] == ["finished"] * 4 + ["failed", "not started"]
    assert found["runs"][0]["axes"] == {"lora.seed": 0, "eval.temperature": 0.0}
    scores = {metric: score["estimate"] for metric, score in found["runs"][0]["scores"].items()}
    assert scores == {"strict": 0.75, "keyword": 0.875, "wrapper": 1.0, "unwanted": 0.25}
    assert found["recipes"][0]["mean"] == 0.625
    before = {path.name: path.read_bytes() for path in sweep.glob("summary.*")}
    documents.write(sweep, sweep=FACTS)
    assert before == {path.name: path.read_bytes() for path in sweep.glob("summary.*")}


def test_csv_has_a_row_for_each_run(sweep: Path) -> None:
    """CSV holds each run's place and figures; those without a score have empty ones."""
    rows = list(csv.DictReader(io.StringIO(rendered(sweep, "csv"))))
    assert [row["run"] for row in rows] == [f"jobs/{number:03d}-ab" for number in range(6)]
    assert (rows[0]["lora.seed"], rows[0]["eval.temperature"], rows[0]["strict"]) == ("0", "0", "0.75")
    assert float(rows[0]["strict_low"]) < 0.75 < float(rows[0]["strict_high"])
    assert (rows[4]["strict"], rows[4]["reason"]) == ("", "The training diverged.")


def test_hostile_words_in_text(sweep: Path) -> None:
    """Each row of a table of the Markdown has the cells of its head; control characters are shown as text."""
    make_run(sweep / "jobs" / "004-ab", {}, status="failed", error=HOSTILE, lora__seed=42, name=HOSTILE)
    blocks = re.findall(r"(?:^\|.*\n)+", rendered(sweep, "github"), re.MULTILINE)
    assert len(blocks) >= 5
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    for style in ("github", "simple"):
        assert "\\x1b[31m\\u202e" in rendered(sweep, style)
        assert not {"\x1b", "\u202e"} & set(rendered(sweep, style))


def test_any_words_can_be_written(sweep: Path) -> None:
    """Half of a surrogate pair in a damaged run's error stops no format, and CSV moves no cursor either."""
    make_run(sweep / "jobs" / "004-ab", {}, status="failed", error=f"{HOSTILE}\ud800", lora__seed=42)
    documents.write(sweep)
    assert "\\x1b[31m\\u202e|`\\ud800" in (sweep / "summary.csv").read_text()
    assert json.loads((sweep / "summary.json").read_text())["runs"][4]["reason"] == f"{HOSTILE}\ud800"


def test_a_long_table_is_cut(sweep: Path) -> None:
    """A terminal is shown the first rows, and where the others are."""
    text = rendered(sweep, "simple", longest=2)
    assert "1 more rows: --format csv, json or html" in text
    assert "\n42 " not in text


def test_the_losses_of_the_trainings_are_overlaid(sweep: Path) -> None:
    """Each training is drawn once, whatever the temperatures of its runs, by its values on the axes; metrics
    that cannot be read and further runs are counted."""
    assert "Training and validation loss of the runs" not in rendered(sweep, "html")
    line = '{"kind": "%s", "iter": %d, "loss": %s}\n'
    for number, loss in enumerate((2.0, 2.0, 3.0)):
        lines = [
            line % ("valid", 0, 4.0),
            *(line % ("train", it, loss) for it in (1, 2)),
            line % ("valid", 2, loss),
        ]
        (sweep / "jobs" / f"00{number}-ab" / "train.jsonl").write_text("".join(lines))
    (sweep / "jobs" / "003-ab" / "train.jsonl").write_text('{"kind": "train", "loss": "<b>"}\n')
    text = rendered(sweep, "html")
    assert text.count('aria-label="Training and validation loss of the runs by iteration"') == 1
    drawn = text.partition("loss of the runs")[2].partition("</svg>")[0]
    assert [drawn.count(f">{name}<") for name in ("1: seed=0", "2: seed=1", "3: seed")] == [1, 1, 0]
    assert "points: validation loss; the metrics of 1 run cannot be read." in text
    for number in range(4, 20):
        place = sweep / "jobs" / f"{number:03d}-zz"
        make_run(place, {"w": 1.0}, lora__seed=number, name=HOSTILE)
        (place / "train.jsonl").write_text("".join(line % ("train", it, number) for it in (1, 2)))
    assert re.search(r"[1-9] more runs are not shown", rendered(sweep, "html"))


def test_the_page_is_self_contained(sweep: Path) -> None:
    """The page has a heatmap, every table and conclusion, and links to reports; words of a run stay text."""
    make_run(sweep / "jobs" / "000-ab", {HOSTILE: 1.0, "x": 0.0}, name=HOSTILE, category=HOSTILE)
    make_run(sweep / "jobs" / "004-ab", {}, status="failed", error=HOSTILE, lora__seed=42)
    (sweep / "jobs" / "000-ab" / "report.html").write_text("a report")
    summary = summarize([sweep], start=sweep.parent)
    text = documents.render(summary, "html", start=sweep.parent)
    page = Page(text)
    assert "default-src 'none'" in text
    links = [link for tag in ("a", "use", "link") for each in page.all(tag) if (link := each.get("href"))]
    assert [link for link in links if not link.startswith("#")] == ["sweep/jobs/000-ab/report.html"]
    assert [page.all(tag) for tag in ("script", "img", "image", "link", "iframe")] == [[]] * 5
    assert page.all("svg")
    assert len(page.all("table")) == len(summary.tables) + 1
    words = unescape(re.sub("<[^>]+>", "", text))
    assert "</style><script>alert(1)</script>" in unescape(text)
    assert [sentence for sentence in summary.conclusions if sentence not in words] == []
    assert "not started" in words
