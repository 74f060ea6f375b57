"""The page as a reader sees it, in a real Chromium: nothing fails, nothing is loaded."""

import json
import shutil
from pathlib import Path

import pytest

from inspire_d2.engine.config import load_config, save_config
from inspire_d2.errors import InputError
from inspire_d2.report import write_report
from inspire_d2.report.cards import _drawable
from inspire_d2.report.truth import Thing

from ..browser import contrast_of
from .runs import HOSTILE, HOSTILE_CENTRE, write_run

COLUMN = "(table, k) => Array.from(table.tBodies[0].rows, row => row.cells[k].textContent)"


@pytest.fixture(scope="module")
def single(runs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("pages") / "report.html"
    path, notes = write_report(runs[0], output=output)
    # The run of the fixture is trained and scored on one set.
    assert path == output and any("have the name of a training image" in note for note in notes)
    return output


@pytest.fixture(scope="module")
def double(runs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("pages") / "comparison.html"
    write_report(*runs, output=output)
    return output


def assert_whole(tab, sections: list[str]) -> None:
    """Assert that a page is complete, keeps to itself and runs no script of a file's name."""
    assert tab.errors == [] and tab.broken_images() == [] and tab.requests_elsewhere() == []
    ids = tab.evaluate("() => Array.from(document.querySelectorAll('section'), one => one.id)")
    assert ids == sections
    all_ids = tab.evaluate("() => Array.from(document.querySelectorAll('[id]'), one => one.id)")
    assert len(set(all_ids)) == len(all_ids)
    links = tab.evaluate("() => Array.from(document.links, one => one.getAttribute('href'))")
    assert links and all(link.startswith("#") for link in links)
    assert {link[1:] for link in links} <= set(all_ids)
    text = tab.inner_text("body")
    for name in (*HOSTILE, HOSTILE_CENTRE):
        assert name in text
    assert tab.locator("script").count() == 1


def test_page_is_whole(browser, single: Path) -> None:
    with browser.open(single.as_uri()) as tab:
        assert_whole(
            tab,
            [
                *("results", "errors", "cases", "calibration", "images"),
                *("data", "training", "configuration"),
            ],
        )
        assert tab.inner_text("h1") == "<b>run1"
        assert tab.locator(".gallery li").count() >= 24
        assert tab.locator(".plot svg").count() >= 5
    assert single.stat().st_size < 15e6


def test_figures_are_the_evaluations(browser, single: Path, runs: tuple[Path, Path]) -> None:
    scores = json.loads((runs[0] / "evaluation.json").read_text())
    with browser.open(single.as_uri()) as tab:
        shown = dict(zip(tab.locator(".key dt").all_inner_texts(),
                         tab.locator(".key b").all_inner_texts(), strict=True))  # fmt: skip
        assert shown["Dice"] == f"{scores['polyp']['Dice']:.3f}"
        assert shown["polyps found"] == f"{100 * scores['polyp']['recall']:.1f} %"
        assert shown["mask AP"] == f"{scores['segm']['AP']:.1f}"
        results = tab.inner_text("#results")
        assert f"{scores['polyp_protocol']['mDice']:.3f}" in results
        assert f"{scores['bbox']['AP75']:.1f}" in results
        facts = tab.inner_text("#training")
        assert "7.7 M, 7.5 M of them trained" in facts and "0.5 (median)" in facts
        assert "1.2 GB a process" in facts and "0.25 s" in facts


def test_table_sorts_with_the_keyboard(browser, single: Path) -> None:
    with browser.open(single.as_uri()) as tab:
        table = tab.locator("#images table").element_handle()
        heads = tab.locator("#images thead th").all_inner_texts()
        for name, to_key in (("Dice", float), ("false positives", int)):
            column = next(k for k, head in enumerate(heads) if head.startswith(name))
            button = tab.locator("#images thead button").nth(column)
            for order, reverse in (("ascending", False), ("descending", True)):
                button.focus()
                tab.keyboard.press("Enter")
                shown = [to_key(v) for v in tab.evaluate(f"([t, c]) => ({COLUMN})(t, c)",
                                                         [table, column])]  # fmt: skip
                assert shown == sorted(shown, reverse=reverse) and len(set(shown)) > 1
                head = tab.locator("#images thead th").nth(column)
                assert head.get_attribute("aria-sort") == order
        assert tab.locator("#images th[aria-sort]").count() == 1


def test_filter_and_links_to_rows(browser, single: Path) -> None:
    with browser.open(single.as_uri()) as tab:
        visible = tab.locator("#images tbody tr:visible")
        assert visible.count() == 24
        tab.fill("#images .filter input", HOSTILE[0][:12])
        assert visible.count() == 1
        # A link to a row that is not shown brings all rows back.
        link = tab.locator(".gallery h4 a", has_text="polyp_").first
        name = link.inner_text()
        link.click()
        assert visible.count() == 24
        row = tab.locator("tr:target")
        assert name in row.inner_text() and row.is_visible()


def test_dots_name_their_images(browser, single: Path) -> None:
    with browser.open(single.as_uri()) as tab:
        titles = tab.evaluate("() => Array.from(document.querySelectorAll('#errors svg a title'), "
                              "one => one.textContent)")  # fmt: skip
        rows = tab.locator("#images tbody tr").all()
        names = [row.locator("th").inner_text() for row in rows]
        assert len(titles) > 12 and all(title.rpartition(": ")[0] in names for title in titles)
        assert any(title.startswith(HOSTILE[1]) for title in titles)
        dot = tab.locator("#errors svg a").first
        target = dot.evaluate("one => one.href.baseVal")
        dot.evaluate("one => one.dispatchEvent(new MouseEvent('click', {bubbles: true}))")
        assert tab.evaluate("() => location.hash") == target


def test_without_scripts_all_is_there(browser, single: Path) -> None:
    with browser.open(single.as_uri(), java_script_enabled=False) as tab:
        assert tab.locator("#images tbody tr").count() == 24
        assert tab.locator("button, input").count() == 0
        tab.locator("#configuration summary").first.click()
        assert "dataloader:" in tab.inner_text("#configuration pre")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_window_needs_no_sideways_scrolling(
    browser, single: Path, double: Path, width: int, scheme: str
) -> None:
    for page in (single, double):
        options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
        with browser.open(page.as_uri(), **options) as tab:
            assert tab.evaluate("() => document.documentElement.scrollWidth") <= width
            for one in ("body", ".note", "#images th", ".plot svg text"):
                assert contrast(tab, one) >= 4.5, one


@pytest.mark.parametrize("letters", [40, 80])
def test_long_names_of_runs_fit(
    browser, runs: tuple[Path, Path], tmp_path: Path, letters: int
) -> None:
    # The second is such as matplotlib leaves out of legends by itself.
    names = [f"{begin}_{'r50_inspire_' * 8}"[:letters] for begin in ("htc", "_mask")]
    folders = [shutil.copytree(run, tmp_path / n) for run, n in zip(runs, names, strict=True)]
    path, _ = write_report(*folders, output=tmp_path / "page.html")
    for width in (360, 1280):
        with browser.open(path.as_uri(), viewport={"width": width, "height": 800}) as tab:
            assert tab.evaluate("() => document.documentElement.scrollWidth") <= width
    with browser.open(path.as_uri()) as tab:
        outside = tab.evaluate("""() => Array.from(document.querySelectorAll(".plot svg text"))
            .filter(text => {
                const one = text.getBoundingClientRect();
                const all = text.closest("svg").getBoundingClientRect();
                return one.left < all.left - 1 || one.right > all.right + 1
                    || one.top < all.top - 1 || one.bottom > all.bottom + 1;
            }).map(text => text.textContent)""")
        assert outside == []
        for plot in tab.locator("#errors svg, #calibration svg").all():
            said = "".join(plot.locator("text").all_text_contents())
            assert all(name in said for name in names)


def contrast(tab, selector: str) -> float:
    """Return the contrast of an element's text with the page, by WCAG's formula."""
    colours = tab.evaluate(
        """selector => {
            const element = document.querySelector(selector), style = getComputedStyle(element);
            const colour = element instanceof SVGElement ? style.fill : style.color;
            return [colour, getComputedStyle(document.body).backgroundColor];
        }""",
        selector,
    )
    return contrast_of(*colours)


def test_comparison(browser, double: Path, runs: tuple[Path, Path]) -> None:
    scores = [json.loads((run / "evaluation.json").read_text())["polyp"] for run in runs]
    with browser.open(double.as_uri()) as tab:
        assert_whole(
            tab,
            [
                *("errors", "cases", "figures", "calibration", "images"),
                *("training", "configuration"),
            ],
        )
        row = tab.locator("header tbody tr").first.locator("th, td").all_inner_texts()
        gap = scores[0]["Dice"] - scores[1]["Dice"]
        assert row[:4] == ["Dice", *(f"{s['Dice']:.3f}" for s in scores), f"{gap:+.3f}"]
        low, high = (float(bound) for bound in row[4].split(" to "))
        assert low <= gap <= high
        # Every image's difference is that of its two columns.
        heads = tab.locator("#images thead th").all_inner_texts()
        first = next(k for k, head in enumerate(heads) if head.startswith("Dice"))
        for row in tab.locator("#images tbody tr").all():
            shown = row.locator("th, td").all_inner_texts()[first : first + 3]
            ours, theirs, gap = map(float, shown)
            assert gap == pytest.approx(ours - theirs, abs=0.0011)


def test_runs_of_other_thresholds(browser, runs: tuple[Path, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(runs[1], tmp_path / "other")
    config, key = copy / "config.yaml", "score_threshold"
    cfg = load_config(str(config))
    evaluators = cfg.dataloader.evaluator
    for node in evaluators.get("evaluators", [evaluators]):
        if str(node._target_).endswith("PolypEvaluator"):
            node[key] = 0.05
    save_config(cfg, str(config))
    path, notes = write_report(runs[0], copy)
    assert any("0.5 or more of" in note and "0.05 or more of other" in note for note in notes)
    with browser.open(path.as_uri()) as tab:
        assert "0.05 or more of other" in tab.inner_text("header table")


def test_a_run_without_dice_is_compared_by_f1(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """The same predictions: neither leads anywhere."""
    copy = shutil.copytree(runs[0], tmp_path / "other")
    cfg = load_config(str(copy / "config.yaml"))
    evaluators = cfg.dataloader.evaluator.evaluators
    kept = [one for one in evaluators if not str(one._target_).endswith("PolypEvaluator")]
    assert len(kept) < len(evaluators)
    cfg.dataloader.evaluator.evaluators = kept
    save_config(cfg, str(copy / "config.yaml"))
    path, _ = write_report(runs[0], copy, output=tmp_path / "page.html")
    page = path.read_text()
    assert "F1 of each image in both runs" in page
    assert "+0.000" in page and " leads</h" not in page


def test_what_cannot_be_written_is_told_before_anything_is_predicted(
    runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inspire_d2.report.page.gather", lambda *_, **__: pytest.fail("predicts"))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_report(runs[0], output=tmp_path / "file" / "page.html")


def test_runs_of_one_name_are_told_apart(browser, runs: tuple[Path, Path], tmp_path: Path) -> None:
    folders = [shutil.copytree(run, tmp_path / f"fold{k}" / "seed0") for k, run in enumerate(runs)]
    path, _ = write_report(*folders)
    assert path == folders[0] / "report_vs_seed0.html"
    with browser.open(path.as_uri()) as tab:
        assert tab.inner_text("h1") == "fold0/seed0 and fold1/seed0"


def test_images_that_are_gone(browser, runs: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0].parent / "data", tmp_path / "data")
    run = write_run(tmp_path / "run", tmp_path / "data" / "val.json", f"gone_{tmp_path.name}")
    shutil.rmtree(tmp_path / "data" / "images")
    path, notes = write_report(run)
    assert any("not at hand" in note and "no pictures" in note for note in notes)
    with browser.open(path.as_uri()) as tab:
        assert tab.errors == [] and tab.locator("img").count() == 0
        assert "no pictures" in tab.inner_text("aside")
        assert tab.locator("#images tbody tr").count() == 24
        assert "polyps missed" in tab.inner_text("#errors")


def test_image_that_cannot_be_read_is_noted(runs: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0].parent / "data", tmp_path / "data")
    run = write_run(tmp_path / "run", tmp_path / "data" / "val.json", f"cut_{tmp_path.name}")
    for path in (tmp_path / "data" / "images").glob("polyp_0*"):
        path.write_bytes(path.read_bytes()[:700])  # the header is whole
    path, notes = write_report(run)
    (note,) = [note for note in notes if "cannot be read" in note]
    assert 0 < int(note.split()[0]) <= 10 and note.endswith("pictures are left out.")
    assert "data:image/jpeg" in path.read_text()


@pytest.mark.parametrize(
    ("name", "drawn"), [("Adénome", "Adenome"), ("腺瘤", "class 7"), ("polyp", "polyp"), ("", "")]
)
def test_labels_are_what_can_be_drawn(name: str, drawn: str) -> None:
    assert _drawable(name, Thing(7, [0, 0, 1, 1], None, 0.5)) == drawn


def test_several_classes_without_dice(browser, runs: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0].parent / "data", tmp_path / "data")
    json_file = tmp_path / "data" / "val.json"
    content = json.loads(json_file.read_text())
    content["categories"] = [{"id": 3, "name": "<i>flat"}, {"id": 7, "name": "$x$ round"}]
    for annotation in content["annotations"]:
        annotation["category_id"] = (3, 7)[annotation["id"] % 2]
    json_file.write_text(json.dumps(content))
    run = write_run(tmp_path / "run", json_file, f"classes_{tmp_path.name}", polyps=False)
    path, _ = write_report(run)
    scores = json.loads((run / "evaluation.json").read_text())
    with browser.open(path.as_uri()) as tab:
        assert tab.errors == [] and tab.broken_images() == []
        table = tab.locator("#results table", has_text="class")
        rows = [row.locator("th, td").all_inner_texts() for row in table.locator("tbody tr").all()]
        for id_, name, row in zip((3, 7), ("<i>flat", "$x$ round"), rows, strict=True):
            objects = sum(one["category_id"] == id_ for one in content["annotations"])
            aps = [f"{scores[task][f'AP-{name}']:.1f}" for task in ("bbox", "segm")]
            assert row == [name, str(objects), *aps]
        assert "Dice" not in tab.inner_text("body")
        found = tab.locator(".key dt").all_inner_texts()
        assert found[:2] == ["objects found", "false positives per image"]
        # Each image's counts add up to all objects.
        heads = tab.locator("#images thead th").all_inner_texts()
        column = next(k for k, head in enumerate(heads) if head.startswith("objects"))
        table = tab.locator("#images table").element_handle()
        counts = tab.evaluate(f"([t, k]) => ({COLUMN})(t, k)", [table, column])
        assert sum(map(int, counts)) == len(content["annotations"])
