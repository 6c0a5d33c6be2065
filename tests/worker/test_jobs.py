"""Shards through a real Redis and real worker processes: they run, are killed, are cancelled, are refused."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
from PIL import Image
from redis import Redis
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from bench.processes import free_port
from bench.stub_services import Stage, create_app
from retouche import prompt_sets
from retouche.contract.jobs import SHARD_PROMPTS, CurationSpec, JobRecord, StartingImage
from retouche.contract.payload import LOCAL
from retouche.contract.stages import STAGES
from retouche.coordination import SHARDS_STREAM, progress_key, progressed_key, shard_task_id
from retouche.images import encode
from retouche.pairs import read_pairs, read_report, read_traces, write_traces
from retouche.queue import RETRIES, curate_queue, fill_window
from retouche.store import ObjectStore, digest, job_path, shard_path
from retouche.tenancy import owns
from tests.live import live
from tests.s3 import Fault, Relay, relay_app, s3_server, store_url
from tests.until import until

SHARDS = 3
ENDLESS = Stage(latency_seconds=3600)
PROMPTS = [f"a square, number {index}" for index in range((SHARDS - 1) * SHARD_PROMPTS + 4)]


def submitted(store: ObjectStore, redis_url: str, shards: int = SHARDS, tenant: str = LOCAL) -> str:
    """A job of `shards` shards, as the gateway submits it; returns its id."""
    prompts = PROMPTS[: (shards - 1) * SHARD_PROMPTS + 4]
    return submitted_set(store, redis_url, [json.dumps(prompt) for prompt in prompts], shards, tenant)


def submitted_set(
    store: ObjectStore, redis_url: str, entries: list[str], shards: int, tenant: str = LOCAL
) -> str:
    """A job of the prompts, or starting images, that `entries` are as JSON."""
    lines = "".join(entry + "\n" for entry in entries).encode()
    spec = CurationSpec(prompt_set=digest(lines), instructions_per_image=1)
    record = JobRecord(
        id=spec.job_id(tenant),
        tenant=tenant,
        spec=spec,
        created_at=datetime.now(UTC),
        prompt_set=digest(lines),
        prompts=len(entries),
        shards=shards,
    )

    async def write() -> None:
        await prompt_sets.keep(store, io.BytesIO(lines))
        await store.put(job_path(record.id, "spec.json"), record.model_dump_json().encode())

    asyncio.run(write())
    with Redis.from_url(redis_url) as connection:
        fill_window(curate_queue(connection), tenant, record.id, range(shards))
    return record.id


@contextmanager
def worker(store: ObjectStore, redis_url: str, services: str, **environment: str) -> Iterator[int]:
    """`python -m worker` in a process group of its own; yields its process id."""
    addresses = {f"RETOUCHE_{stage.upper()}_URL": services for stage in STAGES}
    settings = {"RETOUCHE_STORE": store.url, "RETOUCHE_REDIS_URL": redis_url, **addresses, **environment}
    command = [sys.executable, "-m", "worker"]
    process = subprocess.Popen(command, env=os.environ | settings, start_new_session=True)
    try:
        yield process.pid
    finally:
        kill_all(process.pid)
        process.wait(timeout=10)


def kill_all(pid: int) -> None:
    """kill -9 of a worker and its work-horse, which is in a session of its own."""
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    for each in (pid, *map(int, children)):
        try:
            os.kill(each, signal.SIGKILL)
        except ProcessLookupError:
            continue


def work_horse(pid: int) -> int | None:
    """The process id of the worker's work-horse, while it has one."""
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    return int(children[0]) if children else None


