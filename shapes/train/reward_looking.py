"""The preference model's second phase: it learns to look, having learnt to prefer.

From preferences alone it never told a circle from a square (right in .5 to .7 of such pairs), and renders do
not teach what a base and its editors leave between the two. So every other batch is of their own pairs; the
rest are of scenes, every other time beside their twins with the other shape. And a head, dropped at the end,
has to name what each picture shows.
"""

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from transformers import CLIPModel, PreTrainedTokenizerFast

from shapes.prompts import prompts_of, train_scenes
from shapes.scene import Scene
from shapes.train.loop import Average, descend, progress, scaled, start, warm_then_cosine
from shapes.train.reward_edits import Edits
from shapes.train.reward_pictures import PICTURES_PER_SCENE, Gallery, gallery
from shapes.train.reward_truths import asked_facts, shown_facts, truths
from shapes.train.rewards import (
    MILD,
    PREFERENCE,
    STRAYS,
    degrade,
    embed_texts,
    family_of_scenes,
    own_pairs,
    pooled,
    preference_loss,
    random_scene,
    save,
)
from shapes.train.text import build_tokenizer

STEPS = 2000
LEARNING_RATE = 1e-3
HEAD_LEARNING_RATE = 3e-3
SCENES = 48
PROMPTS = 32
EDITS = 28  # pairs of one batch
FACTS_WEIGHT = 5.0
COMMON_FACT = 0.02  # share of pictures; rarer facts are arrangements
_ALIKE = {"circle": "square", "square": "circle"}


@dataclass(frozen=True)
class Batch:
    """T prompts and I pictures (I, 3, 64, 64) uint8, with what the checker says of them.

    `facts` (I, F) are what the pictures show, `truths` (T, I) their scores, and `near` (T, I, I) tells which
    pairs are hard.
    """

    prompts: list[str]
    pictures: torch.Tensor
    facts: torch.Tensor
    truths: torch.Tensor
    near: torch.Tensor


def train(folder: Path, vae_folder: Path | None, edits: Edits, seed: int = 1) -> None:
    """Take the saved preference model through this phase."""
    start(seed)
    rng, tokenizer, steps = random.Random(seed), build_tokenizer(), scaled(STEPS)
    pictures = gallery(train_scenes(), PICTURES_PER_SCENE, vae_folder, seed)
    drawn_facts, edited_facts = shown_facts(pictures.observations), shown_facts(edits.observations)
    common = drawn_facts.mean(0) > COMMON_FACT
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).train()
    head = torch.nn.Linear(PREFERENCE.vision.hidden, int(common.sum()))
    groups: list[dict[str, Any]] = [
        {"params": [*model.parameters()]},
        {"params": [*head.parameters()], "lr": HEAD_LEARNING_RATE},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_then_cosine(steps, warmup=50))
    average = Average(model, decay=0.99)
    for step, log in progress(f"{folder.name} looks", steps):
        if step % 2:
            batch = _of_edits(edits, edited_facts, rng)
        else:
            scenes = _twins(pictures, rng) if step % 4 else family_of_scenes(pictures, rng, SCENES)
            batch = _of_scenes(scenes, pictures, drawn_facts, rng)
        seen = pooled(model, degrade(batch.pictures, MILD), PREFERENCE)
        named = F.binary_cross_entropy_with_logits(head(seen), batch.facts[:, common])
        log(descend(_preferred(model, tokenizer, seen, batch) + FACTS_WEIGHT * named, optimizer, schedule))
        average.update(model)
    save(average.module, PREFERENCE, folder)


def _preferred(
    model: CLIPModel, tokenizer: PreTrainedTokenizerFast, seen: torch.Tensor, batch: Batch
) -> torch.Tensor:
    texts = embed_texts(model, tokenizer, batch.prompts)
    images = F.normalize(model.visual_projection(seen), dim=-1)
    return preference_loss(texts @ images.T * model.logit_scale.exp(), batch.truths, batch.near)


def _of_edits(edits: Edits, facts: torch.Tensor, rng: random.Random) -> Batch:
    """Samples and their edits under their prompts; a sample and its own edit are hard to tell apart."""
    pairs = rng.sample(range(len(edits.prompts)), min(EDITS, len(edits.prompts)))
    chosen = [index for pair in pairs for index in (2 * pair, 2 * pair + 1)]
    wanted = truths(asked_facts([edits.scenes[pair] for pair in pairs]), facts[chosen])
    return Batch(
        [edits.prompts[pair] for pair in pairs],
        edits.pictures[chosen],
        facts[chosen],
        wanted,
        own_pairs(len(pairs), 2),
    )


def _of_scenes(scenes: list[Scene], pictures: Gallery, facts: torch.Tensor, rng: random.Random) -> Batch:
    """Pictures of `scenes` under prompts of some; a pair is hard of which the worse fulfils half a prompt."""
    chosen = [rng.choice(pictures.of[scene]) for scene in scenes] + rng.sample(pictures.strays, STRAYS)
    asked = rng.sample(scenes, min(PROMPTS, len(scenes)))
    wanted = truths(asked_facts(asked), facts[chosen])
    return Batch(
        [rng.choice(prompts_of(scene)) for scene in asked],
        pictures.pictures[chosen],
        facts[chosen],
        wanted,
        (wanted >= 0.5)[:, None, :].expand(-1, len(chosen), -1),
    )


def _twins(pictures: Gallery, rng: random.Random) -> list[Scene]:
    """About SCENES scenes, circles and squares exchanged in one item of every other."""
    scenes: dict[Scene, None] = {}
    for _ in range(20 * SCENES):
        scene = random_scene(pictures, rng)
        places = [place for place, item in enumerate(scene.items) if item.shape in _ALIKE]
        if len(scenes) < SCENES - STRAYS and places:
            items, place = list(scene.items), rng.choice(places)
            items[place] = replace(items[place], shape=_ALIKE[items[place].shape])
            twin = replace(scene, items=tuple(items))
            if twin in pictures.of:
                scenes |= {scene: None, twin: None}
    return list(scenes) or family_of_scenes(pictures, rng, SCENES)
