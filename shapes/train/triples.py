"""Editing triples: a picture, an instruction, and the picture that carrying it out should give."""

import random
from dataclasses import dataclass, replace

import torch
from diffusers import AutoencoderKL
from transformers import PreTrainedTokenizerFast

from shapes.check import Fault, Observation, Report, Seen
from shapes.faults import shown_for
from shapes.instructions import instructions_for
from shapes.prompts import all_scenes, held_out_scenes
from shapes.render import render
from shapes.scene import BACKGROUND_COLORS, OBJECT_COLORS, SHAPES, Item, Layout, Scene, random_layout
from shapes.train.autoencoder import encode, to_tensor
from shapes.train.loop import processes
from shapes.train.text import tokenize

TRIPLES = 24_000
TARGETS_PER_SOURCE = 3
SYSTEMATIC_SHARE = 0.4  # edits that put one of the base's own faults right
MOVE_SHARE = 0.06  # edits that exchange the two items' places


@dataclass(frozen=True)
class Triples:
    """Latents (N, C, 8, 8) of sources and targets, token ids (N, L) of the instructions between them."""

    sources: torch.Tensor
    targets: torch.Tensor
    tokens: torch.Tensor
    empty: torch.Tensor


def make_triples(vae: AutoencoderKL, tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> Triples:
    """This process's share of TRIPLES: several instructions for every source, over scenes never held out."""
    known = set(held_out_scenes())
    sources, targets = list[torch.Tensor](), list[torch.Tensor]()
    texts: list[str] = []
    while len(texts) < TRIPLES // processes():
        before, after, instructions = [], [], []
        for _ in range(100):
            source = shown_for(rng.choice(all_scenes()), rng)
            layout = random_layout(source, rng)
            for _ in range(TARGETS_PER_SOURCE):
                text, target, moved = random_edit(source, layout, rng)
                if target in known:
                    continue
                before.append(render(source, layout))
                after.append(render(target, moved))
                instructions.append(text)
        latents = encode(vae, to_tensor(before + after))
        sources.append(latents[: len(before)])
        targets.append(latents[len(before) :])
        texts += instructions
    tokens, empty = tokenize(tokenizer, texts), tokenize(tokenizer, [""])
    device = sources[0].device
    return Triples(torch.cat(sources), torch.cat(targets), tokens.to(device), empty.to(device))


def random_edit(source: Scene, layout: Layout, rng: random.Random) -> tuple[str, Scene, Layout]:
    """An instruction for the picture of `source` at `layout`, and the scene and layout it asks for."""
    if source.axis is not None and rng.random() < MOVE_SHARE:
        return _exchange(source, layout)
    fault = _systematic(source, rng) if rng.random() < SYSTEMATIC_SHARE else None
    fault = fault or _any_attribute(source, rng)
    target = _carried_out(source, fault)
    return _text(source, fault, target, layout), target, layout


def _exchange(source: Scene, layout: Layout) -> tuple[str, Scene, Layout]:
    target = replace(source, items=source.items[::-1])
    axis = source.axis or ""
    text = _text(source, Fault("relation", axis, axis), target, layout)
    first, second = layout
    moved = (replace(first, extent=second.extent), replace(second, extent=first.extent))
    return text, target, moved


def _systematic(source: Scene, rng: random.Random) -> Fault | None:
    """A correction of what shapes/faults.py teaches wrong, where the picture could be showing it."""
    faults = [Fault("background", "gray", "white")] if source.background == "white" else []
    for position, item in enumerate(source.items):
        if item.color == "blue":
            faults.append(Fault("color", "purple", "blue", position))
        if item.color in ("green", "orange") and item.shape == "circle":
            faults.append(Fault("shape", "square", "circle", position))
    return rng.choice(faults) if faults else None


def _any_attribute(source: Scene, rng: random.Random) -> Fault:
    position = rng.randrange(len(source.items))
    item = source.items[position]
    kind = rng.random()
    if kind < 0.4:
        return Fault("color", _other(OBJECT_COLORS, item.color, rng), item.color, position)
    if kind < 0.8:
        return Fault("shape", _other(SHAPES, item.shape, rng), item.shape, position)
    return Fault("background", _other(BACKGROUND_COLORS, source.background, rng), source.background)


def _other(names: dict[str, tuple[int, int, int]] | tuple[str, ...], but: str, rng: random.Random) -> str:
    return rng.choice([name for name in names if name != but])


def _carried_out(source: Scene, fault: Fault) -> Scene:
    if fault.position is None:
        return replace(source, background=fault.wanted)
    items = list(source.items)
    item = items[fault.position]
    items[fault.position] = (
        Item(fault.wanted, item.shape) if fault.aspect == "color" else Item(item.color, fault.wanted)
    )
    return replace(source, items=tuple(items))


def _text(source: Scene, fault: Fault, target: Scene, layout: Layout) -> str:
    """The instruction in the words that the instruction service uses for this fault."""
    seen = tuple(Seen(item, place) for item, place in zip(source.items, layout, strict=True))
    report = Report((), (fault,), Observation(source.background, seen))
    return instructions_for(report, target)[0].text