def lives(pid: int) -> bool:
    """Does the process run? One that nobody has waited for has no command any more."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def there(store: ObjectStore, job_id: str, kind: str, shard: int) -> bool:
    return asyncio.run(store.exists(shard_path(job_id, kind, shard)))


def pair_ids(store: ObjectStore, job_id: str, shards: int) -> list[str]:
    """The identifiers of all pairs of the job, once every shard is committed."""
    until(lambda: all(there(store, job_id, "shards", shard) for shard in range(shards)))
    parquet = [asyncio.run(store.get(shard_path(job_id, "shards", shard))) for shard in range(shards)]
    return [pair.id for shard in parquet for pair in read_pairs(shard)]


def expire_heartbeats(redis_url: str, job_id: str) -> None:
    """Let the minutes pass after which RQ takes a shard from a worker that is gone."""
    with Redis.from_url(redis_url) as connection:
        for key in connection.keys("rq:wip:*"):
            for member in connection.zrange(key, 0, -1):
                if member.decode().startswith(job_id):
                    connection.zadd(key, {member: 1})


def test_a_job_of_three_shards(store: ObjectStore, redis_url: str, services: str) -> None:
    job_id = submitted(store, redis_url)
    with worker(store, redis_url, services):
        ids = pair_ids(store, job_id, SHARDS)
    last = asyncio.run(store.get(shard_path(job_id, "shards", SHARDS - 1)))
    traces = asyncio.run(store.get(shard_path(job_id, "traces", SHARDS - 1)))
    assert len(set(ids)) == len(PROMPTS)
    assert (read_report(last).prompts, read_report(last).pairs) == (4, 4)
    assert [trace.prompt_index for trace in read_traces(traces)] == [128, 129, 130, 131]
    with Redis.from_url(redis_url) as connection:
        assert connection.xlen(SHARDS_STREAM) == SHARDS
        assert not connection.keys(progressed_key("*")), "for a day, of every shard there ever was"
    for pair in read_pairs(last):
        for image in (pair.chosen, pair.rejected):
            assert asyncio.run(owns(store, LOCAL, "images", image)), "its tenant may look at it"
            assert not asyncio.run(owns(store, "other", "images", image))


def test_the_traces_of_a_try_that_did_not_come_to_its_pairs_give_way(
    store: ObjectStore, redis_url: str, services: str
) -> None:
    """A store that was full between the two, say: the next try may get other answers."""
    job_id = submitted(store, redis_url, shards=1)
    asyncio.run(store.put(shard_path(job_id, "traces", 0), write_traces([])))
    with worker(store, redis_url, services):
        ids = pair_ids(store, job_id, 1)
    traces = read_traces(asyncio.run(store.get(shard_path(job_id, "traces", 0))))
    outcomes = [edit.outcome for trace in traces for edit in trace.edits]
    assert outcomes.count("pair") == len(ids) > 0


def test_tenants_take_turns_at_a_worker(store: ObjectStore, redis_url: str, services: str) -> None:
    large = submitted(store, redis_url, SHARDS, "acme")
    small = submitted(store, redis_url, 1, "other")
    with worker(store, redis_url, services), Redis.from_url(redis_url) as connection:
        until(lambda: connection.xlen(SHARDS_STREAM) == SHARDS + 1)
        entries = [entry for _, entry in connection.xrange(SHARDS_STREAM)]
    ended = [(entry[b"job"].decode(), int(entry[b"shard"])) for entry in entries]
    assert ended == [(large, 0), (small, 0), (large, 1), (large, 2)]


@contextmanager
def refusing_writes(redis_url: str) -> Iterator[Callable[[], int]]:
    """Redis refuses every write, as when its disk is full; yields how many transactions it has refused."""
    with Redis.from_url(redis_url) as connection:
        connection.config_resetstat()
        connection.config_set("min-replicas-to-write", 1)
        try:
            yield lambda: connection.info("errorstats").get("errorstat_EXECABORT", {}).get("count", 0)
        finally:
            connection.config_set("min-replicas-to-write", 0)


def test_a_worker_waits_for_a_redis_that_refuses_writes(
    store: ObjectStore, redis_url: str, services: str
) -> None:
    job_id = submitted(store, redis_url, shards=1)
    with ExitStack() as full:
        refused = full.enter_context(refusing_writes(redis_url))
        with worker(store, redis_url, services) as pid:
            until(refused)
            until(lambda: refused() > 1 or not lives(pid))
            assert lives(pid), "whoever supervises it would start it again and again"
            full.close()
            assert pair_ids(store, job_id, 1)


def test_a_job_that_starts_from_images(store: ObjectStore, redis_url: str, services: str) -> None:
    """Two shards of them, one image in each unreadable: counted and named, and the rest becomes pairs."""
    images = []
    for number in range(SHARD_PROMPTS + 2):
        reference = asyncio.run(store.put_image(encode(Image.new("RGB", (8, 8), (90, number, 0)))))
        images.append(StartingImage(prompt="a square", origin=f"row {number}", image=reference))
    for row in (1, SHARD_PROMPTS):
        images[row] = StartingImage(prompt="a square", origin=f"row {row}", problem="is cut off")
    entries = [image.model_dump_json(exclude_none=True) for image in images]
    job_id = submitted_set(store, redis_url, entries, 2)
    with worker(store, redis_url, services):
        assert len(set(pair_ids(store, job_id, 2))) == SHARD_PROMPTS
    for shard, row in enumerate((1, SHARD_PROMPTS)):
        parquet = asyncio.run(store.get(shard_path(job_id, "shards", shard)))
        assert read_report(parquet).dropped == {"unreadable_image": 1}
        assert {pair.origin for pair in read_pairs(parquet)} < {image.origin for image in images}
        traces = read_traces(asyncio.run(store.get(shard_path(job_id, "traces", shard))))
        (error,) = [trace.error for trace in traces if trace.dropped]
        assert error == f"row {row}: is cut off"


def test_a_job_whose_store_is_s3(redis_url: str) -> None:
    """Two shards, their images and their memo on a real S3 server that fails now and then."""
    relay = Relay({method: [Fault(503, "SlowDown"), Fault()] * 20 for method in ("PUT", "GET", "HEAD")})
    with s3_server() as server, live(relay_app(server, relay)) as s3:
        store = ObjectStore(store_url(s3))
        with live(create_app(store)) as services:
            job_id = submitted(store, redis_url, shards=2)
            with worker(store, redis_url, services, RETOUCHE_STORE=store_url(s3)):
                assert len(set(pair_ids(store, job_id, 2))) == SHARD_PROMPTS + 4
    assert relay.faults == {"PUT": [], "GET": [], "HEAD": []}


def test_a_look_at_the_store_that_fails_costs_no_shard(redis_url: str) -> None:
    """At the specification, at the prompts, and for the cancelled marker while the shard is at work."""
    failing, passing = Fault(400, "Whatever"), Fault()
    relay = Relay({"GET": [failing, passing, failing], "HEAD": [failing, passing, passing, failing]})
    with s3_server() as server, live(relay_app(server, relay)) as s3:
        store = ObjectStore(store_url(server))
        with live(create_app(store, {"editing": Stage(latency_seconds=1.5)})) as services:
            job_id = submitted(store, redis_url, shards=1)
            with worker(store, redis_url, services, RETOUCHE_STORE=store_url(s3)):
                until(lambda: there(store, job_id, "shards", 0) or there(store, job_id, "failed", 0))
        assert there(store, job_id, "shards", 0)
    assert relay.faults == {"GET": [], "HEAD": []}


def test_a_worker_tells_prometheus_what_its_work_horses_did(
    store: ObjectStore, redis_url: str, services: str
) -> None:
    port = str(free_port())
    job_id = submitted(store, redis_url, shards=1)
    with worker(store, redis_url, services, RETOUCHE_METRICS_PORT=port):
        pairs = len(pair_ids(store, job_id, 1))
        until(lambda: f'retouche_outcomes_total{{outcome="pair"}} {pairs}.0' in metrics(port))
        told = metrics(port)
    assert 'retouche_shards_total{ended="committed"} 1.0' in told
    assert 'retouche_stage_seconds_count{outcome="made",stage="editing"} 4.0' in told


def metrics(port: str) -> str:
    return httpx2.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text


@pytest.mark.parametrize("killed", ["worker and work-horse", "work-horse", "worker"])
def test_killed_in_the_middle_of_a_shard(store: ObjectStore, redis_url: str, killed: str) -> None:
    app = create_app(store, {"editing": ENDLESS})
    with live(app) as services:
        job_id = submitted(store, redis_url, shards=1)
        with worker(store, redis_url, services) as pid:
            until(lambda: app.state.stub.calls["editing"] == 4)
            app.state.stub.stages["editing"] = Stage()
            horse = work_horse(pid)
            assert horse is not None
            if killed == "work-horse":
                os.kill(horse, signal.SIGKILL)
                after_kill = pair_ids_at_the_end(store, redis_url, job_id)
            elif killed == "worker":
                os.kill(pid, signal.SIGKILL)
                until(lambda: not lives(horse))
            else:
                kill_all(pid)
        if killed != "work-horse":
            expire_heartbeats(redis_url, job_id)
            with worker(store, redis_url, services):
                after_kill = pair_ids_at_the_end(store, redis_url, job_id)
        report = read_report(asyncio.run(store.get(shard_path(job_id, "shards", 0))))
        assert report.stages["generation"].remembered == 4, "nothing that was finished was made again"
        with Redis.from_url(redis_url) as connection:
            assert curate_queue(connection).failed_job_registry.count == 0, "RQ takes it for what it is: done"
    assert after_kill == undisturbed(ObjectStore(f"{store.url}-undisturbed"), redis_url)


def pair_ids_at_the_end(store: ObjectStore, redis_url: str, job_id: str) -> list[str]:
    """The identifiers of the pairs of the job's one shard, once RQ has done with it too."""
    ids = pair_ids(store, job_id, 1)
    with Redis.from_url(redis_url) as connection:
        until(lambda: not connection.exists(Job.key_for(shard_task_id(job_id, 0))))
    return ids


