"""Two reward models that read the same pictures and were taught differently, so that they err differently.

The first is a CLIP: each picture to its prompt and each prompt to its picture, in batches of near misses.
The second has another shape and never learns to match: like PickScore it learns, of two pictures under one
prompt, which one the checker prefers. Both are ordinary CLIPModel folders; the score is the cosine.
"""

import copy
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    PreTrainedTokenizerFast,
)

from shapes.prompts import prompts_of, train_scenes
from shapes.scene import SIZE, Scene
from shapes.train.loop import Average, progress, scaled, start, warm_then_cosine
from shapes.train.reward_pictures import PICTURES_PER_SCENE, Gallery, gallery, near_misses
from shapes.train.reward_truths import asked_facts, shown_facts, truths
from shapes.train.text import MAX_LENGTH, build_tokenizer, tokenize

STEPS = 6000
LEARNING_RATE = 1e-3
SCENES = 96  # of one contrastive batch
STRAYS = 8  # further pictures that match no prompt of the batch
GROUPS = 16  # prompts of one preference batch
CANDIDATES = 6  # pictures drawn for each of them
STRAY_SHARE = 0.3  # of prompts with a picture of no scene among their candidates
NEAR_WEIGHT = 0.7  # of the pairs that are hard to tell apart: in the first phase a prompt's own candidates
SINGLE_SHARE = 0.12  # see shapes/train/base.py
MOST_LOGIT_SCALE = math.log(100)


@dataclass(frozen=True)
class Tower:
    hidden: int
    intermediate: int
    layers: int
    heads: int


@dataclass(frozen=True)
class Architecture:
    """What tells the two models apart before training."""

    vision: Tower
    text: Tower
    activation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Degradation:
    """The most a picture suffers: blur in pixels, noise sd and brightness as shares of full scale."""

    blur: float
    noise: float
    brightness: float


