"""The exact checker: reads a picture and says which clauses of a prompt hold, and what would put it right.

Clauses are what the prompt asserts: each object, their relation, the background; a picture's score is the
share that hold. A relation holds only between objects that are there. Faults are finer: the single
corrections (a colour, a shape, the background ...) that would make every clause hold.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from shapes.prompts import parse
from shapes.render import Pixels
from shapes.scene import BACKGROUND_COLORS, OBJECT_COLORS, Axis, Item, Placement, Scene

_NAMES = [*OBJECT_COLORS, *BACKGROUND_COLORS]
_PALETTE = np.array([*OBJECT_COLORS.values(), *BACKGROUND_COLORS.values()], np.float32)
_MIN_AREA = 60  # pixels; the smallest triangle has 128
_FOREGROUND = 55.0  # distance from the background colour, of 442
_CROSS = ndimage.generate_binary_structure(2, 1)

Aspect = Literal["color", "shape", "background", "relation", "count"]
ATTRIBUTES: tuple[Aspect, ...] = ("color", "shape", "background")  # what an editor puts right on the spot


@dataclass(frozen=True)
class Seen:
    """One object found in a picture."""

    item: Item
    place: Placement


@dataclass(frozen=True)
class Observation:
    """What a picture shows. `items` are ordered by area, the largest first."""

    background: str
    items: tuple[Seen, ...]

    @property
    def axis(self) -> Axis | None:
        """How two items are arranged; None for any other number of them."""
        if len(self.items) != 2:
            return None
        a, b = (seen.place for seen in self.items)
        return "horizontal" if abs(a.x - b.x) >= abs(a.y - b.y) else "vertical"

    @property
    def ordered(self) -> tuple[Seen, ...]:
        """The items left to right, or top to bottom, along `axis`."""
        along = self.axis
        return tuple(
            sorted(self.items, key=lambda seen: seen.place.y if along == "vertical" else seen.place.x)
        )

    @property
    def scene(self) -> Scene | None:
        """The scene shown, or None where there are no or more than two objects."""
        if len(self.items) not in (1, 2):
            return None
        return Scene(tuple(seen.item for seen in self.ordered), self.background, self.axis)


@dataclass(frozen=True)
class Clause:
    """One assertion of a prompt and whether the picture fulfils it."""

    text: str
    holds: bool


@dataclass(frozen=True)
class Fault:
    """One correction the picture needs. `position` is the index of the item along the prompt's axis."""

    aspect: Aspect
    wanted: str
    seen: str
    position: int | None = None


@dataclass(frozen=True)
class Report:
    """The checker's verdict on one picture under one prompt."""

    clauses: tuple[Clause, ...]
    faults: tuple[Fault, ...]
    observation: Observation

    @property
    def score(self) -> float:
        """The share of clauses that hold, 0 to 1."""
        return sum(clause.holds for clause in self.clauses) / len(self.clauses)

    @property
    def perfect(self) -> bool:
        return not self.faults

    @property
    def wrong_attribute(self) -> bool:
        """Is a colour, a shape or the background not what the prompt says?"""
        return any(fault.aspect in ATTRIBUTES for fault in self.faults)


def check(pixels: Pixels, prompt: str | Scene) -> Report:
    """Judge a (64, 64, 3) uint8 picture against a prompt of the grammar.

    Raises:
        NotOfThisWorld: the prompt does not follow the grammar.
    """
    return judge(observe(pixels), parse(prompt) if isinstance(prompt, str) else prompt)


def judge(observation: Observation, scene: Scene) -> Report:
    """The verdict on a picture that was observed before; observing is what costs."""
    return Report(_clauses(scene, observation), _faults(scene, observation), observation)


