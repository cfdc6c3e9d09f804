"""`bespoke serve`: the API and a supervised worker with one command."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from service.cli.connection import current
from service.cli.screen import errors
from service.cli.supervisor import Stack


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
        errors.print(f"  pages     {stack.url}/ui/ (`bespoke open` logs your browser in)")
        errors.print(f"  calls     {stack.url}/docs")
        if logs is not None:
            errors.print(f"  logs      {logs}")
        errors.print(
            "  next      in another terminal: `bespoke profile`, then `bespoke search --device this-machine "
            "--budget-ms 1`"
        )
        while not asked.wait(0.5):
            stack.tend()
        errors.print("stopping: jobs that run are handed back")
