"""Encoded pairs read back from the object store, batch by batch."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from safetensors.torch import load

from retouche.contract.payload import JsonObject
from retouche.store import ObjectStore, run
from trainer.batches import Draw, PairBatch, digest_of, in_epochs
from trainer.encode import Encoding
from trainer.pairs import TrainingPair

ROOM_BYTES = 2 * 1024**3

Loaded = dict[str, torch.Tensor]


@dataclass(frozen=True)
class EncodedPairs:
    """Pairs whose parts are all in the store; each epoch takes them in an order of its own."""

    store: ObjectStore
    encoding: Encoding
    pairs: Sequence[TrainingPair]
    seed: int

    @cached_property
    def _parts(self) -> "Parts":
        return Parts(self.store)

    def __len__(self) -> int:
        return len(self.pairs)

    def indices(self, positions: range) -> list[int]:
        return in_epochs(len(self.pairs), self.seed, positions)

    def batch(self, draws: Sequence[Draw]) -> PairBatch:
        return read_batch(self._parts, self.encoding, self.pairs, draws)

    def state(self) -> JsonObject:
        return {}

    def restore(self, state: JsonObject) -> None:
        """The order follows from the seed."""

    def checkpointed(self, positions: int) -> None:
        """Nothing to acknowledge: the data set is whole."""

    @property
    def digest(self) -> str:
        return digest_of([pair.id for pair in self.pairs])


@dataclass
class Parts:
    """Reads parts of the store, and keeps them in memory while there is room; the rest is read each time."""

    store: ObjectStore
    room: int = ROOM_BYTES
    _kept: dict[str, Loaded] = field(default_factory=dict)

    def read(self, paths: Sequence[str]) -> list[Loaded]:
        """The parts at `paths`; NotFound if one is not there."""
        unknown = sorted(set(paths) - self._kept.keys())
        fresh = dict(zip(unknown, run(self._fetch(unknown)), strict=True)) if unknown else {}
        parts = [fresh[path] if path in fresh else self._kept[path] for path in paths]
        for path, part in fresh.items():
            self.room -= sum(tensor.nbytes for tensor in part.values())
            if self.room < 0:
                break
            self._kept[path] = part
        return parts

    async def _fetch(self, paths: Sequence[str]) -> list[Loaded]:
        return [load(content) for content in await asyncio.gather(*(self.store.get(path) for path in paths))]


def read_batch(
    parts: Parts, encoding: Encoding, pairs: Sequence[TrainingPair], draws: Sequence[Draw]
) -> PairBatch:
    """The parts of every drawn pair, stacked."""
    drawn = [(pairs[draw.pair], draw) for draw in draws]
    xl, related = encoding.encoders.is_xl, encoding.relations is not None
    chosen = parts.read([encoding.latents(pair.chosen, draw.flipped) for pair, draw in drawn])
    rejected = parts.read([encoding.latents(pair.rejected, draw.flipped) for pair, draw in drawn])
    prompts = parts.read([encoding.prompt("" if draw.empty_prompt else pair.prompt) for pair, draw in drawn])
    sides = [
        parts.read([encoding.relation(pair.prompt, image) for pair, image in images]) if related else []
        for images in (
            [(pair, pair.chosen) for pair, _ in drawn],
            [(pair, pair.rejected) for pair, _ in drawn],
        )
    ]
    return PairBatch(
        _stack(chosen, "latents"),
        _stack(rejected, "latents"),
        _stack(prompts, "hidden"),
        _stack(prompts, "pooled") if xl else None,
        _stack(chosen, "time_ids") if xl else None,
        _stack(rejected, "time_ids") if xl else None,
        _stack(sides[0], "relation") if related else None,
        _stack(sides[1], "relation") if related else None,
    )


def _stack(parts: Sequence[Loaded], name: str) -> torch.Tensor:
    return torch.stack([part[name] for part in parts])
