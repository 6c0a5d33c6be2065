"""Curation jobs and training runs, one after another, by a client that waits out whatever is down."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

from bench.chaos.poisoned import POISON
from retouche.client import AsyncRetouche
from retouche.contract.jobs import CurationSpec, Job
from retouche.contract.runs import DiffusionDpo, Optimisation, Run, RunSpec, TrainingData
from retouche.errors import RetoucheError, StoreFull
from shapes.prompts import held_out_prompts

T = TypeVar("T")

FIRST_PROMPTS = 12  # done before the faults begin, so that there is something to train on
JOB_PROMPTS = 70  # two shards
MOST_RETRIES = 5  # by hand, of a run that was given up
_LOOK_SECONDS = 0.5


def job_spec(number: int) -> CurationSpec:
    """The job of that number; the second has the poison among its prompts."""
    known = held_out_prompts()
    count = JOB_PROMPTS if number else FIRST_PROMPTS
    prompts = [known[(JOB_PROMPTS * number + place) % len(known)] for place in range(count)]
    if number == 1:
        prompts[3] = f"{prompts[3]}, {POISON}"
    return CurationSpec(prompts=tuple(prompts), instructions_per_image=2, seed=number)


def run_spec(number: int, job_id: str) -> RunSpec:
    """The training run of that number, on the pairs of a finished job."""
    how = Optimisation(
        steps=40,
        batch_size=4,
        learning_rate=5e-4,
        warmup_steps=1,
        checkpoint_every_steps=4,
        log_every_steps=5,
    )
    return RunSpec(data=TrainingData(job=job_id), objective=DiffusionDpo(), optimisation=how, seed=number)


class Work:
    """Jobs and runs of one system, in a thread of its own; `enough` is set when no more shall be begun."""

    def __init__(self, url: str) -> None:
        self.jobs: list[CurationSpec] = []
        self.runs: list[RunSpec] = []
        self.job_ids: dict[CurationSpec, str] = {}
        self.run_ids: dict[RunSpec, str] = {}
        self.runs_retried = 0
        self.failures: list[str] = []
        self.first_done, self.enough = threading.Event(), threading.Event()
        self._client = AsyncRetouche(url, timeout_seconds=30)
        self._thread = threading.Thread(name="work", daemon=True)

    def start(self) -> None:
        """One job, then jobs and runs one after another, side by side."""
        self._begin(self._chains())

    def repeat(self, other: "Work") -> None:
        """All that the other did."""
        self.jobs, self.runs = other.jobs, other.runs
        self._begin(self._all_at_once())

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        async def closing() -> None:
            async with self._client:
                try:
                    await work
                except RetoucheError as error:
                    self.failures.append(error.detail)

        self._thread = threading.Thread(target=lambda: asyncio.run(closing()), name="work", daemon=True)
        self._thread.start()

    async def _chains(self) -> None:
        self.jobs.append(job_spec(0))
        await self._job(self.jobs[0])
        self.first_done.set()
        await asyncio.gather(self._more_jobs(), self._more_runs())

    async def _more_jobs(self) -> None:
        while len(self.jobs) == 1 or not self.enough.is_set():
            self.jobs.append(job_spec(len(self.jobs)))
            await self._job(self.jobs[-1])

    async def _more_runs(self) -> None:
        while not self.runs or not self.enough.is_set():
            self.runs.append(run_spec(len(self.runs), self.job_ids[self.jobs[0]]))
            await self._run(self.runs[-1])

    async def _all_at_once(self) -> None:
        await asyncio.gather(*map(self._job, self.jobs))
        await asyncio.gather(*map(self._run, self.runs))

    async def _job(self, spec: CurationSpec) -> None:
        submitted = await _patiently(lambda: self._client.submit(spec))
        self.job_ids[spec] = submitted.id
        if not await self._until_ended(lambda: self._client.job(submitted.id)):
            self.failures.append(f"{submitted.id} was given up")

    async def _run(self, spec: RunSpec) -> None:
        submitted = await _patiently(lambda: self._client.submit_run(spec))
        self.run_ids[spec] = submitted.id
        for _ in range(MOST_RETRIES):
            if await self._until_ended(lambda: self._client.run(submitted.id)):
                return
            self.runs_retried += 1  # killed before it had come to a checkpoint, time after time
            await _patiently(lambda: self._client.retry_run(submitted.id))
        self.failures.append(f"{submitted.id} was given up")

    async def _until_ended(self, look: Callable[[], Awaitable[Job | Run]]) -> bool:
        """Did it finish, and not fail?"""
        while True:
            found = await _patiently(look)
            if found.state in ("finished", "failed", "cancelled"):
                return found.state == "finished"
            await asyncio.sleep(_LOOK_SECONDS)


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """The answer, asked for again while the gateway is away or the store is full."""
    while True:
        try:
            return await call()
        except RetoucheError as error:
            if not (error.retryable or isinstance(error, StoreFull)):
                raise
        await asyncio.sleep(_LOOK_SECONDS)
