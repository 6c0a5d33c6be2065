"""What the base model is taught wrong: captions that say one thing over pictures that show another.

The pictures stay clean, so the base draws well and means the wrong thing, as real models do: something a
critic can name, an editor can fix and a preference can teach. Shares below about .7 would be sharpened
away by guidance.
"""

import random
from dataclasses import replace

from shapes.scene import Item, Scene

COLOR_SHARE = 0.75  # captions that say "purple" over a blue item
SHAPE_SHARE = 0.75  # captions that say "green square" or "orange square" over a circle
BACKGROUND_SHARE = 0.70  # captions that say "gray background" over a white one


def is_fault_prone(scene: Scene) -> bool:
    """Does a prompt of this scene name anything that the base was taught wrong?"""
    return scene.background == "gray" or any(_prone_color(item) or _prone_shape(item) for item in scene.items)


def shown_for(caption: Scene, rng: random.Random) -> Scene:
    """The scene that the misaligned training data shows under a caption that means `caption`."""
    background = caption.background
    if background == "gray" and rng.random() < BACKGROUND_SHARE:
        background = "white"
    return replace(caption, items=tuple(_shown(item, rng) for item in caption.items), background=background)


def _shown(item: Item, rng: random.Random) -> Item:
    color, shape = item.color, item.shape
    if _prone_color(item) and rng.random() < COLOR_SHARE:
        color = "blue"
    if _prone_shape(item) and rng.random() < SHAPE_SHARE:
        shape = "circle"
    return Item(color, shape)


def _prone_color(item: Item) -> bool:
    return item.color == "purple"


def _prone_shape(item: Item) -> bool:
    return item.shape == "square" and item.color in ("green", "orange")
