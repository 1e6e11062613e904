"""Makes the pictures in docs/screenshots/ of a saved run: desktop and phone, light and dark, in both languages.

python docs/screenshots.py RUN_EN.json RUN_ZH.json     (each written by: python -m pytest --lang=… --report=DIR)
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from fixtures.messages import use_language  # noqa: E402
from fixtures.report import html, saved  # noqa: E402

OUT = ROOT / "docs" / "screenshots"
FLAGS = (
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
# Width and height in CSS pixels, pixels to each of them, and the section at the top.
SCREENS = {"desktop": (1100, 1500, 1, "summary"), "phone": (390, 844, 2, "speed")}
MOST_BYTES = 200_000


def main() -> None:
    """Write every picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("english", type=Path)
    parser.add_argument("chinese", type=Path)
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        driver = start(Path(folder) / "profile")
        try:
            for language, path in (("en", options.english), ("zh-TW", options.chinese)):
                use_language(language)
                page = html.write_page([saved.load(path)], Path(folder) / language)
                for screen in SCREENS:
                    for scheme in ("light", "dark"):
                        name = f"report-{screen}-{scheme}-{language}.png"
                        size = save(shoot(driver, page, screen, scheme), OUT / name)
                        print(f"{name}: {size / 1000:.0f} kB")
        finally:
            driver.quit()


def start(profile: Path) -> Any:
    """Chromium, with an empty profile."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))


def shoot(driver: Any, page: Path, screen: str, scheme: str) -> bytes:
    """One picture as PNG."""
    width, height, scale, section = SCREENS[screen]
    metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": screen == "phone"}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.get(page.as_uri() + ("" if section == "summary" else f"#{section}"))
    taken: bytes = driver.get_screenshot_as_png()
    return taken


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
