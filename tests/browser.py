"""A real headless Chromium for tests of pages, driven by Playwright.

A test asks for the fixture ``browser`` (tests/conftest.py makes it known to all) and opens a tab
for each page; the tab closes with the block:

    def test_page(browser, tmp_path):
        with browser.open((tmp_path / "report.html").as_uri()) as tab:  # or "http://127.0.0.1:8000"
            tab.click("text=Dice")
            assert tab.inner_text("h1") == "Report"
            assert tab.errors == [] and tab.broken_images() == []
            assert tab.requests_elsewhere() == []

``tab`` has what Playwright's ``Page`` has (https://playwright.dev/python/docs/api/class-page) and
the three above. Options of ``open`` go to Playwright's ``new_context``: ``viewport={"width": 360,
"height": 740}``, ``color_scheme="dark"``, ``java_script_enabled=False``.

The fixture skips, with the reason, where there is no Playwright or no Chromium: ``apt-get install
chromium``. Chromium starts once for a file of tests, and not for the session: while it runs, so
does Playwright's event loop in the test's thread, where ``asyncio.run`` then fails (a server for a
test runs in a thread or process of its own). Tabs may be used in the test's thread alone.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
# What never leaves the browser
WITHIN = ("data", "blob", "about")


class Tab:
    """A page in a tab, and what went wrong in it; other names are those of Playwright's Page."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []  # of the console, uncaught ones, and failed requests
        self.requested: list[str] = []
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("requestfailed", lambda one: self.errors.append(f"{one.url}: {one.failure}"))
        page.on("request", lambda one: self.requested.append(one.url))

    def __getattr__(self, name: str) -> Any:
        """Hand on what Playwright's Page has."""
        return getattr(self.page, name)

    def broken_images(self) -> list[str]:
        """Return the starts of the addresses of images that have not loaded, each waited for."""
        return self.page.evaluate(
            """async () => {
                const images = Array.from(document.images);
                for (const image of images) image.loading = "eager";
                await Promise.allSettled(images.map(image => image.decode()));
                return images.filter(i => !i.naturalWidth).map(i => i.src.slice(0, 80));
            }"""
        )

    def requests_elsewhere(self) -> list[str]:
        """Return the requests that went to anything but the page's own file or host and port."""
        own = urlsplit(self.page.url)

        def is_own(address: str) -> bool:
            one = urlsplit(address)
            if one.scheme in WITHIN:
                return True
            same_file = own.scheme != "file" or one.path == own.path
            return (one.scheme, one.netloc) == (own.scheme, own.netloc) and same_file

        return [address for address in self.requested if not is_own(address)]


class Browser:
    """A running Chromium."""

    def __init__(self, chromium: Any) -> None:
        self.chromium = chromium

    @contextmanager
    def open(self, address: str, **options: Any) -> Iterator[Tab]:
        """Open a page in a fresh profile: no cookies or storage of other tests."""
        context = self.chromium.new_context(**options)
        try:
            tab = Tab(context.new_page())
            tab.page.goto(address)
            yield tab
        finally:
            context.close()


def contrast_of(*colours: str) -> float:
    """Return the contrast of two colours of CSS, "rgb(1, 2, 3)", by WCAG's formula."""
    lights = []
    for colour in colours:
        parts = [float(v) / 255 for v in re.findall(r"[\d.]+", colour)[:3]]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        lights.append(sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True)))
    return (max(lights) + 0.05) / (min(lights) + 0.05)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium; see the module."""
    api = pytest.importorskip("playwright.sync_api", reason="no browser: pip install playwright")
    path = next((path for name in NAMES if (path := shutil.which(name))), None)
    if path is None:
        pytest.skip("no browser: apt-get install chromium")
    # Chromium's sandbox refuses root; /dev/shm is small in containers.
    options = ["--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"]
    if os.geteuid() == 0:
        options.append("--no-sandbox")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=options)
        try:
            yield Browser(chromium)
        finally:
            chromium.close()
