"""summary.html in headless Chromium: it can be read in any light and by keyboard, and words stay words."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from punie.results.summary import documents
from tests.facts import HOSTILE, SHOWN
from tests.unit.results.summary.conftest import make_run

from .conftest import emulated, fits, focused, press

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.browser

ANSWERS = {"w": 1.0, "x": 1.0, "y": 0.0, "z": 1.0}
LINE = "wide" * 250_000
# What YAML, a run's config, cannot hold is left to its errors and its prompts.
NAME = "".join(char for char in HOSTILE if char.isprintable() or char in "\x1b\u202e")
Open = Callable[[], "Chrome"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two seeds at two temperatures, one run of each kind of trouble."""
    for seed, at in itertools.product((0, 1), (0.0, 0.7)):
        make_run(tmp_path / f"{seed}{at}", ANSWERS, lora__seed=seed, eval__temperature=at)
    make_run(tmp_path / "failed", {}, status="failed", error="The training diverged.", lora__seed=2)
    (tmp_path / "00.0" / "report.html").write_text("<title>a report</title>")
    return tmp_path


@pytest.fixture
def show(chrome: Chrome, folder: Path) -> Iterator[Open]:
    """Opens the summary of the folder; in the end the console must be empty, and nothing was fetched."""

    def show() -> Chrome:
        documents.write(folder)
        chrome.get((folder / "summary.html").as_uri())
        return chrome

    yield show
    fetched = "return performance.getEntriesByType('resource').map((each) => each.name)"
    assert chrome.execute_script(fetched) == []
    assert chrome.get_log("browser") == []


def luminance(chrome: Chrome) -> tuple[float, float]:
    """The page's ground, and its darkest or lightest point, as they are seen: from 0.0 to 1.0."""
    from matplotlib.image import imread

    pixels = imread(io.BytesIO(chrome.get_screenshot_as_png()))[..., :3].mean(axis=2)
    ground = float(pixels[2, 2])
    return ground, float(max(pixels.flat, key=lambda each: abs(each - ground)))


def test_a_summary_renders(show: Open) -> None:
    """It has its title, a heading for each table, conclusions, heatmap, and the width of the window."""
    chrome = show()
    assert chrome.title == "hand"
    headings = [each.text for each in chrome.find_elements("css selector", "h1, h2")]
    assert headings[:2] == ["hand", "Conclusions"]
    assert headings[-1] == "Runs"
    assert len(chrome.find_elements("tag name", "table")) == len(headings) - 2
    assert chrome.find_element("css selector", "svg[role=img]").size["height"] > 100
    states = [
        row.text.rpartition(" ")[2] for row in chrome.find_elements("css selector", "table:last-of-type tr")
    ]
    assert states.count("finished") == 4
    assert "failed: The training diverged." in chrome.find_element("css selector", ".bad").text
    assert fits(chrome)


def test_the_keyboard_is_enough(show: Open) -> None:
    """Tab reaches every table in order, then the one run with a report, whose link Enter follows."""
    from selenium.webdriver.common.keys import Keys

    chrome = show()
    press(chrome, Keys.TAB)
    assert focused(chrome) == "#runs"
    links = chrome.execute_script("return [...document.querySelectorAll('nav a')].map((each) => each.hash)")
    tables = [each.get_attribute("aria-label") for each in chrome.find_elements("css selector", ".scroll")]
    visited = []
    for _ in (*links, *tables):
        press(chrome, Keys.TAB)
        visited.append(chrome.execute_script("return document.activeElement.getAttribute('aria-label')"))
        visited[-1] = visited[-1] or focused(chrome)
    assert visited == [*links, *tables]
    press(chrome, Keys.TAB)
    assert focused(chrome) == "A"
    press(chrome, Keys.ENTER)
    assert chrome.title == "a report"
    chrome.back()


