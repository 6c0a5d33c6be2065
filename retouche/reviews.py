"""Decisions about a job's pairs, an object each, named by their time: an append-only log in the store."""

import asyncio
from collections.abc import Container, Iterable, Mapping
from datetime import UTC, datetime, timedelta

from retouche.contract.jobs import PreferencePair
from retouche.contract.reviews import Decision, Review, Reviewed
from retouche.store import ObjectStore, review_path

_READS_AT_ONCE = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


async def record_review(
    store: ObjectStore, job_id: str, pair_id: str, decision: Decision, reviewer: str
) -> Review:
    """Append a decision."""
    review = Review(pair=pair_id, decision=decision, reviewer=reviewer, at=datetime.now(UTC))
    while not await store.create(_path(job_id, review), review.model_dump_json().encode()):
        review = review.model_copy(update={"at": review.at + _MICROSECOND})
    return review


async def read_reviews(
    store: ObjectStore, job_id: str, known: Container[str] = (), since: datetime = _EPOCH
) -> dict[str, Review]:
    """The decisions of a job from a time on, by their paths, without those that are known."""
    after, folder = review_path(job_id, _stamp(since)), review_path(job_id, "").rstrip("/")
    paths = sorted([path async for path in store.paths(folder, after=after) if path not in known])
    found: dict[str, Review] = {}
    for begin in range(0, len(paths), _READS_AT_ONCE):
        batch = paths[begin : begin + _READS_AT_ONCE]
        contents = await asyncio.gather(*(store.get(path) for path in batch))
        found |= {path: Review.model_validate_json(text) for path, text in zip(batch, contents, strict=True)}
    return found


def newest(reviews: Iterable[Review]) -> dict[str, Review]:
    """The decision that counts for each pair, if it is not withdrawn."""
    last = {review.pair: review for review in sorted(reviews, key=lambda review: review.at)}
    return {pair: review for pair, review in last.items() if review.decision != "withdraw"}


def decided(
    pair: PreferencePair, reviewed: Reviewed, decisions: Mapping[str, Review]
) -> PreferencePair | None:
    """The pair as `reviewed` wants it, with the decision in `review`; None if it is left out."""
    review = decisions.get(pair.id)
    if reviewed == "all":
        return pair
    if review is None:
        return pair if reviewed == "not_rejected" else None
    if review.decision == "reject":
        return None
    return (flipped(pair) if review.decision == "flip" else pair).model_copy(update={"review": review})


def flipped(pair: PreferencePair) -> PreferencePair:
    """The pair with chosen and rejected swapped."""
    return pair.model_copy(
        update={
            "chosen": pair.rejected,
            "rejected": pair.chosen,
            "chosen_scores": pair.rejected_scores,
            "rejected_scores": pair.chosen_scores,
            "chosen_is_edit": not pair.chosen_is_edit,
        }
    )


def _path(job_id: str, review: Review) -> str:
    return review_path(job_id, f"{_stamp(review.at)}-{review.pair}.json")


def _stamp(moment: datetime) -> str:
    """Microseconds since 1970, so that names sort by time."""
    return f"{(moment - _EPOCH) // _MICROSECOND:017d}"
