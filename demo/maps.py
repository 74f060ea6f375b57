"""What the pyramid made of an image, as HTML: its maps at each step, and lambda."""

import base64
from collections.abc import Iterator

import cv2
import matplotlib
import numpy as np

from inspire_d2.visualization.pyramid import Record, crop

__all__ = ["levels_of", "maps_html"]

NORMS, LAMBDAS = "magma", "coolwarm"  # as tools/inspect_pyramid.py draws them
EXPLAINED = (
    "First the strength of the pyramid’s map at each step. λ weighs the two maps that are fused: "
    "above 1 the coarser one counts more (in the feedback: the pyramid’s), below 1 the encoder’s; "
    "at 1 it is FPN’s plain sum."
)


def levels_of(made: Record) -> list[str]:
    """Return the names of the pyramid's maps, such as "P2", the finest first."""
    return sorted((part for part in made if part.startswith("P")), key=lambda part: int(part[1:]))


def maps_html(made: Record, level: str, size: tuple[int, int]) -> str:
    """Return one level's maps of an image of ``size`` (h, w) side by side, as figures."""
    figures = "".join(_figures(made, level, size))
    return f'<div class="maps">{figures}</div><p class="small">{EXPLAINED}</p>'


def _figures(made: Record, level: str, size: tuple[int, int]) -> Iterator[str]:
    """Yield the figures in the order of the steps; a level without a fusion has no lambda."""
    top = max(float(one.max()) for one in made[level])
    for step, one in enumerate(made[level], 1):
        yield _figure(f"{level}, step {step}", crop(one, level, size), NORMS, top)
    for step, one in enumerate(made.get(f"fusion{level[1:]} lambda", []), 1):
        yield _figure(f"λ of {level}, step {step}", crop(one, level, size), LAMBDAS, 2)
    for step, one in enumerate(made.get(f"ssba{level[1:]} lambda", []), 2):
        yield _figure(f"λ of the feedback, step {step}", crop(one, level, size), LAMBDAS, 2)


def _figure(title: str, values: np.ndarray, colours: str, top: float) -> str:
    """Return a map (h, w) of values 0..top in colours, with its title and scale."""
    colormap = matplotlib.colormaps[colours]
    rgb = colormap(values / max(top, 1e-12), bytes=True)[..., :3]
    image = base64.b64encode(cv2.imencode(".png", rgb[:, :, ::-1])[1]).decode()
    stops = ", ".join(matplotlib.colors.to_hex(colormap(at)) for at in np.linspace(0, 1, 9))
    return (
        f'<figure><img alt="{title}" src="data:image/png;base64,{image}"><figcaption>{title}'
        f'<span class="scale">0<i style="background: linear-gradient(90deg, {stops})"></i>'
        f"{top:.3g}</span></figcaption></figure>"
    )
