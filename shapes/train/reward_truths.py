"""The checker's scores of many pictures under many prompts at once: clauses and pictures as sets of facts.

A prompt's clauses are facts (an item is there, the items lie so, the background is this), and its score on a
picture is the share of them that are among the picture's: one matrix product.
"""

from collections.abc import Sequence
from functools import cache

import torch

from shapes.check import Observation
from shapes.prompts import all_scenes
from shapes.scene import Item, Scene

_Fact = Item | str | tuple[tuple[Item, ...], str]


def truths(asked_TF: torch.Tensor, shown_IF: torch.Tensor) -> torch.Tensor:
    """Scores (T, I), 0 to 1, of pictures that show facts under prompts that ask for facts."""
    return asked_TF @ shown_IF.T / asked_TF.sum(1, keepdim=True)


def asked_facts(scenes: Sequence[Scene]) -> torch.Tensor:
    """What prompts of `scenes` assert, (T, F), ones and zeros."""
    return _rows([_asserted(scene) for scene in scenes])


def shown_facts(observations: Sequence[Observation]) -> torch.Tensor:
    """What pictures show, (I, F), ones and zeros."""
    return _rows([_visible(observation) for observation in observations])


def _asserted(scene: Scene) -> list[_Fact]:
    arranged: list[_Fact] = [(scene.items, scene.axis)] if scene.axis is not None else []
    return [*scene.items, scene.background, *arranged]


def _visible(observation: Observation) -> list[_Fact]:
    if observation.scene is not None:
        return _asserted(observation.scene)
    return [*(seen.item for seen in observation.items), observation.background]


def _rows(facts: list[list[_Fact]]) -> torch.Tensor:
    places = _places()
    rows = torch.zeros(len(facts), len(places))
    for row, present in zip(rows, facts, strict=True):
        row[[places[fact] for fact in present if fact in places]] = 1  # twins are arranged as no prompt says
    return rows


@cache
def _places() -> dict[_Fact, int]:
    facts = dict.fromkeys(fact for scene in all_scenes() for fact in _asserted(scene))
    return {fact: place for place, fact in enumerate(facts)}
