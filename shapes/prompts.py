"""The prompt grammar: a scene to its prompts, a prompt back to its scene, and the two splits.

a red circle on a gray background
a red circle left of a blue square on a white background    (and: a blue square right of a red circle ...)
"""

import hashlib
import re
from functools import cache
from itertools import product

from shapes.scene import BACKGROUND_COLORS, OBJECT_COLORS, SHAPES, Axis, Item, Scene

HELD_OUT_SCENES = 197  # two prompts each

_RELATIONS: dict[str, tuple[Axis, bool]] = {  # relation: axis, is the first-named item first along it?
    "left of": ("horizontal", True),
    "right of": ("horizontal", False),
    "above": ("vertical", True),
    "below": ("vertical", False),
}
_AXES: tuple[Axis, Axis] = ("horizontal", "vertical")
_ITEM = rf"(?:a|an) ({'|'.join(OBJECT_COLORS)}) ({'|'.join(SHAPES)})"
_PROMPT = re.compile(
    rf"{_ITEM}(?: ({'|'.join(_RELATIONS)}) {_ITEM})? on a ({'|'.join(BACKGROUND_COLORS)}) background"
)


class NotOfThisWorld(ValueError):
    """The text is not a prompt of the grammar."""


def prompts_of(scene: Scene) -> tuple[str, ...]:
    """Every prompt that means `scene`: one for a single item, two (from either side) for a pair."""
    ending = f"on a {scene.background} background"
    if scene.axis is None:
        return (f"{_named(scene.items[0])} {ending}",)
    first, second = scene.items
    forward, backward = [name for name, (axis, _) in _RELATIONS.items() if axis == scene.axis]
    return (
        f"{_named(first)} {forward} {_named(second)} {ending}",
        f"{_named(second)} {backward} {_named(first)} {ending}",
    )


def parse(prompt: str) -> Scene:
    """The scene that `prompt` means.

    Raises:
        NotOfThisWorld: the text does not follow the grammar.
    """
    match = _PROMPT.fullmatch(" ".join(prompt.lower().split()).rstrip("."))
    if match is None:
        raise NotOfThisWorld(f"not a prompt of the shapes world: {prompt[:80]!r}; one is {EXAMPLE!r}")
    color, shape, relation, other_color, other_shape, background = match.groups()
    named = (Item(color, shape),)
    if relation is None:
        return Scene(named, background)
    axis, in_order = _RELATIONS[relation]
    items = (*named, Item(other_color, other_shape))
    return Scene(items if in_order else items[::-1], background, axis)


@cache
def all_scenes() -> tuple[Scene, ...]:
    """Every meaning of the grammar, 1,890 in all: two items of a scene always differ."""
    items = [Item(color, shape) for color, shape in product(OBJECT_COLORS, SHAPES)]
    single = [Scene((item,), background) for item, background in product(items, BACKGROUND_COLORS)]
    double = [
        Scene((first, second), background, axis)
        for first, second, background, axis in product(items, items, BACKGROUND_COLORS, _AXES)
        if first != second
    ]
    return (*single, *double)


@cache
def held_out_scenes() -> tuple[Scene, ...]:
    """Two-item scenes that no model learns to draw, edit towards or judge; only the autoencoder sees them.

    Their order depends on nothing but the grammar.
    """
    double = [scene for scene in all_scenes() if scene.axis is not None]
    return tuple(sorted(double, key=_digest)[:HELD_OUT_SCENES])


@cache
def train_scenes() -> tuple[Scene, ...]:
    """Everything that is not held out."""
    return tuple(sorted(set(all_scenes()) - set(held_out_scenes())))


def held_out_prompts() -> list[str]:
    """All 394 prompts of the held-out scenes; the first n are a fair sample for any n."""
    return [prompts_of(scene)[index] for index in (0, 1) for scene in held_out_scenes()]


def train_prompts() -> list[str]:
    """Every prompt of the training scenes."""
    return [prompt for scene in train_scenes() for prompt in prompts_of(scene)]


def _named(item: Item) -> str:
    return f"an {item}" if item.color[0] in "aeiou" else f"a {item}"


def _digest(scene: Scene) -> str:
    return hashlib.sha256(prompts_of(scene)[0].encode()).hexdigest()


EXAMPLE = prompts_of(Scene((Item("red", "circle"), Item("blue", "square")), "gray", "horizontal"))[0]
