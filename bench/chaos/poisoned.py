"""`python -m bench.chaos.poisoned`: the critique service as it is, but one prompt kills it each time."""

import os
import signal

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.critique.app import create_app
from services.critique.settings import Settings

POISON = "hemlock"


class Taster:
    """Middleware: a body that holds POISON is the end of the process."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def tasted() -> Message:
            message = await receive()
            if POISON.encode() in message.get("body", b""):
                os.kill(os.getpid(), signal.SIGKILL)
            return message

        await self.app(scope, tasted, send)


if __name__ == "__main__":
    settings = Settings()
    app = Taster(create_app(settings))
    uvicorn.run(app, host=settings.host, port=settings.critique_port, log_level="warning")
