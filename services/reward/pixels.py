"""Pictures to pixels as published models read them: torchvision's transforms, without torchvision.

Shapes: B batch, C channels, H and W pixels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD


def cropped(images: Sequence[Image.Image], side: int) -> list[NDArray[np.uint8]]:
    """The middle square of each RGB image, (C, side, side): Resize, CenterCrop.

    A CLIP processor of transformers rounds half an odd margin down, torchvision to the even number.
    """
    return [channels_first(_middle(image, side)) for image in images]


def letterboxed(images: Sequence[Image.Image], side: int) -> list[NDArray[np.float32]]:
    """The whole of each RGB image within black margins, (C, side, side), as the hpsv2 package has it.

    The resampling is bicubic on the tensor, which unlike Pillow keeps what overshoots 0 and 1, and
    antialiased, as torchvision does from 0.17 on if not told otherwise.
    """
    return [_boxed(torch.from_numpy(channels_first(image)).float() / 255, side).numpy() for image in images]


def channels_first(image: Image.Image) -> NDArray[np.uint8]:
    """An RGB image, (C, H, W)."""
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))  # or convolutions round otherwise


def standardised(
    pixels_BCHW: torch.Tensor,
    mean: Sequence[float] = OPENAI_CLIP_MEAN,
    std: Sequence[float] = OPENAI_CLIP_STD,
) -> torch.Tensor:
    """Pixels between 0 and 1 as a CLIP reads them, OpenAI's if not told otherwise."""
    mean_C11, std_C11 = (torch.tensor(each, device=pixels_BCHW.device).view(-1, 1, 1) for each in (mean, std))
    return (pixels_BCHW - mean_C11) / std_C11


def _middle(image: Image.Image, side: int) -> Image.Image:
    shortest = min(image.size)
    width, height = (int(side * length / shortest) for length in image.size)
    left, top = round((width - side) / 2), round((height - side) / 2)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + side, top + side))


def _boxed(image_CHW: torch.Tensor, side: int) -> torch.Tensor:
    longest = max(image_CHW.shape[1:])
    height, width = (max(1, round(length * side / longest)) for length in image_CHW.shape[1:])
    if longest != side:
        image_CHW = torch.nn.functional.interpolate(
            image_CHW[None], (height, width), mode="bicubic", align_corners=False, antialias=True
        )[0]
    left, top = (side - width) // 2, (side - height) // 2
    return torch.nn.functional.pad(image_CHW, (left, side - width - left, top, side - height - top))
