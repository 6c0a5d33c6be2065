"""What Redis has lost, or a dead worker held, is enqueued once more: at intervals, and when asked for."""

import asyncio
import logging
import time
from contextlib import suppress

from fastapi import APIRouter, FastAPI, Request
from redis.exceptions import RedisError

from gateway import jobs, runs
from gateway.callers import ADMIN
from gateway.settings import Settings
from retouche.contract.recovery import Recovered
from retouche.coordination import RECOVERED_KEY
from retouche.errors import RetoucheError
from retouche.queue import look_after

router = APIRouter(tags=["jobs"], dependencies=[ADMIN])

_log = logging.getLogger("retouche.gateway")


@router.post("/v1/recover")
async def recover(request: Request) -> Recovered:
    """Enqueue what is missing of every job and run that should be under way."""
    state = request.app.state
    job_ids, run_ids = await jobs.recover_all(request.app), await runs.recover_all(request.app)
    return Recovered(
        jobs=[await state.reader.job(job_id) for job_id in job_ids],
        runs=[await state.runs.run(run_id) for run_id in run_ids],
    )


async def keep_recovering(app: FastAPI, settings: Settings) -> None:
    """At the start, again and again, and at once when Redis comes up empty: what it has not is enqueued.

    Whatever a round comes to, there is a next one.
    """
    while True:
        (failure,) = await asyncio.gather(_round(app, settings), return_exceptions=True)
        if failure is not None:
            known = isinstance(failure, RetoucheError | RedisError)
            _log.warning(
                "jobs and runs could not be recovered: %s", failure, exc_info=None if known else failure
            )
            await asyncio.sleep(settings.upkeep_seconds)


async def _round(app: FastAPI, settings: Settings) -> None:
    await jobs.recover_all(app)
    await runs.recover_all(app)
    await app.state.redis.set(RECOVERED_KEY, 1)
    await _look_after_queues(app, settings)


async def _look_after_queues(app: FastAPI, settings: Settings) -> None:
    """Until it is time to recover, but no longer than Redis keeps what it has."""
    end = time.monotonic() + settings.recover_seconds
    while (left := end - time.monotonic()) > 0:
        await asyncio.sleep(min(left, settings.upkeep_seconds))
        with suppress(RedisError):
            for queue in (app.state.queue, app.state.train_queue):
                for state, tasks in (await asyncio.to_thread(look_after, queue)).items():
                    app.state.queue_metrics.tasks.labels(queue.name, state).set(tasks)
            if not await app.state.redis.exists(RECOVERED_KEY):
                _log.warning("Redis has been emptied: what was in it is enqueued again")
                return
