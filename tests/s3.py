"""A real S3-speaking server on loopback (moto), and a relay before it that fails as it is told."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import httpx2
from moto.server import ThreadedMotoServer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

BUCKET = "pictures"
_METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE"]


def store_url(address: str, bucket: str = BUCKET) -> str:
    """The bucket at that address as an object store's, with credentials."""
    options = f"endpoint={address}&region=us-east-1&access_key_id=one&secret_access_key=two"
    return f"s3://{bucket}/prefix?{options}"


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of a server with one empty bucket, BUCKET."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    try:
        # What is kept belongs to the process: an earlier server's bucket would be this one's.
        httpx2.post(f"{address}/moto-api/reset", trust_env=False).raise_for_status()
        httpx2.put(f"{address}/{BUCKET}", trust_env=False).raise_for_status()
        yield address
    finally:
        server.stop()


@dataclass(frozen=True)
class Fault:
    """Answers `status` with the error `code` in place of the server; or passes the request on and then hangs
    for `seconds` before the answer."""

    status: int = 200
    code: str = ""
    hang_seconds: float = 0.0


@dataclass
class Relay:
    """What goes wrong with the next requests of a method, and how many requests there were."""

    faults: dict[str, list[Fault]] = field(default_factory=dict)
    requests: int = 0


def relay_app(server: str, relay: Relay) -> Starlette:
    """Passes every request on to `server`, but for the faults."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with httpx2.AsyncClient(base_url=server, trust_env=False) as client:
            app.state.client = client
            yield

    async def passed(request: Request) -> Response:
        relay.requests += 1
        planned = relay.faults.get(request.method, [])
        fault = planned.pop(0) if planned else Fault()
        if fault.status != 200:
            error = f"<Error><Code>{fault.code}</Code><Message>as told</Message></Error>"
            return Response(error, fault.status, media_type="application/xml")
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        answer = await request.app.state.client.request(
            request.method, target, content=await request.body(), headers=request.headers.raw
        )
        await asyncio.sleep(fault.hang_seconds)
        kept = {name: value for name, value in answer.headers.items() if name != "content-encoding"}
        return Response(answer.content, answer.status_code, headers=kept)

    return Starlette(routes=[Route("/{path:path}", passed, methods=_METHODS)], lifespan=lifespan)
