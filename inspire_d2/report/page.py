"""The page about a run: what comes in which order."""

from pathlib import Path

from inspire_d2.data.coco_json import check_writable
from inspire_d2.errors import InputError
from inspire_d2.report import about
from inspire_d2.report.blocks import Figure, Page, Section, Text
from inspire_d2.report.cards import galleries, row_id
from inspire_d2.report.cases import Case
from inspire_d2.report.comparison import compare
from inspire_d2.report.listing import image_table, missed_table
from inspire_d2.report.plots import Point, scatter, size_bars
from inspire_d2.report.render import render, write_page
from inspire_d2.report.results import key_figures, result_tables
from inspire_d2.report.sections import calibration_section, setup_section, training_section
from inspire_d2.report.sizes import COCO_SIZES, POLYP_SIZES, count_by_size
from inspire_d2.report.subject import Subject, gather
from inspire_d2.report.volumes import volume_sections

__all__ = ["write_report"]


def write_report(
    run: Path,
    other: Path | None = None,
    output: Path | None = None,
    *,
    force: bool = False,
    checkpoint: str | None = None,
    device: str | None = None,
    may_predict: bool = True,
) -> tuple[Path, list[str]]:
    """Write a page about a run, or about how it compares with another.

    Args:
        run: the output folder of train_net.py.
        other: that of another, scored on the same images.
        output: the file to write; None takes RUN/report.html, or RUN/report_vs_OTHER.html.
        force: write over a file that is there.
        checkpoint: weights of ``run`` to predict with, whatever it saved.
        device: of the models; None takes the GPU if there is one.
        may_predict: whether models may be run, for what the runs did not save.

    Returns:
        The file, and what is missing from it, in sentences.

    Raises:
        InputError: a folder holds no run, the runs have nothing in common, the file is there or
            cannot be written, or ``checkpoint`` cannot be used.
    """
    name = "report.html" if other is None else f"report_vs_{other.resolve().name}.html"
    output = run / name if output is None else output
    if output.is_dir():
        raise InputError(f"{output} is a folder: name a file.")
    if output.exists() and not force:
        raise InputError(f"{output} is there already: take --force, or another --output.")
    if run.is_dir():
        check_writable(output.absolute().parent)  # before what may take long
    subject = gather(run, checkpoint=checkpoint, device=device, may_predict=may_predict)
    if other is None:
        page = describe(subject)
    else:
        page = compare(subject, gather(other, device=device, may_predict=may_predict))
    write_page(render(page), output)
    return output, page.notes


def describe(subject: Subject) -> Page:
    """Lay out the page about one run."""
    page = Page(subject.name, f"Evaluation report: {subject.run.folder}", [about.headline(subject)])
    page.key_figures = key_figures(subject)
    page.key_note = _key_note(subject, any(one.interval for one in page.key_figures))
    data, notes = about.data_table(subject)
    if subject.run.has_volumes:
        page.sections += volume_sections(subject)
    else:
        page.sections += [_results(subject), _errors(subject), _pictures(subject)]
        page.sections.append(calibration_section({subject.name: subject.calibration}))
        page.sections.append(_images(subject))
    page.sections += [
        Section("data", "Data", [data] if data else []),
        training_section([subject]),
        setup_section([subject]),
    ]
    page.sections = [section for section in page.sections if section.blocks]
    page.notes = [*subject.notes, *notes]  # the pictures may have added to them
    return page


def _key_note(subject: Subject, with_intervals: bool) -> str:
    sentences = []
    if subject.cases:
        sentences.append(f"Predictions of score {subject.run.threshold:g} or more count.")
    if with_intervals:
        over = "patients" if subject.run.has_volumes else "images"
        sentences.append(f"Below a figure its 95 % interval, by bootstrap over {over}.")
    return " ".join(sentences)


def _results(subject: Subject) -> Section:
    return Section("results", "Results", list(result_tables(subject)))


def _errors(subject: Subject) -> Section:
    """Show where it errs: by size, and which objects are missed."""
    section = Section("errors", "Where it errs")
    polyps = subject.run.has_polyps
    positives = [case for case in subject.cases if case.num_true and case.truth_pixels]
    if positives:
        section.add(Figure(_size_scatter(positives, polyps), "Each dot is an image: hover, click."))
    if any(case.detailed for case in subject.cases):
        sizes = POLYP_SIZES if polyps else COCO_SIZES
        counts = count_by_size(subject.cases, sizes)
        things = "polyps" if polyps else "objects"
        groups = {f"{things} found": counts.found, f"{things} missed": counts.missed}
        groups["false positives"] = counts.false
        svg = size_bars(
            sizes.names, groups, x=sizes.unit, y="number", label=f"{things} and errors by size"
        )
        section.add(Figure(svg, f"Score {subject.run.threshold:g} or more, IoU 0.5 or more."))
        section.add(missed_table(subject))
    return section


def _size_scatter(positives: list[Case], polyps: bool) -> str:
    sized = all(case.item.width for case in positives)
    points = [
        Point(
            100 * case.truth_share if sized else case.truth_pixels,
            case.score,
            f"{case.item.name}: {case.score:.3f}",
            f"#{row_id(case)}",
            marked=case.num_found < case.num_true,
        )
        for case in positives
    ]
    thing = "polyp" if polyps else "object"
    return scatter(
        points,
        x="size of the truth, % of the image" if sized else "size of the truth, pixels",
        y="Dice" if polyps else "F1 at IoU 0.5",
        label="score of each image by the size of its truth",
        legend=(f"every {thing} found", f"a {thing} missed"),
        log=True,
    )


def _pictures(subject: Subject) -> Section:
    section = Section("cases", "Cases", galleries(subject))
    if section.blocks:
        section.blocks.insert(
            0,
            Text(
                "Left the image, right the ground truth's outline in green and predictions of "
                f"score {subject.run.threshold:g} or more in blue. A title leads to the row of "
                "the table of every image."
            ),
        )
    return section


def _images(subject: Subject) -> Section:
    return Section("images", "Every image", [image_table(subject)] if subject.cases else [])
