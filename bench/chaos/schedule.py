"""Which fault comes when."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from retouche.contract.stages import STAGES

FULL_DISK = "full disk"
KILLS = ("gateway", "redis", *STAGES)
OTHERS = (
    "worker",  # the parent alone: its work-horse ends by itself
    "work-horse",
    "worker's machine",  # both
    "worker held up",
    "trainer",  # the parent alone
    "training process",
    "trainer's machine",
    FULL_DISK,
    "emptied redis",
)
KINDS = KILLS + OTHERS


@dataclass(frozen=True)
class Planned:
    """A fault, and the pause before it."""

    kind: str
    worker: int  # which one, where the fault is a worker's
    pause_seconds: float


def schedule(seed: int, faults: int, kinds: Sequence[str], workers: int) -> Iterator[Planned]:
    """So many faults: every kind once in each round, in an order that the seed decides."""
    rng, to_come = random.Random(seed), list[str]()
    for _ in range(faults):
        to_come = to_come or rng.sample(kinds, len(kinds))
        yield Planned(to_come.pop(), rng.randrange(workers), rng.uniform(0.5, 4.0))