CONTRASTIVE = Architecture(
    Tower(96, 192, 4, 3), Tower(96, 192, 2, 3), "quick_gelu", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
)
PREFERENCE = Architecture(
    Tower(96, 128, 5, 3), Tower(64, 192, 3, 2), "gelu", (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
)
MILD = Degradation(blur=0.8, noise=8 / 255, brightness=0.08)
HARSH = Degradation(blur=1.0, noise=14 / 255, brightness=0.15)

Loss = Callable[[CLIPModel], torch.Tensor]


def train_contrastive(folder: Path, vae_folder: Path | None = None, seed: int = 0) -> None:
    """Train and save `reward_clip`."""
    start(seed)
    rng, tokenizer = random.Random(seed), build_tokenizer()
    pictures = gallery(train_scenes(), PICTURES_PER_SCENE, vae_folder, seed)

    def loss(model: CLIPModel) -> torch.Tensor:
        scenes = family_of_scenes(pictures, rng, SCENES)
        chosen = [rng.choice(pictures.of[scene]) for scene in scenes] + rng.sample(pictures.strays, STRAYS)
        images = embed_images(model, degrade(pictures.pictures[chosen], MILD), CONTRASTIVE)
        texts = embed_texts(model, tokenizer, [rng.choice(prompts_of(scene)) for scene in scenes])
        return contrastive_loss(texts @ images.T * model.logit_scale.exp())

    _train(build(CONTRASTIVE, tokenizer), loss, CONTRASTIVE, folder)


def train_preference(folder: Path, vae_folder: Path | None = None, seed: int = 1) -> None:
    """Train and save `reward_second`, without its second phase (shapes/train/reward_looking.py)."""
    start(seed)
    rng, tokenizer = random.Random(seed), build_tokenizer()
    near = own_pairs(GROUPS, CANDIDATES)
    pictures = gallery(train_scenes(), PICTURES_PER_SCENE, vae_folder, seed)
    facts = shown_facts(pictures.observations)

    def loss(model: CLIPModel) -> torch.Tensor:
        scenes = [random_scene(pictures, rng) for _ in range(GROUPS)]
        chosen = [index for scene in scenes for index in _candidates(pictures, scene, rng)]
        images = embed_images(model, degrade(pictures.pictures[chosen], HARSH), PREFERENCE)
        texts = embed_texts(model, tokenizer, [rng.choice(prompts_of(scene)) for scene in scenes])
        wanted = truths(asked_facts(scenes), facts[chosen])
        return preference_loss(texts @ images.T * model.logit_scale.exp(), wanted, near)

    _train(build(PREFERENCE, tokenizer), loss, PREFERENCE, folder)


def contrastive_loss(logits_TI: torch.Tensor) -> torch.Tensor:
    """CLIP's loss over T prompts and I >= T pictures, of which the first T match; the others match none."""
    prompts = len(logits_TI)
    target = torch.arange(prompts)
    return (F.cross_entropy(logits_TI, target) + F.cross_entropy(logits_TI.T[:prompts], target)) / 2


def preference_loss(logits_TI: torch.Tensor, truths_TI: torch.Tensor, near_TII: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every preference between two pictures under one prompt.

    The pairs that are `near_TII` (prompt, better, worse) weigh NEAR_WEIGHT in all.
    """
    margins_TII = logits_TI[:, :, None] - logits_TI[:, None, :]
    preferred_TII = truths_TI[:, :, None] > truths_TI[:, None, :]
    losses_TII = -F.logsigmoid(margins_TII)
    near, far = _mean(losses_TII, preferred_TII & near_TII), _mean(losses_TII, preferred_TII & ~near_TII)
    return NEAR_WEIGHT * near + (1 - NEAR_WEIGHT) * far


def own_pairs(prompts: int, each: int) -> torch.Tensor:
    """Which pairs are of one prompt's own pictures, (T, I, I): picture i belongs to prompt i // each."""
    owner_I = torch.arange(prompts * each) // each
    own_TI = owner_I[None] == torch.arange(prompts)[:, None]
    return own_TI[:, :, None] & own_TI[:, None, :]


def _mean(losses: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """0 where nothing counts."""
    return losses[counted].sum() / counted.sum().clamp(min=1)


def build(architecture: Architecture, tokenizer: PreTrainedTokenizerFast) -> CLIPModel:
    """An untrained model: 64 patches of 8 pixels, prompts of at most MAX_LENGTH words.

    With an end token of 2, transformers reads a text at its highest token, which in every prompt is its last
    word, "background".
    """
    text = CLIPTextConfig(
        **_tower(architecture.text, architecture.activation),
        vocab_size=len(tokenizer),
        max_position_embeddings=MAX_LENGTH,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    vision = CLIPVisionConfig(
        **_tower(architecture.vision, architecture.activation), image_size=SIZE, patch_size=8
    )
    return CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=64)
    )


def embed_images(model: CLIPModel, images: torch.Tensor, architecture: Architecture) -> torch.Tensor:
    """Unit vectors (B, 64) of images (B, 3, 64, 64) in [0, 1]."""
    return F.normalize(model.visual_projection(pooled(model, images, architecture)), dim=-1)


def pooled(model: CLIPModel, images: torch.Tensor, architecture: Architecture) -> torch.Tensor:
    """What the vision tower says of images (B, 3, 64, 64) in [0, 1], before its projection, (B, hidden)."""
    mean, std = (torch.tensor(part)[:, None, None] for part in (architecture.mean, architecture.std))
    output: torch.Tensor = model.vision_model((images - mean) / std).pooler_output
    return output


def embed_texts(model: CLIPModel, tokenizer: PreTrainedTokenizerFast, prompts: list[str]) -> torch.Tensor:
    """Unit vectors (B, 64) of prompts."""
    return F.normalize(model.get_text_features(tokenize(tokenizer, prompts)).pooler_output, dim=-1)


def degrade(pictures: torch.Tensor, most: Degradation) -> torch.Tensor:
    """Pictures (B, 3, 64, 64) uint8 to [0, 1], about half of them blurred, all noisy and lit differently."""
    images = pictures.float() / 255
    count, side = len(images), torch.arange(-2.0, 3.0)
    sigma = most.blur * torch.rand(1).clamp(min=0.3)
    kernel = torch.softmax(-(side**2) / (2 * sigma**2), 0).expand(3, 1, 1, 5)
    rows = F.conv2d(F.pad(images, (2, 2, 2, 2), mode="replicate"), kernel, groups=3)
    blurred = F.conv2d(rows, kernel.transpose(2, 3), groups=3)
    images = torch.where(torch.rand(count, 1, 1, 1) < 0.5, blurred, images)
    images = images * (1 + most.brightness * (2 * torch.rand(count, 1, 1, 1) - 1))
    return (images + torch.randn_like(images) * most.noise * torch.rand(count, 1, 1, 1)).clamp(0, 1)


def _train(model: CLIPModel, loss_of: Loss, architecture: Architecture, folder: Path) -> None:
    average, steps = Average(model), scaled(STEPS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_then_cosine(steps))
    for _, log in progress(folder.name, steps):
        loss = loss_of(model)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=MOST_LOGIT_SCALE)
        average.update(model)
        log(loss.item())
    save(average.module, architecture, folder)


def save(model: CLIPModel, architecture: Architecture, folder: Path) -> None:
    """Write model, tokenizer and image processor as one half-precision folder."""
    copy.deepcopy(model).half().save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    side = {"height": SIZE, "width": SIZE}
    CLIPImageProcessorPil(
        size={"shortest_edge": SIZE},
        crop_size=side,
        image_mean=list(architecture.mean),
        image_std=list(architecture.std),
    ).save_pretrained(folder)


def family_of_scenes(pictures: Gallery, rng: random.Random, count: int) -> list[Scene]:
    """`count` different scenes, or all there are, each followed by its near misses."""
    scenes: dict[Scene, None] = {}
    while len(scenes) < min(count, len(pictures.of)):
        scene = random_scene(pictures, rng)
        family = [scene, *near_misses(scene, rng).values()]
        scenes |= dict.fromkeys(member for member in family if member in pictures.of)
    return list(scenes)[:count]


def _candidates(pictures: Gallery, scene: Scene, rng: random.Random) -> list[int]:
    """CANDIDATES pictures to compare under a prompt of `scene`: right, near misses, sometimes a stray."""
    misses = [miss for miss in near_misses(scene, rng).values() if miss in pictures.of]
    shown = [scene, *rng.choices([*misses, scene], k=CANDIDATES - 1)]
    chosen = [rng.choice(pictures.of[each]) for each in shown]
    if rng.random() < STRAY_SHARE:
        chosen[-1] = rng.choice(pictures.strays)
    return chosen


def random_scene(pictures: Gallery, rng: random.Random) -> Scene:
    return rng.choice(pictures.single if rng.random() < SINGLE_SHARE else pictures.scenes)


def _tower(tower: Tower, activation: str) -> dict[str, Any]:
    return {
        "hidden_size": tower.hidden,
        "intermediate_size": tower.intermediate,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "hidden_act": activation,
    }
