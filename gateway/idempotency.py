"""`Idempotency-Key`: a submission that is sent again gets the answer that the first one got, for a day."""

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

from fastapi import Header, Request, Response
from pydantic import BaseModel
from redis.asyncio import Redis
from redis.exceptions import RedisError

from retouche.coordination import idempotency_key
from retouche.errors import Conflict, QueueUnavailable, RetoucheError

KEPT_SECONDS = 24 * 3600

AnswerT = TypeVar("AnswerT", bound=BaseModel)

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="of your choice: the same key and body get the same answer for a day, another body 409",
    ),
]


async def once(
    request: Request,
    response: Response,
    slot: tuple[str, str | None],
    payload: BaseModel,
    answer_type: type[AnswerT],
    make: Callable[[], Awaitable[AnswerT]],
) -> AnswerT:
    """What `make` gives, or gave when `slot`, tenant and key, was first used. What failed may be tried again.

    Raises:
        Conflict: the key was used for something else.
        QueueUnavailable: Redis, which knows the keys, cannot be reached.
    """
    tenant, key = slot
    if key is None:
        return await make()
    redis: Redis = request.app.state.redis
    name = idempotency_key(tenant, hashlib.sha256(key.encode()).hexdigest())
    asked = hashlib.sha256(f"{request.url.path}\n{payload.model_dump_json()}".encode()).hexdigest()
    try:
        known = await _claimed(redis, name, asked)
        if known is not None:
            if known["asked"] != asked:
                raise Conflict(
                    f"Idempotency-Key {key[:80]!r} was used with another body; take a new key for it"
                )
            if "answer" in known:
                response.status_code = known["status"]
                return answer_type.model_validate(known["answer"])
        try:
            made = await make()
        except RetoucheError:
            await redis.delete(name)
            raise
        kept = {"asked": asked, "status": response.status_code or 201, "answer": made.model_dump(mode="json")}
        await redis.set(name, json.dumps(kept), ex=KEPT_SECONDS)
    except RedisError as error:
        raise QueueUnavailable(
            f"Redis cannot be reached ({error}); send the same again", retry_after_seconds=5
        ) from error
    return made


async def _claimed(redis: Redis, name: str, asked: str) -> dict[str, Any] | None:
    """What is known under this name; None if nothing was, and it is ours now."""
    claim = json.dumps({"asked": asked})
    if await redis.set(name, claim, nx=True, ex=KEPT_SECONDS):
        return None
    found: dict[str, Any] = json.loads(await redis.get(name) or claim)
    return found
