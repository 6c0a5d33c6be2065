"""A service whose model does nothing but take its time: for what `serving` costs, and what it does in need.

`python -m bench.batched_service --port PORT --seconds 0.08 --max-batch 8 --max-waiting 16`. With `--bare` the
same endpoint on FastAPI alone, to compare with.
"""

import argparse
import time
from collections.abc import Sequence
from functools import partial

import uvicorn
from fastapi import APIRouter, FastAPI, Request

from retouche.contract.payload import Payload, Prompt
from retouche.contract.services import Readiness
from serving.app import Loaded, create_app, require_ready, while_connected
from serving.batching import MicroBatcher
from serving.process import serve

router = APIRouter()


class Work(Payload):
    prompt: Prompt
    number: int


class Done(Payload):
    number: int


@router.post("/v1/work")
async def work(payload: Work, request: Request) -> Done:
    """The number doubled, as soon as the model comes to it."""
    require_ready(request)
    return await while_connected(request, request.app.state.batcher(payload))


def service(seconds: float, max_batch: int, max_waiting: int) -> FastAPI:
    """The application: a call of the model takes `seconds`, whatever its batch."""

    async def load(app: FastAPI) -> Loaded:
        app.state.batcher = MicroBatcher(
            partial(_double, seconds),
            key=_any,
            max_batch=max_batch,
            max_waiting=max_waiting,
            metrics=app.state.metrics,
        )
        await app.state.batcher.start()
        return Readiness(), app.state.batcher.stop

    return create_app("Batched", router, load, isolating=True)


def bare() -> FastAPI:
    """The same endpoint with nothing around it."""
    app = FastAPI()

    @app.post("/v1/work")
    async def work(payload: Work) -> Done:
        return Done(number=2 * payload.number)

    @app.get("/readyz")
    async def readyz() -> Readiness:
        return Readiness()

    return app


def _double(seconds: float, batch: Sequence[Work]) -> list[Done]:
    if seconds:
        time.sleep(seconds)
    return [Done(number=2 * each.number) for each in batch]


def _any(_: Work) -> None:
    """All can share a batch."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--max-batch", type=int, default=32)
    parser.add_argument("--max-waiting", type=int, default=256)
    parser.add_argument("--unready-seconds", type=float, default=1.0, help="between SIGTERM and the end")
    options = parser.parse_args()
    if options.bare:
        uvicorn.run(bare(), host="127.0.0.1", port=options.port, log_level="warning")
    else:
        app = service(options.seconds, options.max_batch, options.max_waiting)
        serve(app, host="127.0.0.1", port=options.port, unready_seconds=options.unready_seconds)


if __name__ == "__main__":
    main()
