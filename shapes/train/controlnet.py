"""The ControlNet editor (arXiv 2302.05543; ip2p as lllyasviel/control_v11e_sd15_ip2p): it sees the source.

The base stays as it is, its text encoder too, which never read an instruction: what an instruction asks for
is learnt by the ControlNet's own cross-attention. Encoder and eye start from the InstructPix2Pix editor: the
eye first learns to say of pixels what that editor's source channels say of latents.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetPipeline,
    UNet2DConditionModel,
)

from shapes.train.autoencoder import LATENT_CHANNELS
from shapes.train.base import build_scheduler, load, random_timesteps
from shapes.train.editor import Editing, EmbeddedTriples, editing_with, embed
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
from shapes.train.triples import make_triples

BATCH = 32
STEPS = 4500
LEARNING_RATE = 1e-3
EYE_STEPS = 500
EYE_CHANNELS = (16, 16, 48, 64)
WITHOUT_TEXT = 0.1  # the control image is never left out: guidance compares with and without the text alone
MOST_PIXEL_NOISE = 0.05  # sd as a share of full scale: what the base draws is less clean than a rendering

_SCHEDULER = build_scheduler()


def train(base: Path, editor: Path, folder: Path, seed: int = 4) -> None:
    """Train a ControlNet on the base, starting from the InstructPix2Pix editor's encoder, and save it."""
    device = start(seed)
    drawing = load(base).to(device)
    triples = make_triples(drawing, own_random(seed))
    pictures = triples.pictures.to(device)
    data = embed(triples, drawing.text_encoder, drawing.tokenizer)
    torch.manual_seed(seed)
    teacher = UNet2DConditionModel.from_pretrained(editor, subfolder="unet", dtype=torch.float32).to(device)
    controlnet = begun(drawing.unet, teacher).to(device).train()
    own_random(seed + 1)
    _open_eye(controlnet, teacher.conv_in, pictures, data.sources)
    unet = drawing.unet.eval().requires_grad_(False)
    average, steps = Average(controlnet), scaled(STEPS)
    optimizer = torch.optim.AdamW(controlnet.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_then_cosine(steps))
    for _, log in progress("controlnet", steps):
        log(descend(control_loss(controlnet, unet, pictures, data), optimizer, schedule))
        average.update(controlnet)
    if rank() == 0:
        average.module.half().save_pretrained(folder)


def begun(unet: UNet2DConditionModel, teacher: UNet2DConditionModel) -> ControlNetModel:
    """A ControlNet for `unet` with the encoder of `teacher`, which reads noisy latents and the source's."""
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=EYE_CHANNELS)
    for part in ("time_embedding", "down_blocks", "mid_block"):
        getattr(controlnet, part).load_state_dict(getattr(teacher, part).state_dict())
    with torch.no_grad():
        controlnet.conv_in.weight.copy_(teacher.conv_in.weight[:, :LATENT_CHANNELS])
        controlnet.conv_in.bias.copy_(teacher.conv_in.bias)
    return controlnet


def _open_eye(
    controlnet: ControlNetModel, entrance: torch.nn.Conv2d, pictures: torch.Tensor, latents: torch.Tensor
) -> None:
    """Teach the conditioning embedding to say of pictures what `entrance` says of their latents."""
    eye, steps = controlnet.controlnet_cond_embedding, scaled(EYE_STEPS)
    optimizer = torch.optim.AdamW(eye.parameters(), lr=2 * LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_then_cosine(steps))
    weight = entrance.weight.detach()[:, LATENT_CHANNELS:]
    for _, log in progress("eye", steps):
        index = torch.randint(len(pictures), (BATCH // processes(),), device=latents.device)
        wanted = F.conv2d(latents[index], weight, padding=1)
        log(descend(F.mse_loss(eye(_seen(pictures[index])), wanted), optimizer, schedule))


def control_loss(
    controlnet: ControlNetModel, unet: UNet2DConditionModel, pictures: torch.Tensor, data: EmbeddedTriples
) -> torch.Tensor:
    """The mean squared error of the target's velocity over one random batch."""
    device = data.targets.device
    index = torch.randint(len(data.targets), (BATCH // processes(),), device=device)
    keep = torch.rand(len(index), device=device) >= WITHOUT_TEXT
    texts = data.embeddings[data.instructions[index] * keep]
    targets = data.targets[index]
    noise, timesteps = torch.randn_like(targets), random_timesteps(len(index), device)
    noisy = _SCHEDULER.add_noise(targets, noise, timesteps)
    velocity = _SCHEDULER.get_velocity(targets, noise, timesteps)
    down, middle = controlnet(
        noisy, timesteps, texts, controlnet_cond=_seen(pictures[index]), return_dict=False
    )
    predicted = unet(
        noisy, timesteps, texts, down_block_additional_residuals=down, mid_block_additional_residual=middle
    ).sample
    return F.mse_loss(predicted, velocity)


def _seen(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures (B, 3, 64, 64) uint8 as control images in [0, 1], noisy."""
    images = pictures.float() / 255
    amount = MOST_PIXEL_NOISE * torch.rand(len(images), 1, 1, 1, device=images.device)
    return (images + amount * torch.randn_like(images)).clamp(0, 1)


def opened(base: Path, folder: Path) -> Editing:
    """The ControlNet in `folder` on the base, at the settings the profile ships."""
    controlnet = ControlNetModel.from_pretrained(folder, dtype=torch.float32)
    pipeline: Any = StableDiffusionControlNetPipeline.from_pretrained(
        base, controlnet=controlnet, dtype=torch.float32
    )
    return editing_with(pipeline)
