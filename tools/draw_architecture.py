#!/usr/bin/env python
"""Draw the architecture of INSPIRE, as the README shows it.

    python tools/draw_architecture.py --output docs/architecture.png

From left to right: step 1, the bottom-up pass and its pyramid; SSBA, which feeds the pyramid back
into the second bottom-up pass; step 2, the pyramid that the heads see. Lengths are inches.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon

WIDTH, HEIGHT = 18.0, 9.6
INK, GREY = "#1f2d3a", "#6b7785"
ENCODER, PYRAMID, HEAD = "#bcd0ea", "#a9dbb8", "#d8cdec"
ISE, ISA, SSBA = "#f7cf7f", "#f2a978", "#ec8f8f"
PANEL = "#f4f6f8"

ROW = {2: 3.2, 3: 4.7, 4: 6.1, 5: 7.4}  # level: its height in the figure
HALF = {2: 0.72, 3: 0.61, 4: 0.52, 5: 0.44}  # level: half the width of its feature map
# Columns. Step 1 reads C, ISE, ISA, P; step 2 begins with SSBA and ends with the heads.
C1, ISE1, ISA1, P1 = 1.3, 2.95, 4.15, 5.6
SSBA2, C2, ISE2, ISA2, P2 = 7.6, 9.3, 10.95, 12.15, 13.6
CONV, HEADS = 15.2, 16.95


def main(argv: list[str] | None = None) -> None:
    """Write the figure; exits with 2 where it cannot be written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="docs/architecture.png", help="default: %(default)s")
    args = parser.parse_args(argv)
    figure = draw()
    kinds = figure.canvas.get_supported_filetypes()
    kind = Path(args.output).suffix[1:].lower()
    smaller = {"pil_kwargs": {"optimize": True}} if kind == "png" else {}
    try:
        if kind not in kinds:
            parser.error(f"--output {args.output} must end in one of {', '.join(sorted(kinds))}.")
        Path(args.output).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(args.output, dpi=100, facecolor="white", **smaller)
    except OSError as error:
        parser.error(f"--output {args.output} cannot be written: {error.strerror}.")
    finally:
        plt.close(figure)
    print(f"wrote {args.output}")


def draw() -> Figure:
    """Return the figure, 18 x 9.6 inches."""
    plt.rcParams.update({"font.family": "DejaVu Sans", "mathtext.fontset": "stix"})
    headings = {C1: "bottom-up", P1: "pyramid", SSBA2: "feedback", C2: "bottom-up", P2: "pyramid"}
    figure = plt.figure(figsize=(WIDTH, HEIGHT))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, HEIGHT))
    axes.axis("off")
    _panel(axes, 0.25, 6.55, "Step 1: a first pyramid")
    _panel(axes, 6.85, 14.55, "Step 2: back into the encoder, and up again")
    for x, heading in headings.items():
        _note(axes, x, 8.22, heading, ha="center")
    _step_one(axes)
    _step_two(axes)
    _feedback(axes)
    _outputs(axes)
    _legend(axes)
    return figure


def _step_one(axes: Axes) -> None:
    for level, y in ROW.items():
        _plane(axes, C1, level, ENCODER, f"$C_{level}$")
        _pyramid_row(axes, level, C1, ISE1, ISA1, P1, f"$P_{level}$", f"$R_{level}$")
        if level < 5:
            _arrow(axes, (C1, y + 0.27), (C1, ROW[level + 1] - 0.27))
            _note(axes, C1 + 0.12, (y + ROW[level + 1]) / 2, f"res{level + 1}")
    _arrow(axes, (C1, 2.28), (C1, ROW[2] - 0.27))
    _note(axes, C1 - 0.12, 2.58, "stem,\nres2", ha="right")
    axes.text(C1, 2.08, "image", ha="center", va="center", fontsize=17, color=INK)


