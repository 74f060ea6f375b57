"""Which cases are shown with pictures, and what stands below each."""

import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from inspire_d2.report.blocks import Card, Gallery, Picture
from inspire_d2.report.cases import Case
from inspire_d2.report.pictures import overlay, photo, to_data_url
from inspire_d2.report.sizes import pixels_of
from inspire_d2.report.subject import Subject
from inspire_d2.report.truth import Thing

__all__ = ["describe", "galleries", "picture", "row_id"]

SHOWN, OTHERS = 20, 12  # cases in a gallery: the worst and the best, and what else there is


def galleries(subject: Subject) -> list[Gallery]:
    """Choose the worst and best cases, objects missed and false positives; none without pictures.

    The worst come first, of equal ones those with the largest objects. Of few cases the best are
    those that are not among the worst. Images that cannot be read are noted and left out.
    """
    if subject.truth is None or subject.truth.problem:
        return []
    cases = [case for case in subject.cases if case.detailed]
    positives = [case for case in cases if case.num_true]
    positives.sort(key=lambda case: (case.score, -case.truth_pixels))
    worst = positives[: min(SHOWN, (len(positives) + 1) // 2)]
    best = positives[len(worst) :][::-1][:SHOWN]
    missing = [case for case in cases if case.missed]
    missing.sort(key=lambda case: -max(map(pixels_of, case.missed)))
    false = [case for case in cases if case.false]
    false.sort(key=lambda case: -max(thing.score for thing in case.false))
    by = "Dice" if subject.run.has_polyps else "F1"
    things = "polyps" if subject.run.has_polyps else "objects"
    groups = [
        (f"Worst by {by}", f"Of the images with {things}.", worst),
        (f"Best by {by}", f"Of the images with {things}.", best),
        (f"Missed {things}", f"Images with the largest {things} missed first.", missing[:OTHERS]),
        ("False positives", "Images with the surest false positives first.", false[:OTHERS]),
    ]
    made: dict[int, Card | None] = {}
    found = [
        Gallery(title, note, cards)
        for title, note, chosen in groups
        if (cards := _cards(chosen, subject, made))
    ]
    if unread := sum(card is None for card in made.values()):
        subject.notes.append(f"{unread} images cannot be read: their pictures are left out.")
    return found


def _cards(cases: Sequence[Case], subject: Subject, made: dict[int, Card | None]) -> list[Card]:
    """Make the cases' cards, each once; images that cannot be read have none."""
    for case in cases:
        if id(case) not in made:
            made[id(case)] = _card(case, subject)
    return [card for case in cases if (card := made[id(case)])]


def _card(case: Case, subject: Subject) -> Card | None:
    pixels = photo(case.item)
    if pixels is None:
        return None
    drawn = overlay(pixels, case.item.things, case.predicted, case.item, labels_of(case, subject))
    pictures = [
        picture(pixels, f"{case.item.name}, as it is"),
        picture(drawn, f"{case.item.name} with ground truth and predictions"),
    ]
    return Card(case.item.name, f"#{row_id(case)}", describe(case, subject), pictures)


def picture(pixels: np.ndarray, alt: str) -> Picture:
    """Return an image (H, W, 3) in BGR as a part of the page."""
    return Picture(to_data_url(pixels), pixels.shape[1], pixels.shape[0], alt)


def row_id(case: Case) -> str:
    """Return the id of a case's row in the table of all."""
    return f"image-{case.item.number}"


def labels_of(case: Case, subject: Subject) -> list[str]:
    """Return what stands at each prediction in the picture: of several classes their names."""
    name = namer(subject)
    return [f"{_drawable(name(one), one)} {one.score:.2f}".strip() for one in case.predicted]


def _drawable(name: str, thing: Thing) -> str:
    """Return a name in ASCII, all that OpenCV draws: its letters without accents, or a number."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().strip()
    return plain or (f"class {thing.category}" if name else "")


def namer(subject: Subject) -> Callable[[Thing], str]:
    """Return a function that names an object's class, where there are several."""
    categories = subject.truth.categories if subject.truth else {}
    if len(categories) < 2:
        return lambda thing: ""
    return lambda thing: categories.get(thing.category, f"class {thing.category}")


def describe(case: Case, subject: Subject) -> list[str]:
    """Say in two short lines how a case went."""
    first = [f"Dice {case.dice:.3f}"] if case.dice is not None else [f"F1 {case.f1:.2f}"]
    if case.item.centre:
        first.append(case.item.centre)
    if case.num_true:
        first.append(f"truth {100 * case.truth_share:.2g} % of the image")
    second = f"{case.num_found} of {case.num_true} found" if case.num_true else "nothing to find"
    second += f", {case.num_false} false"
    if case.false:
        second += f", the surest {max(thing.score for thing in case.false):.2f}"
    return [", ".join(first), second]
