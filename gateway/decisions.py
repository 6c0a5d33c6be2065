"""The decisions about each job's pairs, kept in memory and brought up to date by what the store has more."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from retouche.contract.reviews import Review
from retouche.reviews import newest, read_reviews
from retouche.store import ObjectStore

_JOBS_KEPT = 32
_CLOCKS_APART = timedelta(seconds=60)  # between gateways that write into one store


@dataclass
class _Log:
    """What is known of a job: its decisions by their paths, and those that count."""

    reviews: dict[str, Review] = field(default_factory=dict)
    newest: Mapping[str, Review] = field(default_factory=dict)
    last: datetime | None = None


class DecisionReader:
    """Reads decisions."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._known: OrderedDict[str, _Log] = OrderedDict()

    async def log(self, job_id: str) -> list[Review]:
        """Every decision of a job, the oldest first."""
        log = await self._current(job_id)
        return sorted(log.reviews.values(), key=lambda review: review.at)

    async def decisions(self, job_id: str) -> Mapping[str, Review]:
        """The decision that counts for each pair; none for a pair that is not reviewed."""
        return (await self._current(job_id)).newest

    async def _current(self, job_id: str) -> _Log:
        log = self._known.setdefault(job_id, _Log())
        self._known.move_to_end(job_id)
        if len(self._known) > _JOBS_KEPT:
            self._known.popitem(last=False)
        since = {"since": log.last - _CLOCKS_APART} if log.last else {}
        if fresh := await read_reviews(self._store, job_id, log.reviews, **since):
            log.reviews |= fresh
            log.newest = newest(log.reviews.values())
            log.last = max(review.at for review in log.reviews.values())
        return log
