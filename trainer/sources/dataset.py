"""The pairs of a finished curation job."""

from datetime import datetime

from retouche.contract.jobs import JobRecord, PreferencePair
from retouche.contract.reviews import Reviewed
from retouche.errors import Conflict, JobNotFound, NotFound
from retouche.pairs import read_pairs
from retouche.reviews import decided, newest, read_reviews
from retouche.store import ObjectStore, job_path, shard_path
from trainer.pairs import TrainingPair


async def finished_pairs(
    store: ObjectStore, job_id: str, reviewed: Reviewed = "all", until: datetime | None = None
) -> list[TrainingPair]:
    """The pairs of a job, in the order of its shards, as `reviewed` and the decisions `until` then have them.

    Raises:
        JobNotFound: there is no such job.
        Conflict: it has shards that are not finished, or no pairs at all, or none that may be used.
    """
    record = await job_record(store, job_id)
    log = (await read_reviews(store, job_id)).values() if reviewed != "all" else ()
    decisions = newest(review for review in log if until is None or review.at <= until)
    pairs: list[PreferencePair] = []
    for shard in range(record.shards):
        try:
            pairs += read_pairs(await store.get(shard_path(job_id, "shards", shard)))
        except NotFound:
            raise Conflict(
                f"data.job: shard {shard + 1} of {record.shards} of {job_id} is not finished; wait for it or "
                "retry the job, or train on what comes with data.follow"
            ) from None
    if not pairs:
        raise Conflict(
            f"data.job: {job_id} has no preference pairs; its report says what was dropped and why"
        )
    kept = [pair for each in pairs if (pair := decided(each, reviewed, decisions)) is not None]
    if not kept:
        raise Conflict(
            f"data.reviewed: of {len(pairs)} pairs of {job_id} none is left by {reviewed!r}; "
            "review some in the studio, or train on all"
        )
    return [_training_pair(pair) for pair in kept]


async def job_record(store: ObjectStore, job_id: str) -> JobRecord:
    """A job's specification as accepted; JobNotFound if there is none."""
    try:
        return JobRecord.model_validate_json(await store.get(job_path(job_id, "spec.json")))
    except NotFound:
        raise JobNotFound(f"data.job: there is no job {job_id}; `retouche jobs list` has them") from None


async def shard_pairs(store: ObjectStore, job_id: str, shard: int) -> list[TrainingPair]:
    """The pairs of one finished shard; NotFound if it is not finished."""
    content = await store.get(shard_path(job_id, "shards", shard))
    return [_training_pair(pair) for pair in read_pairs(content)]


def _training_pair(pair: PreferencePair) -> TrainingPair:
    return TrainingPair(pair.id, pair.prompt, pair.chosen, pair.rejected)
