"""How often a reward model agrees with the exact checker, on prompts it was not trained on."""

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from shapes.check import check
from shapes.prompts import held_out_prompts, parse
from shapes.render import Pixels, render
from shapes.scene import random_layout
from shapes.train.loop import scaled
from shapes.train.reward_pictures import near_misses, through_autoencoder

Score = Callable[[list[str], list[Pixels]], torch.Tensor]  # prompts, pictures -> cosines (B,)


@dataclass(frozen=True)
class Pair:
    """Two pictures under one prompt; the checker prefers `better`. `aspect` is what `worse` gets wrong."""

    prompt: str
    better: Pixels
    worse: Pixels
    aspect: str


def load(folder: Path) -> Score:
    """The model in `folder` as a function."""
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = CLIPImageProcessorPil.from_pretrained(folder)

    @torch.no_grad()
    def score(prompts: list[str], pictures: list[Pixels]) -> torch.Tensor:
        words = tokenizer(prompts, padding=True, truncation=True, return_tensors="pt")
        pixels = processor(pictures, return_tensors="pt", input_data_format="channels_last").pixel_values
        texts = model.get_text_features(words.input_ids, attention_mask=words.attention_mask).pooler_output
        return F.cosine_similarity(model.get_image_features(pixels).pooler_output, texts)

    return score


def pair_accuracy(folder: Path, vae_folder: Path | None = None) -> dict[str, float]:
    """Per aspect, the share of held-out pairs in which the model prefers what the checker prefers."""
    pairs = held_out_pairs(vae_folder)
    right = margins(load(folder), pairs) > 0
    by_aspect = defaultdict[str, list[bool]](list)
    for pair, won in zip(pairs, right.tolist(), strict=True):
        by_aspect[pair.aspect].append(won)
    return {aspect: sum(won) / len(won) for aspect, won in sorted(by_aspect.items())}


def edit_accuracy(folder: Path, edits: Sequence[tuple[str, Pixels, Pixels]]) -> dict[str, float]:
    """The share of (sample, edit) pairs in which the model prefers what the checker prefers.

    `edits`: prompt, sample and its edit; those that the checker finds equal are left out.
    """
    pairs = []
    for prompt, before, after in edits:
        old, new = check(before, prompt).score, check(after, prompt).score
        if old != new:
            better, worse = (after, before) if new > old else (before, after)
            pairs.append(Pair(prompt, better, worse, "edit"))
    if not pairs:
        return {"edits_compared": 0.0}
    right = margins(load(folder), pairs) > 0
    return {"edits": float(right.float().mean()), "edits_compared": float(len(pairs))}


def agreement(folder: Path, other: Path, vae_folder: Path | None = None) -> dict[str, float]:
    """How often two models prefer the same picture of a held-out pair, and how often both are wrong."""
    pairs = held_out_pairs(vae_folder)
    first, second = margins(load(folder), pairs) > 0, margins(load(other), pairs) > 0
    both_wrong = ~first & ~second
    return {"agree": float((first == second).float().mean()), "both_wrong": float(both_wrong.float().mean())}


def margins(score: Score, pairs: list[Pair], batch: int = 100) -> torch.Tensor:
    """The better picture's score less the worse one's, (N,)."""
    parts = []
    for begin in range(0, len(pairs), batch):
        part = pairs[begin : begin + batch]
        prompts = [pair.prompt for pair in part]
        better = score(prompts, [pair.better for pair in part])
        parts.append(better - score(prompts, [pair.worse for pair in part]))
    return torch.cat(parts)


def held_out_pairs(vae_folder: Path | None = None, seed: int = 20_000, prompts: int = 394) -> list[Pair]:
    """Every near miss of the first held-out prompts, drawn anew; decoded where there is an autoencoder."""
    rng = random.Random(seed)
    pairs = []
    for prompt in held_out_prompts()[: scaled(prompts, 4)]:
        right = parse(prompt)
        for aspect, wrong in near_misses(right, rng).items():
            better, worse = (render(scene, random_layout(scene, rng)) for scene in (right, wrong))
            pairs.append(Pair(prompt, better, worse, aspect))
    if vae_folder is None:
        return pairs
    right_ones = through_autoencoder([pair.better for pair in pairs], vae_folder)
    wrong_ones = through_autoencoder([pair.worse for pair in pairs], vae_folder)
    decoded = [
        Pair(pair.prompt, right_one, wrong_one, pair.aspect)
        for pair, right_one, wrong_one in zip(pairs, right_ones, wrong_ones, strict=True)
    ]
    return [p for p in decoded if check(p.better, p.prompt).score > check(p.worse, p.prompt).score]
