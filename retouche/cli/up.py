"""`retouche up`: everything on this machine."""

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.text import Text

from retouche.cli.settings import Settings
from retouche.cli.terminal import console, errors
from retouche.contract.stages import STAGES
from retouche.local.system import FIRST_PORT, HOST, default_ports, running

_LOOK_SECONDS = 1.0


def up(
    data: Annotated[
        Path, typer.Option(help="Logs, Redis's files and, without RETOUCHE_STORE, the store.")
    ] = Path(".retouche"),
    profile: Annotated[str, typer.Option(help="Name in deploy/profiles, or a YAML file.")] = "shapes",
    workers: Annotated[int, typer.Option(min=1, max=64)] = 1,
    port: Annotated[
        int, typer.Option(min=1, max=65_461, help="The gateway's; those of all others move with it.")
    ] = FIRST_PORT,
) -> None:
    """Start a Redis, services, gateway, workers and trainer on this machine; stop them with Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGINT):  # a script's background job begins with SIGINT ignored
        signal.signal(number, _interrupt)
    ports = default_ports(workers, port)
    with errors():
        try:
            with running(data, profile, workers, ports, _tell, Settings().store) as system:
                for name in sorted(ports.keys() - {"redis", "gateway", *STAGES}):
                    console.print(f"{name:<12} tells http://{HOST}:{ports[name]}/metrics", style="dim")
                ready = ("ready", "bold green")
                console.print(Text.assemble(ready, f"  {system.url}  (docs at {system.url}/docs)"))
                console.print(f"logs in {data / 'logs'}; stop with Ctrl-C", style="dim", soft_wrap=True)
                while True:
                    time.sleep(_LOOK_SECONDS)
                    system.revive(_tell, time.monotonic())
        except KeyboardInterrupt:
            console.print("stopped; what was finished is kept, and goes on with the next `retouche up`")


def _tell(name: str, what: str) -> None:
    console.print(f"{name:<12} {what}", style="dim" if what == "starting" else None, soft_wrap=True)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
