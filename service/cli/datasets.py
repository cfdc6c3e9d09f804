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


@app.command()
def vocabulary(
    folder: Annotated[Path, typer.Argument(help="Folder with parallel text.")],
    source: Annotated[str, typer.Option(help="Ending of the files that are read, such as en.")],
    target: Annotated[str, typer.Option(help="Ending of the files that are written, such as it.")],
    size: Annotated[int, typer.Option(help="Tokens of each vocabulary, symbols among them.")] = 2000,
    joined: Annotated[
        bool, typer.Option("--joined/--separate", help="One vocabulary for both sides, or two.")
    ] = False,
    longest: Annotated[int, typer.Option(help="Most tokens of a sentence; longer pairs are left out.")] = 100,
) -> None:
    """Learn parts of words from a folder's training texts, and write vocabularies and text.json into it.

    The folder holds two aligned files (text.en and text.it: line n of one translates line n of the other), or
    one .tsv or .jsonl file; or such files named train, validation and test.

    Examples:

    [cyan]bespoke datasets vocabulary texts --source en --target it[/]

    [cyan]bespoke datasets vocabulary texts --source en --target de --size 8000 --joined[/]
    """
    from supernets.data.text.folder import TextSettings, learn_vocabularies
    from supernets.data.text.pairs import Languages

    settings = TextSettings(Languages(source, target), longest)
    found = learn_vocabularies(folder.resolve().name, folder, settings, size, joined=joined)
    for parts in dict.fromkeys(found):
        say(f"{escape(str(folder / parts.name))}: {len(parts.tokens)} tokens")
    say(f"next: bespoke datasets check {escape(str(folder))}")


def _show(report: Report) -> None:
    if report.splits:
        splits = ", ".join(f"{count} {split}" for split, count in report.splits.items())
        kinds = "target tokens" if report.lengths else "classes"
        say(f"[bold]{escape(report.form or '')}[/], {len(report.classes)} {kinds}: {splits}")
        rows = [
            (escape(title), *(report.per_class[split][title] for split in report.splits))
            for title in report.classes
            if report.per_class
        ]
        if rows:
            grid("", ("class", *(f">{split}" for split in report.splits)), rows)
    if report.groups:
        say(f"  groups  {report.groups}: all pictures of one lie in one split")
    for side, (low, middle, high) in report.sizes.items():
        say(f"  {side:<7} {low} to {high} pixels, median {middle}")
    for side, (least, half, usual, most) in report.lengths.items():
        unknown = f"{report.unknown[side]:.2%} unknown"
        say(f"  {side:<7} {least:g} to {most:g} tokens, median {half:g}, 95 % up to {usual:g}, {unknown}")
    if report.ratio:
        least, half, _, most = report.ratio
        say(f"  ratio   {least:g} to {most:g} target tokens a source token, median {half:g}")
    if report.modes:
        say("  modes   " + ", ".join(f"{count} {mode}" for mode, count in report.modes.items()))
    for warning in report.warnings:
        say(f"  [yellow]warning[/] {escape(warning)}")
