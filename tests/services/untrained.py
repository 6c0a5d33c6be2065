"""Diffusion models with random weights, in ordinary folders: enough for what does not depend on training."""

from pathlib import Path
from typing import Any

import torch
import yaml
from diffusers import StableDiffusionInstructPix2PixPipeline

from shapes.train.autoencoder import LATENT_CHANNELS, build
from shapes.train.base import assemble, build_scheduler, build_unet
from shapes.train.text import build_text_encoder, build_tokenizer

_DIFFUSION = {"num_inference_steps": 4, "guidance_scale": 2.0, "max_batch": 4}


def untrained_profile(folder: Path) -> str:
    """Write a base model, an editor and a profile that names them; returns the profile's path."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    base: Any = assemble(build(), build_text_encoder(tokenizer), tokenizer, build_unet())
    base.save_pretrained(folder / "base")
    unet: Any = build_unet(in_channels=2 * LATENT_CHANNELS)
    editor: Any = StableDiffusionInstructPix2PixPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    editor.save_pretrained(folder / "editor")
    absent = {"model": "absent"}
    profile = {
        "generation": {"model": str(folder / "base"), "width": 64, "height": 64, **_DIFFUSION},
        "critique": absent,
        "instruction": absent,
        "editing": {"model": str(folder / "editor"), "editor": "instruct_pix2pix", **_DIFFUSION},
        "rewards": {"absent": {"kind": "clip", **absent}},
    }
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump(profile))
    return str(path)
