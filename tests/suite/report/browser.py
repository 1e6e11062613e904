"""Headless Chromium, for looking at pages as a person would: it opens them, and says what they asked for."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium", reason="the browser is driven with Selenium: pip install selenium")
from selenium import webdriver

AXE = Path(__file__).resolve().parents[3] / ".cache" / "node_modules" / "axe-core" / "axe.min.js"
DESKTOP, PHONE, NARROW = (1280, 900), (390, 844), (320, 640)
MOST_BYTES = 6_000_000
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """A browser with an empty profile; without one the test is skipped."""
    browser, service = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or service is None:
        pytest.skip("no Chromium here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(service))
    try:
        yield driver
    finally:
        driver.quit()


def appear(driver: Any, size: tuple[int, int] = DESKTOP, dark: bool = False, pixels: int = 1) -> None:
    """Be a screen of this size in CSS pixels, with a device that is light or dark and has no animations."""
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": pixels, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [
        {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def go(driver: Any, path: Path) -> Any:
    """Open a page; its logs start here."""
    for log in ("browser", "performance"):
        driver.get_log(log)
    driver.get(path.as_uri())
    return driver


def requests(driver: Any) -> list[str]:
    """What the page asked for since it was opened, its own data: addresses aside."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [url for url in asked if not url.startswith("data:")]


def unfold(driver: Any) -> None:
    """Open every <details>."""
    driver.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true })")


def violations(driver: Any) -> list[tuple[Any, ...]]:
    """What axe-core finds against WCAG 2.2 A and AA and its own best practices, with everything unfolded."""
    if not AXE.is_file():
        pytest.skip("no axe-core here: npm install --no-save --prefix .cache axe-core")
    unfold(driver)
    driver.execute_script(AXE.read_text(encoding="utf-8"))
    found = driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    assert found["passes"]
    return [(one["id"], one["nodes"][0]["html"], one["nodes"][0]["any"]) for one in found["violations"]]


def loaded_ms(driver: Any) -> float:
    """Milliseconds from the navigation's start to the end of the page's load event."""
    found: float = driver.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd")
    return found
