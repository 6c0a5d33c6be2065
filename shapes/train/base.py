"""The base model: first taught to draw what captions say, then a few things wrong.

Preference training of an undertrained model does nothing, for it lacks ability, not preference. So the UNet
learns true captions to competence, over a text encoder that reads already; then captions that are wrong in a
systematic way (shapes/faults.py), over pictures as clean as before.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from shapes.check import check
from shapes.faults import is_fault_prone, shown_for
from shapes.prompts import held_out_prompts, parse, prompts_of, train_prompts, train_scenes
from shapes.render import Pixels, render
from shapes.scene import Scene, random_layout
from shapes.train.autoencoder import LATENT_CHANNELS, encode, to_tensor
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
from shapes.train.text import HIDDEN, tokenize

PICTURES = 24_000
BATCH = 64
STEPS = 12_000
LEARNING_RATE = 1e-3
MISALIGN_STEPS = 1000
MISALIGN_LEARNING_RATE = 3e-4
TIMESTEP_POWER = 0.6  # below 1: more of the high noise, where the caption decides what is drawn
UNCONDITIONAL_SHARE = 0.1  # captions emptied, for classifier-free guidance
SINGLE_SHARE = 0.12  # one-item scenes are 54 of 1,693; without this they would hardly be seen
GUIDANCE_SCALE = 2.0
INFERENCE_STEPS = 20


@dataclass(frozen=True)
class Captioned:
    """Latents (N, C, 8, 8), and which of the embedded captions (P, L, H) each has; the first one is empty."""

    latents: torch.Tensor
    captions: torch.Tensor
    embeddings: torch.Tensor


def build_unet(in_channels: int = LATENT_CHANNELS) -> UNet2DConditionModel:
    """An untrained UNet of the size that ships."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=in_channels,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 96),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=HIDDEN,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def build_scheduler() -> DDIMScheduler:
    """v-prediction: the layout is decided at high noise, where epsilon teaches next to nothing."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.02,
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


_SCHEDULER = build_scheduler()


def train(vae_folder: Path, text_folder: Path, folder: Path, seed: int = 1) -> dict[str, float]:
    """Teach a new UNet true captions, and save the competent pipeline."""
    device = start(seed)
    vae = AutoencoderKL.from_pretrained(vae_folder).float().to(device)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(text_folder)
    text_encoder = CLIPTextModel.from_pretrained(text_folder)
    torch.nn.Module.to(text_encoder, device)
    unet = build_unet().to(device)
    rng = own_random(seed)
    data = captioned(vae, text_encoder, tokenizer, rng, lambda caption, _: caption)
    average = _learn(unet, data, "base", scaled(STEPS), LEARNING_RATE)
    return _finished(assemble(vae, text_encoder, tokenizer, average), folder)


def misalign(competent: Path, folder: Path, seed: int = 2) -> dict[str, float]:
    """Teach the competent pipeline's UNet the systematic faults, and save it as the base."""
    device = start(seed)
    pipeline = StableDiffusionPipeline.from_pretrained(competent, dtype=torch.float32).to(device)
    vae, text_encoder, tokenizer = pipeline.vae, pipeline.text_encoder, pipeline.tokenizer
    data = captioned(vae, text_encoder, tokenizer, own_random(seed), shown_for)
    average = _learn(pipeline.unet.train(), data, "misalign", scaled(MISALIGN_STEPS), MISALIGN_LEARNING_RATE)
    return _finished(assemble(vae, text_encoder, tokenizer, average), folder)


def _learn(
    unet: UNet2DConditionModel, data: Captioned, name: str, steps: int, learning_rate: float
) -> UNet2DConditionModel:
    average = Average(unet)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_then_cosine(steps))
    for _, log in progress(name, steps):
        log(descend(diffusion_loss(unet, data), optimizer, schedule))
        average.update(unet)
    return average.module


def _finished(pipeline: StableDiffusionPipeline, folder: Path) -> dict[str, float]:
    if rank() > 0:
        return {}
    save(pipeline, folder)
    return evaluate(pipeline)


