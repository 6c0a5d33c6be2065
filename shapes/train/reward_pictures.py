"""What the reward models look at: pictures with what the checker sees in them, and scenes one step apart.

A reward model has to tell a right picture from a nearly right one, drawn by a diffusion model. So scenes
come with their near misses, pictures go through the autoencoder with noise on their latents, and what a
picture shows is what the checker sees afterwards, not what was meant.
"""

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from shapes.check import Observation, observe
from shapes.faults import shown_for
from shapes.prompts import all_scenes
from shapes.render import Pixels, render
from shapes.scene import BACKGROUND_COLORS, OBJECT_COLORS, SHAPES, Item, Scene, random_layout
from shapes.train.autoencoder import encode, to_pictures, to_tensor
from shapes.train.loop import scaled

PICTURES_PER_SCENE = 14
LONE_SHARE = 0.06  # pictures with one of their two items only
TWIN_SHARE = 0.06  # pictures with one of their two items twice, which no prompt says
DECODED_SHARE = 0.6  # pictures that went through the autoencoder
MOST_LATENT_NOISE = 0.05  # mean squared error
CHUNK = 250  # pictures decoded at once


@dataclass(frozen=True)
class Gallery:
    """Pictures (N, 3, 64, 64) uint8 with what each shows; `of` has the pictures of a scene of the grammar."""

    pictures: torch.Tensor
    observations: list[Observation]
    of: dict[Scene, list[int]]
    strays: list[int]  # pictures of no prompt: twins, and what a noisy latent may become

    @cached_property
    def scenes(self) -> list[Scene]:
        return list(self.of)

    @cached_property
    def single(self) -> list[Scene]:
        return [scene for scene in self.of if scene.axis is None]


def gallery(scenes: tuple[Scene, ...], per_scene: int, vae_folder: Path | None, seed: int) -> Gallery:
    """Renders of `scenes`, most of them through the autoencoder where there is one."""
    rng = random.Random(seed)
    scenes = scenes[:: len(scenes) // scaled(len(scenes), 200)]
    pictures = [_draw(scene, rng) for scene in scenes for _ in range(scaled(per_scene, 1))]
    rng.shuffle(pictures)
    if vae_folder is not None:
        decoded = int(len(pictures) * DECODED_SHARE)
        pictures[:decoded] = through_autoencoder(pictures[:decoded], vae_folder)
    observations = [observe(picture) for picture in pictures]
    allowed, of, strays = set(scenes), defaultdict[Scene, list[int]](list), list[int]()
    for index, observation in enumerate(observations):
        scene = observation.scene
        if scene in allowed:
            of[scene].append(index)
        elif scene not in _grammar():
            strays.append(index)
    return Gallery(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2), observations, dict(of), strays)


def near_misses(scene: Scene, rng: random.Random) -> dict[str, Scene]:
    """Scenes that differ from `scene` in one respect, by its name; those outside the grammar are left out."""
    place = rng.randrange(len(scene.items))
    item = scene.items[place]
    misses = {
        "color": _with_item(scene, place, replace(item, color=_other(OBJECT_COLORS, item.color, rng))),
        "shape": _with_item(scene, place, replace(item, shape=_other(SHAPES, item.shape, rng))),
        "background": replace(scene, background=_other(BACKGROUND_COLORS, scene.background, rng)),
        "fault": shown_for(scene, rng),
    }
    if scene.axis is not None:
        a, b = scene.items
        misses |= {
            "count": Scene((item,), scene.background),
            "order": replace(scene, items=(b, a)),
            "direction": replace(scene, axis="vertical" if scene.axis == "horizontal" else "horizontal"),
            "color_swap": replace(scene, items=(Item(b.color, a.shape), Item(a.color, b.shape))),
            "shape_swap": replace(scene, items=(Item(a.color, b.shape), Item(b.color, a.shape))),
        }
    return {name: miss for name, miss in misses.items() if miss != scene and miss in _grammar()}


def _draw(scene: Scene, rng: random.Random) -> Pixels:
    layout = random_layout(scene, rng)
    kept, chance = rng.randrange(2), rng.random()
    if scene.axis is not None and chance < LONE_SHARE:
        return render(Scene((scene.items[kept],), scene.background), (layout[kept],))
    if scene.axis is not None and chance < LONE_SHARE + TWIN_SHARE:
        return render(replace(scene, items=(scene.items[kept],) * 2), layout)
    return render(scene, layout)


@torch.no_grad()
def through_autoencoder(pictures: list[Pixels], folder: Path) -> list[Pixels]:
    """Pictures decoded from their latents, with noise of up to MOST_LATENT_NOISE on them."""
    vae = AutoencoderKL.from_pretrained(folder).float().eval()
    return [decoded for part in _chunks(pictures) for decoded in _decode_noised(vae, part)]


def _chunks(pictures: list[Pixels]) -> Iterator[list[Pixels]]:
    for begin in range(0, len(pictures), CHUNK):
        yield pictures[begin : begin + CHUNK]


def _decode_noised(vae: AutoencoderKL, pictures: list[Pixels]) -> Pixels:
    latents = encode(vae, to_tensor(pictures))
    amount = (torch.rand(len(latents), 1, 1, 1) * MOST_LATENT_NOISE).sqrt()
    return to_pictures(vae.decode(latents + torch.randn_like(latents) * amount).sample)


def _with_item(scene: Scene, place: int, item: Item) -> Scene:
    return replace(scene, items=(*scene.items[:place], item, *scene.items[place + 1 :]))


def _other(names: dict[str, tuple[int, int, int]] | tuple[str, ...], name: str, rng: random.Random) -> str:
    return rng.choice([other for other in names if other != name])


@cache
def _grammar() -> frozenset[Scene]:
    return frozenset(all_scenes())
