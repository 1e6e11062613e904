"""The report in headless Chromium: it renders, fetches nothing, runs nothing, and everybody can read it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.suite.report import browser
from tests.suite.report.browser import DESKTOP, MOST_BYTES, NARROW, PHONE, unfold
from tests.suite.sample_run import HOSTILE, sample
from trtverify.fixtures.report import html, saved
from trtverify.fixtures.words.messages import use_language

pytest.importorskip("selenium", reason="the browser is driven with Selenium: pip install selenium")
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium with an empty profile."""
    with browser.chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def show(driver: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`show(run, …, size=PHONE, dark=True)` opens the page of some runs."""

    def opened(*runs: dict[str, Any], size: tuple[int, int] = DESKTOP, dark: bool = False, language: str = "en") -> Any:
        use_language(language)
        path = html.write_page([saved.parse(run) for run in runs], tmp_path)
        browser.appear(driver, size, dark)
        return browser.go(driver, path)

    yield opened
    use_language("en")


def test_nothing_leaves_the_page(show: Callable[..., Any]) -> None:
    """One request, for the page itself; and not a word on the console."""
    page = show(sample())
    unfold(page)
    assert browser.requests(page) == [page.current_url]
    assert page.get_log("browser") == []


def test_attacks_stay_text(show: Callable[..., Any]) -> None:
    """Script tags in names are shown; no script, no picture, no dialog comes of them."""
    page = show(sample())
    unfold(page)
    assert page.execute_script("return document.scripts.length + document.images.length") == 0
    assert page.execute_script("return document.querySelectorAll('[onerror], [style]').length") == 0
    text = page.find_element(By.TAG_NAME, "body").text
    assert HOSTILE.partition("'")[0] in text
    assert "49" not in text.partition("{{ 7*7 }}")[1]


def test_policy_stops_scripts(show: Callable[..., Any]) -> None:
    """Even if a script got into the page, it would not run."""
    page = show(sample())
    found = page.execute_script(
        "const one = document.createElement('script'); one.textContent = 'window.ran = 1';"
        "document.body.append(one); return window.ran"
    )
    assert found is None
    assert any("Content Security Policy" in entry["message"] for entry in page.get_log("browser"))


def test_numbers_are_the_runs(show: Callable[..., Any]) -> None:
    """What stands in the page, as a person reads it, is what run.json holds."""
    run = sample(hostile=False)
    page = show(run)
    rows = page.execute_script(
        "return [...document.querySelectorAll('table.cards tbody tr')].map(r => [...r.cells].map(c => c.innerText))"
    )
    shown = {tuple(row[:3]): row[3:5] for row in rows}
    assert len(shown) == len(run["engines"])
    for engine, latency in zip(run["engines"], run["latencies"], strict=True):
        key = (f"{engine['model']} ({engine['weights']})", engine["backend"], engine["precision"].upper())
        median = statistics.median(latency["seconds"]) * 1e3
        assert shown[key] == [f"{engine['size_bytes'] / 1e6:.1f}", f"{median:.3f}"]


def test_bars_are_as_long_as_their_numbers(show: Callable[..., Any]) -> None:
    """On the screen, one bar is to another as one speedup to the other, and the band stands where it says."""
    run = sample(hostile=False)
    page = show(run)
    found = page.execute_script(
        "return [...document.querySelectorAll('section[aria-labelledby=speed] .row')].map(row => ({"
        "value: +row.querySelector('data').value,"
        "bar: row.querySelector('rect:not(.band)').getBoundingClientRect(),"
        "band: row.querySelector('rect.band')?.getBoundingClientRect()}))"
    )
    assert len(found) == len(run["speedups"])
    for row in found[:4]:
        pixels = row["bar"]["width"] / row["value"]
        assert pixels == pytest.approx(found[0]["bar"]["width"] / found[0]["value"], rel=0.01)
        if row["band"]:
            assert (row["band"]["left"] - row["bar"]["left"]) / pixels == pytest.approx(1.7, abs=0.02)
            assert row["band"]["width"] / pixels == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize(
    ("size", "dark", "language", "runs"),
    [(DESKTOP, False, "en", 1), (DESKTOP, True, "zh-TW", 1), (PHONE, True, "en", 1), (PHONE, False, "zh-TW", 2)],
)
def test_axe_finds_nothing(
    show: Callable[..., Any], size: tuple[int, int], dark: bool, language: str, runs: int
) -> None:
    """No violation of WCAG 2.2 A or AA, nor of axe's best practices, with everything unfolded."""
    page = show(*(sample(seed) for seed in range(runs)), size=size, dark=dark, language=language)
    assert browser.violations(page) == []


@pytest.mark.parametrize("size", [DESKTOP, PHONE, NARROW], ids=["desktop", "phone", "narrow"])
@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_fits_the_screen(show: Callable[..., Any], size: tuple[int, int], language: str) -> None:
    """Nobody scrolls sideways, down to 320 pixels; what is wide scrolls in its own frame."""
    page = show(sample(), sample(1), size=size, language=language)
    unfold(page)
    assert page.execute_script("return document.documentElement.scrollWidth") <= size[0]


def test_colours_are_chosen_by_keyboard(show: Callable[..., Any]) -> None:
    """Tab, arrow keys: first the device's own colours, then light, then dark; and the skip link comes first."""
    page = show(sample(), dark=False)

    def ground() -> str:
        found: str = page.execute_script("return getComputedStyle(document.body).backgroundColor")
        return found

    def press(*keys: str) -> Any:
        page.switch_to.active_element.send_keys(*keys)
        return page.switch_to.active_element

    assert press(Keys.TAB).get_attribute("class") == "skip"
    light = ground()
    assert press(Keys.TAB).get_attribute("id") == "theme-auto"
    press(Keys.ARROW_RIGHT)
    assert ground() == light
    press(Keys.ARROW_RIGHT)
    dark = ground()
    assert dark != light
    assert press(Keys.TAB).get_attribute("href").endswith("#summary")
    assert show(sample(), dark=True) is page
    assert ground() == dark


def test_details_open_by_keyboard(show: Callable[..., Any]) -> None:
    """Enter on a summary shows what it hides."""
    page = show(sample())
    summary = page.find_element(By.CSS_SELECTOR, "section[aria-labelledby=layers] summary")
    table = page.find_element(By.CSS_SELECTOR, "section[aria-labelledby=layers] table")
    assert not table.is_displayed()
    summary.send_keys(Keys.ENTER)
    assert table.is_displayed()


def test_weight(show: Callable[..., Any]) -> None:
    """Four runs of a thousand samples an engine, side by side, stay under the limit."""
    page = show(*(sample(seed, samples=1000) for seed in range(4)))
    size = page.execute_script("return new Blob([document.documentElement.outerHTML]).size")
    assert size <= MOST_BYTES, size
