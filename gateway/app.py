"""The gateway: one address for everything."""

import asyncio
import logging
from functools import partial

import redis as blocking
from fastapi import APIRouter, Depends, FastAPI
from redis.asyncio import Redis

from gateway import evaluations, forward, images, jobs, keys, overview, pairs, prompts, reviews, runs
from gateway.callers import admit
from gateway.decisions import DecisionReader
from gateway.job_state import JobReader
from gateway.key_store import KeyStore
from gateway.pair_index import PairIndexes
from gateway.run_state import RunReader
from gateway.settings import Settings
from retouche.client.stages import StageClient
from retouche.contract.services import Readiness
from retouche.errors import RetoucheError
from retouche.profile import load_profile
from retouche.queue import curate_queue, train_queue
from retouche.store import open_store
from serving.app import Loaded, require_ready
from serving.app import create_app as create

_log = logging.getLogger("retouche.gateway")


def create_app(settings: Settings | None = None) -> FastAPI:
    """The gateway's application."""
    router = APIRouter(dependencies=[Depends(require_ready)])
    for part in (images, prompts, jobs, pairs, reviews, runs, evaluations, forward, overview, keys):
        router.include_router(part.router)
    settings = settings or Settings()
    app = create(
        "Retouche",
        router,
        partial(_load, settings),
        streamed_body_bytes={"/v1/prompts": prompts.MAX_BYTES},
        admit=admit,
    )
    app.state.settings = settings
    return app


async def _load(settings: Settings, app: FastAPI) -> Loaded:
    state = app.state
    state.store = await open_store(settings.store)
    state.keys = KeyStore(state.store)
    state.redis = Redis.from_url(settings.redis_url, socket_connect_timeout=3, socket_timeout=10)
    connection = blocking.Redis.from_url(settings.redis_url, socket_connect_timeout=3, socket_timeout=10)
    state.queue, state.train_queue = curate_queue(connection), train_queue(connection)
    state.profile = load_profile(settings.profile)
    state.reader, state.runs = JobReader(state.store, state.redis), RunReader(state.store)
    state.decisions, state.indexes = DecisionReader(state.store), PairIndexes(state.store)
    state.upstreams = forward.connect(settings)
    state.stages = StageClient(settings.service_urls, timeout_seconds=5, connect_timeout_seconds=2)
    recovering = asyncio.create_task(_recover(app, settings.recover_seconds), name="recover")

    async def stop() -> None:
        recovering.cancel()
        await asyncio.gather(recovering, return_exceptions=True)
        await asyncio.gather(*(client.aclose() for client in state.upstreams.values()))
        await state.stages.close()
        await state.redis.aclose()
        connection.close()

    return Readiness(), stop


async def _recover(app: FastAPI, every_seconds: float) -> None:
    """At the start, and again and again: whatever Redis lost or never got is enqueued."""
    while True:
        try:
            await jobs.recover_all(app)
            await runs.recover_all(app)
        except RetoucheError as error:
            _log.warning("jobs and runs could not be recovered: %s", error.detail)
        await asyncio.sleep(every_seconds)
