"""`bespoke doctor`: whether rows, files and states of a service on this machine agree."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from latency_tables.errors import BespokeError
from service.cli.connection import current
from service.cli.screen import as_json, grid, say


class NotWell(BespokeError):
    """The examination found errors."""


def doctor(
    quick: Annotated[
        bool, typer.Option("--quick", help="Do not read every file; compare sizes only.")
    ] = False,
    sweep_hours: Annotated[
        float | None, typer.Option(min=1, help="Also remove unreferenced files older than this many hours.")
    ] = None,
    json_out: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Compare rows with files, hashes, states, events and the queue, in the database and folder of this
    machine.

    It only reads, and may run beside a working service. Errors must never be there; orphans are what a crash
    may leave and a sweep removes; warnings heal by themselves. Exit status 1 if there is an error.

    Examples:

    [cyan]bespoke doctor[/]

    [cyan]bespoke --data-dir /srv/bespoke doctor --sweep-hours 48[/]
    """
    from service.local.doctor import ERROR, sweep
    from service.local.doctor import doctor as examine
    from service.settings import read_settings

    settings = read_settings(current().data_dir)
    if not settings.database_url and not (settings.data_dir / "bespoke.db").is_file():
        raise NotWell(
            f"there is no service's data in {settings.data_dir}; name its folder: `bespoke --data-dir FOLDER "
            "doctor`"
        )
    found = examine(settings, deep=not quick)
    removed = sweep(settings, older_than_s=3600 * sweep_hours) if sweep_hours is not None else []
    if json_out:
        as_json([vars(f) for f in found])
    else:
        rows = [(f.severity, f.code, escape(f.subject), escape(f.detail)) for f in found]
        grid("", ("severity", "check", "what", "finding"), rows, f"All is well in {settings.data_dir}.")
        for name in removed:
            say(f"removed {name}")
    wrong = sum(f.severity == ERROR for f in found)
    if wrong:
        raise NotWell(
            f"{wrong} error(s) were found; stop the service, keep a copy of the folder, and restore what is "
            "named from a backup"
        )
