"""Transformers computed one sample at a time, from tensors by name: what the reward models are held to.

Nothing here is shared with services/: plain arithmetic on (tokens, width) matrices, no padding, no batches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import erf

import numpy as np
import torch
from PIL import Image

Weights = dict[str, torch.Tensor]
Affine = tuple[torch.Tensor, torch.Tensor]  # weight and bias

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])


@dataclass(frozen=True)
class Block:
    """A transformer block that normalises first: CLIP's, and the vision transformer's."""

    norm1: Affine
    query: Affine
    key: Affine
    value: Affine
    out: Affine
    norm2: Affine
    up: Affine
    down: Affine


def affine(weights: Weights, name: str) -> Affine:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def linear(x: torch.Tensor, layer: Affine) -> torch.Tensor:
    return x @ layer[0].T + layer[1]


def normalise(x: torch.Tensor, layer: Affine, epsilon: float) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt() * layer[0] + layer[1]


def gelu(x: torch.Tensor) -> torch.Tensor:
    return x * torch.tensor([0.5 * (1 + erf(each / 2**0.5)) for each in x.flatten().tolist()]).view_as(x)


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    return x / (1 + (-1.702 * x).exp())


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int, causal: bool = False
) -> torch.Tensor:
    """Every head by itself; `causal`: a token sees none after it."""
    outputs = []
    for q, k, v in zip(query.chunk(heads, -1), key.chunk(heads, -1), value.chunk(heads, -1), strict=True):
        logits = q @ k.T / q.shape[1] ** 0.5
        if causal:
            logits = logits.masked_fill(torch.ones_like(logits).triu(1).bool(), float("-inf"))
        weights = logits.exp() / logits.exp().sum(-1, keepdim=True)
        outputs.append(weights @ v)
    return torch.cat(outputs, -1)


def run(
    block: Block,
    x: torch.Tensor,
    heads: int,
    activation: Callable[[torch.Tensor], torch.Tensor],
    epsilon: float = 1e-5,
    causal: bool = False,
) -> torch.Tensor:
    seen = normalise(x, block.norm1, epsilon)
    mixed = attend(
        linear(seen, block.query), linear(seen, block.key), linear(seen, block.value), heads, causal
    )
    x = x + linear(mixed, block.out)
    return x + linear(activation(linear(normalise(x, block.norm2, epsilon), block.up)), block.down)


def patches(pixels: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """A convolution whose stride is its width: (3, H, W) to (patches, width), row by row."""
    side = kernel.shape[-1]
    rows, columns = pixels.shape[1] // side, pixels.shape[2] // side
    cut = [
        pixels[:, row * side : (row + 1) * side, column * side : (column + 1) * side].flatten()
        for row in range(rows)
        for column in range(columns)
    ]
    return torch.stack(cut) @ kernel.flatten(1).T


def cropped(image: Image.Image, side: int, margin: Callable[[float], int]) -> torch.Tensor:
    """Shortest side to `side`, bicubic in Pillow, the middle cut out; `margin` rounds half the rest."""
    shortest = min(image.size)
    width, height = (side if each == shortest else int(side * each / shortest) for each in image.size)
    resized = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    top, left = margin((height - side) / 2), margin((width - side) / 2)
    return standardised(resized[top : top + side, left : left + side] / 255.0)


def standardised(picture: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> torch.Tensor:
    """(H, W, 3) between 0 and 1 to (3, H, W) as CLIP reads it."""
    return ((torch.from_numpy(picture).float() - MEAN) / STD).permute(2, 0, 1)


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(one @ other / (one.norm() * other.norm()))
