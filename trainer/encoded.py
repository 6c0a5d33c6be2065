"""Encoded pairs read back from the object store, batch by batch."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import load

from retouche.contract.payload import JsonObject
from retouche.store import ObjectStore, run
from trainer.batches import Draw, PairBatch, digest_of, in_epochs
from trainer.encode import Encoding
from trainer.pairs import TrainingPair

Loaded = dict[str, torch.Tensor]


@dataclass(frozen=True)
class EncodedPairs:
    """Pairs whose parts are all in the store; each epoch takes them in an order of its own."""

    store: ObjectStore
    encoding: Encoding
    pairs: Sequence[TrainingPair]
    seed: int

    def __len__(self) -> int:
        return len(self.pairs)

    def indices(self, positions: range) -> list[int]:
        return in_epochs(len(self.pairs), self.seed, positions)

    def batch(self, draws: Sequence[Draw]) -> PairBatch:
        return run(read_batch(self.store, self.encoding, self.pairs, draws))

    def state(self) -> JsonObject:
        return {}

    def restore(self, state: JsonObject) -> None:
        """The order follows from the seed."""

    def checkpointed(self, positions: int) -> None:
        """Nothing to acknowledge: the data set is whole."""

    @property
    def digest(self) -> str:
        return digest_of([pair.id for pair in self.pairs])


async def read_batch(
    store: ObjectStore, encoding: Encoding, pairs: Sequence[TrainingPair], draws: Sequence[Draw]
) -> PairBatch:
    """The parts of every drawn pair, stacked."""
    rows = await asyncio.gather(*(_row(store, encoding, pairs[draw.pair], draw) for draw in draws))
    chosen, rejected, prompts, chosen_relations, rejected_relations = zip(*rows, strict=True)
    xl, related = encoding.encoders.is_xl, encoding.relations is not None
    return PairBatch(
        _stack(chosen, "latents"),
        _stack(rejected, "latents"),
        _stack(prompts, "hidden"),
        _stack(prompts, "pooled") if xl else None,
        _stack(chosen, "time_ids") if xl else None,
        _stack(chosen_relations, "relation") if related else None,
        _stack(rejected_relations, "relation") if related else None,
    )


async def _row(store: ObjectStore, encoding: Encoding, pair: TrainingPair, draw: Draw) -> list[Loaded]:
    """Chosen, rejected, prompt, and the relations of both or two empty parts."""
    paths = [
        encoding.latents(pair.chosen, draw.flipped),
        encoding.latents(pair.rejected, draw.flipped),
        encoding.prompt("" if draw.empty_prompt else pair.prompt),
    ]
    if encoding.relations is not None:
        paths += [encoding.relation(pair.prompt, image) for image in (pair.chosen, pair.rejected)]
    parts = await asyncio.gather(*(store.get(path) for path in paths))
    return [load(part) for part in parts] + [{}] * (5 - len(parts))


def _stack(parts: Sequence[Loaded], name: str) -> torch.Tensor:
    return torch.stack([part[name] for part in parts])
