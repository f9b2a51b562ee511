"""A summary in every format."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

from punie.results.summary import documents
from punie.results.summary.summary import summarize
from punie.results.sweep import SweepFacts

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


class Page(HTMLParser):
    """Tags, links and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href") and value]

    def handle_data(self, data: str) -> None:
        self.words += data


def test_a_sweep_gets_four_files(sweep: Path) -> None:
    """write() leaves summary.json, .md, .csv and .html, and what the sweep knows of itself in the first."""
    documents.write(sweep, sweep=FACTS)
    assert sorted(path.suffix for path in sweep.glob("summary.*")) == [".csv", ".html", ".json", ".md"]
    found = json.loads((sweep / "summary.json").read_text())
    assert found["sweep"]["digest"] == "abc"
    assert [run["state"] for run in found["runs"]] == ["finished"] * 4 + ["failed", "not started"]
    assert found["runs"][0]["axes"] == {"lora.seed": 0, "eval.temperature": 0.0}
    scores = {metric: score["estimate"] for metric, score in found["runs"][0]["scores"].items()}
    assert scores == {"strict": 0.75, "keyword": 0.875, "wrapper": 1.0}
    assert found["recipes"][0]["mean"] == 0.625
    before = {path.name: path.read_bytes() for path in sweep.glob("summary.*")}
    documents.write(sweep, sweep=FACTS)
    assert before == {path.name: path.read_bytes() for path in sweep.glob("summary.*")}


def test_csv_has_a_row_for_each_run(sweep: Path) -> None:
    """CSV holds each run's place and figures; those without a score have empty ones."""
    rows = list(
        csv.DictReader(io.StringIO(documents.render(summarize([sweep], start=sweep), "csv", start=sweep)))
    )
    assert [row["run"] for row in rows] == [f"jobs/{number:03d}-ab" for number in range(6)]
    assert (rows[0]["lora.seed"], rows[0]["eval.temperature"], rows[0]["strict"]) == ("0", "0", "0.75")
    assert float(rows[0]["strict_low"]) < 0.75 < float(rows[0]["strict_high"])
    assert (rows[4]["strict"], rows[4]["reason"]) == ("", "The training diverged.")


def test_markdown_is_tables(sweep: Path) -> None:
    """Every table of the Markdown has as many cells in each row as in its head, whatever they hold."""
    make_run(sweep / "jobs" / "004-ab", {}, status="failed", error=HOSTILE, lora__seed=42)
    text = documents.render(summarize([sweep], start=sweep), "github", start=sweep)
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(blocks) >= 5
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    assert "\x1b" not in text


def test_any_words_can_be_written(sweep: Path) -> None:
    """Half of a surrogate pair in a damaged run's error stops no format, and CSV moves no cursor either."""
    make_run(sweep / "jobs" / "004-ab", {}, status="failed", error=f"{HOSTILE}\ud800", lora__seed=42)
    documents.write(sweep)
    assert "\\x1b[31m\\u202e|`\\ud800" in (sweep / "summary.csv").read_text()
    assert json.loads((sweep / "summary.json").read_text())["runs"][4]["reason"] == f"{HOSTILE}\ud800"


def test_a_long_table_is_cut(sweep: Path) -> None:
    """A terminal is shown the first rows, and where the others are."""
    text = documents.render(summarize([sweep], start=sweep), "simple", start=sweep, longest=2)
    assert "1 more rows: --format csv, json or html" in text
    assert "\n42 " not in text


def test_the_page_links_to_reports(sweep: Path) -> None:
    """The page holds a heatmap, every table and the conclusions, and links to the reports that are there."""
    (sweep / "jobs" / "000-ab" / "report.html").write_text("a report")
    summary = summarize([sweep], start=sweep.parent)
    page = Page(documents.render(summary, "html", start=sweep.parent))
    assert [link for link in page.links if not link.startswith("#")] == ["sweep/jobs/000-ab/report.html"]
    assert page.tags.count("svg") == 1
    assert page.tags.count("table") == len(summary.tables) + 1
    assert all(sentence in page.words for sentence in summary.conclusions)
    assert "not started" in page.words


def test_the_page_is_self_contained(sweep: Path) -> None:
    """What comes from a run is text on the page; there is no script, image or address to fetch."""
    make_run(sweep / "jobs" / "000-ab", {HOSTILE: 1.0, "x": 0.0}, name=HOSTILE, category=HOSTILE)
    make_run(sweep / "jobs" / "004-ab", {}, status="failed", error=HOSTILE, lora__seed=42)
    (sweep / "jobs" / "000-ab" / "report.html").write_text("a report")
    text = documents.render(summarize([sweep], start=sweep), "html", start=sweep)
    page = Page(text)
    assert not {"script", "img", "image", "link", "iframe"} & set(page.tags)
    assert "</style><script>alert(1)</script>" in page.words
    assert not [link for link in page.links if ":" in link or link.startswith("//")]
    assert "default-src 'none'" in text


def test_text_cannot_steer_the_terminal(sweep: Path) -> None:
    """Control characters of a run are shown as text."""
    make_run(sweep / "jobs" / "004-ab", {}, status="failed", error=HOSTILE, lora__seed=42, name=HOSTILE)
    text = documents.render(summarize([sweep], start=sweep), "simple", start=sweep)
    assert "\\x1b[31m\\u202e" in text
    assert not {"\x1b", "\u202e"} & set(text)
