"""What scoring costs: libraries that compute COCO's AP and AR, side by side on one set."""

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from inspire_d2.evaluation.coco_ap import STANDARD_MAX_DETS, evaluate_ap

from .alternate import alternate
from .arithmetic import paired_ratios, spread
from .memory import ChildError, measure_in_child, peak_bytes, private_bytes, reset_peak
from .runner import progress
from .scoring_set import ScoringSet, make_set
from .tables import number, table

__all__ = ["LIBRARIES", "ScoringCosts", "measure_scoring", "scoring_tables"]

REFERENCE = "pycocotools"
TASKS = {"bbox": "boxes", "segm": "masks"}
TOLERANCE = 1e-4  # of COCO's numbers, which are 0 to 1
MB = 1e6
NOTE = (
    "Seconds from results in memory to the 12 numbers, checks included: medians of rounds in which"
    f" every library scores once; times as fast: the median of each round's ratio to {REFERENCE}"
    " (quartiles). Difference: the largest of the 12 numbers of boxes and masks. Memory is what"
    " scoring adds, in a process of its own, to the ground truth and the results."
)

Truth, Results = COCO, list[dict[str, Any]]


def _hotcoco(truth: Truth, results: Results, task: str) -> Sequence[float]:
    return evaluate_ap(truth, results, task, backend="hotcoco", max_dets=STANDARD_MAX_DETS).stats


def _pycocotools(truth: Truth, results: Results, task: str) -> Sequence[float]:
    return evaluate_ap(
        truth, results, task, backend="pycocotools", max_dets=STANDARD_MAX_DETS
    ).stats


def _detectron2(truth: Truth, results: Results, task: str) -> Sequence[float]:
    from detectron2.evaluation.fast_eval_api import COCOeval_opt

    return _score(COCOeval_opt, truth, results, task)


def _faster_coco_eval(truth: Truth, results: Results, task: str) -> Sequence[float]:
    from faster_coco_eval import COCO as FasterCOCO  # noqa: N811
    from faster_coco_eval import COCOeval_faster

    annotations = [dict(one) for one in truth.dataset["annotations"]]  # it writes into them
    mine = FasterCOCO({**truth.dataset, "annotations": annotations})
    return _score(COCOeval_faster, mine, results, task)


def _score(kind: Callable[..., Any], truth: Any, results: Results, task: str) -> Sequence[float]:
    other = {"bbox": "segmentation", "segm": "bbox"}[task]
    mine = [{key: value for key, value in one.items() if key != other} for one in results]
    scorer = kind(truth, truth.loadRes(mine), task)
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    return scorer.stats[:12]


LIBRARIES: dict[str, Callable[[Truth, Results, str], Sequence[float]]] = {
    REFERENCE: _pycocotools,
    "Detectron2's COCOeval_opt": _detectron2,
    "faster-coco-eval": _faster_coco_eval,
    "hotcoco": _hotcoco,
}


@dataclass
class ScoringCosts:
    """What has been measured so far; ``left_out`` says why a library was not."""

    environment: dict[str, object]
    size: ScoringSet
    detections: int = 0
    seconds: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # task, library
    numbers: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # task, library
    peak_mb: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def differences(self) -> dict[str, float]:
        """Return how far each library's numbers are from the reference's, at most."""
        found: dict[str, float] = {}
        for by_library in self.numbers.values():
            if reference := by_library.get(REFERENCE):
                for name, values in by_library.items():
                    apart = float(np.abs(np.subtract(values, reference)).max())
                    found[name] = max(apart, found.get(name, 0.0))
        return found

    def disagreeing(self) -> list[str]:
        """Name the libraries whose numbers are others than the reference's."""
        return [name for name, apart in self.differences().items() if not apart <= TOLERANCE]

    def save(self, path: Path) -> None:
        """Write all of it, raw values included, as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def measure_scoring(costs: ScoringCosts, rounds: int, warmup: int, threads: int) -> Iterator[None]:
    """Fill in the costs, library by library in turn; yield after each part.

    Libraries that cannot be had are left out.
    """
    truth, results = make_set(costs.size)
    costs.detections = len(results)
    tiny = make_set(ScoringSet(images=1, objects=2))
    available = []
    for name, library in LIBRARIES.items():
        try:
            with _silence():
                library(*tiny, "bbox")
        except Exception as error:  # of an extension that is not built, or for another numpy
            # Python adds the path of the module that lacks something.
            reason = str(error).partition(" (/")[0]
            costs.left_out[name] = f"{type(error).__name__}: {reason}"
        else:
            available.append(name)
    for task, label in TASKS.items():
        seconds = costs.seconds[task] = {name: [] for name in available}
        numbers = costs.numbers[task] = {}

        def scoring(name: str, task: str = task, numbers: dict = numbers) -> Callable[[], None]:
            def step() -> None:
                with _silence():
                    stats = LIBRARIES[name](truth, results, task)
                numbers[name] = [float(value) for value in stats]

            return step

        steps = {name: scoring(name) for name in available}
        timed = alternate(steps, rounds, warmup)
        total = (rounds + warmup) * len(steps)
        for index, name, value in progress(timed, total, f"{costs.size}: {label}"):
            if index >= 0:
                seconds[name].append(value)
        yield
    for name in progress(available, len(available), "peak memory"):
        try:
            costs.peak_mb[name] = measure_in_child(_added, costs.size, name, threads=threads) / MB
        except ChildError as error:
            costs.left_out[f"the memory of {name}"] = str(error)
    yield


def scoring_tables(costs: ScoringCosts) -> str:
    """Lay out one table of all libraries, the reference first, and what is missing."""
    apart = costs.differences()
    rows = []
    for name in next(iter(costs.seconds.values()), {}):
        row = [name]
        for task in TASKS:
            by_library = costs.seconds.get(task, {})
            values, reference = by_library.get(name, []), by_library.get(REFERENCE, [])
            ratios = paired_ratios(reference, values)
            row.append(number(spread(values).median) if values else "-")
            row.append(_quartiles(ratios) if ratios else "-")
        row.append(f"{apart[name]:.0e}" if name in apart else "-")
        row.append(number(costs.peak_mb[name]) if name in costs.peak_mb else "-")
        rows.append(row)
    header = ["library"]
    for label in TASKS.values():
        header += [f"{label}, s", "times as fast"]
    header += ["difference", "memory, MB"]
    repeats = max((len(v) for by in costs.seconds.values() for v in by.values()), default=0)
    heading = f"### Scoring {costs.size}, {costs.detections} detections (rounds: {repeats})"
    environment = "; ".join(f"{key} {value}" for key, value in costs.environment.items())
    parts = [heading, f"{environment}.", table(header, rows), NOTE]
    parts += [f"Left out: {name} ({reason})." for name, reason in costs.left_out.items()]
    return "\n\n".join(parts) + "\n"


def _quartiles(ratios: Sequence[float]) -> str:
    low, median, high = (f"{value:.1f}" for value in spread(ratios))
    return f"{median} ({low}-{high})"


def _added(size: ScoringSet, name: str) -> float:
    """Return the bytes that scoring boxes, then masks, adds at most to what the set takes."""
    truth, results = make_set(size)
    tiny = make_set(ScoringSet(images=1, objects=2))
    with _silence():
        LIBRARIES[name](*tiny, "bbox")  # imports, whose memory is not scoring's
        before = private_bytes()
        reset_peak("cpu")
        for task in TASKS:
            LIBRARIES[name](truth, results, task)
    return peak_bytes("cpu") - before


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Drop the tables that the libraries print."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
