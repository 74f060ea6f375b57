"""What INSPIRE's parts do on an image: lambda, offsets, gates and maps, recorded and drawn.

Shape shorthand in this module: H, W the image as the model sees it; h, w a map of the pyramid.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn

from inspire_d2.modeling import AdaptiveFusion, FlowAlign, InspireFPN

__all__ = ["Record", "crop", "draw_record", "record", "summarize"]

# Part, such as "ssba3 lambda": what it made in each of its calls, in order.
Record = dict[str, list[torch.Tensor]]
ARROWS = 14  # across the longer side of a map


@contextmanager
def record(pyramid: InspireFPN) -> Iterator[Record]:
    """Record what the pyramid's parts make while the block runs, for the first image of a batch.

    ======================  ========================================================================
    ``fusion{j} lambda``    ISA's lambda, (h, w), 0..2, a map a step
    ``align{j} flow``       offsets (2, h, w), x before y, in coarse pixels, a map a step
    ``ise{j} share``        norm of the enhancement / norm of the lateral's output, a number a step
    ``ise{j} gate``         the channels' gates (c,), 0..1, a vector a step
    ``ssba{j} lambda``      SSBA's lambda, (h, w), 0..2, a map for each step but the first
    ``P{j}``                the norm of the pyramid's map over its channels, (h, w), a map a step
    ======================  ========================================================================
    """
    made: Record = defaultdict(list)
    undo: list[Callable[[], None]] = []
    for name, child in pyramid.named_children():
        fusion = getattr(child, "fusion", child)
        if isinstance(fusion, AdaptiveFusion):
            undo.append(_listen(fusion, "gate", made[f"{name} lambda"]))
        if isinstance(child, FlowAlign):
            undo.append(_listen(child, "flow", made[f"{name} flow"]))
        if name.startswith("ise"):
            undo.append(_share(child, made[f"{name} share"]))
            hook = child.descriptor.register_forward_hook(_keeper(made[f"{name} gate"]))
            undo.append(hook.remove)
    build = pyramid._build_pyramid

    def build_and_keep(features: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        maps = build(features)
        for level, p in zip(pyramid._levels, maps, strict=True):
            made[f"P{level}"].append(p[0].detach().float().norm(dim=0).cpu())
        return maps

    pyramid._build_pyramid = build_and_keep
    undo.append(lambda: delattr(pyramid, "_build_pyramid"))
    try:
        yield made
    finally:
        for step in undo:
            step()


def _listen(module: nn.Module, method: str, kept: list[torch.Tensor]) -> Callable[[], None]:
    """Keep what a method returns for the first image; return what undoes it."""
    call = getattr(module, method)

    def call_and_keep(*args: torch.Tensor) -> torch.Tensor:
        result = call(*args)
        kept.append(result[0].detach().float().squeeze(0).cpu())
        return result

    setattr(module, method, call_and_keep)
    return lambda: delattr(module, method)


def _keeper(kept: list[torch.Tensor]) -> Callable[..., None]:
    def keep(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        kept.append(output[0].detach().float().flatten().cpu())

    return keep


def _share(module: nn.Module, kept: list[torch.Tensor]) -> Callable[[], None]:
    def keep(_module: nn.Module, _args: Any, kwargs: dict[str, Any], output: torch.Tensor) -> None:
        lateral = kwargs["onto"][0].detach().float()
        kept.append(((output[0].detach().float() - lateral).norm() / lateral.norm()).cpu())

    return module.register_forward_hook(keep, with_kwargs=True).remove


def summarize(records: Sequence[Record]) -> list[tuple[str, ...]]:
    """Return a table's rows (part, step, mean, std, min, max) over images; the head comes first.

    Flows count by their length, in coarse pixels. "change" is how far a pyramid's map (of its norms
    over the channels) moved since the step before, as a share of that step's.
    """
    rows: list[tuple[str, ...]] = [("part", "step", "mean", "std", "min", "max")]
    for part in records[0]:
        for step in range(len(records[0][part])):
            maps = [made[part][step] for made in records]
            if part.startswith("P"):
                if step == 0:
                    continue
                before = [made[part][step - 1] for made in records]
                values = torch.stack(
                    [(a - b).norm() / b.norm() for a, b in zip(maps, before, strict=True)]
                )
            elif part.endswith("flow"):
                values = torch.cat([m.norm(dim=0).flatten() for m in maps])
            else:
                values = torch.cat([m.flatten() for m in maps])
            name = f"{part} change" if part.startswith("P") else part
            # SSBA stands before the second step's pyramid.
            number = step + 2 if part.startswith("ssba") else step + 1
            numbers = (values.mean(), values.std(unbiased=False), values.min(), values.max())
            rows.append((name, str(number), *(f"{float(v):.3f}" for v in numbers)))
    return rows


def draw_record(
    made: Record, image: np.ndarray, outlines: np.ndarray, prediction: np.ndarray, path: Path
) -> None:
    """Write a png: image and prediction, and a row of maps for each step.

    Args:
        image: (H, W, 3) uint8, RGB, without padding.
        outlines: (H, W) bool, the true mask; all False where it is not known.
        prediction: (H, W), 0..1.
    """
    steps = len(next(maps for part, maps in made.items() if part.startswith("P")))
    kinds = ("ssba", "align", "fusion", "P")  # in the order of their work
    parts = [p for kind in kinds for p in sorted(made) if p.startswith(kind) and made[p]]
    columns = max(len(parts), 2)
    height = 1.6 + 2.0 * image.shape[0] / image.shape[1] * (steps + 1)
    figure = Figure(figsize=(2.2 * columns, height), layout="constrained")
    axes = figure.subplots(steps + 1, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, title, background in (
        (axes[0, 0], "image, true outline", None),
        (axes[0, 1], "prediction", prediction),
    ):
        axis.imshow(image)
        if background is not None:
            axis.imshow(background, cmap="magma", vmin=0, vmax=1, alpha=0.7)
        if outlines.any():
            axis.contour(outlines, levels=[0.5], colors="lime", linewidths=1)
        axis.set_title(title, fontsize=9)
    for column, part in enumerate(parts):
        for call, made_map in enumerate(made[part]):
            row = call + (2 if part.startswith("ssba") else 1)
            top = max(float(m.max()) for m in made[part])
            _draw_map(axes[row, column], part, made_map, row, top, image)
    FigureCanvasAgg(figure).print_png(path)


def _draw_map(
    axis: Axes, part: str, made: torch.Tensor, step: int, top: float, image: np.ndarray
) -> None:
    """Draw one map, without what lies beyond the image because of padding."""
    title = f"step {step}: {part}"
    if part.endswith("lambda"):
        shown = axis.imshow(crop(made, part, image.shape[:2]), cmap="coolwarm", vmin=0, vmax=2)
    elif part.endswith("flow"):
        flow = crop(made, part, image.shape[:2])
        length = np.linalg.norm(flow, axis=0)
        shown = axis.imshow(length, cmap="viridis", vmin=0)
        title += ", px"
        every = max(1, max(length.shape) // ARROWS)
        y, x = (np.arange(0, side, every) for side in length.shape)
        if length.max() > 0:
            u, v = (one[np.ix_(y, x)] for one in flow)
            axis.quiver(x, y, u, v, color="white", angles="xy", width=0.006)
    else:
        shown = axis.imshow(crop(made, part, image.shape[:2]), cmap="magma", vmin=0, vmax=top)
        title += ", norm"
    axis.set_title(title, fontsize=8)
    bar = axis.figure.colorbar(shown, ax=axis, fraction=0.04, pad=0.02)
    bar.ax.tick_params(labelsize=6)


def crop(made: torch.Tensor, part: str, size: tuple[int, int]) -> np.ndarray:
    """Cut the padding off a map (..., h, w).

    Args:
        part: its name, such as "P3" or "fusion3 lambda", whose number is log2 of its stride.
        size: the height and width of the image as the model sees it, without padding.
    """
    stride = 2 ** int(re.search(r"\d+", part)[0])
    rows, columns = -(-size[0] // stride), -(-size[1] // stride)
    return made[..., :rows, :columns].numpy()
