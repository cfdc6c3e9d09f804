"""`bespoke open`: the web UI in a browser, logged in, without a key being shown."""

from __future__ import annotations

import webbrowser
from typing import Annotated

import typer

from service.cli.connection import client
from service.cli.screen import as_json, errors, say
from service.client import BespokeClient


def open_page(
    only_print: Annotated[bool, typer.Option("--print", help="Print the address and open nothing.")] = False,
    json_out: Annotated[
        bool, typer.Option("--json", help="Print JSON, for programs; opens nothing.")
    ] = False,
) -> None:
    """Open the web UI in a browser, logged in with your key.

    The address works once, for a minute; the key is in none of it.

    Example: [cyan]bespoke open[/]
    """
    with client() as service:
        address = login_address(service)
    if json_out:
        as_json({"url": address})
    elif only_print or not webbrowser.open(address):
        say(address)
    else:
        errors.print("opened in your browser; if nothing came up: `bespoke open --print`")


def login_address(service: BespokeClient) -> str:
    """The UI's address with a token, which works once and for a minute. In the fragment, it reaches no
    log."""
    return f"{service.url}/ui/#login={service.login_token()}"
