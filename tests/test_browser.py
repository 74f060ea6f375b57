"""The browser fixture finds what is wrong with a page."""

from pathlib import Path

PAGE = """<!DOCTYPE html><title>page</title>
<img src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="><p>text</p>{}"""


def test_page_without_fault(browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(PAGE.format(""))
    with browser.open(page.as_uri(), viewport={"width": 400, "height": 300}) as tab:
        assert tab.errors == [] and tab.requests_elsewhere() == []
        assert tab.inner_text("p") == "text"
        assert tab.evaluate("() => innerWidth") == 400


def test_faults_are_told(browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    script = "<script>console.error('oh'); setTimeout(() => missing(), 0)</script>"
    page.write_text(PAGE.format(f'<img src="gone.png">{script}'))
    (tmp_path / "sheet.css").touch()
    page.write_text(page.read_text() + '<link rel="stylesheet" href="sheet.css">')
    with browser.open(page.as_uri()) as tab:
        tab.wait_for_timeout(100)
        told = " ".join(tab.errors)
        assert "oh" in told and "missing is not defined" in told and "gone.png" in told
        (broken,) = tab.broken_images()
        assert broken.startswith("file://")
        names = [Path(address).name for address in tab.requests_elsewhere()]
        assert sorted(names) == ["gone.png", "sheet.css"]
