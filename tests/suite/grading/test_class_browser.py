"""The class report in headless Chromium: all rows, sorted and narrowed by keyboard, and nothing fetched."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.suite.grading.sample_class import sample_class
from tests.suite.report import browser
from tests.suite.report.browser import DESKTOP, MOST_BYTES, NARROW, PHONE
from trtverify.fixtures.words.messages import use_language
from trtverify.grading.pages import class_pages

pytest.importorskip("selenium", reason="the browser is driven with Selenium: pip install selenium")
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytestmark = pytest.mark.slow
HOSTILE = "<script>alert(1)</script><!--<img src=x onerror=alert(2)>'\"{{ 7*7 }}"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium with an empty profile."""
    with browser.chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def show(driver: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`show(count, page, size=PHONE, dark=True)` opens a class's overview, or the first student's page."""

    def opened(
        count: int,
        page: str = "class",
        size: tuple[int, int] = DESKTOP,
        dark: bool = False,
        language: str = "en",
        mark: str = "",
    ) -> Any:
        use_language(language)
        path = class_pages.write(sample_class(count, mark), tmp_path / "report")
        browser.appear(driver, size, dark)
        if page == "student":
            path = min((path.parent / "students").iterdir())
        return browser.go(driver, path)

    yield opened
    use_language("en")


def names(page: Any) -> list[str]:
    """The students whose rows are shown, in their order."""
    found: list[str] = page.execute_script(
        "return [...document.querySelectorAll('#students-table tbody tr:not([hidden]) th')].map(cell => cell.innerText)"
    )
    return found


def column(page: Any, number: int) -> list[float]:
    """A column's figures, in the order of the rows."""
    found: list[float] = page.execute_script(
        f"return [...document.querySelectorAll('#students-table tbody td:nth-child({number}) data')].map(d => +d.value)"
    )
    return found


def test_five_hundred_students(show: Callable[..., Any]) -> None:
    """A row each, with a link to a page that is there; not a word on the console, one request, and light."""
    page = show(500)
    assert len(set(names(page))) == 500
    assert browser.requests(page) == [page.current_url]
    assert page.get_log("browser") == []
    assert page.execute_script("return new Blob([document.documentElement.outerHTML]).size") <= MOST_BYTES
    links = page.execute_script("return [...document.querySelectorAll('#students-table a')].map(a => a.href)")
    assert all(Path(urllib.parse.unquote(urllib.parse.urlparse(link).path)).is_file() for link in links)


def test_a_students_page_fetches_and_runs_nothing(show: Callable[..., Any]) -> None:
    page = show(3, "student", mark=HOSTILE)
    browser.unfold(page)
    assert browser.requests(page) == [page.current_url]
    assert page.get_log("browser") == []
    assert page.execute_script("return document.scripts.length + document.images.length") == 0


@pytest.mark.parametrize("page", ["class", "student"])
def test_attacks_stay_text(show: Callable[..., Any], page: str) -> None:
    """Script tags in names, messages and layers are shown; no element comes of them."""
    harmless = show(3, page).execute_script("return document.querySelectorAll('*').length")
    shown = show(3, page, mark=HOSTILE)
    assert shown.execute_script("return document.querySelectorAll('*').length") == harmless
    assert shown.execute_script("return document.querySelectorAll('[onerror], [style], img').length") == 0
    assert HOSTILE in shown.execute_script("return document.body.textContent")


def test_policy_stops_other_scripts(show: Callable[..., Any]) -> None:
    """Only the page's own script runs, known by its hash."""
    page = show(3)
    found = page.execute_script(
        "const one = document.createElement('script'); one.textContent = 'window.ran = 1';"
        "document.body.append(one); return window.ran"
    )
    assert found is None
    assert any("Content Security Policy" in entry["message"] for entry in page.get_log("browser"))


def test_sorted_by_keyboard(show: Callable[..., Any]) -> None:
    """Enter on a column's title sorts by it, again the other way; who reads with the ears is told."""
    page = show(30)
    header = page.find_element(By.CSS_SELECTOR, "#students-table thead th:nth-child(2)")
    button = header.find_element(By.TAG_NAME, "button")
    before = column(page, 2)
    button.send_keys(Keys.ENTER)
    assert (column(page, 2), header.get_attribute("aria-sort")) == (sorted(before), "ascending")
    button.send_keys(Keys.SPACE)
    assert (column(page, 2), header.get_attribute("aria-sort")) == (sorted(before, reverse=True), "descending")
    assert len(page.find_elements(By.CSS_SELECTOR, "#students-table [aria-sort]")) == 1


def test_narrowed_by_name_and_state(show: Callable[..., Any]) -> None:
    """Only those who fit both are shown, and how many is said."""
    page = show(60)
    page.find_element(By.ID, "search").send_keys("ANA")
    assert sorted(names(page)) == [f"Ana-{n:03}" for n in range(2, 60, 12)]
    assert page.find_element(By.ID, "shown").text == "5 of 60 students"
    page.find_element(By.ID, "search").send_keys(Keys.BACKSPACE * 3)
    page.find_element(By.CSS_SELECTOR, "#state option[value=late]").click()
    late = [grade.student for grade in sample_class(60) if grade.penalty]
    assert sorted(names(page)) == sorted(late)
    assert late


@pytest.mark.parametrize("page", ["class", "student"])
@pytest.mark.parametrize(
    ("size", "dark", "language"),
    [(DESKTOP, False, "en"), (DESKTOP, True, "zh-TW"), (PHONE, True, "en"), (PHONE, False, "zh-TW")],
)
def test_axe_finds_nothing(
    show: Callable[..., Any], page: str, size: tuple[int, int], dark: bool, language: str
) -> None:
    """No violation of WCAG 2.2 A or AA, nor of axe's best practices, with everything unfolded."""
    assert browser.violations(show(20, page, size=size, dark=dark, language=language)) == []


@pytest.mark.parametrize("page", ["class", "student"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE, NARROW], ids=["desktop", "phone", "narrow"])
def test_fits_the_screen(show: Callable[..., Any], page: str, size: tuple[int, int]) -> None:
    """Nobody scrolls sideways, down to 320 pixels; what is wide scrolls in its own frame."""
    shown = show(20, page, size=size, mark="W" * 60)
    browser.unfold(shown)
    assert shown.execute_script("return document.documentElement.scrollWidth") <= size[0]
