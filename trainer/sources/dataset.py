"""The pairs of a finished curation job."""

from retouche.contract.jobs import JobRecord, PreferencePair
from retouche.errors import Conflict, JobNotFound, NotFound
from retouche.pairs import read_pairs
from retouche.store import ObjectStore, job_path, shard_path
from trainer.pairs import TrainingPair


async def finished_pairs(store: ObjectStore, job_id: str) -> list[TrainingPair]:
    """All pairs of a job, in the order of its shards.

    Raises:
        JobNotFound: there is no such job.
        Conflict: it has shards that are not finished, or no pairs at all.
    """
    record = await job_record(store, job_id)
    pairs: list[TrainingPair] = []
    for shard in range(record.shards):
        try:
            pairs += await shard_pairs(store, job_id, shard)
        except NotFound:
            raise Conflict(
                f"data.job: shard {shard + 1} of {record.shards} of {job_id} is not finished; wait for it or "
                "retry the job, or train on what comes with data.follow"
            ) from None
    if not pairs:
        raise Conflict(
            f"data.job: {job_id} has no preference pairs; its report says what was dropped and why"
        )
    return pairs


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