def _step_two(axes: Axes) -> None:
    for level, y in ROW.items():
        _plane(axes, C2, level, ENCODER, rf"$\tilde{{C}}_{level}$")
        _chip(axes, SSBA2, y, "SSBA", SSBA, 0.52)
        _arrow(axes, (SSBA2 + 0.52, y), (C2 - HALF[level] - 0.02, y))
        _pyramid_row(axes, level, C2, ISE2, ISA2, P2, f"$P_{level}'$", f"$R_{level}'$")


def _feedback(axes: Axes) -> None:
    for level, y in ROW.items():
        _arrow(axes, (P1 + HALF[level] + 0.02, y), (SSBA2 - 0.52, y), color="#c0392b", width=3.2)
        if level < 5:  # C~_j goes through the next stage to that level's SSBA
            above = ROW[level + 1]
            middle = (y + above) / 2 - 0.02
            axes.plot([C2, C2, SSBA2], [y + 0.27, middle, middle], color=INK, lw=2.2, zorder=2)
            _arrow(axes, (SSBA2, middle), (SSBA2, above - 0.24))
            _note(axes, (C2 + SSBA2) / 2 + 0.1, middle + 0.17, f"res{level + 1}", ha="center")
    # C_2 itself: the same image, so stem and res2 are not run again.
    start = C1 + HALF[2] * 0.75
    axes.plot(
        [start, start, SSBA2],
        [ROW[2] - 0.27, 2.28, 2.28],
        color=INK,
        lw=2.2,
        ls=(0, (4, 2.5)),
        zorder=2,
    )
    _arrow(axes, (SSBA2, 2.28), (SSBA2, ROW[2] - 0.24))
    _note(axes, 4.75, 2.46, "$C_2$, computed once", ha="center")


def _outputs(axes: Axes) -> None:
    top, bottom = ROW[5] + 0.45, ROW[2] - 0.45
    axes.add_patch(_rounded(HEADS - 0.8, bottom, 1.6, top - bottom, HEAD))
    middle = (top + bottom) / 2
    style = {"ha": "center", "va": "center", "color": INK}
    axes.text(HEADS, middle + 0.75, "Heads", fontsize=20, weight="bold", **style)
    kinds = "Mask R-CNN\nCascade\nHTC"
    axes.text(HEADS, middle - 0.3, kinds, fontsize=16, linespacing=1.6, **style)
    for level, y in ROW.items():
        _arrow(axes, (P2 + HALF[level] + 0.02, y), (CONV - 0.36, y))
        _chip(axes, CONV, y, "3×3", "#e3e7eb", 0.36)
        _arrow(axes, (CONV + 0.36, y), (HEADS - 0.8, y))
        axes.text(CONV + 0.6, y + 0.17, f"$p_{level}$", ha="center", fontsize=20, color=INK)


def _legend(axes: Axes) -> None:
    cards = [
        (
            ISE,
            "ISE",
            "each scale enriches itself",
            r"$R_j = L_j C_j + F_{fe}(C_j,\, F_{ad}(C_j))$",
        ),
        (
            ISA,
            "ISA",
            "align, then fuse adaptively",
            r"$P_{j-1} = F_{af}(\mathrm{align}(P_j\!\uparrow),\, R_{j-1})$",
        ),
        (
            SSBA,
            "SSBA",
            "the pyramid augments the encoder",
            r"$\tilde{C}_j = F_{af}(F_{fe}(P_j,\, F_{ad}(P_j)),\, C_j)$",
        ),
    ]
    for k, (colour, name, what, formula) in enumerate(cards):
        x = 0.25 + 5.9 * k
        axes.add_patch(_rounded(x, 0.2, 5.7, 1.4, "white", edge=colour, line=3))
        circle = name == "ISA"
        _chip(axes, x + 0.72, 1.15, name, colour, 0.35 if circle else 0.52, circle=circle)
        axes.text(x + 1.4, 1.15, what, va="center", fontsize=16, color=INK)
        axes.text(x + 2.85, 0.54, formula, ha="center", va="center", fontsize=22, color=INK)


