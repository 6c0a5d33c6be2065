"""Training on a job that still runs: nothing is lost and nothing repeated when the trainer is killed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from retouche.contract.runs import Lora, Optimisation, RunSpec, TrainingData
from retouche.coordination import SHARDS_STREAM
from retouche.errors import Conflict
from retouche.store import ObjectStore, job_path, run, shard_path
from shapes.train.loop import MODELS
from tests.trainer import worlds
from trainer.batches import WaitCancelled
from trainer.checkpoints import finished
from trainer.encode import Encoding
from trainer.encoders import Encoders
from trainer.loop import train
from trainer.policy import load
from trainer.sources.stream import StreamedPairs

RUN = "run-0123456789abcdef"
BASE = str(MODELS / "base")


@pytest.fixture
def redis(redis_url: str) -> Redis:
    connection = Redis.from_url(redis_url)
    connection.delete(SHARDS_STREAM)
    return connection


def trainer(
    store: ObjectStore, redis: Redis, job_id: str, cancelled: Callable[[], bool] = lambda: False
) -> StreamedPairs:
    """A trainer as it starts, or starts again."""
    return StreamedPairs(
        store, redis, Encoding(Encoders(BASE)), job_id, RUN, seed=0, cancelled=cancelled, wait_seconds=0.1
    )


def finish(store: ObjectStore, redis: Redis, job_id: str, shard: int) -> None:
    """What a worker does: commit the shard, then say so."""
    worlds.finish(store, job_id, shard)
    redis.xadd(SHARDS_STREAM, {"job": job_id, "shard": shard})


def pending(redis: Redis) -> int:
    return int(redis.xpending(SHARDS_STREAM, RUN)["pending"])


def test_pairs_come_in_the_order_of_their_shards_and_are_acknowledged_when_used(
    store: ObjectStore, redis: Redis
) -> None:
    job_id = worlds.submit(store, shards=3)
    finish(store, redis, job_id, 2)
    finish(store, redis, job_id, 0)
    pairs = trainer(store, redis, job_id)
    assert pairs.indices(range(8)) == list(range(8))
    assert pairs.state()["shards"] == [2, 0]
    pairs.checkpointed(3)
    assert pending(redis) == 2
    pairs.checkpointed(5)
    assert pending(redis) == 1


def test_a_killed_trainer_loses_nothing_and_repeats_nothing(store: ObjectStore, redis: Redis) -> None:
    job_id = worlds.submit(store, shards=3)
    for shard in (1, 2):
        finish(store, redis, job_id, shard)
    first = trainer(store, redis, job_id)
    first.indices(range(8))
    checkpoint, digest = first.state(), first.digest
    first.checkpointed(4)  # shard 1 is used up; then the trainer is killed while it uses shard 2
    again = trainer(store, redis, job_id)
    again.restore(checkpoint)
    assert again.digest == digest
    finish(store, redis, job_id, 0)
    assert again.indices(range(8, 12)) == [8, 9, 10, 11]
    assert again.state() == {"shards": [1, 2, 0], "ended": True}
    again.checkpointed(12)
    assert pending(redis) == 0


def test_a_kill_between_a_checkpoint_and_its_acknowledgement_is_made_good(
    store: ObjectStore, redis: Redis
) -> None:
    job_id = worlds.submit(store, shards=1)
    finish(store, redis, job_id, 0)
    first = trainer(store, redis, job_id)
    first.indices(range(4))
    again = trainer(store, redis, job_id)
    again.restore(first.state())
    assert pending(redis) == 1
    again.checkpointed(4)
    assert pending(redis) == 0


def test_a_stop_during_the_wait_gives_no_pairs_in_place_of_those_to_come(
    store: ObjectStore, redis: Redis
) -> None:
    job_id = worlds.submit(store, shards=2)
    with pytest.raises(WaitCancelled):
        trainer(store, redis, job_id, lambda: True).indices(range(4))
    finish(store, redis, job_id, 0)
    pairs = trainer(store, redis, job_id)
    assert pairs.indices(range(3)) == [0, 1, 2]
    stopped = trainer(store, redis, job_id, lambda: True)
    stopped.restore(pairs.state())
    with pytest.raises(WaitCancelled):
        stopped.indices(range(3, 6))


def test_a_run_stopped_during_the_wait_ends_with_the_bytes_of_one_that_never_waited(
    store: ObjectStore, redis: Redis, tmp_path: Path
) -> None:
    job_id = worlds.submit(store, shards=2)
    spec = _short_run(job_id)
    finish(store, redis, job_id, 0)
    stopped = trainer(store, redis, job_id, lambda: True)
    stopped.restore({"shards": [0], "ended": False})
    assert train(spec, load(BASE, spec.tuning, spec.seed), stopped, tmp_path / "stopped") is None
    assert [checkpoint.name for checkpoint in finished(tmp_path / "stopped")] == ["00000001"]
    finish(store, redis, job_id, 1)
    for folder in ("stopped", "undisturbed"):
        train(spec, load(BASE, spec.tuning, spec.seed), trainer(store, redis, job_id), tmp_path / folder)
    one, other = (tmp_path / folder / "weights.safetensors" for folder in ("stopped", "undisturbed"))
    assert one.read_bytes() == other.read_bytes()


def _short_run(job_id: str) -> RunSpec:
    """Three steps of three pairs; the second one needs the second shard."""
    how = Optimisation(steps=3, batch_size=3, warmup_steps=0, collapse_ratio=100)
    return RunSpec(
        data=TrainingData(job=job_id, follow=True), base=BASE, tuning=Lora(rank=2), optimisation=how
    )


def test_the_shards_of_other_jobs_are_acknowledged_and_left_alone(store: ObjectStore, redis: Redis) -> None:
    job_id = worlds.submit(store, shards=1)
    redis.xadd(SHARDS_STREAM, {"job": "job-ffffffffffffffff", "shard": 0})
    finish(store, redis, job_id, 0)
    assert trainer(store, redis, job_id).indices(range(4)) == [0, 1, 2, 3]
    assert pending(redis) == 1


def test_an_event_told_twice_is_one_shard(store: ObjectStore, redis: Redis) -> None:
    job_id = worlds.submit(store, shards=2)
    finish(store, redis, job_id, 0)
    redis.xadd(SHARDS_STREAM, {"job": job_id, "shard": 0})
    finish(store, redis, job_id, 1)
    pairs = trainer(store, redis, job_id)
    assert sorted(pairs.indices(range(8, 16))) == list(range(8))
    pairs.checkpointed(16)
    assert pending(redis) == 0


def test_a_shard_whose_event_was_lost_is_found_in_the_store(store: ObjectStore, redis: Redis) -> None:
    job_id = worlds.submit(store, shards=1)
    worlds.finish(store, job_id, 0)
    assert trainer(store, redis, job_id).indices(range(4)) == [0, 1, 2, 3]


def test_the_pairs_of_a_job_whose_other_shards_were_given_up_are_all_there_is(
    store: ObjectStore, redis: Redis
) -> None:
    job_id = worlds.submit(store, shards=3)
    finish(store, redis, job_id, 1)
    for shard in (0, 2):
        run(store.create(shard_path(job_id, "failed", shard), b"{}"))
    pairs = trainer(store, redis, job_id)
    assert sorted(pairs.indices(range(4, 8))) == [0, 1, 2, 3]
    assert pairs.state() == {"shards": [1], "ended": True}


def test_a_cancelled_job_ends_the_wait(store: ObjectStore, redis: Redis) -> None:
    job_id = worlds.submit(store, shards=2)
    run(store.create(job_path(job_id, "cancelled"), b""))
    with pytest.raises(Conflict, match="without a preference pair"):
        trainer(store, redis, job_id).indices(range(4))
