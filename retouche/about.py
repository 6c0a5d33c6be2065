"""What the work at hand is about: job, shard, item and trace. Logs say it, and calls of others carry it.

The trace of an item is derived from its job and its place there: whoever makes it again, after whatever died,
goes on with the same trace. It travels as W3C `traceparent`, the rest as W3C `baggage`. `alone`: a service
may have died of it, so it must run beside nothing else; that is for the service called, and goes no further.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256

from retouche.contract.services import ALONE_HEADER

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_BAGGAGE = re.compile(r"retouche\.(job|shard|item)=([\w.-]{1,64})")
_CARRIED = ("job", "shard", "item")

_ABOUT: ContextVar[Mapping[str, str] | None] = ContextVar("about", default=None)


@contextmanager
def about(**known: str | int) -> Iterator[None]:
    """Within the block, and what is begun there, the work is about this as well."""
    before = _ABOUT.set({**current(), **{name: str(value) for name, value in known.items()}})
    try:
        yield
    finally:
        _ABOUT.reset(before)


def current() -> Mapping[str, str]:
    """What the work at hand is about: any of job, shard, item, trace, span and alone."""
    return _ABOUT.get() or {}


def trace_of(job_id: str, prompt_index: int, image_index: int) -> str:
    """The trace of an item: 32 hexadecimal digits."""
    return sha256(f"{job_id}/{prompt_index}/{image_index}".encode()).hexdigest()[:32]


def headers() -> dict[str, str]:
    """What a call of another process carries."""
    known = current()
    carried = ",".join(f"retouche.{name}={known[name]}" for name in _CARRIED if name in known)
    sent = {"baggage": carried} if carried else {}
    if trace := known.get("trace"):
        sent["traceparent"] = f"00-{trace}-{known.get('span', trace[:16])}-01"
    if "alone" in known:
        sent[ALONE_HEADER] = "1"
    return sent


def read(traceparent: str, baggage: str) -> dict[str, str]:
    """What the headers of a call say; whatever is not as it should be is left out."""
    known = dict(_BAGGAGE.findall(baggage))
    if found := _TRACEPARENT.fullmatch(traceparent):
        known |= {"trace": found[1], "span": found[2]}
    return known