def _pyramid_row(
    axes: Axes, level: int, c: float, ise: float, isa: float, p: float, name: str, lateral: str
) -> None:
    """Draw one level from C over ISE and ISA to P, and what comes down from the level above."""
    y = ROW[level]
    _plane(axes, p, level, PYRAMID, name)
    _chip(axes, ise, y, "ISE", ISE, 0.4)
    _arrow(axes, (c + HALF[level] + 0.02, y), (ise - 0.4, y))
    axes.text(ise + 0.6, y + 0.16, lateral, ha="center", fontsize=18, color=GREY)
    if level == 5:  # the top is taken over as it is
        _arrow(axes, (ise + 0.4, y), (p - HALF[level] - 0.02, y))
        return
    _arrow(axes, (ise + 0.4, y), (isa - 0.36, y))
    _chip(axes, isa, y, "ISA", ISA, 0.36, circle=True)
    _arrow(axes, (isa + 0.36, y), (p - HALF[level] - 0.02, y))
    above, middle = ROW[level + 1], (y + ROW[level + 1]) / 2 + 0.1
    axes.plot([p, p, isa], [above - 0.27, middle, middle], color=INK, lw=2.2, zorder=2)
    _arrow(axes, (isa, middle), (isa, y + 0.36))


def _panel(axes: Axes, left: float, right: float, title: str) -> None:
    axes.add_patch(_rounded(left, 1.85, right - left, 7.5, PANEL, zorder=0))
    axes.text(
        (left + right) / 2,
        8.9,
        title,
        ha="center",
        va="center",
        fontsize=20,
        weight="bold",
        color=INK,
    )


def _plane(axes: Axes, x: float, level: int, colour: str, name: str) -> None:
    """Draw a feature map as a slanted plane; finer levels are larger."""
    half, tall, slant = HALF[level], 0.27, 0.16
    y = ROW[level]
    corners = [
        (x - half - slant / 2, y - tall),
        (x + half - slant / 2, y - tall),
        (x + half + slant / 2, y + tall),
        (x - half + slant / 2, y + tall),
    ]
    axes.add_patch(Polygon(corners, facecolor=colour, edgecolor=INK, lw=1.6, zorder=3))
    axes.text(x, y - 0.02, name, ha="center", va="center", fontsize=22, color=INK, zorder=4)


def _chip(
    axes: Axes, x: float, y: float, name: str, colour: str, half: float, circle: bool = False
) -> None:
    if circle:
        patch = Circle((x, y), half, facecolor=colour, edgecolor=INK, lw=1.6, zorder=3)
    else:
        patch = _rounded(x - half, y - 0.24, 2 * half, 0.48, colour, edge=INK, line=1.6, zorder=3)
    axes.add_patch(patch)
    axes.text(
        x, y - 0.01, name, ha="center", va="center", fontsize=15, weight="bold", color=INK, zorder=4
    )


def _rounded(
    x: float,
    y: float,
    width: float,
    height: float,
    colour: str,
    edge: str = "none",
    **style: float,
) -> FancyBboxPatch:
    return FancyBboxPatch(
        (x + 0.1, y + 0.1),
        width - 0.2,
        height - 0.2,
        boxstyle="round,pad=0.1",
        facecolor=colour,
        edgecolor=edge,
        lw=style.get("line", 0),
        zorder=style.get("zorder", 1),
    )


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    color: str = INK,
    width: float = 2.2,
) -> None:
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=17,
            lw=width,
            color=color,
            shrinkA=0,
            shrinkB=0,
            zorder=2,
        )
    )


def _note(axes: Axes, x: float, y: float, text: str, ha: str = "left") -> None:
    axes.text(x, y, text, ha=ha, va="center", fontsize=14.5, color=GREY, zorder=4)


if __name__ == "__main__":
    main()
