"""What generation and editing share: how a diffusion pipeline is loaded and how a batch is run."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from transformers.utils import logging as transformers_logging

from retouche.profile import ModelChoice, located


class LoadsFolders(Protocol):
    """Any diffusers pipeline class."""

    def from_pretrained(self, model: str, **options: Any) -> Any: ...


def device() -> torch.device:
    """The accelerator if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_pipeline(kind: LoadsFolders, choice: ModelChoice, **parts: Any) -> Any:
    """A pipeline of `kind` from a folder or the Hub, safetensors only, on the accelerator if there is one."""
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    dtype = getattr(torch, choice.dtype)
    options = {"use_safetensors": True, "dtype": dtype, "revision": choice.revision, **parts}
    pipeline = kind.from_pretrained(located(choice.model), **options).to(device())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One generator a request, on the CPU: its noise is the same in any batch and on any device."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def pictures(images: Sequence[Image.Image]) -> list[Image.Image]:
    """A pipeline's output as RGB."""
    return [image.convert("RGB") for image in images]
