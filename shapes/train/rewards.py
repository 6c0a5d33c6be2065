"""Two reward models that read the same pictures and were taught differently, so that they err differently.

The first is a CLIP: each picture to its prompt and each prompt to its picture, in batches of near misses.
The second has another shape and never learns to match: like PickScore it learns, of two pictures under one
prompt, which one the checker prefers. Both are ordinary CLIPModel folders; the score is the cosine.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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

from shapes.check import check, judge
from shapes.prompts import held_out_scenes, prompts_of, train_scenes
from shapes.scene import SIZE, Scene
from shapes.train.loop import Average, progress, start, warm_then_cosine
from shapes.train.reward_pictures import PICTURES_PER_SCENE, Gallery, gallery, near_misses
from shapes.train.text import MAX_LENGTH, build_tokenizer, tokenize

STEPS = 6000
LEARNING_RATE = 1e-3
SCENES = 96  # of one contrastive batch
STRAYS = 8  # further pictures that match no prompt of the batch
GROUPS = 16  # prompts of one preference batch
CANDIDATES = 5  # pictures drawn for each of them
NEAR_WEIGHT = 0.7  # of the pairs within a prompt's own candidates, against pairs with the others' pictures
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
    """The most a training picture suffers: blur in pixels, noise sd and brightness as shares of full scale."""

    blur: float
    noise: float
    brightness: float


CONTRASTIVE = Architecture(
    Tower(96, 192, 4, 6), Tower(96, 192, 2, 6), "quick_gelu", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
)
PREFERENCE = Architecture(Tower(80, 160, 5, 5), Tower(64, 192, 3, 4), "gelu", (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))
MILD = Degradation(blur=0.8, noise=8 / 255, brightness=0.08)
HARSH = Degradation(blur=1.0, noise=14 / 255, brightness=0.15)

Loss = Callable[[CLIPModel], torch.Tensor]


def train_contrastive(
    folder: Path, vae_folder: Path | None = None, seed: int = 3, steps: int = STEPS
) -> dict[str, float]:
    """Train and save `reward_clip`; returns its accuracy on held-out prompts."""
    start(seed)
    rng, tokenizer = random.Random(seed), build_tokenizer()
    pictures = gallery(train_scenes(), PICTURES_PER_SCENE, vae_folder, seed)

    def loss(model: CLIPModel) -> torch.Tensor:
        scenes = _family_of_scenes(pictures, rng)
        chosen = [rng.choice(pictures.of[scene]) for scene in scenes] + rng.sample(pictures.strays, STRAYS)
        images = embed_images(model, degrade(pictures.pictures[chosen], MILD), CONTRASTIVE)
        texts = embed_texts(model, tokenizer, [rng.choice(prompts_of(scene)) for scene in scenes])
        return contrastive_loss(texts @ images.T * model.logit_scale.exp())

    return _train("reward_clip", build(CONTRASTIVE, tokenizer), loss, CONTRASTIVE, tokenizer, folder, steps)


def train_preference(
    folder: Path, vae_folder: Path | None = None, seed: int = 14, steps: int = STEPS
) -> dict[str, float]:
    """Train and save `reward_second`; returns its accuracy on held-out prompts."""
    start(seed)
    rng, tokenizer = random.Random(seed), build_tokenizer()
    pictures = gallery(train_scenes(), PICTURES_PER_SCENE, vae_folder, seed)

    def loss(model: CLIPModel) -> torch.Tensor:
        scenes = [_random_scene(pictures, rng) for _ in range(GROUPS)]
        chosen = [index for scene in scenes for index in _candidates(pictures, scene, rng)]
        images = embed_images(model, degrade(pictures.pictures[chosen], HARSH), PREFERENCE)
        texts = embed_texts(model, tokenizer, [rng.choice(prompts_of(scene)) for scene in scenes])
        truths = [[judge(pictures.observations[index], scene).score for index in chosen] for scene in scenes]
        return preference_loss(texts @ images.T * model.logit_scale.exp(), torch.tensor(truths))

    return _train("reward_second", build(PREFERENCE, tokenizer), loss, PREFERENCE, tokenizer, folder, steps)


def contrastive_loss(logits_TI: torch.Tensor) -> torch.Tensor:
    """CLIP's loss over T prompts and I >= T pictures, of which the first T match; the others match none."""
    prompts = len(logits_TI)
    target = torch.arange(prompts)
    return (F.cross_entropy(logits_TI, target) + F.cross_entropy(logits_TI.T[:prompts], target)) / 2


