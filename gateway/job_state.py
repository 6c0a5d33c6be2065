"""What a job has come to, read from the store; Redis only adds how far unfinished shards are.

A shard is finished when its pairs are in the store. A job is cancelled while its marker is there, finished
when every shard is, failed when every shard that is not finished was given up, else running or queued.
"""

import asyncio
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from redis.asyncio import Redis
from redis.exceptions import RedisError

from retouche.contract.jobs import Job, JobRecord, JobReport, JobState, StageProgress
from retouche.coordination import progress_key
from retouche.errors import JobNotFound, NotFound
from retouche.pairs import read_report
from retouche.store import ObjectStore, job_path, shard_path
from retouche.tenancy import owned

_READS_AT_ONCE = 32


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


class JobReader:
    """Reads jobs; what finished shards report, which never changes, is kept in memory as a sum."""

    def __init__(self, store: ObjectStore, redis: Redis) -> None:
        self._store = store
        self._redis = redis
        self._records: dict[str, JobRecord] = {}
        self._finished: dict[str, Finished] = {}

    async def record(self, job_id: str) -> JobRecord:
        """The specification as accepted, its prompts as a prompt set; JobNotFound if there is none."""
        if job_id not in self._records:
            try:
                stored = await self._store.get(job_path(job_id, "spec.json"))
            except NotFound:
                raise _not_found(job_id) from None
            record = JobRecord.model_validate_json(stored)
            source = {"prompts": None, "prompt_set": record.prompt_set}
            spec = record.spec.model_copy(update=source)
            self._records[job_id] = record.model_copy(update={"spec": spec})
        return self._records[job_id]

    async def record_of(self, tenant: str, job_id: str) -> JobRecord:
        """The record of a tenant's own job; JobNotFound for any other."""
        record = await self.record(job_id)
        if record.tenant != tenant:
            raise _not_found(job_id)
        return record

    async def all(self) -> list[str]:
        """The identifiers of all jobs of all tenants, the newest first."""
        return await self._newest_first(await self._store.folders("jobs"))

    async def of(self, tenant: str) -> list[str]:
        """The identifiers of a tenant's jobs, the newest first."""
        return await self._newest_first(await owned(self._store, tenant, "jobs"))

    async def _newest_first(self, job_ids: Iterable[str]) -> list[str]:
        """Without those that have no specification: they are no jobs, their store was full."""
        records = {}
        for job_id in job_ids:
            with suppress(JobNotFound):
                records[job_id] = await self.record(job_id)
        return sorted(records, key=lambda job_id: records[job_id].created_at, reverse=True)

    async def finished(self, job_id: str) -> list[int]:
        """The indices of the shards whose pairs are in the store, in order."""
        return await self._indices(job_id, "shards")

    async def missing(self, job_id: str, record: JobRecord) -> list[int]:
        """The indices of the shards that are not finished, in order."""
        done = set(await self.finished(job_id))
        return [index for index in range(record.shards) if index not in done]

    async def pending(self, job_id: str) -> list[int]:
        """The indices of the shards that should be queued or at work, in order; none of a cancelled job."""
        record = await self.record(job_id)
        if job_id in self._finished and len(self._finished[job_id].shards) == record.shards:
            return []  # finished, for ever
        if await self._store.exists(job_path(job_id, "cancelled")):
            return []
        given_up = set(await self._indices(job_id, "failed"))
        return [index for index in await self.missing(job_id, record) if index not in given_up]

    async def job(self, job_id: str) -> Job:
        """The job as the API shows it; JobNotFound if there is none."""
        record = await self.record(job_id)
        done, failed, cancelled = await asyncio.gather(
            self.finished(job_id),
            self._indices(job_id, "failed"),
            self._store.exists(job_path(job_id, "cancelled")),
        )
        seen = set(done)
        given_up = [index for index in failed if index not in seen]
        live = await self._live(job_id, seen)
        state = _state(record, len(done), len(given_up), cancelled, bool(live))
        finished = await self._reported(job_id, done)
        return Job(
            id=job_id,
            state=state,
            created_at=record.created_at,
            prompts=record.prompts,
            images_per_prompt=record.spec.images_per_prompt,
            shards=record.shards,
            shards_finished=len(done),
            shards_failed=len(given_up),
            report=combined(finished, *live),
            error=await self._error(job_id, given_up[0]) if given_up else None,
        )

    async def _indices(self, job_id: str, kind: str) -> list[int]:
        prefix = job_path(job_id, kind)
        names = [path.rsplit("/", 1)[-1] async for path in self._store.paths(prefix)]
        return sorted(int(name.split(".")[0]) for name in names)

    async def _reported(self, job_id: str, done: list[int]) -> JobReport:
        """The sum of what the finished shards reported; each is read once."""
        known = self._finished.setdefault(job_id, Finished())
        unknown = [index for index in done if index not in known.shards]
        for begin in range(0, len(unknown), _READS_AT_ONCE):
            batch = unknown[begin : begin + _READS_AT_ONCE]
            shards = await asyncio.gather(
                *(self._store.get(shard_path(job_id, "shards", index)) for index in batch)
            )
            for index, shard in zip(batch, shards, strict=True):
                known.add(index, read_report(shard))
        return known.report

    async def _live(self, job_id: str, done: set[int]) -> list[JobReport]:
        try:
            entries = await self._redis.hgetall(progress_key(job_id))
        except RedisError:
            return []  # Redis knows only how far unfinished shards are: without it, that is not told
        return [
            JobReport.model_validate_json(text) for index, text in entries.items() if int(index) not in done
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


def _not_found(job_id: str) -> JobNotFound:
    return JobNotFound(f"there is no job {job_id}; GET /v1/jobs lists them")


def _state(record: JobRecord, done: int, given_up: int, cancelled: bool, live: bool) -> JobState:
    if done == record.shards:
        return "finished"
    if cancelled:
        return "cancelled"
    if given_up and done + given_up == record.shards:
        return "failed"
    return "running" if done or given_up or live else "queued"
