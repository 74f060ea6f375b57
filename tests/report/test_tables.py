"""Tables as a reader sorts them, in a real Chromium."""

import math
from pathlib import Path

from inspire_d2.report.blocks import Page, Section
from inspire_d2.report.render import render
from inspire_d2.report.tables import number, percent, plain_table


def test_a_dash_is_below_every_number(browser, tmp_path: Path) -> None:
    values = (0.5, None, 2.0, math.nan, -1.0, 10.0, math.inf)
    rows = [[f"row {k}", number(v, 1), percent(v)] for k, v in enumerate(values)]
    table = plain_table(["name", "number", "percent"], rows, sortable=True)
    page = Page("Tables", "", [], sections=[Section("tables", "Tables", [table])])
    (tmp_path / "page.html").write_text(render(page), encoding="utf-8")
    ascending = ["–", "–", "-1.0", "0.5", "2.0", "10.0", "inf"]
    with browser.open((tmp_path / "page.html").as_uri()) as tab:
        for column in (1, 2):
            for expected in (ascending, ascending[::-1]):
                tab.locator("thead button").nth(column).click()
                cells = [row.locator("td").first for row in tab.locator("tbody tr").all()]
                assert [cell.inner_text() for cell in cells] == expected
