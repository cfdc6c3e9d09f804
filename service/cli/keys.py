"""`bespoke keys`: who may ask the service what."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from service.cli.connection import client
from service.cli.screen import age, grid, result, say

app = typer.Typer(no_args_is_help=True, help="Create, list and revoke keys.")


@app.command("list")
def list_keys() -> None:
    """List keys: name, scopes, when last used. The keys themselves are kept nowhere."""
    with client() as service:
        keys = service.keys()
    rows = [
        (
            k["id"],
            escape(k["name"]),
            ", ".join(k["scopes"]),
            age(k.get("created_at")),
            age(k.get("last_used_at")),
            "[red]revoked[/]"
            if k.get("revoked_at")
            else "expires " + str(k["expires_at"])
            if k.get("expires_at")
            else "valid",
        )
        for k in keys
    ]
    grid("", ("key", "name", "scopes", "created", "last used", "state"), rows)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for, such as `ci` or `alice`.")],
    scope: Annotated[list[str], typer.Option(help="What it may do; give it several times.")],
    expires_in_days: Annotated[int | None, typer.Option(min=1, help="Days until it ends by itself.")] = None,
) -> None:
    """Make a key. It is shown once, here; the service keeps only its SHA-256.

    Example: [cyan]bespoke keys create ci --scope devices:read --scope jobs:write --scope models:read
    --expires-in-days 90[/]
    """
    with client() as service:
        made = service.create_key(name, scope, expires_in_days)
    say(made["key"])
    result(made)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="Id of the key, as `bespoke keys list` shows it.")],
) -> None:
    """Make a key invalid at once."""
    with client() as service:
        service.revoke_key(key_id)
    say(f"{key_id} is revoked")
    result({"id": key_id, "revoked": True})