def undisturbed(store: ObjectStore, redis_url: str) -> list[str]:
    """The same job where nothing is killed and nothing remembered."""
    with Redis.from_url(redis_url) as connection:
        connection.flushall()
    with live(create_app(store)) as services:
        job_id = submitted(store, redis_url, shards=1)
        with worker(store, redis_url, services):
            return pair_ids(store, job_id, 1)


def test_a_cancelled_shard_stops(store: ObjectStore, redis_url: str) -> None:
    app = create_app(store, {"editing": ENDLESS})
    with live(app) as services:
        job_id = submitted(store, redis_url, shards=1)
        with worker(store, redis_url, services) as pid:
            until(lambda: app.state.stub.calls["editing"] >= 1)
            with Redis.from_url(redis_url) as connection:
                until(lambda: connection.exists(progress_key(job_id)))
                assert connection.ttl(progress_key(job_id)) > 0, "were it killed, nobody would remove it"
            asyncio.run(store.put(job_path(job_id, "cancelled"), b""))
            until(lambda: work_horse(pid) is None)
    assert not there(store, job_id, "shards", 0)
    assert not there(store, job_id, "failed", 0)


def test_a_service_that_is_down_fails_the_shard_with_the_reason(
    store: ObjectStore, redis_url: str, unused_url: str
) -> None:
    job_id = submitted(store, redis_url, shards=1)
    with worker(store, redis_url, unused_url, RETOUCHE_PATIENCE_SECONDS="0.2"):
        until(lambda: there(store, job_id, "failed", 0))
    failure = json.loads(asyncio.run(store.get(shard_path(job_id, "failed", 0))))
    assert failure["shard"] == 0
    assert "the reward service has given no answer" in failure["error"]


