"""The decisions about each job's pairs, kept in memory and brought up to date by what the store has more."""

from collections import OrderedDict
from datetime import datetime, timedelta

from retouche.contract.reviews import Review
from retouche.reviews import newest, reviews_since
from retouche.store import ObjectStore

_JOBS_KEPT = 32
_CLOCKS_APART = timedelta(seconds=60)  # between gateways that write into one store


class DecisionReader:
    """Reads decisions."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._known: OrderedDict[str, dict[tuple[datetime, str], Review]] = OrderedDict()

    async def log(self, job_id: str) -> list[Review]:
        """Every decision of a job, the oldest first."""
        known = self._known.setdefault(job_id, {})
        self._known.move_to_end(job_id)
        if len(self._known) > _JOBS_KEPT:
            self._known.popitem(last=False)
        if known:
            fresh = await reviews_since(self._store, job_id, max(known)[0] - _CLOCKS_APART)
        else:
            fresh = await reviews_since(self._store, job_id)
        known.update({(review.at, review.pair): review for review in fresh})
        return [known[key] for key in sorted(known)]

    async def decisions(self, job_id: str) -> dict[str, Review]:
        """The decision that counts for each pair; none for a pair that is not reviewed."""
        return newest(await self.log(job_id))
