"""`python -m studio`: serve the page."""

from typing import Annotated

import typer
import uvicorn

from studio.app import create_app
from studio.settings import Settings


def main(
    url: Annotated[str | None, typer.Option(help="The gateway's address; else RETOUCHE_URL.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="Else RETOUCHE_STUDIO_PORT.")] = None,
) -> None:
    """Serve the studio until it is stopped."""
    given = {"url": url, "studio_port": port}
    settings = Settings().model_copy(update={name: value for name, value in given.items() if value})
    address = f"http://{settings.host}:{settings.studio_port}"
    typer.echo(f"the studio of {settings.url} is at {address}; stop it with Ctrl-C", err=True)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.studio_port,
        log_level="warning",
        timeout_graceful_shutdown=5,  # a page that is open holds a stream
    )


if __name__ == "__main__":
    typer.run(main)
