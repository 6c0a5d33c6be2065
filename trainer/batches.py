"""Batches of encoded pairs, and the order in which a run takes them.

Batch k of a run is a function of pairs, seed and step alone, so resuming needs nothing but the step.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from hashlib import sha256
from typing import Any, Protocol, Self

import torch

from retouche.contract.payload import JsonObject
from retouche.contract.runs import TrainingData


@dataclass(frozen=True)
class PairBatch:
    """Encoded pairs, float32. Latents carry the autoencoder's scaling factor.

    `pooled_embeddings_BP` and the time ids are SDXL's; the relations, unit vectors, diffusion_rpo's.
    """

    chosen_latents_BCHW: torch.Tensor
    rejected_latents_BCHW: torch.Tensor
    prompt_embeddings_BLD: torch.Tensor
    pooled_embeddings_BP: torch.Tensor | None = None
    chosen_time_ids_B6: torch.Tensor | None = None
    rejected_time_ids_B6: torch.Tensor | None = None
    chosen_relation_BE: torch.Tensor | None = None
    rejected_relation_BE: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.chosen_latents_BCHW)

    def to(self, device: torch.device) -> Self:
        moved: list[Any] = []
        for field in fields(self):
            part: torch.Tensor | None = getattr(self, field.name)
            moved.append(part if part is None else sent(part, device))
        return type(self)(*moved)


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the CPU on `device`. To a GPU it goes from pinned memory: then nobody waits for what the
    GPU still has to do.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class WaitCancelled(Exception):
    """The run was told to stop while it waited for pairs, or encoded them: what wanted them is not done."""


@dataclass(frozen=True)
class Draw:
    """One example of a run: which pair, mirrored or not, its prompt or the empty one, at which position."""

    pair: int
    flipped: bool
    empty_prompt: bool
    position: int


class Pairs(Protocol):
    """Encoded pairs of a data set or a stream."""

    def __len__(self) -> int:
        """How many pairs have come so far."""

    def indices(self, positions: range) -> list[int]:
        """Which pair stands at each position of the run; WaitCancelled if it is to stop before they come."""

    def batch(self, draws: Sequence[Draw]) -> PairBatch: ...

    def state(self) -> JsonObject:
        """What a checkpoint has to keep of the source, in JSON."""

    def restore(self, state: JsonObject) -> None:
        """Go on from what a checkpoint kept."""

    def checkpointed(self, positions: int) -> None:
        """A checkpoint now contains the use of the first `positions` positions."""

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the identifiers of the pairs."""


def draws(pairs: Pairs, data: TrainingData, seed: int, positions: range) -> list[Draw]:
    """The examples at `positions` of a run."""
    drawn = []
    for pair, position in zip(pairs.indices(positions), positions, strict=True):
        chance = random.Random(f"{seed}:{position}")
        flipped = data.horizontal_flips and chance.random() < 0.5
        drawn.append(Draw(pair, flipped, chance.random() < data.empty_prompt_share, position))
    return drawn


def in_epochs(count: int, seed: int, positions: range) -> list[int]:
    """Pairs 0 to count - 1 in a new order every epoch."""
    return [_order(count, seed, position // count)[position % count] for position in positions]


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> list[int]:
    order = list(range(count))
    random.Random(f"{seed}:epoch:{epoch}").shuffle(order)
    return order


def digest_of(identifiers: Sequence[str]) -> str:
    """`sha256:<hex>` of the pairs' identifiers, in their order."""
    return "sha256:" + sha256("\n".join(identifiers).encode()).hexdigest()
