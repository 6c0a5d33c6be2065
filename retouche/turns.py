"""Tenants take turns: a shard goes to where it is its tenant's turn, however many another has waiting.

The queue stays one list that workers take from at its head. Its order is kept in rounds, in each of which
every tenant that waits has one shard: a tenant's first shard comes before any other tenant's second.
"""

from rq import Queue

# KEYS[1]: the queue's list. ARGV[1]: the task to move. ARGV[2]: what keys of tasks begin with.
# One pass over the list: it holds a window of every job under way, no more.
_TAKE_TURN = """
local function tenant_of(task)
  local meta = redis.call("HGET", ARGV[2] .. task, "meta")
  return meta and string.match(meta, '"tenant": *"([^"]*)"') or ""
end
if redis.call("LREM", KEYS[1], -1, ARGV[1]) == 0 then
  return 0
end
local waiting = redis.call("LRANGE", KEYS[1], 0, -1)
local tenants, mine, own = {}, tenant_of(ARGV[1]), 0
for place, task in ipairs(waiting) do
  tenants[place] = tenant_of(task)
  if tenants[place] == mine then own = own + 1 end
end
local seen = {}
for place, task in ipairs(waiting) do
  local tenant = tenants[place]
  seen[tenant] = (seen[tenant] or 0) + 1
  if tenant ~= mine and seen[tenant] > own + 1 then
    redis.call("LINSERT", KEYS[1], "BEFORE", task, ARGV[1])
    return 1
  end
end
redis.call("RPUSH", KEYS[1], ARGV[1])
return 1
"""


def meta_of(tenant: str) -> dict[str, str]:
    """What a task says of itself in Redis, for `take_turn`."""
    return {"tenant": tenant}


def take_turn(queue: Queue, name: str) -> None:
    """Move a task that was enqueued at the end forward to its tenant's turn; nothing if it was taken."""
    prefix = queue.job_class.redis_job_namespace_prefix
    queue.connection.eval(_TAKE_TURN, 1, queue.key, name, prefix)
