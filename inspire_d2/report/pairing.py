"""Which images two runs have in common: those of one name, size and truth."""

from collections.abc import Sequence

from inspire_d2.report.cases import Case

__all__ = ["Pair", "pair_cases"]

Pair = tuple[Case, Case]


def pair_cases(ours: Sequence[Case], theirs: Sequence[Case]) -> list[Pair]:
    """Return the cases of images that both runs were scored on, with the same truth.

    Of an image without objects the truth tells nothing: such are paired only where most of the
    images with objects that have a name in common are the same, or no run has any.
    """
    other = {case.item.name: case for case in theirs}
    named = [(case, other[case.item.name]) for case in ours if case.item.name in other]
    same = [pair for pair in named if _is_same(*pair)]
    with_objects = [pair for pair in named if any(case.num_true for case in pair)]
    agreeing = [pair for pair in same if pair[0].num_true]
    sets_agree = 2 * len(agreeing) > len(with_objects) or not any(
        case.num_true for case in (*ours, *theirs)
    )
    return same if sets_agree else agreeing


def _is_same(a: Case, b: Case) -> bool:
    """Whether two cases of one name are of one image, as far as both runs know it."""
    if (a.num_true, round(a.truth_pixels)) != (b.num_true, round(b.truth_pixels)):
        return False
    if not (a.item.width and b.item.width):  # of one there are counts alone
        return a.item.id == b.item.id
    if (a.item.width, a.item.height) != (b.item.width, b.item.height):
        return False
    boxes = _boxes(a)
    return boxes == _boxes(b) and bool(boxes or a.item.id == b.item.id)


def _boxes(case: Case) -> list[tuple[int, ...]]:
    return sorted(tuple(map(round, one.box)) for one in case.item.things if not one.crowd)
