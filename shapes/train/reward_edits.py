"""Pairs as curation meets them: what the base draws for training prompts, and what the editors make of it.

Rendered circles and squares are clean; a base's circle may be nearly square, and an editor puts one attribute
right and spoils another. The checker says which of the two pictures is better.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from shapes.check import Observation, Report, check
from shapes.instructions import instructions_for
from shapes.prompts import held_out_scenes, parse, train_prompts
from shapes.render import Pixels
from shapes.scene import Scene
from shapes.train.base import sample
from shapes.train.editor import EditCase, Editing
from shapes.train.loop import scaled
from shapes.train.triples import random_edit

PROMPTS = 2500  # for each editor
CHUNK = 64


@dataclass(frozen=True)
class Edits:
    """N prompts' scenes, and pictures (2N, 3, 64, 64) uint8: each sample and then its edit."""

    scenes: list[Scene]
    prompts: list[str]
    pictures: torch.Tensor
    observations: list[Observation]


def make_edits(base: StableDiffusionPipeline, editors: Sequence[Editing], seed: int) -> Edits:
    """Samples of training prompts and their edits by each of `editors`; none shows a held-out scene."""
    found: list[tuple[str, Report, Report]] = []
    pictures: list[Pixels] = []
    for number, edit in enumerate(editors, start=1):
        rng = random.Random(10 * seed + number)
        asked = rng.sample(train_prompts(), scaled(PROMPTS, 16))
        for begin in range(0, len(asked), CHUNK):
            for prompt, before, after in _edited(base, edit, asked[begin : begin + CHUNK], rng):
                reports = check(before, prompt), check(after, prompt)
                if not {report.observation.scene for report in reports} & set(held_out_scenes()):
                    found.append((prompt, *reports))
                    pictures += [before, after]
    return Edits(
        [parse(prompt) for prompt, _, _ in found],
        [prompt for prompt, _, _ in found],
        torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2),
        [report.observation for _, *reports in found for report in reports],
    )


def _edited(
    base: StableDiffusionPipeline, edit: Editing, prompts: list[str], rng: random.Random
) -> list[tuple[str, Pixels, Pixels]]:
    """Prompts, what the base draws for them, and the edits."""
    pictures = sample(base, prompts, rng.randrange(2**31))
    texts = [_instruction(picture, prompt, rng) for picture, prompt in zip(pictures, prompts, strict=True)]
    cases = [EditCase(picture, text) for picture, text in zip(pictures, texts, strict=True)]
    return list(zip(prompts, pictures, edit(cases, rng.randrange(2**31)), strict=True))


def _instruction(picture: Pixels, prompt: str, rng: random.Random) -> str:
    """What puts a faulty picture right, and what spoils a right one: an edit is not always the better."""
    report = check(picture, prompt)
    if report.faults:
        return instructions_for(report, parse(prompt))[0].text
    scene = parse(prompt)
    return random_edit(scene, tuple(seen.place for seen in report.observation.ordered), rng)[0]
