"""The scene of a synthetic colonoscopy image: how wall, polyps, debris and light are drawn.

The scene is three fields that its parts change in place: albedo (colour), light (how much of the
headlight arrives) and relief (height, in pixels). :func:`render` turns them into an image.

Shape shorthand in this module: H, W (pixels of one image, or of a window of it). Fields are float32
(H, W); the albedo is float32 (H, W, 3), BGR, 0..1. All random numbers come from ``rng``.
"""

from dataclasses import dataclass

import cv2
import numpy as np

__all__ = ["View", "add_debris", "add_polyp", "mucosa", "render"]

_MIN_POLYP_AREA = 40  # pixels, at any size


@dataclass
class View:
    """Where the camera looks: pixel coordinates, distance to the lumen, and the endoscope's rim."""

    x: np.ndarray
    y: np.ndarray
    r: np.ndarray  # distance to the lumen's centre, in image widths
    rim: np.ndarray  # 1 where the endoscope sees, 0 in the black corners

    @classmethod
    def draw(cls, rng: np.random.Generator, height: int, width: int) -> "View":
        y, x = np.mgrid[:height, :width].astype(np.float32)
        if rng.random() < 0.7:  # the lumen is in sight
            cx, cy = width * rng.uniform(0.2, 0.8), height * rng.uniform(0.15, 0.85)
        else:  # the camera faces a wall
            angle = rng.uniform(0, 2 * np.pi)
            cx = width * (0.5 + 0.9 * np.cos(angle))
            cy = height * (0.5 + 0.9 * np.sin(angle))
        r = np.hypot((x - cx) / width, (y - cy) / width * rng.uniform(0.8, 1.25))
        r *= 1 + 0.18 * _noise(rng, height, width, 3)
        # A rounded square as the field of view; a large one leaves no black corners.
        reach = float(rng.choice([0.98, 1.02, 1.3])) / 0.97
        u = (x[:1] / width * 2 - 1) ** 6
        v = (y[:, :1] / height * 2 - 1) ** 6
        rim = np.clip((reach**6 - u - v) * 5, 0, 1)
        return cls(x, y, r.astype(np.float32), rim.astype(np.float32))

    def around(self, cx: float, cy: float, reach: float) -> tuple[slice, slice]:
        """Return the rows and columns within ``reach`` pixels of (cx, cy)."""
        rows = slice(max(0, int(cy - reach)), max(0, int(cy + reach) + 1))
        return rows, slice(max(0, int(cx - reach)), max(0, int(cx + reach) + 1))

    def crop(self, box: tuple[slice, slice]) -> "View":
        return View(self.x[box], self.y[box], self.r[box], self.rim[box])

    @property
    def shape(self) -> tuple[int, int]:
        return self.x.shape


