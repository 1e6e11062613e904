"""Makes the pictures in docs/screenshots/: desktop and phone, light and dark, in both languages.

python docs/screenshots.py [RUN_EN RUN_ZH]

The runs (folders that python -m pytest --lang=… --report=DIR wrote) make the pictures of a run's report anew; those
of a class that never was need none.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.suite.grading.sample_class import sample_class  # noqa: E402
from tests.suite.report import browser  # noqa: E402
from trtverify.fixtures.report import html, saved  # noqa: E402
from trtverify.fixtures.words.messages import LANGUAGES, use_language  # noqa: E402
from trtverify.grading.pages import class_pages  # noqa: E402
from trtverify.grading.taking.listing import file_names  # noqa: E402

OUT = ROOT / "docs" / "screenshots"
# Width and height in CSS pixels, and pixels to each of them.
DESKTOP, PHONE = (1100, 1500, 1), (390, 844, 2)
STUDENTS = 120
MOST_BYTES = 200_000


def main() -> None:
    """Write every picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    options = parser.parse_args()
    if len(options.runs) not in (0, len(LANGUAGES)):
        parser.error(f"expected a run for each of {', '.join(LANGUAGES)}, found {len(options.runs)}")
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, browser.chromium(Path(folder) / "profile") as driver:
        for number, language in enumerate(LANGUAGES):
            use_language(language)
            made = Path(folder) / language
            if options.runs:
                page = html.write_page([saved.load(options.runs[number])], made / "run")
                shoot(driver, page.as_uri(), f"report-desktop-*-{language}", DESKTOP)
                shoot(driver, f"{page.as_uri()}#speed", f"report-phone-*-{language}", PHONE)
            results = sample_class(STUDENTS)
            page = class_pages.write(results, made / "class")
            shoot(driver, page.as_uri(), f"class-desktop-*-{language}", DESKTOP)
            shoot(driver, f"{page.as_uri()}#students", f"class-phone-*-{language}", PHONE)
            shown = next(result for result in results if 3 <= sum(row.verdict == "failed" for row in result.rows) <= 5)
            names = file_names(result.student for result in results)
            student = page.parent / "students" / f"{names[shown.student]}.html"
            shoot(driver, student.as_uri(), f"student-phone-*-{language}", PHONE)


def shoot(driver: Any, address: str, name: str, screen: tuple[int, int, int]) -> None:
    """A picture in light and one in dark; the * in the name says which."""
    for scheme in ("light", "dark"):
        browser.appear(driver, screen[:2], scheme == "dark", screen[2])
        driver.get("about:blank")  # else an address that differs after # alone would not be opened anew
        driver.get(address)
        path = OUT / f"{name.replace('*', scheme)}.png"
        print(f"{path.name}: {save(driver.get_screenshot_as_png(), path) / 1000:.0f} kB")


def save(png: bytes, path: Path) -> int:
    """Write a picture in as many colours as fit; returns its size in bytes.

    Raises:
        ValueError: it is too large even in 16 colours.
    """
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for colours in (128, 64, 32, 16):
        image.quantize(colours).save(path, optimize=True)
        if (size := path.stat().st_size) <= MOST_BYTES:
            return size
    raise ValueError(f"{path.name}: expected at most {MOST_BYTES} bytes, found {size}")


if __name__ == "__main__":
    main()
