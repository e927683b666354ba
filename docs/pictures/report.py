"""Draws report_*.png, parts of the report of a run: python docs/pictures/report.py RUN."""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
STEPS = 22  # of the play-by-play, to where there is something to see

with sync_playwright() as driver:
    browser = driver.chromium.launch(
        executable_path=shutil.which("chromium"), args=["--no-sandbox"]
    )
    page = browser.new_page(viewport={"width": 1100, "height": 900}, reduced_motion="reduce")
    page.goto((Path(sys.argv[1]).resolve() / "report.html").as_uri())
    for name in ("play", "timeline"):
        part = page.locator(f"section#{name} .picture").first
        part.scroll_into_view_if_needed()
        page.wait_for_timeout(500)
        if name == "play":
            part.locator("[tabindex]").first.focus()
            for _ in range(STEPS):
                page.keyboard.press("ArrowRight")
            page.wait_for_timeout(500)
        part.screenshot(path=HERE / f"report_{name}.png")
    browser.close()
