"""What a job has come to, read from the store; Redis only adds how far unfinished shards are.

A shard is finished when its pairs are in the store. A job is cancelled while its marker is there, finished
when every shard is, failed when every shard that is not finished was given up, else running or queued.
"""

import asyncio
import json
import re
from dataclasses import dataclass, field

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.records import RecordReader
from retouche.contract.jobs import Job, JobRecord, JobReport, JobState, StageProgress
from retouche.coordination import progress_key
from retouche.errors import JobNotFound, NotFound
from retouche.pairs import read_report
from retouche.store import ObjectStore, job_path, shard_path

_READS_AT_ONCE = 32
_SHARD = re.compile(r"([0-9]+)\.(?:parquet|json)")


@dataclass
class Finished:
    """The finished shards that have been read, and the sum of their reports: a job may have very many."""

    shards: set[int] = field(default_factory=set)
    report: JobReport = field(default_factory=JobReport)

    def add(self, shard: int, report: JobReport) -> None:
        """Nothing if somebody else, who read it at the same time, has added it."""
        if shard not in self.shards:
            self.shards.add(shard)
            self.report = combined(self.report, report)


class JobReader(RecordReader[JobRecord]):
    """Reads jobs; what finished shards report, which never changes, is kept in memory as a sum."""

    def __init__(self, store: ObjectStore, redis: Redis) -> None:
        super().__init__(store, "jobs", _record, JobNotFound)
        self._redis = redis
        self._finished: dict[str, Finished] = {}
        self._complete: set[str] = set()

    async def finished(self, job_id: str) -> list[int]:
        """The indices of the shards whose pairs are in the store, in order."""
        return await self._indices(job_id, "shards")

    async def given_up(self, job_id: str) -> list[int]:
        """The indices of the shards that were given up, in order."""
        return await self._indices(job_id, "failed")

    async def missing(self, job_id: str, record: JobRecord) -> list[int]:
        """The indices of the shards that are not finished, in order."""
        done = set(await self.finished(job_id))
        return [index for index in range(record.shards) if index not in done]

    async def pending(self, job_id: str) -> list[int]:
        """The indices of the shards that should be queued or at work, in order; none of a cancelled job."""
        record = await self.record(job_id)
        if job_id in self._complete or await self._store.exists(job_path(job_id, "cancelled")):
            return []
        missing = await self.missing(job_id, record)
        if not missing:
            self._complete.add(job_id)  # for ever: nobody has to look again
            return []
        given_up = set(await self.given_up(job_id))
        return [index for index in missing if index not in given_up]

    async def job(self, job_id: str) -> Job:
        """The job as the API shows it; JobNotFound if there is none."""
        record = await self.record(job_id)
        done, failed, cancelled = await asyncio.gather(
            self.finished(job_id),
            self.given_up(job_id),
            self._store.exists(job_path(job_id, "cancelled")),
        )
        finished = await self._reported(job_id, done)
        given_up = [index for index in failed if index not in finished.shards]
        error = await self._error(job_id, given_up[0]) if given_up else None
        # Last: others who read this job may have added shards, which must not be counted as live as well.
        live = await self._live(job_id, finished.shards, set(failed))
        return Job(
            id=job_id,
            state=_state(record, len(finished.shards), len(given_up), cancelled, bool(live)),
            created_at=record.created_at,
            prompts=record.prompts,
            images_per_prompt=record.spec.images_per_prompt,
            shards=record.shards,
            shards_finished=len(finished.shards),
            shards_failed=len(given_up),
            report=combined(finished.report, *live),
            error=error,
        )

    async def _indices(self, job_id: str, kind: str) -> list[int]:
        """Of what shards are named by; file managers, NFS and S3 consoles leave things of their own."""
        prefix = job_path(job_id, kind)
        names = [path.rsplit("/", 1)[-1] async for path in self._store.paths(prefix)]
        return sorted(int(shard[1]) for name in names if (shard := _SHARD.fullmatch(name)))

    async def _reported(self, job_id: str, done: list[int]) -> Finished:
        """The finished shards, these among them, and the sum of what they reported; each is read once."""
        known = self._finished.setdefault(job_id, Finished())
        unknown = [index for index in done if index not in known.shards]
        for begin in range(0, len(unknown), _READS_AT_ONCE):
            batch = unknown[begin : begin + _READS_AT_ONCE]
            shards = await asyncio.gather(
                *(self._store.get(shard_path(job_id, "shards", index)) for index in batch)
            )
            for index, shard in zip(batch, shards, strict=True):
                known.add(index, read_report(shard))
        return known

    async def _live(self, job_id: str, done: set[int], given_up: set[int]) -> list[JobReport]:
        """How far the shards are that are neither `done` once Redis has answered nor given up."""
        try:
            entries = await self._redis.hgetall(progress_key(job_id))
        except RedisError:
            return []  # Redis knows only how far unfinished shards are: without it, that is not told
        return [
            JobReport.model_validate_json(text)
            for index, text in entries.items()
            if int(index) not in done and int(index) not in given_up
        ]

    async def _error(self, job_id: str, shard: int) -> str:
        try:
            failure = json.loads(await self._store.get(shard_path(job_id, "failed", shard)))
        except NotFound:
            return "a shard was given up; retry the job"
        return f"shard {shard}: {failure['error']}"


def combined(*reports: JobReport) -> JobReport:
    """The sum of shards' reports."""
    total = JobReport()
    for report in reports:
        for name in ("prompts", "images", "images_with_findings", "edits", "pairs", "seconds"):
            setattr(total, name, getattr(total, name) + getattr(report, name))
        for reason, count in report.dropped.items():
            total.dropped[reason] = total.dropped.get(reason, 0) + count
        for stage, progress in report.stages.items():
            before = total.stages.get(stage, StageProgress())
            total.stages[stage] = StageProgress(
                done=before.done + progress.done,
                remembered=before.remembered + progress.remembered,
                failed=before.failed + progress.failed,
            )
    return total


def _record(stored: bytes) -> JobRecord:
    """Its prompts, which may be ten thousand, as the prompt set that they became."""
    record = JobRecord.model_validate_json(stored)
    source = {"prompts": None, "prompt_set": record.prompt_set}
    return record.model_copy(update={"spec": record.spec.model_copy(update=source)})


def _state(record: JobRecord, done: int, given_up: int, cancelled: bool, live: bool) -> JobState:
    if done == record.shards:
        return "finished"
    if cancelled:
        return "cancelled"
    if given_up and done + given_up == record.shards:
        return "failed"
    return "running" if done or given_up or live else "queued"
