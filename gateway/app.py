"""The gateway: one address for everything."""

import asyncio
from collections import Counter
from functools import partial

import httpx2
import redis as blocking
from fastapi import APIRouter, Depends, FastAPI
from redis.asyncio import BlockingConnectionPool, Redis

from gateway import (
    deployed,
    evaluations,
    forward,
    images,
    jobs,
    keys,
    overview,
    pairs,
    prompts,
    recovery,
    reviews,
    runs,
)
from gateway.bodies import check_values
from gateway.callers import admit
from gateway.decisions import DecisionReader
from gateway.job_state import JobReader
from gateway.key_store import KeyStore
from gateway.pair_index import PairIndexes
from gateway.run_state import RunReader
from gateway.settings import Settings
from retouche.client.stages import StageClient, bearing, connections
from retouche.contract.services import Readiness
from retouche.metrics import QueueMetrics
from retouche.profile import load_profile
from retouche.queue import curate_queue, train_queue
from retouche.store import open_store
from serving.app import Loaded, require_ready
from serving.app import create_app as create

_MOST_FOLLOWERS = 5_000  # of the 10,000 connections that Redis takes


def create_app(settings: Settings | None = None) -> FastAPI:
    """The gateway's application."""
    router = APIRouter(dependencies=[Depends(require_ready), Depends(check_values)])
    curating = (images, prompts, jobs, pairs, reviews, runs, evaluations)
    for part in (*curating, forward, overview, deployed, keys, recovery):
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
    # A call waits for a connection, where many are made: that there is none free does not mean no Redis.
    pool = BlockingConnectionPool.from_url(
        settings.redis_url, timeout=10, socket_connect_timeout=3, socket_timeout=10
    )
    state.redis = Redis.from_pool(pool)
    # Who follows a job keeps a connection as long: they have others, or they would keep out every call.
    state.subscribing = Redis.from_url(
        settings.redis_url, max_connections=_MOST_FOLLOWERS, socket_connect_timeout=3, socket_timeout=10
    )
    connection = blocking.Redis.from_url(settings.redis_url, socket_connect_timeout=3, socket_timeout=10)
    state.queue, state.train_queue = curate_queue(connection), train_queue(connection)
    state.profile = load_profile(settings.profile)
    state.reader, state.runs = JobReader(state.store, state.redis), RunReader(state.store)
    state.decisions, state.indexes = DecisionReader(state.store), PairIndexes(state.store)
    state.upstreams = connections(
        settings.service_urls,
        timeout_seconds=settings.service_timeout_seconds,
        headers=bearing(settings.internal_token),
    )
    state.followers = Counter[str]()
    state.stages = StageClient(settings.service_urls, timeout_seconds=5, connect_timeout_seconds=2)
    state.replicas = httpx2.AsyncClient(timeout=overview.TIMEOUT_SECONDS, trust_env=False)
    state.queue_metrics = QueueMetrics(state.metrics.registry)
    recovering = asyncio.create_task(recovery.keep_recovering(app, settings), name="recover")

    async def stop() -> None:
        recovering.cancel()
        await asyncio.gather(recovering, return_exceptions=True)
        await asyncio.gather(*(client.aclose() for client in state.upstreams.values()))
        await state.stages.close()
        await state.replicas.aclose()
        await state.redis.aclose()
        await state.subscribing.aclose()
        connection.close()

    return Readiness(), stop