def _noise(rng: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Smooth noise in about -2..2 with ``cells`` bumps along the width."""
    rows = max(2, round(cells * height / width)) + 2
    grid = rng.standard_normal((rows, cells + 2), dtype=np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)


def mucosa(rng: np.random.Generator, view: View) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the wall: its colour (H, W, 3) in BGR 0..1, its light and its relief (H, W)."""
    height, width = view.shape
    red = rng.uniform(0.72, 0.88)
    base = np.array([red * rng.uniform(0.32, 0.5), red * rng.uniform(0.45, 0.62), red], np.float32)
    patches = 0.05 * _noise(rng, height, width, 4) + 0.03 * _noise(rng, height, width, 14)
    grain = 0.025 * _noise(rng, height, width, 60)
    albedo = base * (1 + patches + grain)[..., None]
    albedo[..., 2] *= 1 + 0.03 * _noise(rng, height, width, 5)

    # Vessels run along the zero lines of smooth noise, and fade in and out.
    vessels = np.zeros((height, width), np.float32)
    for cells, depth in ((5, 0.22), (9, 0.14)):
        field = _noise(rng, height, width, cells) + 0.3 * _noise(rng, height, width, 3 * cells)
        line = np.exp(-((field / 0.07) ** 2)) * np.clip(_noise(rng, height, width, 3), 0, 1)
        vessels += depth * line
    albedo *= 1 - vessels[..., None] * np.array([0.9, 1.0, 0.45], np.float32)

    # Folds: rings around the lumen, closer together with distance, bright at the crest and in
    # shadow behind it; noise breaks them into arcs.
    turns = rng.uniform(1.3, 2.8)
    warp = 0.16 * _noise(rng, height, width, 3) + 0.05 * _noise(rng, height, width, 7)
    phase = np.mod(turns * np.log(view.r + 0.06) + warp + rng.random(), 1).astype(np.float32)
    arcs = np.clip(0.7 + 0.7 * _noise(rng, height, width, 3), 0, 1.3)
    crest, shadow = np.exp(-phase / 0.16), np.exp(-(1 - phase) / 0.22)
    folds = cv2.GaussianBlur(0.28 * crest - 0.5 * shadow, (0, 0), 0.006 * width) * arcs

    depth = np.clip((view.r - 0.02) / rng.uniform(0.25, 0.5), 0, 1)
    light = (0.1 + 0.9 * depth) * (1 + folds) * (1.12 - 0.3 * view.r)
    relief = 0.02 * width * (0.5 * folds + 0.25 * _noise(rng, height, width, 8))
    relief += 0.0016 * width * _noise(rng, height, width, 40)
    return albedo, light.astype(np.float32), relief.astype(np.float32)


def add_polyp(
    rng: np.random.Generator,
    view: View,
    albedo: np.ndarray,
    light: np.ndarray,
    relief: np.ndarray,
    mask: np.ndarray,
) -> None:
    """Grow one polyp into the scene and its mask; none if no free, lit place is found."""
    height, width = view.shape
    kind = rng.choice(["sessile", "flat", "stalked"], p=[0.55, 0.2, 0.25])
    radius = width * 0.065 * (0.2 / 0.065) ** rng.uniform(0, 1)  # log-uniform
    if kind == "flat":
        radius = max(radius, 0.08 * width)
    gap = max(4, round(0.03 * width)) * 2 + 1
    taken = cv2.dilate(mask, np.ones((gap, gap), np.uint8)) > 0
    for _ in range(30):
        cx = rng.uniform(0.08, 0.92) * width
        cy = rng.uniform(0.1, 0.9) * height
        box = view.around(cx, cy, 2.7 * radius)
        near = view.crop(box)
        inside, rho, dx, dy = _blob(rng, near, cx, cy, radius)
        inside = _largest_component(inside & (near.rim > 0.5))
        area = np.count_nonzero(inside)
        if area < max(_MIN_POLYP_AREA, 1.6 * radius**2):
            continue
        lit = light[box][inside]
        if not (inside & taken[box]).any() and lit.mean() > 0.45 and lit.min() > 0.25:
            break
        radius *= 0.96
    else:
        return
    albedo, light, relief, mask = albedo[box], light[box], relief[box], mask[box]

    soft = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 0.004 * width + 0.3)
    if kind == "stalked":
        _add_stalk(rng, dx, dy, albedo, light, soft)
    # Shadow on the wall around the far side, then the polyp's own light: a dome under a headlight.
    bulge = {"sessile": 0.75, "flat": 0.35, "stalked": 0.95}[kind] * rng.uniform(0.8, 1.15)
    angle = rng.uniform(0, 2 * np.pi)
    side = np.float32(np.cos(angle)) * dx + np.float32(np.sin(angle)) * dy
    halo = np.exp(-np.clip(rho - 1, 0, None) / 0.16) * np.clip(0.45 + 0.55 * side, 0, 1)
    light *= 1 - 0.5 * bulge * halo * (1 - soft)
    dome = np.sqrt(np.clip(1 - np.clip(rho, 0, 1) ** 2, 0, 1))
    own = float(light[inside].mean()) * rng.uniform(0.95, 1.2)
    shade = own * (1 + bulge * (0.6 * (dome - 0.75) - 0.25 * side * (1 - 0.6 * dome)))
    keep = 1 - (0.9 if kind != "flat" else 0.6) * soft
    light[:] = light * keep + shade * (1 - keep)
    # The window is up to 5.4 radii wide.
    lumps = 0.06 * radius * _noise(rng, *near.shape, 9)
    relief[:] = relief * (1 - 0.8 * soft) + bulge * (0.35 * radius * dome * dome + lumps) * soft

    # Tint and texture: redder, paler or browner than the wall by a little, with fine pits.
    tints = {
        "redder": (0.84, 0.78, 1.02),
        "paler": (1.2, 1.16, 1.04),
        "browner": (0.8, 0.86, 0.88),
        "alike": (0.97, 0.93, 1.0),
    }
    odds = [0.2, 0.7, 0.1, 0.0] if kind == "flat" else [0.5, 0.2, 0.2, 0.1]
    name = rng.choice(list(tints), p=odds)
    tint = 1 + (np.array(tints[name], np.float32) - 1) * rng.uniform(0.9, 1.5)
    plain = albedo[inside].mean(axis=0) * tint  # the wall's vessels do not run on over a polyp
    pits = 0.06 * _noise(rng, *near.shape, 14) + 0.035 * _noise(rng, *near.shape, 28)
    surface = plain * (1 + rng.uniform(0.6, 1.4) * pits)[..., None]
    albedo[:] = albedo + (surface - albedo) * (0.9 * soft)[..., None]
    mask[inside] = 255


