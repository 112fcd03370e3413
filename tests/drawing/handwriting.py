"""Digits as somebody draws them: strokes through points, by a pen of any width, on any paper. None is MNIST's."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Point = tuple[float, float]

# Each stroke's points in a box of 0 to 1, x to the right and y down; a smooth line goes through them.
STROKES: dict[int, list[list[Point]]] = {
    0: [[(0.5, 0.02), (0.2, 0.15), (0.1, 0.5), (0.22, 0.88), (0.5, 0.98), (0.8, 0.86), (0.9, 0.5), (0.78, 0.14),
         (0.48, 0.02)]],
    1: [[(0.55, 0.0), (0.52, 0.35), (0.5, 0.7), (0.47, 1.0)]],
    2: [[(0.12, 0.25), (0.3, 0.05), (0.6, 0.02), (0.82, 0.2), (0.75, 0.45), (0.45, 0.72), (0.12, 0.97)],
        [(0.12, 0.97), (0.5, 0.95), (0.92, 0.96)]],
    3: [[(0.15, 0.12), (0.45, 0.0), (0.78, 0.12), (0.75, 0.36), (0.42, 0.47)],
        [(0.42, 0.47), (0.78, 0.56), (0.85, 0.8), (0.5, 0.99), (0.1, 0.88)]],
    4: [[(0.3, 0.0), (0.22, 0.3), (0.12, 0.58)], [(0.12, 0.58), (0.5, 0.56), (0.92, 0.54)],
        [(0.75, 0.05), (0.7, 0.5), (0.64, 1.0)]],
    5: [[(0.25, 0.04), (0.55, 0.03), (0.88, 0.0)], [(0.25, 0.04), (0.22, 0.25), (0.2, 0.46)],
        [(0.2, 0.46), (0.5, 0.38), (0.82, 0.52), (0.82, 0.82), (0.5, 0.99), (0.12, 0.9)]],
    6: [[(0.7, 0.0), (0.4, 0.2), (0.18, 0.55), (0.2, 0.85), (0.5, 0.99), (0.8, 0.86), (0.8, 0.62), (0.5, 0.52),
         (0.22, 0.7)]],
    7: [[(0.08, 0.06), (0.5, 0.05), (0.9, 0.03)], [(0.9, 0.03), (0.65, 0.4), (0.45, 0.72), (0.36, 1.0)]],
    8: [[(0.78, 0.12), (0.5, 0.0), (0.2, 0.14), (0.3, 0.38), (0.65, 0.58), (0.82, 0.82), (0.5, 0.99), (0.18, 0.82),
         (0.34, 0.58), (0.7, 0.36), (0.78, 0.12)]],
    9: [[(0.82, 0.2), (0.5, 0.02), (0.18, 0.18), (0.24, 0.42), (0.55, 0.46), (0.8, 0.24)],
        [(0.82, 0.2), (0.78, 0.55), (0.68, 1.0)]],
}  # fmt: skip

CASES: dict[str, dict[str, Any]] = {
    "pen": {},
    "thin": {"pen": 4},
    "hair": {"pen": 2},
    "a hair on a large sheet": {"size": (900, 900), "pen": 3},
    "marker": {"pen": 34},
    "fat marker": {"pen": 48},
    "light on dark": {"ink": 235, "paper": 15},
    "thin and light on dark": {"ink": 235, "paper": 15, "pen": 4},
    "off centre": {"box": (0.05, 0.05, 0.3, 0.4), "pen": 8},
    "in a corner": {"box": (0.7, 0.6, 0.97, 0.97), "pen": 8},
    "large": {"size": (800, 1000), "pen": 35},
    "as small as MNIST's": {"size": (28, 28), "pen": 2},
    "on a wide sheet": {"size": (900, 300), "box": (0.4, 0.15, 0.6, 0.85)},
    "noise": {"noise": 10},
    "grey paper with a shadow": {"noise": 6, "shade": 40, "paper": 205, "ink": 60},
    "thin on such paper": {"noise": 6, "shade": 40, "paper": 205, "ink": 60, "pen": 4},
    "pencil": {"ink": 150, "paper": 220, "noise": 5, "pen": 5},
    "ruled paper": {"ruled": 40, "pen": 10},
    "slanted": {"slant": 0.3},
    "out of focus": {"blur": 5},
    "to the edges": {"box": (0.02, 0.02, 0.98, 0.98), "pen": 20},
}


def draw(
    digit: int, *, seed: int = 0, size: tuple[int, int] = (300, 300),
    box: tuple[float, float, float, float] = (0.25, 0.15, 0.75, 0.85), pen: float = 14, ink: float = 20,
    paper: float = 240, slant: float = 0, wobble: float = 0.03, noise: float = 0, shade: float = 0, ruled: int = 0,
    blur: float = 0,
) -> Image.Image:  # fmt: skip
    """A digit in grey.

    Args:
        seed: of how each point was missed, by ``wobble`` of the box on average, and of the noise.
        size: width and height in pixels.
        box: left, top, right and bottom of the digit, as shares of the size.
        pen: its width in pixels.
        shade: how much darker the paper's one corner is than the other.
        ruled: pixels between the paper's lines.
        blur: in pixels.
    """
    generator = np.random.default_rng([seed, digit])
    fine = 3  # times as many pixels, and then their means
    width, height = size
    picture = Image.new("L", (width * fine, height * fine), 0)
    pencil, r = ImageDraw.Draw(picture), pen * fine / 2
    left, top, right, bottom = box
    for stroke in STROKES[digit]:
        line = _smooth(np.array(stroke) + generator.normal(0, wobble, (len(stroke), 2)))
        x = (left + (right - left) * (line[:, 0] + slant * (0.5 - line[:, 1]))) * width * fine
        y = (top + (bottom - top) * line[:, 1]) * height * fine
        points = list(zip(x.tolist(), y.tolist(), strict=True))
        for start, end in itertools.pairwise(points):
            pencil.line([start, end], fill=255, width=max(1, round(2 * r)))
        for x_at, y_at in points:  # a round pen
            pencil.ellipse((x_at - r, y_at - r, x_at + r, y_at + r), fill=255)
    if blur:
        picture = picture.filter(ImageFilter.GaussianBlur(blur * fine))
    cover = np.asarray(picture.resize(size, Image.Resampling.BOX)).astype(float) / 255
    ground = np.full((height, width), paper, float)
    ground += shade * (np.linspace(-0.5, 0.5, width)[None] + np.linspace(-0.5, 0.5, height)[:, None])
    if ruled:
        ground[::ruled] -= 25
    seen = ground * (1 - cover) + ink * cover + generator.normal(0, noise, cover.shape)
    return Image.fromarray(seen.clip(0, 255).astype(np.uint8))


def _smooth(points: Any, steps: int = 24) -> Any:
    """A Catmull-Rom spline through points."""
    whole: Sequence[Any] = [points[0], *points, points[-1]]
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    parts = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(whole, whole[1:], whole[2:], whole[3:], strict=False)
    ]
    return np.concatenate([*parts, points[-1:]])