def test_a_wide_table_scrolls_by_keyboard(show: Open) -> None:
    """In a narrow window a table scrolls within its own box, and the page does not; words stay whole."""
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.wait import WebDriverWait

    chrome = show()
    with emulated(chrome, width=320):
        assert fits(chrome)
        wide = "return [...document.querySelectorAll('.scroll')].find((e) => e.scrollWidth > e.clientWidth)"
        box = chrome.execute_script(wide)
        chrome.execute_script("arguments[0].focus()", box)
        press(chrome, Keys.ARROW_RIGHT)
        moved = "return arguments[0].scrollLeft"
        WebDriverWait(chrome, 10).until(lambda _: chrome.execute_script(moved, box))
    with emulated(chrome, width=400):
        assert fits(chrome)
        heights = "return [...document.querySelectorAll('td, th')].map((cell) => cell.offsetHeight)"
        assert max(chrome.execute_script(heights)) < 120  # a long path takes three lines


def test_hostile_words_are_text(show: Open, folder: Path) -> None:
    """Of a name, a model on an axis, a prompt, a category and an error nothing runs, and all can be read."""
    names: dict[str, Any] = {"name": NAME, "model": {"name": NAME}, "category": HOSTILE}
    make_run(folder / "hostile", {HOSTILE: 1.0, "x": 0.0}, base="c" * 64, lora__seed=0, **names)
    make_run(folder / "hostile too", {}, status="failed", error=HOSTILE.replace("\r", ""), lora__seed=3)
    chrome = show()
    made = "return [typeof hacked, document.images.length, document.scripts.length]"
    assert chrome.execute_script(made) == ["undefined", 0, 0]
    words = chrome.execute_script("return document.body.textContent")
    assert not set("\x1b\u202e\x00\x07") & set(words)
    assert SHOWN.replace("␍", "") in words
    assert words.count("␛[31mred␛[0m ⟨U+202E⟩esrever") >= 4
    assert "\x1b" not in chrome.title
    assert fits(chrome)


@pytest.mark.parametrize("place", ["model", "error", "prompt", "name"])
def test_a_long_line_does_not_widen_the_page(show: Open, folder: Path, place: str) -> None:
    """A million characters without a break, wherever they stand, leave the page as wide as the window."""
    if place == "error":
        make_run(folder / "long", {}, status="failed", error=LINE, lora__seed=3)
    elif place == "prompt":
        for seed in (0, 1):  # it flips, and is listed
            make_run(folder / f"{seed}0.0", {**ANSWERS, LINE: float(seed)}, lora__seed=seed)
    else:
        names: dict[str, Any] = {"name": LINE} if place == "name" else {"model": {"name": LINE}}
        make_run(folder / "long", ANSWERS, base="c" * 64, lora__seed=5, **names)
    chrome = show()
    assert LINE in chrome.execute_script("return document.documentElement.textContent")
    assert fits(chrome)


def test_dark_and_light(show: Open) -> None:
    """The ground is dark for those who want that, light for the others, and words stand out from it."""
    chrome = show()
    for scheme, dark in (("dark", True), ("light", False)):
        with emulated(chrome, "screen", scheme):
            ground, words = luminance(chrome)
            assert (ground < 0.2) is dark
            assert abs(words - ground) > 0.7
            picture = chrome.find_element("css selector", "svg[role=img] text")
            fill = chrome.execute_script("return getComputedStyle(arguments[0]).fill", picture)
            assert abs(sum(map(int, re.findall(r"\d+", fill)[:3])) / 765 - ground) > 0.35


def test_paper_holds_every_column(show: Open) -> None:
    """Printed, no table hides a part of itself behind a scrollbar, or beyond the edge of A4."""
    chrome = show()
    with emulated(chrome, "print", width=700):
        assert fits(chrome)
        hidden = "return [...document.querySelectorAll('.scroll')].map((e) => getComputedStyle(e).overflowX)"
        assert set(chrome.execute_script(hidden)) == {"visible"}
