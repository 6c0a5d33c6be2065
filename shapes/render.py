"""Scenes to pixels, with exact anti-aliasing from signed distances."""

import numpy as np
from numpy.typing import NDArray

from shapes.scene import BACKGROUND_COLORS, OBJECT_COLORS, SIZE, Layout, Placement, Scene

Pixels = NDArray[np.uint8]  # (SIZE, SIZE, 3)
Field = NDArray[np.float32]  # (SIZE, SIZE)

_CENTRES = np.arange(SIZE, dtype=np.float32) + 0.5


def render(scene: Scene, layout: Layout) -> Pixels:
    """Draw `scene` with its items at `layout`; a (64, 64, 3) uint8 RGB picture."""
    canvas = np.empty((SIZE, SIZE, 3), np.float32)
    canvas[:] = BACKGROUND_COLORS[scene.background]
    for item, place in zip(scene.items, layout, strict=True):
        coverage = np.clip(0.5 - _distance(item.shape, place), 0, 1)[..., None]
        canvas += coverage * (np.array(OBJECT_COLORS[item.color], np.float32) - canvas)
    return canvas.round().astype(np.uint8)


def _distance(shape: str, place: Placement) -> Field:
    """Signed distance in pixels to the outline, negative inside."""
    x, y = _CENTRES[None, :] - place.x, _CENTRES[:, None] - place.y
    half = place.extent / 2
    if shape == "circle":
        return np.asarray(np.hypot(x, y) - half, np.float32)
    if shape == "square":
        return np.asarray(np.maximum(np.abs(x), np.abs(y)) - half * 0.94, np.float32)
    if shape == "triangle":  # isosceles, apex up, as wide as it is high
        slanted = (2 * np.abs(x) - (y + half)) / np.sqrt(5)
        return np.asarray(np.maximum(slanted, y - half), np.float32)
    raise ValueError(f"shape must be circle, square or triangle, not {shape!r}")
