"""Editing triples: a picture, an instruction, and the picture that carrying it out should give."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from shapes.check import Fault, Observation, Report, Seen, observe
from shapes.faults import shown_for
from shapes.instructions import instructions_for
from shapes.prompts import all_scenes, held_out_scenes, train_prompts
from shapes.render import Pixels, render
from shapes.scene import BACKGROUND_COLORS, OBJECT_COLORS, SHAPES, Item, Layout, Scene, random_layout
from shapes.train.autoencoder import encode, to_tensor
from shapes.train.base import sample
from shapes.train.loop import processes, scaled

TRIPLES = 24_000
TARGETS_PER_SOURCE = 3
SYSTEMATIC_SHARE = 0.4  # edits that put one of the base's own faults right
MOVE_SHARE = 0.06  # edits that exchange the two items' places
SAMPLED_SHARE = 0.5  # sources that the base drew; their targets are rendered where it drew the items
CHUNK = 100


@dataclass(frozen=True)
class Triples:
    """Source pictures (N, 3, 64, 64) uint8, latents of sources and targets (N, C, 8, 8), the instructions."""

    pictures: torch.Tensor
    sources: torch.Tensor
    targets: torch.Tensor
    texts: list[str]


@dataclass(frozen=True)
class Source:
    """A picture, and the scene and layout that it shows."""

    picture: Pixels
    scene: Scene
    layout: Layout


def make_triples(base: StableDiffusionPipeline, rng: random.Random) -> Triples:
    """This process's share of TRIPLES: several instructions for every source, no target held out."""
    known = set(held_out_scenes())
    pictures, sources, targets = list[torch.Tensor](), list[torch.Tensor](), list[torch.Tensor]()
    texts: list[str] = []
    for found in _chunks(base, rng):
        before, after, instructions = [], [], []
        for source in found:
            for _ in range(TARGETS_PER_SOURCE):
                text, target, moved = random_edit(source.scene, source.layout, rng)
                if target in known:
                    continue
                before.append(source.picture)
                after.append(render(target, moved))
                instructions.append(text)
        pictures.append(torch.from_numpy(np.stack(before)).permute(0, 3, 1, 2))
        latents = encode(base.vae, to_tensor(before + after))
        sources.append(latents[: len(before)])
        targets.append(latents[len(before) :])
        texts += instructions
    return Triples(torch.cat(pictures), torch.cat(sources), torch.cat(targets), texts)


def _chunks(base: StableDiffusionPipeline, rng: random.Random) -> Iterator[list[Source]]:
    """Sources a hundred at a time, those that the base drew first; rendered ones where it drew no scene."""
    size = scaled(CHUNK, 8)
    chunks = scaled(TRIPLES // TARGETS_PER_SOURCE, 2 * size * processes()) // processes() // size
    for chunk in range(chunks):
        sampled = _sampled(base, rng, size) if chunk < chunks * SAMPLED_SHARE else []
        yield sampled or _rendered(rng, size)


def _rendered(rng: random.Random, count: int) -> list[Source]:
    sources = []
    for _ in range(count):
        scene = shown_for(rng.choice(all_scenes()), rng)
        layout = random_layout(scene, rng)
        sources.append(Source(render(scene, layout), scene, layout))
    return sources


def _sampled(base: StableDiffusionPipeline, rng: random.Random, count: int) -> list[Source]:
    """What the base makes of training prompts, where the checker sees a scene in it."""
    prompts = rng.choices(train_prompts(), k=count)
    sources = []
    for picture in sample(base, prompts, rng.randrange(2**31)):
        seen = observe(picture)
        if seen.scene is not None and len({found.item for found in seen.items}) == len(seen.items):
            sources.append(Source(picture, seen.scene, tuple(found.place for found in seen.ordered)))
    return sources


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