def observe(pixels: Pixels) -> Observation:
    """Read a (64, 64, 3) uint8 picture without knowing its prompt."""
    image = pixels.astype(np.float32)
    border = np.concatenate(
        [image[:3].reshape(-1, 3), image[-3:].reshape(-1, 3), image[:, :3].reshape(-1, 3)]
    )
    base = np.median(border, axis=0)
    first_background = len(OBJECT_COLORS)
    distances = np.linalg.norm(_PALETTE[first_background:] - base, axis=1)
    background = _NAMES[first_background + int(distances.argmin())]
    foreground = np.linalg.norm(image - base, axis=2) > _FOREGROUND
    colors = np.linalg.norm(image[:, :, None] - _PALETTE[None, None, :first_background], axis=3).argmin(
        axis=2
    )
    seen = [found for part in _parts(foreground, colors) if (found := _read(part, colors))]
    return Observation(background, tuple(seen))


def _parts(foreground: NDArray[np.bool_], colors: NDArray[np.intp]) -> list[NDArray[np.bool_]]:
    """Masks of the separate objects, largest first; touching objects of two colours are parted."""
    parts = []
    labels, count = ndimage.label(foreground)
    for label in range(1, count + 1):
        mask = labels == label
        shares = {color: mask & (colors == color) for color in np.unique(colors[mask])}
        large = [part for part in shares.values() if ndimage.binary_erosion(part, _CROSS).sum() >= _MIN_AREA]
        parts += large if len(large) > 1 else [mask]
    return sorted((part for part in parts if part.sum() >= _MIN_AREA), key=lambda part: -int(part.sum()))


def _read(mask: NDArray[np.bool_], colors: NDArray[np.intp]) -> Seen | None:
    """Name one object by the colour of its inside, whether it tapers, and how full its bounding box is."""
    inside = ndimage.binary_erosion(mask, _CROSS)
    if not inside.any():
        return None
    color = _NAMES[int(np.bincount(colors[inside]).argmax())]
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    middle = (rows[0] + rows[-1] + 1) // 2
    tapers = mask[:middle].sum() < 0.6 * mask[middle:].sum()
    shape = "triangle" if tapers else "square" if _fill(mask) > 0.89 else "circle"
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    centre = Placement(
        (columns[0] + columns[-1] + 1) / 2, (rows[0] + rows[-1] + 1) / 2, float(max(height, width))
    )
    return Seen(Item(color, shape), centre)


def _fill(mask: NDArray[np.bool_]) -> float:
    """How full the bounding box is, stray pixels at its rim left out: circle .79, square 1."""
    rows, columns = mask.sum(axis=1) > 2, mask.sum(axis=0) > 2
    return float(mask[rows][:, columns].mean())


def _clauses(scene: Scene, observation: Observation) -> tuple[Clause, ...]:
    found = [seen.item for seen in observation.items]
    clauses = [Clause(str(item), item in found) for item in scene.items]
    if scene.axis is not None:
        shown = observation.scene
        holds = shown is not None and shown.axis == scene.axis and shown.items == scene.items
        relation = "left of" if scene.axis == "horizontal" else "above"
        clauses.append(Clause(f"{scene.items[0]} {relation} {scene.items[1]}", holds))
    return (*clauses, Clause(f"{scene.background} background", scene.background == observation.background))


def _faults(scene: Scene, observation: Observation) -> tuple[Fault, ...]:
    background = (
        ()
        if scene.background == observation.background
        else (Fault("background", scene.background, observation.background),)
    )
    if len(observation.items) != len(scene.items):
        count = Fault("count", str(len(scene.items)), str(len(observation.items)))
        return (count, *background)
    shown = tuple(seen.item for seen in observation.ordered)
    straight = _item_faults(scene.items, shown)
    turned = Fault("relation", scene.axis or "", observation.axis or "")
    relation = () if observation.axis == scene.axis else (turned,)
    if scene.axis is not None and len(swapped := _item_faults(scene.items, shown[::-1])) + 1 < len(straight):
        return (turned, *swapped, *background)
    return (*straight, *relation, *background)


def _item_faults(wanted: tuple[Item, ...], shown: tuple[Item, ...]) -> tuple[Fault, ...]:
    faults = []
    for position, (want, see) in enumerate(zip(wanted, shown, strict=True)):
        if want.color != see.color:
            faults.append(Fault("color", want.color, see.color, position))
        if want.shape != see.shape:
            faults.append(Fault("shape", want.shape, see.shape, position))
    return tuple(faults)