def preference_loss(logits_TI: torch.Tensor, truths_TI: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every preference between two pictures under one prompt.

    Picture i belongs to prompt i // CANDIDATES; pairs of a prompt's own pictures weigh NEAR_WEIGHT in all.
    """
    margins_TII = logits_TI[:, :, None] - logits_TI[:, None, :]
    preferred_TII = truths_TI[:, :, None] > truths_TI[:, None, :]
    owner_I = torch.arange(logits_TI.shape[1]) // CANDIDATES
    own_TI = owner_I[None] == torch.arange(len(logits_TI))[:, None]
    near_TII = own_TI[:, :, None] & own_TI[:, None, :]
    losses_TII = -F.logsigmoid(margins_TII)
    near, far = losses_TII[preferred_TII & near_TII].mean(), losses_TII[preferred_TII & ~near_TII].mean()
    return NEAR_WEIGHT * near + (1 - NEAR_WEIGHT) * far


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
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=64))


def embed_images(model: CLIPModel, images: torch.Tensor, architecture: Architecture) -> torch.Tensor:
    """Unit vectors (B, 64) of images (B, 3, 64, 64) in [0, 1]."""
    mean, std = (torch.tensor(part)[:, None, None] for part in (architecture.mean, architecture.std))
    return F.normalize(model.get_image_features((images - mean) / std).pooler_output, dim=-1)


def embed_texts(model: CLIPModel, tokenizer: PreTrainedTokenizerFast, prompts: list[str]) -> torch.Tensor:
    """Unit vectors (B, 64) of prompts."""
    return F.normalize(model.get_text_features(tokenize(tokenizer, prompts)).pooler_output, dim=-1)


def degrade(pictures: torch.Tensor, most: Degradation) -> torch.Tensor:
    """Pictures (B, 3, 64, 64) uint8 to [0, 1], half of them blurred, all of them noisy and lit differently."""
    images = pictures.float() / 255
    half, side = len(images) // 2, torch.arange(-2.0, 3.0)
    kernel = torch.softmax(-(side**2) / (2 * (most.blur * torch.rand(1).clamp(min=0.2)) ** 2), 0)
    blurred = F.pad(images[:half], (2, 2, 2, 2), mode="replicate")
    blurred = F.conv2d(blurred, kernel.view(1, 1, 1, 5).expand(3, 1, 1, 5), groups=3)
    images = torch.cat([F.conv2d(blurred, kernel.view(1, 1, 5, 1).expand(3, 1, 5, 1), groups=3), images[half:]])
    images = images * (1 + most.brightness * (2 * torch.rand(len(images), 1, 1, 1) - 1))
    noisy = images + torch.randn_like(images) * most.noise * torch.rand(len(images), 1, 1, 1)
    return noisy.clamp(0, 1)


@torch.no_grad()
def evaluate(
    model: CLIPModel, tokenizer: PreTrainedTokenizerFast, architecture: Architecture, vae_folder: Path | None = None
) -> dict[str, float]:
    """Per near miss: the share of held-out prompts where the right picture scores above it."""
    wins = {name: pair_wins(model, tokenizer, architecture, pairs) for name, pairs in held_out_pairs().items()}
    return {name: float(won.float().mean()) for name, won in wins.items()}
