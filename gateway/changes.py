"""That something of a job or a run has changed: told over Redis, polled where Redis is silent."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi.sse import ServerSentEvent
from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.datastructures import State

from gateway.records import ENDED
from retouche.contract.jobs import Job, JobEvent
from retouche.contract.runs import Run, RunEvent
from retouche.coordination import events_channel

_POLL_SECONDS = 2.0
_GATHER_SECONDS = 0.2


async def changes(state: State, identifier: str) -> AsyncIterator[None]:
    """At once, then whenever a change is announced, and every few seconds in case one was missed.

    Ends when the gateway is told to stop: those who follow come back to another one.
    """
    yield
    channel: Any = state.subscribing.pubsub()
    try:
        await channel.subscribe(events_channel(identifier))
        yield
        while not state.stopping:
            await channel.get_message(ignore_subscribe_messages=True, timeout=_POLL_SECONDS)
            await asyncio.sleep(_GATHER_SECONDS)  # many shards tell at once: one look at the store for all
            while await channel.get_message(ignore_subscribe_messages=True, timeout=0):
                pass
            yield
    except RedisError:
        while not state.stopping:  # without Redis the store alone tells
            await asyncio.sleep(_POLL_SECONDS)
            yield
    finally:
        await channel.aclose()


async def events(
    state: State,
    identifier: str,
    read: Callable[[str], Awaitable[Job | Run]],
    event_type: type[JobEvent] | type[RunEvent],
) -> AsyncIterator[ServerSentEvent]:
    """What `read` gives, now and at every change, until it has ended."""
    last, number = None, 0
    async for _ in changes(state, identifier):
        if (found := await read(identifier)) == last:
            continue
        last, number = found, number + 1
        kind = found.state if found.state in ENDED else "progress"
        fields = {"id": str(number), "event": kind, "run" if isinstance(found, Run) else "job": found}
        yield ServerSentEvent(
            raw_data=event_type.model_validate(fields).model_dump_json(), event=kind, id=fields["id"]
        )
        if kind in ENDED:
            return


async def announce(redis: Redis, identifier: str, cause: str) -> None:
    """Tell those who follow; without Redis they find out by polling."""
    try:
        await redis.publish(events_channel(identifier), cause)
    except RedisError:
        return
