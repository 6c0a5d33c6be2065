"""The instruction editor (InstructPix2Pix, arXiv 2211.09800): source latents beside the noisy ones.

It starts from the competent base and learns from triples whose sources are rendered or drawn by the base.
Its text encoder learns to read instructions first. Instructions alone are its text, so what it does can only
come from reading them; v-prediction makes it learn early to copy the rest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionInstructPix2PixPipeline, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from shapes.render import Pixels
from shapes.train import reading
from shapes.train.autoencoder import LATENT_CHANNELS
from shapes.train.base import build_scheduler, build_unet, load, random_timesteps, save
from shapes.train.loop import (
    Average,
    descend,
    gathered,
    own_random,
    processes,
    progress,
    rank,
    scaled,
    start,
    warm_then_cosine,
)
from shapes.train.text import tokenize
from shapes.train.triples import Triples, make_triples

BATCH = 64
STEPS = 5000
LEARNING_RATE = 1e-3
WITHOUT_TEXT = 0.05  # shares of examples, as in the paper
WITHOUT_SOURCE = 0.05
WITHOUT_BOTH = 0.05
MOST_SOURCE_NOISE = 0.2  # of a latent's standard deviation: samples of the base are not exact latents
GUIDANCE_SCALE = 2.0
IMAGE_GUIDANCE_SCALE = 1.2
INFERENCE_STEPS = 20

_SCHEDULER = build_scheduler()


@dataclass(frozen=True)
class EmbeddedTriples:
    """Latents (N, C, 8, 8), and which of the embedded instructions (P, L, H) each has; the first is empty."""

    sources: torch.Tensor
    targets: torch.Tensor
    instructions: torch.Tensor
    embeddings: torch.Tensor


@dataclass(frozen=True)
class EditCase:
    """A picture (64, 64, 3) uint8 and what to do with it."""

    picture: Pixels
    instruction: str


Editing = Callable[[Sequence[EditCase], int], list[Pixels]]  # cases and a seed -> (64, 64, 3) uint8 pictures


def train(competent: Path, base: Path, folder: Path, seed: int = 3) -> None:
    """Train the editor from the competent pipeline, for pictures of `base`, and save it as a pipeline."""
    device = start(seed)
    triples = make_triples(load(base).to(device), own_random(seed))
    parts = load(competent).to(device)
    instructions = gathered(triples.texts)
    torch.manual_seed(seed)
    reading.learn(parts.text_encoder, parts.tokenizer, reading.of_instructions(instructions))
    unet = widened(parts.unet).to(device).train()
    data = embed(triples, parts.text_encoder, parts.tokenizer)
    own_random(seed + 1)
    average, steps = Average(unet), scaled(STEPS)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_then_cosine(steps))
    for _, log in progress("editor", steps):
        log(descend(editing_loss(unet, data), optimizer, schedule))
        average.update(unet)
    if rank() == 0:
        save(_assemble(parts, average.module), folder)


@torch.no_grad()
def embed(
    triples: Triples, text_encoder: CLIPTextModel, tokenizer: PreTrainedTokenizerFast
) -> EmbeddedTriples:
    """The triples with their instructions as the text encoder reads them."""
    texts = ["", *sorted(set(triples.texts))]
    place = {text: index for index, text in enumerate(texts)}
    device = triples.sources.device
    embeddings = text_encoder.eval()(tokenize(tokenizer, texts).to(device))[0]
    chosen = torch.tensor([place[text] for text in triples.texts], device=device)
    return EmbeddedTriples(triples.sources, triples.targets, chosen, embeddings)


def widened(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """The base's UNet with input channels for the source; the new ones start as a new layer's would."""
    wide = build_unet(in_channels=2 * LATENT_CHANNELS)
    weights = unet.state_dict()
    entrance = wide.conv_in.weight.detach().clone()
    entrance[:, :LATENT_CHANNELS] = weights["conv_in.weight"]
    wide.load_state_dict({**weights, "conv_in.weight": entrance})
    return wide


def editing_loss(unet: UNet2DConditionModel, data: EmbeddedTriples) -> torch.Tensor:
    """The mean squared error of the target's velocity over one random batch."""
    device = data.targets.device
    index = torch.randint(len(data.targets), (BATCH // processes(),), device=device)
    chance = torch.rand(len(index), device=device)
    texts = data.embeddings[data.instructions[index] * (chance >= WITHOUT_TEXT + WITHOUT_BOTH)]
    no_source = (chance >= WITHOUT_TEXT) & (chance < WITHOUT_TEXT + WITHOUT_BOTH + WITHOUT_SOURCE)
    targets, sources = data.targets[index], data.sources[index]
    amount = MOST_SOURCE_NOISE * torch.rand(len(index), 1, 1, 1, device=device)
    sources = (sources + amount * torch.randn_like(sources)) * ~no_source[:, None, None, None]
    noise = torch.randn_like(targets)
    timesteps = random_timesteps(len(index), device)
    noisy = _SCHEDULER.add_noise(targets, noise, timesteps)
    velocity = _SCHEDULER.get_velocity(targets, noise, timesteps)
    predicted = unet(torch.cat([noisy, sources], dim=1), timesteps, texts).sample
    return F.mse_loss(predicted, velocity)


def opened(folder: Path) -> Editing:
    """The saved editor, at the settings the profile ships."""
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(folder, dtype=torch.float32)
    return editing_with(pipeline, image_guidance_scale=IMAGE_GUIDANCE_SCALE)


def editing_with(pipeline: Any, batch: int = 32, **scales: float) -> Editing:
    """An editing pipeline of any kind as a function; `scales` are those that are its own."""
    pipeline.set_progress_bar_config(disable=True)

    def edit(cases: Sequence[EditCase], seed: int) -> list[Pixels]:
        pictures: list[Pixels] = []
        for begin in range(0, len(cases), batch):
            part = cases[begin : begin + batch]
            images = pipeline(
                [case.instruction for case in part],
                image=np.stack([case.picture for case in part]).astype(np.float32) / 255,
                num_inference_steps=INFERENCE_STEPS,
                guidance_scale=GUIDANCE_SCALE,
                generator=[torch.Generator().manual_seed(seed + begin + index) for index in range(len(part))],
                output_type="np",
                **scales,
            ).images
            pictures += list((images * 255).round().astype("uint8"))
        return pictures

    return edit


def _assemble(
    parts: StableDiffusionPipeline, unet: UNet2DConditionModel
) -> StableDiffusionInstructPix2PixPipeline:
    return StableDiffusionInstructPix2PixPipeline(
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        unet=unet.eval(),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
