"""Names that the gateway and the workers share in Redis. Nothing here is truth: that is in the object store.

rq queue `curate`                 one RQ job a shard, named `<job>_<shard>`
rq queue `train`                  one RQ job a training run, named as the run
retouche:progress:<job>           hash: shard index -> JobReport (JSON) of a shard under way; expires
retouche:next:<job>               counter: the next shard to enqueue, as each that ends does; expires
retouche:rate:<tenant>            hash: the token bucket of the tenant's calls
retouche:once:<tenant>:<key>      what was asked under an Idempotency-Key and what was answered; expires
retouche:progressed:<rq job>      there once a try has got further than those before it: tries count anew
retouche:recovered                there since the gateway has enqueued all there is: gone with what Redis lost
retouche:events:<job or run>      pub/sub: a message whenever something of it changed
retouche:shards                   stream: job and shard of every committed shard, at least once each: a shard
                                  can run twice, so consumers deduplicate by (job, shard)
"""

CURATE_QUEUE = "curate"
CURATE_FUNCTION = "worker.jobs.curate_shard"
TRAIN_QUEUE = "train"
TRAIN_FUNCTION = "trainer.jobs.train"
SHARDS_STREAM = "retouche:shards"
SHARDS_STREAM_LENGTH = 1_000  # entries kept, approximately; a consumer that missed some asks the store
RECOVERED_KEY = "retouche:recovered"
PROGRESSED_SECONDS = 24 * 3600
UNUSED_SECONDS = 24 * 3600  # until a job's progress and counter expire: longer than a shard may take
ENQUEUE_WINDOW = 16  # shards of one job in the queue or at work at a time


def shard_task_id(job_id: str, shard: int) -> str:
    """The RQ job's id: the same shard is never enqueued twice at once."""
    return f"{job_id}_{shard:06d}"


def progress_key(job_id: str) -> str:
    return f"retouche:progress:{job_id}"


def progressed_key(task_id: str) -> str:
    """Of a shard's or a run's RQ job."""
    return f"retouche:progressed:{task_id}"


def next_shard_key(job_id: str) -> str:
    return f"retouche:next:{job_id}"


def rate_key(tenant: str) -> str:
    return f"retouche:rate:{tenant}"


def idempotency_key(tenant: str, key_digest: str) -> str:
    return f"retouche:once:{tenant}:{key_digest}"


def events_channel(identifier: str) -> str:
    """Of a job or a run."""
    return f"retouche:events:{identifier}"