def _blob(
    rng: np.random.Generator, view: View, cx: float, cy: float, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw a lobed ellipse: its inside, rho (1 on the outline) and unit coordinates (H, W)."""
    stretch, turn = rng.uniform(1, 1.55), rng.uniform(0, np.pi)
    dx, dy = (view.x - np.float32(cx)) / radius, (view.y - np.float32(cy)) / radius
    lx = (dx * np.cos(turn) + dy * np.sin(turn)) / np.sqrt(stretch)
    ly = (dy * np.cos(turn) - dx * np.sin(turn)) * np.sqrt(stretch)
    theta = np.arctan2(ly, lx)
    outline = np.ones_like(theta)
    for order, strength in ((2, 0.12), (3, 0.12), (5, 0.06)):
        swing = strength * rng.uniform(-1, 1)
        outline += swing * np.cos(order * theta + rng.uniform(0, 2 * np.pi))
    rho = (np.hypot(lx, ly) / outline).astype(np.float32)
    return rho < 1, rho, dx, dy


def _add_stalk(
    rng: np.random.Generator,
    dx: np.ndarray,
    dy: np.ndarray,
    albedo: np.ndarray,
    light: np.ndarray,
    soft: np.ndarray,
) -> None:
    """Draw a stalk of wall colour that leaves the head; like annotators, the mask omits it."""
    angle = rng.uniform(0, 2 * np.pi)
    along = dx * np.cos(angle) + dy * np.sin(angle)
    across = (dy * np.cos(angle) - dx * np.sin(angle)) / rng.uniform(0.3, 0.45)
    across += 0.3 * np.sin(1.3 * along + rng.uniform(0, 6))
    length = rng.uniform(1.5, 2.2)
    body = np.clip(1.15 - np.abs(across), 0, 0.15) / 0.15
    body *= np.clip((length - along) / 0.5, 0, 1) * (along > 0) * (1 - soft)
    light *= 1 + body * (0.3 * (1 - across**2) - 0.12)
    albedo *= (1 - 0.08 * body)[..., None]


def add_debris(
    rng: np.random.Generator,
    view: View,
    albedo: np.ndarray,
    relief: np.ndarray,
    mask: np.ndarray,
) -> None:
    """Strew small yellow-brown residue beside the polyps: bumps that are not polyps."""
    height, width = view.shape
    for _ in range(rng.integers(1, 5)):
        cx, cy = rng.uniform(0, 1) * width, rng.uniform(0, 1) * height
        radius = width * rng.uniform(0.012, 0.045)
        box = view.around(cx, cy, 2 * radius)
        _, rho, _, _ = _blob(rng, view.crop(box), cx, cy, radius)
        if mask[box][rho < 1.3].any():
            continue
        soft = np.clip((1.15 - rho) / 0.3, 0, 1)
        colour = np.array([0.16, 0.5, 0.66], np.float32) * rng.uniform(0.75, 1.15)
        speckle = (1 + 0.2 * _noise(rng, *rho.shape, 6))[..., None]
        albedo[box] += (colour * speckle - albedo[box]) * (0.85 * soft)[..., None]
        relief[box] += 0.008 * width * soft


def render(
    rng: np.random.Generator,
    view: View,
    albedo: np.ndarray,
    light: np.ndarray,
    relief: np.ndarray,
) -> np.ndarray:
    """Light the scene with a headlight, add wet highlights, rim and sensor noise: uint8 BGR."""
    height, width = view.shape
    gx = cv2.Sobel(relief, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    gy = cv2.Sobel(relief, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    slant_x, slant_y = rng.uniform(-0.35, 0.35, 2).astype(np.float32)
    up = 1 / np.sqrt(1 + gx**2 + gy**2)
    lambert = np.clip((1 - slant_x * gx - slant_y * gy) * up, 0.1, 1.6)
    image = albedo * (light * (0.35 + 0.65 * lambert))[..., None] * rng.uniform(0.95, 1.2)

    # Highlights: where the wet surface faces the lamp, in a few patches.
    gloss = np.clip((slant_x + 0.25 * _noise(rng, height, width, 30) - gx) ** 2, 0, 9)
    gloss += np.clip((slant_y + 0.25 * _noise(rng, height, width, 30) - gy) ** 2, 0, 9)
    wet = np.clip(_noise(rng, height, width, 14) - rng.uniform(0.9, 1.6), 0, 1)
    spots = np.clip(wet * np.exp(-gloss / 0.025) * np.clip(light, 0, 1) * 6, 0, 1)
    spots = cv2.GaussianBlur(spots, (0, 0), 0.6)[..., None]
    image = image * (1 - spots) + spots * np.array([0.98, 0.97, 1.0], np.float32)

    image = cv2.pow(np.clip(image, 0, None), rng.uniform(0.85, 1.05))
    if rng.random() < 0.25:  # motion or focus
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.3))
    image = image * view.rim[..., None] + 0.02
    image += 0.012 * rng.standard_normal(image.shape, dtype=np.float32)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _largest_component(inside: np.ndarray) -> np.ndarray:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8))
    if count <= 2:
        return inside
    return labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
