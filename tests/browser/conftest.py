"""A headless Chromium, and what a person does with it."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome


@pytest.fixture(scope="session")
def chrome() -> Iterator[Chrome]:
    """A headless Chromium that keeps what is written to its console."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="CONTRIBUTING.md tells how to install it")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("Chromium is not here; CONTRIBUTING.md tells how to install it")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1200,900"):
        options.add_argument(f"--{argument}")
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield found
    found.quit()


def focused(chrome: Chrome) -> str:
    script = "const e = document.activeElement; return e.name || e.hash || e.tagName"
    return chrome.execute_script(script)


def press(chrome: Chrome, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(chrome).send_keys(*keys).perform()


def fits(chrome: Chrome) -> bool:
    """Whether the page is no wider than the window."""
    return chrome.execute_script("return document.documentElement.scrollWidth <= innerWidth")


@contextmanager
def emulated(chrome: Chrome, media: str = "", scheme: str = "", width: int = 0) -> Generator[None]:
    """Other media, another colour scheme or another width of the window while the block runs."""
    features = [{"name": "prefers-color-scheme", "value": scheme}] if scheme else []
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    try:
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
        if width:
            chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        yield
    finally:
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
        chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
