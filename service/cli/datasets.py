"""`bespoke datasets`: what is registered, and what is in a folder before anything is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from service.cli.connection import client
from service.cli.screen import as_json, grid, say
from supernets.errors import InvalidDataset

if TYPE_CHECKING:
    from supernets.data.report import Report

app = typer.Typer(
    no_args_is_help=True, help="Look at data sets: those of the service, and a folder or file to be."
)


@app.command("list")
def list_datasets(
    json_out: Annotated[bool, typer.Option("--json", help="Print the data sets as JSON.")] = False,
) -> None:
    """Data sets that can be trained on, and what was under their names before.

    Examples:

    [cyan]bespoke datasets list[/]
    """
    with client() as service:
        found = service.datasets()
    if json_out:
        as_json(found)
        return
    rows = [
        (
            d["name"],
            "" if d["classes"] is None else d["classes"],
            "" if d["channels"] is None else d["channels"],
            (d.get("fingerprint") or "")[:12],
            len([v for v in d.get("versions", []) if not v["current"]]) or "",
            escape(d.get("fault") or d["description"]),
        )
        for d in found
    ]
    grid("", ("name", ">classes", ">channels", "fingerprint", ">earlier versions", "description"), rows)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="Folder or file, as BESPOKE_DATASETS would name it.")],
    json_out: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Look through a folder or file before it is registered: classes, splits, what is left out, what is odd,
    what is refused.

    Nothing is written and no service is needed. Exit status 1 if the set would be refused.

    Examples:

    [cyan]bespoke datasets check /data/parts[/]

    [cyan]bespoke datasets check mnist.npz --json[/]
    """
    from supernets.data.report import check_dataset

    report = check_dataset(path.resolve().name or "data", path)
    if json_out:
        as_json(report.to_json())
    else:
        _show(report)
    if report.refused is not None:
        if json_out:
            raise typer.Exit(1)
        raise InvalidDataset(report.refused)


def _show(report: Report) -> None:
    if report.splits:
        splits = ", ".join(f"{count} {split}" for split, count in report.splits.items())
        say(f"[bold]{escape(report.form or '')}[/], {len(report.classes)} classes: {splits}")
        rows = [
            (escape(title), *(report.per_class[split][title] for split in report.splits))
            for title in report.classes
        ]
        grid("", ("class", *(f">{split}" for split in report.splits)), rows)
    if report.groups:
        say(f"  groups  {report.groups}: all pictures of one lie in one split")
    for side, (low, middle, high) in report.sizes.items():
        say(f"  {side:<7} {low} to {high} pixels, median {middle}")
    if report.modes:
        say("  modes   " + ", ".join(f"{count} {mode}" for mode, count in report.modes.items()))
    for warning in report.warnings:
        say(f"  [yellow]warning[/] {escape(warning)}")
