"""What a picture of this world contains: one or two coloured shapes on a plain background."""

import random
from dataclasses import dataclass
from typing import Literal

SIZE = 64  # pixels, both sides

Rgb = tuple[int, int, int]
Axis = Literal["horizontal", "vertical"]

OBJECT_COLORS: dict[str, Rgb] = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (45, 80, 220),
    "yellow": (240, 215, 50),
    "purple": (150, 50, 180),
    "orange": (245, 135, 30),
}
BACKGROUND_COLORS: dict[str, Rgb] = {
    "white": (245, 245, 245),
    "black": (15, 15, 15),
    "gray": (128, 128, 128),
}
SHAPES = ("circle", "square", "triangle")


@dataclass(frozen=True, order=True)
class Item:
    """One object, as a prompt names it."""

    color: str
    shape: str

    def __str__(self) -> str:
        return f"{self.color} {self.shape}"


@dataclass(frozen=True, order=True)
class Scene:
    """The meaning of a prompt. `items` reads left to right (horizontal) or top to bottom (vertical)."""

    items: tuple[Item, ...]
    background: str
    axis: Axis | None = None  # None where there is one item

    def __post_init__(self) -> None:
        if (len(self.items) == 2) != (self.axis is not None) or not 1 <= len(self.items) <= 2:
            raise ValueError(f"a scene has one item and no axis, or two items and an axis, not {self}")


@dataclass(frozen=True)
class Placement:
    """Where one item is drawn: centre and full extent, in pixels."""

    x: float
    y: float
    extent: float


Layout = tuple[Placement, ...]


def random_layout(scene: Scene, rng: random.Random) -> Layout:
    """Placements for the items of `scene`, never overlapping and never touching the border."""
    if scene.axis is None:
        return (Placement(32 + rng.uniform(-6, 6), 32 + rng.uniform(-6, 6), rng.uniform(20, 28)),)
    placements = []
    for anchor in (16, 48):
        along, across = anchor + rng.uniform(-2, 2), 32 + rng.uniform(-5, 5)
        x, y = (along, across) if scene.axis == "horizontal" else (across, along)
        placements.append(Placement(x, y, rng.uniform(16, 22)))
    return tuple(placements)
