"""Where a model runs, and how a diffusion pipeline runs a batch."""

from collections.abc import Sequence
from typing import Any

import torch


def device() -> torch.device:
    """Torch's default device if it is another than the CPU; else the accelerator if there is one."""
    default = torch.get_default_device()
    return default if default.type != "cpu" or not torch.cuda.is_available() else torch.device("cuda")


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One generator a request, on the CPU: its noise is the same in any batch and on any device."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def pixel_step(pipeline: Any) -> int:
    """What sides in pixels must be a multiple of: UNets halve latents, transformers read squares of two."""
    unet = getattr(pipeline, "unet", None)
    halved = len(unet.config.block_out_channels) - 1 if unet is not None else 1
    step: int = pipeline.vae_scale_factor * 2**halved
    return step
