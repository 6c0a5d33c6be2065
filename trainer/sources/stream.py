"""The pairs of a job that still runs, shard by shard as they are finished.

The store is the truth and says what a shard holds; the Redis stream says that there is one more. The run's
consumer group acknowledges a shard only once a checkpoint contains the use of all its pairs. The order in
which shards came is part of every checkpoint, so a run that was killed reads the same pairs in the same order
again; what came after that checkpoint is still unacknowledged and is delivered again.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from retouche.contract.payload import JsonObject
from retouche.coordination import SHARDS_STREAM
from retouche.errors import Conflict
from retouche.store import ObjectStore, job_path, run
from trainer.batches import Draw, PairBatch, WaitCancelled, digest_of, in_epochs
from trainer.encode import Encoding, encode_pairs
from trainer.encoded import Parts, read_batch
from trainer.pairs import TrainingPair
from trainer.sources.dataset import job_record, shard_pairs

WAIT_SECONDS = 5.0


class StreamedPairs:
    """Pairs in the order in which their shards came; once the job has ended, epochs over all of them."""

    def __init__(
        self,
        store: ObjectStore,
        redis: "Redis",
        encoding: Encoding,
        job_id: str,
        run_id: str,
        *,
        seed: int,
        flips: bool = False,
        cancelled: Callable[[], bool] = lambda: False,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        """`wait_seconds`: for the stream; then the store is asked, for Redis may have lost an event."""
        self._store, self._redis, self._encoding = store, redis, encoding
        self._job_id, self._group, self._seed, self._flips = job_id, run_id, seed, flips
        self._cancelled, self._wait_seconds = cancelled, wait_seconds
        self._parts = Parts(store)
        self._shards: list[int] = []  # in the order taken
        self._ends: list[int] = []  # how many pairs there were after each of them
        self._pairs: list[TrainingPair] = []
        self._events: dict[int, list[bytes]] = {}  # shard: its events, not yet acknowledged
        self._ended = False
        self._count = run(job_record(store, job_id)).shards
        with suppress(ResponseError, RedisError):  # the group is there already, or Redis is away
            redis.xgroup_create(SHARDS_STREAM, run_id, id="0", mkstream=True)
        self._redelivered = False
        self._heard = time.monotonic()  # when the stream last told of this job, or the store was asked

    def __len__(self) -> int:
        return len(self._pairs)

    def indices(self, positions: range) -> list[int]:
        """Which pair stands at each position; waits until the pairs are there or the job has ended.

        Raises:
            WaitCancelled: told to stop before that. Pairs in place of those to come would be used twice.
            Conflict: the job ended without a pair.
        """
        while not self._ended and positions.stop > len(self._pairs):
            if self._cancelled():
                raise WaitCancelled
            self._wait()
        if not self._pairs:
            raise Conflict(f"data.job: {self._job_id} ended without a preference pair")
        total = len(self._pairs)
        if positions.stop <= total:
            return list(positions)
        return [
            place if place < total else in_epochs(total, self._seed, range(place, place + 1))[0]
            for place in positions
        ]

    def batch(self, draws: Sequence[Draw]) -> PairBatch:
        return read_batch(self._parts, self._encoding, self._pairs, draws)

    def state(self) -> JsonObject:
        """What a checkpoint keeps: the shards in the order taken, and whether there will be more."""
        return {"shards": self._shards, "ended": self._ended}

    def restore(self, state: JsonObject) -> None:
        """Take again, in the same order, what a checkpoint contains."""
        for shard in state["shards"]:
            self._take(shard)
        self._ended = state["ended"]
        self._take_redelivered()

    def checkpointed(self, positions: int) -> None:
        """Acknowledge every shard whose pairs all lie before `positions`."""
        used = [shard for shard, end in zip(self._shards, self._ends, strict=True) if end <= positions]
        events = [event for shard in used for event in self._events.pop(shard, [])]
        if events:
            with suppress(RedisError):  # then they are delivered again, and known
                self._redis.xack(SHARDS_STREAM, self._group, *events)

    @property
    def digest(self) -> str:
        return digest_of([pair.id for pair in self._pairs])

    def _wait(self) -> None:
        """Take what the stream has, first what it gave before; where it is silent, what the store has."""
        if not self._redelivered:
            self._take_redelivered()
            return
        taken = [self._take_event(*event) for event in self._events_after(">")]
        if any(taken):
            self._heard = time.monotonic()
        elif time.monotonic() - self._heard >= self._wait_seconds:  # other jobs may keep the stream busy
            self._take_what_the_store_has()
            self._heard = time.monotonic()

    def _take_redelivered(self) -> None:
        """Take what was delivered before and not acknowledged."""
        self._redelivered, after = True, "0"
        while events := self._events_after(after):
            for event in events:
                self._take_event(*event)
            after = events[-1][0].decode()

    def _events_after(self, after: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """New events (">"), waiting for one, or those delivered before after an identifier."""
        block = int(self._wait_seconds * 1000) if after == ">" else None
        try:
            answer: Any = self._redis.xreadgroup(
                self._group, "trainer", {SHARDS_STREAM: after}, count=500, block=block
            )
        except RedisError:
            time.sleep(self._wait_seconds if after == ">" else 0)
            return []
        return [event for _, part in answer or [] for event in part]

    def _take_event(self, identifier: bytes, content: dict[bytes, bytes]) -> bool:
        """Take the event's shard; False, and acknowledged, if it is another job's."""
        if content.get(b"job", b"").decode() != self._job_id:
            with suppress(RedisError):  # then it is delivered again
                self._redis.xack(SHARDS_STREAM, self._group, identifier)
            return False
        shard = int(content[b"shard"])
        self._events.setdefault(shard, []).append(identifier)
        self._take(shard)
        return True

    def _take(self, shard: int) -> None:
        if shard in self._shards:
            return
        pairs = run(shard_pairs(self._store, self._job_id, shard))
        encode_pairs(self._store, self._encoding, pairs, self._flips)
        self._pairs += pairs
        self._shards.append(shard)
        self._ends.append(len(self._pairs))
        self._ended = len(self._shards) == self._count

    def _take_what_the_store_has(self) -> None:
        for shard in sorted(run(self._in_the_store("shards"))):
            self._take(shard)
        self._ended = self._ended or run(self._nothing_more())

    async def _nothing_more(self) -> bool:
        """Was the job cancelled, or every shard that is missing given up?"""
        if await self._store.exists(job_path(self._job_id, "cancelled")):
            return True
        missing = set(range(self._count)) - set(self._shards)
        return missing <= await self._in_the_store("failed")

    async def _in_the_store(self, kind: str) -> set[int]:
        """The shards of which the store has `shards` or `failed`; asked for one by one, the thousands of a
        large job would take minutes.
        """
        names = [path.rsplit("/", 1)[-1] async for path in self._store.paths(job_path(self._job_id, kind))]
        return {int(name.partition(".")[0]) for name in names}
