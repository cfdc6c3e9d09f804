"""`bespoke serve`: the API and a supervised worker with one command."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from service.cli.connection import current
from service.cli.open import login_address
from service.cli.screen import as_line, errors
from service.cli.supervisor import Stack
from service.client import BespokeClient, ClientError, find_access


def serve(
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the database, files and owner key.", show_default="bespoke-data"),
    ] = None,
    host: Annotated[str, typer.Option(envvar="BESPOKE_HOST", help="Address to bind.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="BESPOKE_PORT", min=0, max=65535, help="Port to bind; 0 takes a free one.")
    ] = 8000,
    log_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the logs; left out: logs/ in the data folder on a terminal, else standard error."
        ),
    ] = None,
    json_out: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON once it runs, for programs.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=0, max=64, help="Worker processes on this machine; 0: only the API.")
    ] = 1,
) -> None:
    """Run the service on this machine: the API and a worker that is restarted when it dies.

    Stop it with Ctrl-C; jobs that run are handed back and go on at the next start.

    Examples:

    [cyan]bespoke serve[/]  everything in ./bespoke-data, at http://127.0.0.1:8000

    [cyan]bespoke serve --data-dir /srv/bespoke --port 9000 --workers 2[/]

    [cyan]BESPOKE_DATABASE_URL=postgresql://... bespoke serve --workers 0[/]  only the API; `python -m worker`
    elsewhere
    """
    folder = data_dir or current().data_dir
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    logs = log_dir or (folder / "logs" if errors.is_terminal else None)
    with Stack(
        folder, host, port, workers, logs, say=lambda text: errors.print(f"[yellow]{text}[/]")
    ) as stack:
        errors.print(f"bespoke is at [bold]{stack.url}[/]  (data in {folder}, process {os.getpid()})")
        errors.print(f"  key       {folder / 'owner.key'} (the command line reads it by itself)")
        # A link in a log file would be a login for whoever reads it within the minute.
        pages = one_time_link(stack.url, folder) if errors.is_terminal else f"{stack.url}/ui/"
        errors.print(
            f"  pages     {pages} (`bespoke open` logs your browser in; a link does once, within a minute)"
        )
        errors.print(f"  calls     {stack.url}/docs")
        if logs is not None:
            errors.print(f"  logs      {logs}")
        errors.print(
            "  next      in another terminal: `bespoke profile`, then `bespoke search --device this-machine "
            "--budget-ms 1`"
        )
        if json_out:
            as_line(
                {
                    "url": stack.url,
                    "pages": one_time_link(stack.url, folder),
                    "data_dir": str(folder),
                    "process": os.getpid(),
                }
            )
        while not asked.wait(0.5):
            stack.tend()
        errors.print("stopping: jobs that run are handed back")


def one_time_link(url: str, data_dir: Path) -> str:
    """The pages' address with a token that logs in once; without it where the service makes none (yet)."""
    try:
        with BespokeClient.from_access(find_access(url, data_dir=data_dir)) as service:
            return login_address(service)
    except ClientError:
        return f"{url}/ui/"
