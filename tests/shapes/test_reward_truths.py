"""Scores from sets of facts are the checker's own."""

import random

import torch

from shapes.check import Observation, judge, observe
from shapes.prompts import all_scenes
from shapes.render import render
from shapes.scene import random_layout
from shapes.train.reward_truths import asked_facts, shown_facts, truths


def test_the_matrix_product_is_the_checker() -> None:
    rng = random.Random(0)
    shown = rng.sample(all_scenes(), 40)
    observations = [observe(render(scene, random_layout(scene, rng))) for scene in shown]
    observations.append(Observation("gray", ()))
    asked = [*shown, *rng.sample(all_scenes(), 40)]
    wanted = torch.tensor([[judge(seen, scene).score for seen in observations] for scene in asked])
    assert torch.equal(truths(asked_facts(asked), shown_facts(observations)), wanted)
    assert wanted.unique().numel() > 4