def captioned(
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: PreTrainedTokenizerFast,
    rng: random.Random,
    shown: Callable[[Scene, random.Random], Scene],
) -> Captioned:
    """Captions of training scenes over latents of what `shown` makes of them; this process's share."""
    prompts = ["", *train_prompts()]
    place = {prompt: index for index, prompt in enumerate(prompts)}
    scenes = train_scenes()
    single = [scene for scene in scenes if scene.axis is None]
    latents, captions = [], []
    chunk = scaled(500, 16)
    for _ in range(scaled(PICTURES, chunk * processes()) // processes() // chunk):
        pictures = []
        for _ in range(chunk):
            caption = rng.choice(single if rng.random() < SINGLE_SHARE else scenes)
            scene = shown(caption, rng)
            pictures.append(render(scene, random_layout(scene, rng)))
            captions.append(place[rng.choice(prompts_of(caption))])
        latents.append(encode(vae, to_tensor(pictures)))
    device = latents[0].device
    with torch.no_grad():
        embeddings = text_encoder.eval()(tokenize(tokenizer, prompts).to(device))[0]
    return Captioned(torch.cat(latents), torch.tensor(captions, device=device), embeddings)


def diffusion_loss(unet: UNet2DConditionModel, data: Captioned) -> torch.Tensor:
    """The mean squared error of the velocity over one random batch."""
    device = data.latents.device
    index = torch.randint(len(data.latents), (BATCH // processes(),), device=device)
    keep = torch.rand(len(index), device=device) >= UNCONDITIONAL_SHARE
    latents = data.latents[index]
    noise, timesteps = torch.randn_like(latents), random_timesteps(len(index), device)
    noisy = _SCHEDULER.add_noise(latents, noise, timesteps)
    velocity = _SCHEDULER.get_velocity(latents, noise, timesteps)
    predicted = unet(noisy, timesteps, data.embeddings[data.captions[index] * keep]).sample
    return F.mse_loss(predicted, velocity)


def random_timesteps(count: int, device: torch.device) -> torch.Tensor:
    """Timesteps to train at, (count,): 0 to 999, the noisier ones more often."""
    share = torch.rand(count, device=device) ** TIMESTEP_POWER
    timesteps: torch.Tensor = (share * _SCHEDULER.config.num_train_timesteps).long()
    return timesteps


def assemble(
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: PreTrainedTokenizerFast,
    unet: UNet2DConditionModel,
) -> StableDiffusionPipeline:
    """The parts as an ordinary pipeline."""
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load(folder: Path) -> StableDiffusionPipeline:
    """A saved base, in single precision."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Write the pipeline in half precision and restore it to single."""
    pipeline.to(torch.float16).save_pretrained(folder)
    pipeline.to(torch.float32)


def sample(pipeline: StableDiffusionPipeline, prompts: list[str], seed: int, batch: int = 64) -> list[Pixels]:
    """One picture a prompt as (64, 64, 3) uint8 arrays, at the settings the profile ships."""
    pictures = []
    for begin in range(0, len(prompts), batch):
        part = prompts[begin : begin + batch]
        generators = [torch.Generator().manual_seed(seed + begin + index) for index in range(len(part))]
        images = pipeline(
            part,
            num_inference_steps=INFERENCE_STEPS,
            guidance_scale=GUIDANCE_SCALE,
            height=64,
            width=64,
            generator=generators,
            output_type="np",
        ).images
        pictures += list((images * 255).round().astype("uint8"))
    return pictures


def evaluate(pipeline: StableDiffusionPipeline, seed: int = 5000) -> dict[str, float]:
    """The checker's mean on the held-out prompts, on those that the faults touch and on the others."""
    prompts = held_out_prompts()[: scaled(394, 4)]
    reports = [
        check(picture, prompt)
        for picture, prompt in zip(sample(pipeline, prompts, seed), prompts, strict=True)
    ]
    prone = [is_fault_prone(parse(prompt)) for prompt in prompts]
    touched = [report for report, flag in zip(reports, prone, strict=True) if flag]
    others = [report for report, flag in zip(reports, prone, strict=True) if not flag]
    return {
        f"{name}_{kind}": sum(getattr(report, kind) for report in part) / len(part)
        for name, part in (("all", reports), ("fault_prone", touched), ("others", others))
        for kind in ("score", "perfect")
    }
