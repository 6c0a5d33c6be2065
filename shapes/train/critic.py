"""The vision-language model: one small Qwen2.5-VL that writes the critique and the editing instructions.

It learns the services' own messages and answers, both tasks mixed, on pictures drawn and degraded, passed
through the autoencoder, or sampled from the base. The critique's description comes first and goes through
the prompt point by point, so that it looks and compares before it judges.
"""

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from shapes.check import Observation, observe
from shapes.prompts import train_prompts, train_scenes
from shapes.train.base import sample
from shapes.train.critic_data import Example, random_example, round_or_square
from shapes.train.critic_model import PATCH, build, build_tokenizer, save
from shapes.train.critic_quality import evaluate
from shapes.train.loop import (
    Average,
    descend,
    own_random,
    processes,
    progress,
    rank,
    scaled,
    start,
    warm_then_cosine,
)
from shapes.train.reward_pictures import gallery
from shapes.train.rewards import MILD, degrade

STEPS = 6000
BATCH = 32
LEARNING_RATE = 2e-3
PICTURES_PER_SCENE = 12
LOOKING_STEPS = 1500  # a second phase, see critic_data.round_or_square
LOOKING_RATE = 1e-3
LOOKING_WEIGHT = 0.6
ALIKE_SHARE = 0.5
SAMPLES = 4000  # pictures sampled from the base, under training prompts
SAMPLED_SHARE = 0.4  # of a batch's pictures
CORPUS = 4000  # examples that the tokenizer is made from
_GRID = 64 // PATCH
_IMAGE_TOKENS = (_GRID // 2) ** 2
_IGNORED = -100


@dataclass(frozen=True)
class Pictures:
    """Pictures (N, 3, 64, 64) uint8 and what the checker sees in each."""

    pixels: torch.Tensor
    observations: list[Observation]


@dataclass(frozen=True)
class Batch:
    """Token ids (B, L), padded on the right, and labels that are `_IGNORED` outside the answers."""

    ids: torch.Tensor
    labels: torch.Tensor


def train(folder: Path, base: Path | None = None, seed: int = 0) -> dict[str, float]:
    """Train and save the model; returns its quality on held-out prompts.

    `base` is the pipeline whose autoencoder the pictures go through and whose samples are judged at the end;
    without it pictures stay as rendered.
    """
    start(seed)
    tokenizer = build_tokenizer(_corpus(gallery(train_scenes(), 1, None, seed).observations, seed))
    model = build(tokenizer).train()
    rng = own_random(seed)
    drawn, sampled = _drawn(base, rng), _sampled(base, rng) if base else None
    sets = [(drawn, 1 - SAMPLED_SHARE), (sampled, SAMPLED_SHARE)] if sampled else [(drawn, 1.0)]
    model = _learn(model, tokenizer, sets, rng, "critic", scaled(STEPS), LEARNING_RATE, alike_share=0.0)
    looking = _learn(
        copy.deepcopy(model),
        tokenizer,
        sets,
        rng,
        "critic looks",
        scaled(LOOKING_STEPS),
        LOOKING_RATE,
        alike_share=ALIKE_SHARE,
    )
    blend(model, looking, LOOKING_WEIGHT)
    if rank() > 0:
        return {}
    save(model, tokenizer, folder)
    return evaluate(folder, base)


@torch.no_grad()
def blend(model: torch.nn.Module, other: torch.nn.Module, share: float) -> None:
    """Move the weights of `model` by `share` of the way to those of `other` (arXiv 2109.01903).

    After the second phase the model sees more faults, some of them not there; in between it does both well.
    """
    torch._foreach_lerp_(list(model.parameters()), list(other.parameters()), share)


def _learn(
    model: Qwen2_5_VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    sets: Sequence[tuple[Pictures, float]],
    rng: random.Random,
    name: str,
    steps: int,
    learning_rate: float,
    alike_share: float,
) -> Qwen2_5_VLForConditionalGeneration:
    """Train on pictures of `sets`, chosen by their weights; returns the averaged model."""
    average = Average(model.train())
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_then_cosine(steps))
    for _, log in progress(name, steps):
        (pictures,) = rng.choices([part for part, _ in sets], [share for _, share in sets])
        chosen = [rng.randrange(len(pictures.observations)) for _ in range(BATCH // processes())]
        examples = [
            (round_or_square if rng.random() < alike_share else random_example)(
                pictures.observations[index], rng
            )
            for index in chosen
        ]
        patches = to_patches(degrade(pictures.pixels[chosen], MILD))
        loss = answer_loss(model, tokenizer, encode(tokenizer, examples), patches)
        log(descend(loss, optimizer, schedule))
        average.update(model)
    averaged: Qwen2_5_VLForConditionalGeneration = average.module
    return averaged.requires_grad_(True)


def _drawn(base: Path | None, rng: random.Random) -> Pictures:
    """This process's share of pictures of every training scene."""
    vae = base / "vae" if base else None
    pictures = gallery(train_scenes(), -(-PICTURES_PER_SCENE // processes()), vae, rng.randrange(2**31))
    return Pictures(pictures.pictures, pictures.observations)


def _sampled(base: Path, rng: random.Random) -> Pictures:
    """This process's share of what the base makes of training prompts, as the checker sees it."""
    pipeline = StableDiffusionPipeline.from_pretrained(base, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    prompts = rng.choices(train_prompts(), k=scaled(SAMPLES, 8 * processes()) // processes())
    pictures = sample(pipeline, prompts, rng.randrange(2**31))
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return Pictures(pixels, [observe(picture) for picture in pictures])


def answer_loss(
    model: Qwen2_5_VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    batch: Batch,
    patches: torch.Tensor,
) -> torch.Tensor:
    """The mean cross-entropy of the answers' tokens."""
    image_id: Any = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    output: Any = model(
        input_ids=batch.ids,
        attention_mask=(batch.ids != tokenizer.pad_token_id).long(),
        mm_token_type_ids=batch.ids.eq(image_id).int(),
        pixel_values=patches,
        image_grid_thw=torch.tensor([[1, _GRID, _GRID]] * len(batch.ids)),
        labels=batch.labels,
        use_cache=False,
    )
    loss: torch.Tensor = output.loss
    return loss


def encode(tokenizer: PreTrainedTokenizerFast, examples: list[Example]) -> Batch:
    """Questions and answers as the services' chat has them, each ended by the end-of-message token."""
    questions = [asked(tokenizer, example) for example in examples]
    answers = [f"{example.answer}<|im_end|>" for example in examples]
    rows = []
    for question, answer in zip(tokenizer(questions).input_ids, tokenizer(answers).input_ids, strict=True):
        rows.append((question + answer, [_IGNORED] * len(question) + answer))
    length = max(len(ids) for ids, _ in rows)
    pad = tokenizer.pad_token_id
    ids = [ids + [pad] * (length - len(ids)) for ids, _ in rows]
    labels = [labels + [_IGNORED] * (length - len(labels)) for _, labels in rows]
    return Batch(torch.tensor(ids), torch.tensor(labels))


def asked(tokenizer: PreTrainedTokenizerFast, example: Example) -> str:
    """The question as text, with a place for every token of the picture."""
    messages = example.question.messages("")
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return str(text).replace("<|image_pad|>", "<|image_pad|>" * _IMAGE_TOKENS)


def to_patches(images: torch.Tensor) -> torch.Tensor:
    """Images (B, 3, 64, 64) in [0, 1] to patches as Qwen2VLImageProcessor lays them out, (B * 64, 384)."""
    half = _GRID // 2
    parts = (images * 2 - 1).reshape(-1, 3, half, 2, PATCH, half, 2, PATCH)
    patches = parts.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
    return patches.expand(-1, -1, -1, -1, -1, -1, 2, -1, -1).reshape(-1, 3 * 2 * PATCH * PATCH)


def _corpus(observations: list[Observation], seed: int) -> list[str]:
    rng, texts = random.Random(seed), list[str]()
    for _ in range(scaled(CORPUS, 300)):
        example = random_example(rng.choice(observations), rng)
        texts += ["system\n", "user\n", "assistant\n", "\n"]
        texts += [example.question.system, example.question.text, example.answer]
    return texts
