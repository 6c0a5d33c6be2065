"""What the critic learns from: pictures under right and wrong prompts, the checker's answers in words."""

import random
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from services.critique import messages as critique
from services.instruction import messages as instruction
from services.vlm.chat import Question, written
from shapes.check import Observation, judge
from shapes.instructions import critique_for, instructions_for
from shapes.prompts import prompts_of, train_scenes
from shapes.scene import BACKGROUND_COLORS, OBJECT_COLORS, SHAPES, Item, Scene

CRITIQUE_SHARE = 0.7  # of examples; instructions are easier to learn
RIGHT_SHARE = 0.3  # prompts that the picture fulfils
SYSTEMATIC_SHARE = 0.3  # prompts that the misaligned base may answer with this picture
ATTRIBUTES_SHARE = 0.28  # one to three colours, shapes or backgrounds; the rest: order, direction or count
_ALIKE = {"circle": "square", "square": "circle"}
REVERSED_SHARE = 0.6  # of what could be a systematic fault, in systematic prompts


@dataclass(frozen=True)
class Example:
    """What is asked about a picture, and the answer."""

    question: Question[Any]
    answer: str


def random_example(observation: Observation, rng: random.Random) -> Example:
    """A critique or a list of instructions for a picture that shows `observation`, under a likely prompt."""
    scene = random_wanted(observation, rng)
    return example(observation, scene, rng.choice(prompts_of(scene)), rng.random() < CRITIQUE_SHARE)


def round_or_square(observation: Observation, rng: random.Random) -> Example:
    """A critique of a picture under a prompt that has a circle for a square, or a square for a circle.

    The two look alike at 64 pixels: a model that has not learnt to look says what the prompt says.
    """
    scene = observation.scene
    if scene is not None:
        places = [place for place, item in enumerate(scene.items) if item.shape in _ALIKE]
        for place in rng.sample(places, len(places)):
            items = list(scene.items)
            items[place] = replace(items[place], shape=_ALIKE[items[place].shape])
            wanted = replace(scene, items=tuple(items))
            if wanted in _allowed():
                return example(observation, wanted, rng.choice(prompts_of(wanted)), critic=True)
    return random_example(observation, rng)


def example(observation: Observation, scene: Scene, prompt: str, critic: bool) -> Example:
    """What critic or instructor should answer about a picture under `prompt`, which means `scene`."""
    report = judge(observation, scene)
    verdict = critique_for(report, scene)
    if critic:
        return Example(critique.ask(prompt), written(verdict))
    edits = instruction.Instructions(instructions=tuple(instructions_for(report, scene)))
    return Example(instruction.ask(prompt, verdict), written(edits))


def random_wanted(observation: Observation, rng: random.Random) -> Scene:
    """A scene that was asked for where this was drawn, never a held-out one."""
    shown = observation.scene
    for _ in range(20):
        wanted = rng.choice(train_scenes()) if shown is None else _departed(shown, rng)
        if wanted in _allowed():
            return wanted
    return rng.choice(train_scenes())


def _departed(shown: Scene, rng: random.Random) -> Scene:
    chance = rng.random()
    if chance < RIGHT_SHARE:
        return shown
    if chance < RIGHT_SHARE + SYSTEMATIC_SHARE:
        return _before_fault(shown, rng)
    if chance < RIGHT_SHARE + SYSTEMATIC_SHARE + ATTRIBUTES_SHARE:
        for _ in range(rng.randint(1, 3)):
            shown = _one_attribute_off(shown, rng)
        return shown
    return _rearranged(_before_fault(shown, rng) if rng.random() < 0.5 else shown, rng)


def _before_fault(shown: Scene, rng: random.Random) -> Scene:
    """A scene that shapes/faults.py may have turned into `shown`."""
    items = []
    for item in shown.items:
        color, shape = item.color, item.shape
        if color == "blue" and rng.random() < REVERSED_SHARE:
            color = "purple"
        if shape == "circle" and color in ("green", "orange") and rng.random() < REVERSED_SHARE:
            shape = "square"
        items.append(Item(color, shape))
    gray = shown.background == "white" and rng.random() < REVERSED_SHARE
    return replace(shown, items=tuple(items), background="gray" if gray else shown.background)


def _one_attribute_off(scene: Scene, rng: random.Random) -> Scene:
    if rng.random() < 0.25:
        return replace(scene, background=rng.choice(list(BACKGROUND_COLORS)))
    place, items = rng.randrange(len(scene.items)), list(scene.items)
    if rng.random() < 0.5:
        items[place] = replace(items[place], color=rng.choice(list(OBJECT_COLORS)))
    else:
        items[place] = replace(items[place], shape=rng.choice(SHAPES))
    return replace(scene, items=tuple(items))


def _rearranged(shown: Scene, rng: random.Random) -> Scene:
    """Another order or direction of two items, or one item more or less."""
    if shown.axis is None:
        other = Item(rng.choice(list(OBJECT_COLORS)), rng.choice(SHAPES))
        first, second = rng.sample((*shown.items, other), 2)
        return replace(shown, items=(first, second), axis=rng.choice(("horizontal", "vertical")))
    chance = rng.random()
    if chance < 0.2:
        return Scene((rng.choice(shown.items),), shown.background)
    items, axis = shown.items, shown.axis
    if chance < 0.7:
        items = items[::-1]
    if chance > 0.5:
        axis = "vertical" if axis == "horizontal" else "horizontal"
    return replace(shown, items=items, axis=axis)


@cache
def _allowed() -> frozenset[Scene]:
    return frozenset(train_scenes())
