"""report.html in headless Chromium: it opens quickly, its filters work, and text of a model stays text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from punie.results.pages import report
from punie.results.records import Sample
from tests.facts import HOSTILE, SHOWN, call, facts, records

from .conftest import emulated, fits, focused, press

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.browser

RIGHT, OTHER = call('print(read_file("src/app.py").content)'), call('print(read_file("src/other.py"))')
ANSWERS = [
    ("text_tools", RIGHT), ("text_tools", OTHER), ("text_tools", "No."),
    ("lsp", RIGHT), ("lsp", None), ("git", HOSTILE), ("git", "wide" * 250_000),
]  # fmt: skip
Open = Callable[[list[Sample]], "Chrome"]


@pytest.fixture
def show(chrome: Chrome, tmp_path: Path) -> Iterator[Open]:
    """Opens the report of some answers; in the end the console must be empty."""

    def show(samples: list[Sample], anchor: str = "") -> Chrome:
        path = tmp_path / "report.html"
        path.write_text(report.html(facts(samples)), "utf-8")
        chrome.get(path.as_uri() + anchor)
        return chrome

    yield show
    assert chrome.get_log("browser") == []


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return records(ANSWERS)


def shown(chrome: Chrome) -> list[int]:
    """Which answers can be seen."""
    script = "return [...document.querySelectorAll('details.response')].map((a) => a.checkVisibility())"
    return [index for index, visible in enumerate(chrome.execute_script(script)) if visible]


def field(chrome: Chrome, name: str) -> Any:
    return chrome.find_element("css selector", f"#filter [name={name}]")


def choose(chrome: Chrome, name: str, value: str) -> None:
    field(chrome, name).find_element("css selector", f"option[value='{value}']").click()


def counted(chrome: Chrome) -> str:
    return chrome.find_element("css selector", "#filter output").text


def test_a_report_renders(show: Open, samples: list[Sample]) -> None:
    """It has its title, its headings and its picture, and is no wider than the window."""
    chrome = show(samples)
    assert chrome.title == "x: none: 1 of 7 responses are missing"
    headings = [each.text for each in chrome.find_elements("css selector", "h1, h2")]
    assert headings == [
        "x: A phase & its <title>", "Scores", "Response classes", "Responses", "Identity", "Settings",
    ]  # fmt: skip
    assert chrome.find_element("css selector", "svg[role=img]").size["height"] > 100
    assert fits(chrome)


def test_filters_leave_what_they_say(show: Open, samples: list[Sample]) -> None:
    """Category, kind, score and text each narrow what is shown; clearing them shows everything again."""
    from selenium.webdriver.support.wait import WebDriverWait

    chrome = show(samples)
    assert shown(chrome) == [0, 1, 2, 3, 4, 5, 6]
    choose(chrome, "category", "text_tools")
    assert shown(chrome) == [0, 1, 2]
    choose(chrome, "score", "differ")
    assert shown(chrome) == [1]
    assert counted(chrome) == "1 of 7 responses"
    field(chrome, "text").send_keys("nowhere")
    assert shown(chrome) == []
    chrome.find_element("css selector", "#filter [type=reset]").click()
    WebDriverWait(chrome, 10).until(lambda _: len(shown(chrome)) == 7)  # a turn after the click
    choose(chrome, "kind", "missing")
    assert shown(chrome) == [4]
    choose(chrome, "kind", "")
    field(chrome, "text").send_keys("OTHER.py")
    assert shown(chrome) == [1]
    field(chrome, "open").click()
    opened = "return [...document.querySelectorAll('[open]')].map((a) => a.dataset.kind)"
    assert chrome.execute_script(opened) == ["wrong arguments"]


def test_the_keyboard_is_enough(show: Open, samples: list[Sample]) -> None:
    """Tab reaches every filter and every answer in order, arrows choose, Enter opens an answer."""
    from selenium.webdriver.common.keys import Keys

    chrome = show(samples)
    press(chrome, Keys.TAB)
    assert focused(chrome) == "#responses"
    press(chrome, Keys.ENTER, Keys.TAB)
    assert focused(chrome) == "category"
    press(chrome, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert shown(chrome) == [3, 4]
    visited = []
    for _ in range(7):
        press(chrome, Keys.TAB)
        visited.append(focused(chrome))
    assert visited == ["kind", "score", "text", "BUTTON", "open", "close", "SUMMARY"]
    press(chrome, Keys.ENTER)
    assert chrome.execute_script("return document.querySelectorAll('details.response')[3].open")


def test_a_link_opens_its_answer(show: Open, samples: list[Sample]) -> None:
    """The example of a kind of failure leads to that answer, open, though a filter had hidden it."""
    from selenium.webdriver.support.wait import WebDriverWait

    chrome = show(samples)
    choose(chrome, "category", "lsp")
    chrome.find_element("link text", "text_tools-1").click()
    WebDriverWait(chrome, 10).until(lambda _: chrome.find_elements("css selector", "details[open]"))
    assert shown(chrome) == [0, 1, 2, 3, 4, 5, 6]
    opened = chrome.find_elements("css selector", "details[open] > summary b")
    assert [each.text for each in opened] == ["text_tools-1"]


def test_hostile_and_long_output_is_text(show: Open, samples: list[Sample]) -> None:
    """No script of an answer runs, all of it can be read, and a million characters scroll in a box."""
    chrome = show(samples)
    field(chrome, "open").click()
    hostile, long = (
        chrome.find_elements("css selector", "details.response")[place].find_elements("tag name", "pre")[1]
        for place in (5, 6)
    )
    assert hostile.get_property("textContent") == SHOWN
    made = "return [typeof hacked, document.images.length, document.scripts.length]"
    assert chrome.execute_script(made) == ["undefined", 0, 1]
    assert len(chrome.find_elements("css selector", "main > section, body > footer")) == 6
    assert len(str(long.get_property("textContent"))) == 1_000_000
    assert long.size["height"] < 600
    assert fits(chrome)


def test_without_scripts_everything_can_be_read(show: Open, samples: list[Sample]) -> None:
    """Filters that would not work are not shown; the answers are, and open."""
    chrome = show(samples[:1])
    try:
        chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        chrome.refresh()
        assert not chrome.find_element("id", "filter").is_displayed()
        answer = chrome.find_element("css selector", "details.response")
        answer.find_element("tag name", "summary").click()
        assert answer.find_elements("tag name", "pre")[1].text == RIGHT
    finally:
        chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_paper_holds_every_answer(show: Open, samples: list[Sample]) -> None:
    """Printed, closed answers are open, filters are gone, and the ground is white, also in the dark."""
    chrome = show(samples[:3])
    ground = "return getComputedStyle(document.body).backgroundColor"
    with emulated(chrome, "screen", "dark"):
        assert chrome.execute_script(ground) == "rgb(20, 23, 28)"
    with emulated(chrome, "print", "dark"):
        assert chrome.execute_script(ground) == "rgb(255, 255, 255)"
        seen = "return [...document.querySelectorAll('.response pre')].map((each) => each.checkVisibility())"
        assert chrome.execute_script(seen) == [True] * 6
        assert not chrome.find_element("id", "filter").is_displayed()


def test_a_thousand_answers_open_quickly(show: Open) -> None:
    """A report of 1,000 answers is smaller than 5 MB and ready, filters and all, in under 2 s."""
    from selenium.webdriver.support.wait import WebDriverWait

    kinds = [RIGHT, OTHER, "No.", call("print(1)\n" * 40)]
    many = records(("lsp", kinds[index % 4]) for index in range(1000))
    text = report.html(facts(many))
    size = len(text.encode()) / 1e6
    clock = time.perf_counter()
    chrome = show(many)
    took = time.perf_counter() - clock
    duration = "return performance.getEntriesByType('navigation')[0].duration / 1000"  # 0 until all is done
    loaded = WebDriverWait(chrome, 10).until(lambda _: chrome.execute_script(duration))
    clock = time.perf_counter()
    field(chrome, "text").send_keys("other.py")
    filtered = time.perf_counter() - clock
    times = f"loaded in {loaded:.2f} s; written and opened in {took:.2f} s; filtered in {filtered:.2f} s"
    print(f"\n1,000 answers: {size:.1f} MB; {times}")
    assert counted(chrome) == "250 of 1000 responses"
    assert size < 5
    assert loaded < 2