def test_a_store_too_full_for_the_reason_holds_nothing_against_the_shard(
    redis_url: str, unused_url: str
) -> None:
    """More often than RQ would try it again, after which nobody knows the reason any more."""
    relay = Relay({"PUT": [Fault(400, "No space left on device")] * (RETRIES + 1)})
    with s3_server() as server, live(relay_app(server, relay)) as s3:
        store = ObjectStore(store_url(server))
        job_id = submitted(store, redis_url, shards=1)
        settings = {"RETOUCHE_STORE": store_url(s3), "RETOUCHE_PATIENCE_SECONDS": "0.2"}
        with worker(store, redis_url, unused_url, **settings):
            until(lambda: there(store, job_id, "failed", 0))
        failure = json.loads(asyncio.run(store.get(shard_path(job_id, "failed", 0))))
    assert relay.faults == {"PUT": []}
    assert "the reward service has given no answer" in failure["error"]


def test_a_function_that_is_no_shard_is_refused(
    store: ObjectStore, redis_url: str, services: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("refused") / "made"
    with Redis.from_url(redis_url) as connection:
        task = curate_queue(connection).enqueue_call("os.mkdir", args=(str(folder),))
        with worker(store, redis_url, services):
            job_id = submitted(store, redis_url, shards=1)
            assert pair_ids(store, job_id, 1), "the worker goes on with what is allowed"
        assert not folder.exists()
        status = Job.fetch(task.id, connection, serializer=JSONSerializer).get_status()
        assert status in (JobStatus.CANCELED, JobStatus.FAILED)
