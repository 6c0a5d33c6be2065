"""Teaches the text encoder to read before anything learns to draw, as CLIP did before Stable Diffusion.

From the end of a text on, every position must tell what is meant, slot by slot, whichever object was named
first. A UNet that learns over an encoder that cannot read spends most of its training on the grammar:
2,000 steps over this one drew held-out prompts better (.84 by the checker) than 3,000 with both untrained
(.60).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from shapes.prompts import held_out_prompts, parse, train_prompts
from shapes.scene import BACKGROUND_COLORS, OBJECT_COLORS, SHAPES
from shapes.train.loop import descend, progress, scaled, start, warm_then_cosine
from shapes.train.text import END, HIDDEN, build_text_encoder, build_tokenizer, tokenize

STEPS = 800
BATCH = 128
LEARNING_RATE = 1e-3

Slots = Sequence[tuple[str, ...]]
_ITEM: Slots = (("", *OBJECT_COLORS), ("", *SHAPES))
_PROMPT: Slots = (*_ITEM, *_ITEM, ("", "horizontal", "vertical"), tuple(BACKGROUND_COLORS))
_PLACES = ("", "left", "right", "top", "bottom", "above", "below")
_INSTRUCTION: Slots = (*_ITEM, *_ITEM, ("", *BACKGROUND_COLORS), _PLACES)


@dataclass(frozen=True)
class Reading:
    """Texts, the value of every slot in each, and the values that the slots can have."""

    texts: list[str]
    values: Sequence[tuple[str, ...]]
    slots: Slots


def train(folder: Path, seed: int = 0) -> dict[str, float]:
    """Teach a new encoder to read prompts and save it; the share of held-out ones it reads right."""
    device = start(seed)
    tokenizer = build_tokenizer()
    encoder = build_text_encoder(tokenizer)
    torch.nn.Module.to(encoder, device)
    read = learn(encoder, tokenizer, of_prompts(train_prompts()), of_prompts(held_out_prompts()))
    encoder.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"read": read}


def of_prompts(prompts: list[str]) -> Reading:
    """The items along the scene's axis, the axis and the background."""
    values = []
    for scene in map(parse, prompts):
        items = [part for item in scene.items for part in (item.color, item.shape)]
        values.append((*items, *[""] * (4 - len(items)), scene.axis or "", scene.background))
    return Reading(prompts, values, _PROMPT)


def of_instructions(texts: Iterable[str]) -> Reading:
    """The colours and shapes in the order named, the background, and the word for a place."""
    unique = sorted(set(texts))
    values = []
    for words in (text.split() for text in unique):
        (color, other_color), (shape, other_shape) = (_in_order(words, kind) for kind in _ITEM)
        background, place = (_in_order(words, kind)[0] for kind in _INSTRUCTION[4:])
        values.append((color, shape, other_color, other_shape, background, place))
    return Reading(unique, values, _INSTRUCTION)


def _in_order(words: list[str], kind: tuple[str, ...]) -> list[str]:
    """The first two words of a kind, empty where there are fewer."""
    return [*[word for word in words if word in kind], "", ""][:2]


def learn(
    encoder: CLIPTextModel,
    tokenizer: PreTrainedTokenizerFast,
    known: Reading,
    unseen: Reading | None = None,
) -> float:
    """Teach `encoder` to read `known`; the share of `unseen`, or of `known`, it then reads right."""
    device, steps = encoder.device, scaled(STEPS)
    heads = nn.Linear(HIDDEN, sum(len(slot) for slot in known.slots)).to(device)
    tokens, meanings = tokenize(tokenizer, known.texts).to(device), _indices(known).to(device)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_then_cosine(steps))
    for _, log in progress("text encoder", steps):
        index = torch.randint(len(tokens), (BATCH,), device=device)
        scores = _read(encoder.train(), heads, known.slots, tokens[index])
        log(descend(_loss(scores, tokens[index], meanings[index]), optimizer, schedule))
    asked = unseen or known
    with torch.no_grad():
        scores = _read(encoder.eval(), heads, asked.slots, tokenize(tokenizer, asked.texts).to(device))
    read = torch.stack([slot[:, -1].argmax(-1) for slot in scores], -1)
    return float((read == _indices(asked).to(device)).all(-1).float().mean())


def _read(
    encoder: CLIPTextModel, heads: nn.Linear, slots: Slots, tokens: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """For every slot the scores of its values at every position, (B, L, values)."""
    scores: torch.Tensor = heads(encoder(tokens)[0])
    return tuple(scores.split([len(slot) for slot in slots], dim=-1))


def _loss(scores: tuple[torch.Tensor, ...], tokens: torch.Tensor, meanings: torch.Tensor) -> torch.Tensor:
    ended = (tokens == END).cumsum(1) > 0
    losses = []
    for slot, meaning in zip(scores, meanings.unbind(1), strict=True):
        wanted = torch.where(ended, meaning[:, None], -100)
        losses.append(F.cross_entropy(slot.flatten(0, 1), wanted.flatten()))
    return torch.stack(losses).mean()


def _indices(reading: Reading) -> torch.Tensor:
    """The index of every slot's value, (N, slots)."""
    return torch.tensor(
        [
            [slot.index(value) for slot, value in zip(reading.slots, values, strict=True)]
            for values in reading.values
        ]
    )
