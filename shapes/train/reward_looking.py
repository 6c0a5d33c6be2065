"""The preference model's second phase: it learns to look, having learnt to prefer.

From preferences alone it never told a circle from a square (right in .5 to .7 of such pairs). Every other
batch here is of scenes beside their twins with the other of the two, and a head, dropped at the end, has to
name what each picture shows.
"""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from transformers import CLIPModel

from shapes.prompts import prompts_of, train_scenes
from shapes.scene import Scene
from shapes.train.loop import Average, descend, progress, scaled, start, warm_then_cosine
from shapes.train.reward_pictures import PICTURES_PER_SCENE, Gallery, gallery
from shapes.train.reward_quality import pair_accuracy
from shapes.train.reward_truths import asked_facts, shown_facts, truths
from shapes.train.rewards import (
    MILD,
    PREFERENCE,
    STRAYS,
    degrade,
    embed_texts,
    family_of_scenes,
    random_scene,
    save,
)
from shapes.train.text import build_tokenizer

STEPS = 800
LEARNING_RATE = 1e-3
HEAD_LEARNING_RATE = 3e-3
SCENES = 48
PROMPTS = 32
NEAR_WEIGHT = 0.7
FACTS_WEIGHT = 5.0
COMMON_FACT = 0.02  # share of pictures; rarer facts are arrangements
_ALIKE = {"circle": "square", "square": "circle"}


def train(folder: Path, vae_folder: Path | None, seed: int = 1) -> dict[str, float]:
    """Take the saved preference model through this phase; returns its accuracy on held-out prompts."""
    start(seed)
    rng, tokenizer, steps = random.Random(seed), build_tokenizer(), scaled(STEPS)
    pictures = gallery(train_scenes(), PICTURES_PER_SCENE, vae_folder, seed)
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).train()
    shown = shown_facts(pictures.observations)
    common = shown.mean(0) > COMMON_FACT
    head = torch.nn.Linear(PREFERENCE.vision.hidden, int(common.sum()))
    groups: list[dict[str, Any]] = [
        {"params": [*model.parameters()]},
        {"params": [*head.parameters()], "lr": HEAD_LEARNING_RATE},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_then_cosine(steps, warmup=50))
    average = Average(model, decay=0.99)
    for step, log in progress(f"{folder.name} looks", steps):
        scenes = _twins(pictures, rng) if step % 2 else family_of_scenes(pictures, rng, SCENES)
        chosen = [rng.choice(pictures.of[scene]) for scene in scenes] + rng.sample(pictures.strays, STRAYS)
        pooled = _pooled(model, degrade(pictures.pictures[chosen], MILD))
        named = F.binary_cross_entropy_with_logits(head(pooled), shown[chosen][:, common])
        prompts = rng.sample(scenes, min(PROMPTS, len(scenes)))
        texts = embed_texts(model, tokenizer, [rng.choice(prompts_of(scene)) for scene in prompts])
        images = F.normalize(model.visual_projection(pooled), dim=-1)
        wanted = truths(asked_facts(prompts), shown[chosen])
        preferred = preference_loss(texts @ images.T * model.logit_scale.exp(), wanted)
        log(descend(preferred + FACTS_WEIGHT * named, optimizer, schedule))
        average.update(model)
    save(average.module, PREFERENCE, folder)
    return pair_accuracy(folder)


def preference_loss(logits_TI: torch.Tensor, truths_TI: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every preference between two pictures under one prompt.

    The pairs of which the worse picture fulfils half of the prompt weigh NEAR_WEIGHT in all.
    """
    margins_TII = logits_TI[:, :, None] - logits_TI[:, None, :]
    preferred_TII = truths_TI[:, :, None] > truths_TI[:, None, :]
    near_TII = (truths_TI >= 0.5)[:, None, :].expand_as(preferred_TII)
    losses_TII = -F.logsigmoid(margins_TII)
    near, far = losses_TII[preferred_TII & near_TII].mean(), losses_TII[preferred_TII & ~near_TII].mean()
    return NEAR_WEIGHT * near + (1 - NEAR_WEIGHT) * far


def _pooled(model: CLIPModel, images: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(part)[:, None, None] for part in (PREFERENCE.mean, PREFERENCE.std))
    pooled: torch.Tensor = model.vision_model((images - mean) / std).pooler_output
    return pooled


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
