"""The autoencoder: 64x64 pictures to 8x8 latents that decode well even when they are a little wrong.

A diffusion model's samples are never exact latents, so the decoder is trained on noised ones. At the end
the latents are whitened channel by channel, which folds exactly into the two 1x1 convolutions around them.
"""

import random
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from shapes.check import check
from shapes.faults import shown_for
from shapes.prompts import all_scenes, held_out_scenes
from shapes.render import Pixels, render
from shapes.scene import Scene, random_layout
from shapes.train.loop import descend, progress, scaled, start, warm_then_cosine

LATENT_CHANNELS = 8
BATCH = 16
KL_WEIGHT = 1e-5
MOST_NOISE = 0.4  # of a channel's standard deviation


@dataclass(frozen=True)
class Phase:
    """A stretch of training. `as_taught`: the share of pictures that show what the base is taught wrong."""

    steps: int
    learning_rate: float
    as_taught: float
    extra_gray: float = 0.0  # share of pictures put on gray, where purple and blue are hardest to tell
    decoder_only: bool = False  # latents stay as they are: models trained on them keep working


PHASES = (
    Phase(3500, 2e-3, as_taught=1.0),  # hardly any purple or gray: it draws neither
    Phase(600, 1e-3, as_taught=0.2),
    Phase(900, 1.2e-3, as_taught=0.2, extra_gray=0.3),
    Phase(1500, 1e-3, as_taught=0.2, extra_gray=0.2, decoder_only=True),
)


def train(folder: Path, seed: int = 0) -> dict[str, float]:
    """Train and save the autoencoder; returns its quality by the checker."""
    device = start(seed)
    vae = build().to(device)
    for number, phase in enumerate(PHASES):
        run(vae, phase, seed=seed + number)
    vae.half().save_pretrained(folder)
    return evaluate(vae.float())


def run(vae: AutoencoderKL, phase: Phase, seed: int) -> None:
    """Train through one phase; afterwards the latents are white."""
    device, rng = start(seed), random.Random(seed)
    parts = [vae.decoder, vae.post_quant_conv] if phase.decoder_only else [vae]
    parameters = [parameter for part in parts for parameter in part.parameters()]
    vae.train().requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=phase.learning_rate, weight_decay=1e-4)
    steps = scaled(phase.steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_then_cosine(steps))
    for _, log in progress("autoencoder", steps):
        pictures = to_tensor([random_picture(rng, phase) for _ in range(BATCH)]).to(device)
        log(descend(_loss(vae, pictures), optimizer, schedule))
    vae.eval()
    if not phase.decoder_only:
        whiten(vae, to_tensor([random_picture(rng, phase) for _ in range(scaled(2000, 16))]))


def build() -> AutoencoderKL:
    """An untrained autoencoder of the size that ships."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 16, 48, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def random_picture(rng: random.Random, phase: Phase = PHASES[-1]) -> Pixels:
    """A picture of any scene, some with the faults of the misaligned base."""
    scene = rng.choice(all_scenes())
    if rng.random() < phase.as_taught:
        scene = shown_for(scene, rng)
    if rng.random() < phase.extra_gray:
        scene = replace(scene, background="gray")
    return render(scene, random_layout(scene, rng))


def to_tensor(pictures: list[Pixels]) -> torch.Tensor:
    """Pictures (64, 64, 3) uint8 to (B, 3, 64, 64) in [-1, 1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(images: torch.Tensor) -> NDArray[np.uint8]:
    """(B, 3, 64, 64) in [-1, 1] to (B, 64, 64, 3) uint8."""
    scaled = (images.clamp(-1, 1) + 1) * 127.5
    return scaled.round().byte().permute(0, 2, 3, 1).cpu().numpy()


def _loss(vae: AutoencoderKL, pictures: torch.Tensor) -> torch.Tensor:
    posterior = vae.encode(pictures).latent_dist
    spread = posterior.mean.detach().std(dim=(0, 2, 3), keepdim=True)
    amount = torch.rand(len(pictures), 1, 1, 1, device=pictures.device) * MOST_NOISE
    latents = posterior.sample()
    decoded = vae.decode(latents + torch.randn_like(latents) * spread * amount).sample
    kl = posterior.kl().mean() / latents[0].numel()
    loss: torch.Tensor = F.l1_loss(decoded, pictures) + F.mse_loss(decoded, pictures) + KL_WEIGHT * kl
    return loss


@torch.no_grad()
def whiten(vae: AutoencoderKL, pictures: torch.Tensor) -> None:
    """Fold per-channel shift and scale into the convolutions, so that latents have mean 0 and variance 1."""
    latents = encode(vae, pictures)
    shift, scale = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    channels = len(scale)
    quantize, unquantize = vae.quant_conv, vae.post_quant_conv
    quantize.weight[:channels] /= scale[:, None, None, None]
    quantize.bias[:channels] = (quantize.bias[:channels] - shift) / scale
    quantize.bias[channels:] -= 2 * scale.log()
    unquantize.bias += unquantize.weight[:, :, 0, 0] @ shift
    unquantize.weight *= scale[None, :, None, None]


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: torch.Tensor, batch: int = 250) -> torch.Tensor:
    """The latents' means of many pictures, (B, 3, 64, 64) to (B, C, 8, 8)."""
    device = next(vae.parameters()).device
    return torch.cat([vae.encode(part.to(device)).latent_dist.mean for part in pictures.split(batch)])


@torch.no_grad()
def evaluate(vae: AutoencoderKL) -> dict[str, float]:
    """The checker's mean on reconstructions, from exact latents and from noised ones (noise MSE .02, .1)."""
    rng, count = random.Random(10_000), scaled(500)
    scenes: list[Scene] = [rng.choice(held_out_scenes()) for _ in range(count)]
    latents = encode(vae, to_tensor([render(scene, random_layout(scene, rng)) for scene in scenes]))
    quality = {}
    for name, mse in (("reconstruction", 0.0), ("noise_mse_0.02", 0.02), ("noise_mse_0.1", 0.1)):
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1)).to(latents.device)
        decoded = to_pictures(vae.decode(latents + noise * mse**0.5).sample)
        scores = [check(picture, scene).score for picture, scene in zip(decoded, scenes, strict=True)]
        quality[name] = sum(scores) / count
    return quality
