"""`retouche keys`: make, list and revoke API keys, with a key whose scope is `admin`."""

from typing import Annotated

import typer
from rich.table import Table

from retouche.cli.terminal import Json, console, gateway, print_json
from retouche.contract.keys import SCOPES, KeyRequest, Scope

app = typer.Typer(no_args_is_help=True)

_USUAL: list[Scope] = ["curate", "train", "read", "services"]


@app.command()
def create(
    tenant: str,
    scope: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(SCOPES)}; repeat for more.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a key for a tenant, with every scope but admin where none is named. It is shown this once."""
    with gateway() as client:
        wanted = KeyRequest.model_validate({"tenant": tenant, "scopes": scope or _USUAL})
        made = client.create_key(wanted.tenant, wanted.scopes)
    if as_json:
        print_json(made)
        return
    console.print(f"{made.tenant} may {', '.join(sorted(made.scopes))}; keep this, it is not shown again:")
    print(made.key)


@app.command("list")
def listing(as_json: Json = False) -> None:
    """Every key of every tenant."""
    with gateway() as client:
        keys = client.keys()
    if as_json:
        print_json([key.model_dump(mode="json") for key in keys])
        return
    table = Table("key", "tenant", "scopes", "created", box=None)
    for key in keys:
        table.add_row(key.id, key.tenant, ", ".join(sorted(key.scopes)), f"{key.created_at:%Y-%m-%d %H:%M}")
    console.print(table)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id, as `list` shows it.")],
    as_json: Json = False,
) -> None:
    """Let a key open nothing more."""
    with gateway() as client:
        client.revoke_key(key)
    if as_json:
        print_json({"revoked": key})
    else:
        console.print(f"{key} is revoked", highlight=False)
