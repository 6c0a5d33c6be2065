"""How often a tenant may call: a token bucket in Redis, the same for every gateway."""

from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from retouche.coordination import rate_key
from retouche.errors import Overloaded

# KEYS[1]: the bucket. ARGV: tokens a second, and how many it holds. Returns the seconds to wait, as text.
_TAKE = """
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local clock = redis.call("TIME")
local now = clock[1] + clock[2] / 1000000
local bucket = redis.call("HMGET", KEYS[1], "tokens", "at")
local tokens = math.min(burst, (bucket[1] or burst) + (now - (bucket[2] or now)) * rate)
local wait = 0
if tokens >= 1 then tokens = tokens - 1 else wait = (1 - tokens) / rate end
redis.call("HSET", KEYS[1], "tokens", tostring(tokens), "at", string.format("%.6f", now))
redis.call("PEXPIRE", KEYS[1], math.ceil(1000 * burst / rate))
return tostring(wait)
"""


async def take_token(redis: Redis, tenant: str, per_second: float, burst: int) -> None:
    """Count one call; without Redis nothing is counted, so that it does not take the gateway down.

    Raises:
        Overloaded: the tenant has called too often; says when the next call may come.
    """
    bucket: Any = redis.eval(_TAKE, 1, rate_key(tenant), str(per_second), str(burst))
    try:
        wait = float(await bucket)
    except RedisError:
        return
    if wait > 0:
        raise Overloaded(
            f"tenant {tenant!r} may call {per_second:g} times a second, {burst} at once; "
            f"retry in {wait:.2f} s",
            retry_after_seconds=wait,
        )
