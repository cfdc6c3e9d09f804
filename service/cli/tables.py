"""`bespoke tables`: latency tables in and out, and from other projects' forms."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape

from latency_tables.errors import InvalidTable
from latency_tables.formats import csv_rows, hat_csv
from latency_tables.formats.catalog import FORMATS
from latency_tables.formats.native_json import context_from, loads
from latency_tables.measurement import Context
from service.cli.connection import client
from service.cli.screen import age, as_json, errors, grid, result, say
from service.cli.table_files import read_tables, table_files, unpacked
from service.client import BespokeClient
from service.client.jobs import Json

app = typer.Typer(no_args_is_help=True, help="Import, choose, export and convert latency tables.")

_HAT: Final = hat_csv.FORM  # whole transformers, so probes and no table
_MEDIA: Final = {".json": "application/json", ".csv": "text/csv"}

Device = Annotated[str, typer.Argument(help="Name of a registered device.")]
Files = Annotated[
    list[Path],
    typer.Argument(
        help="Tables: files, packed with gzip or not, or a folder of them.", exists=True, readable=True
    ),
]
Form = Annotated[
    str | None,
    typer.Option("--format", help=f"One of {', '.join([*FORMATS, _HAT])}; left out: by what is in the file."),
]


class LatencyUnit(StrEnum):
    """What the latencies of a file may be given in."""

    ms = "ms"
    us = "us"
    ns = "ns"
    s = "s"


Unit = Annotated[
    LatencyUnit,
    typer.Option(
        "--unit", help="What the latencies are given in, where the names of the columns do not say."
    ),
]
Version = Annotated[str, typer.Argument(help="Number or id of a version; `bespoke tables list` shows them.")]


@app.command("import")
def import_table(
    device: Device,
    files: Files,
    add: Annotated[bool, typer.Option("--add", help="Add the rows to those of the table in use.")] = False,
    unit: Unit = LatencyUnit.ms,
    form: Form = None,
) -> None:
    """Register a latency profile: the whole table or nothing. Wrong rows are named by their numbers.

    What was imported last is in use, the same file again too. A CSV has the columns operator and median_ms,
    and may have lower_quartile_ms, mad_ms, count and others; it takes the device's context. A JSON table
    carries its context, which must be the device's. Tables of once-for-all and ProxylessNAS are recognised;
    several files, or a folder, make one table.

    Examples:

    [cyan]bespoke tables import pixel7 pixel7.csv[/]

    [cyan]bespoke tables import jetson latency_tables_of_jetson/ --add[/]
    """
    found = table_files(files, form)
    with client() as service:
        if len(found) == 1 and found[0].taken_by_service:
            media, data = str(found[0].form.media_type), found[0].data
        else:
            context = context_from(service.device(device)["context"])
            media, data = "text/csv", csv_rows.write(read_tables(found, context, unit, _tell))
            unit = LatencyUnit.ms
        made = service.upload_table(device, data, media, add, unit)
    result(made)
    say(f"{escape(device)}: table {made['id']} with {made['rows']:,} rows, {made['state'].replace('_', ' ')}")
    if made["replaced"]:
        say(f"  {made['replaced']:,} rows of the table in use have other values now")
    say(f"  {escape(made['explanation'])}")
    for covered in made.get("coverage") or []:
        say(f"  {coverage_text(covered)}")
    for warning in made.get("warnings") or []:
        _tell(str(warning))


def _tell(warning: str) -> None:
    errors.print(f"[yellow]warning[/]: {escape(warning)}")


@app.command("list")
def list_tables(
    device: Device, json_out: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """List the versions of a device's table: which is in use, who imported and who accepted it.

    Example: [cyan]bespoke tables list pixel7[/]
    """
    with client() as service:
        tables = service.tables(device)
    if json_out:
        as_json(tables)
        return
    rows = [(t["version"], f"{t['rows']:,}", t["source"], _state(t), _who(t), t["id"]) for t in tables]
    columns = (">version", ">rows", "source", "state", "who and when", "table")
    grid("", columns, rows, f"{device} has no table yet; measure one, or `bespoke tables import`")
    for table in tables:
        for reason in table["reasons"][:3]:
            say(f"  version {table['version']}: {reason['severity']}: {escape(reason['message'])}")


@app.command("use")
def use_table(device: Device, version: Version) -> None:
    """Put a version of a device's table in use, an older one too. Fronts and searches rest on it from now on.

    Example: [cyan]bespoke tables use pixel7 1[/]
    """
    with client() as service:
        used = service.use_table(device, version_id(service, device, version))
    say(f"{escape(device)}: version {used['version']} is in use")
    result(used)


@app.command("accept")
def accept_table(
    device: Device,
    version: Version,
    note: Annotated[
        str, typer.Option(help="Why it is true: kept with the table and shown on model cards.")
    ] = "",
) -> None:
    """Say that a table which needs a review is true as it stands. It is put in use; who said so, and when, is
    kept.

    Example: [cyan]bespoke tables accept npu 1 --note "squeeze-excite runs on its CPU"[/]
    """
    with client() as service:
        accepted = service.accept_table(device, version_id(service, device, version), note)
    say(
        f"{escape(device)}: version {accepted['version']} is accepted by "
        f"{escape(str(accepted['accepted_by']))} and in use"
    )


@app.command("delete")
def delete_table(
    device: Device, version: Version, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False
) -> None:
    """Delete a version of a device's table. Refused while a delivered network or a job rests on it.

    Example: [cyan]bespoke tables delete pixel7 2[/]
    """
    with client() as service:
        table_id = version_id(service, device, version)
        if not yes:
            typer.confirm(f"Delete version {version} of the table of {device}?", abort=True)
        service.delete_table(device, table_id)
        used = next((t for t in service.tables(device) if t["in_use"]), None)
    now = "no version is in use" if used is None else f"version {used['version']} is in use"
    say(f"{escape(device)}: version {escape(version)} is deleted; {now}")


def version_id(service: BespokeClient, device: str, version: str) -> str:
    """Id of a version, given by its number or its id. Raises InvalidTable that lists the versions there
    are."""
    tables = service.tables(device)
    for table in tables:
        if version in (str(table["version"]), table["id"]):
            return str(table["id"])
    there = ", ".join(str(t["version"]) for t in reversed(tables)) or "none"
    raise InvalidTable(f"{device} has no version {version} of its table; there are: {there}")


def _state(table: Json) -> str:
    state = str(table["state"]).replace("_", " ")
    shown = "accepted" if table["accepted_at"] else state if state == "ready" else f"[yellow]{state}[/]"
    return f"{shown}, in use" if table["in_use"] else shown


def _who(table: Json) -> str:
    """Who imported a version and when, and who accepted it."""
    parts = [f"{table['created_by'] or table['source']}, {age(table['created_at'])}"]
    if table["accepted_at"]:
        note = f" ({table['accepted_note']})" if table["accepted_note"] else ""
        parts.append(f"accepted by {table['accepted_by']} {age(table['accepted_at'])}{note}")
    elif table["in_use"] and table["used_at"] != table["created_at"] and table["used_by"]:
        parts.append(f"put in use by {table['used_by']} {age(table['used_at'])}")
    return escape("; ".join(parts))


@app.command("export")
def export_table(
    device: Device,
    output: Annotated[Path, typer.Option("-o", "--output", help="A .json or .csv file to write.")],
    table: Annotated[
        str | None, typer.Option(help="Number or id of the version; left out: the one in use.")
    ] = None,
) -> None:
    """Write a table to a file that `tables import` reads back. The same table gives the same bytes.

    Example: [cyan]bespoke tables export this-machine -o this-machine.csv[/]
    """
    media = media_type(output)
    with client() as service:
        table_id = version_id(service, device, table) if table else table_in_use(service.device(device))
        data = service.table(device, table_id, media)
    output.write_bytes(data)
    say(f"{output}  {len(data):,} bytes  table {table_id}")
    result({"device": device, "table": table_id, "file": str(output), "size_bytes": len(data)})


@app.command()
def convert(
    files: Files,
    output: Annotated[Path, typer.Option("-o", "--output", help="A .json or .csv file to write.")],
    form: Form = None,
    device: Annotated[str | None, typer.Option(help="Take the context of this registered device.")] = None,
    context: Annotated[
        Path | None,
        typer.Option(
            help="JSON file of the context the latencies were measured in.", exists=True, dir_okay=False
        ),
    ] = None,
    unit: Unit = LatencyUnit.ms,
) -> None:
    """Turn tables of other projects into one that `tables import` reads. Works without a service.

    Several files, or a folder with a file for each resolution, make one table. A form that does not say in
    which context it was measured needs --device or --context.

    Examples:

    [cyan]bespoke tables convert note10_lookup_table.yaml --device note10 -o note10.csv[/]

    [cyan]bespoke tables convert latency_table@jetson/ --device jetson -o jetson.csv[/]
    """
    if form == _HAT:
        _convert_probes(files, output)
        return
    write = FORMATS[output.suffix.lower().lstrip(".")].write if media_type(output) else None
    table = read_tables(table_files(files, form), _context(device, context), unit, _tell)
    if write is None:
        raise InvalidTable(f"{output.name}: this form is only read; write a .json or a .csv file")
    output.write_bytes(write(table))
    say(f"{output}  {len(table.rows):,} rows" + (f" from {len(files)} files" if len(files) > 1 else ""))


def _convert_probes(files: list[Path], output: Path) -> None:
    """HAT's whole transformers, checked and written again."""
    if len(files) != 1 or files[0].is_dir():
        raise InvalidTable("--format hat takes one file")
    probes = hat_csv.read(unpacked(files[0]))
    output.write_bytes(hat_csv.write(probes))
    say(f"{output}  {len(probes):,} measured transformers, checked; they are probes, not rows of a table")


def _context(device: str | None, file: Path | None) -> Context | None:
    if file is not None:
        return context_from(loads(file.read_bytes()))
    if device is not None:
        with client() as service:
            return context_from(service.device(device)["context"])
    return None


def media_type(file: Path) -> str:
    """Raises InvalidTable for a file that is neither .json nor .csv."""
    try:
        return _MEDIA[file.suffix.lower()]
    except KeyError:
        raise InvalidTable(
            f"{file.name}: a table is a .json or a .csv file; tables of other projects are read by `bespoke "
            "tables convert`"
        ) from None


def table_in_use(device: Json) -> str:
    """Id of the table that the device uses. Raises InvalidTable where it has none."""
    if device.get("table_id"):
        return str(device["table_id"])
    if device.get("tables"):
        raise InvalidTable(
            f"no table of {device.get('name')} is in use: see `bespoke tables list {device.get('name')}`"
        )
    raise InvalidTable(
        f"{device.get('name')} has no table yet; measure one (`bespoke profile`, `bespoke devices enrol`)"
    )


def coverage_text(covered: Json) -> str:
    """One line about how much of a space a table holds."""
    have, all_of = covered.get("resolutions") or [], covered.get("of") or []
    sizes = (
        "every resolution"
        if have == all_of
        else f"{len(have)} of {len(all_of)} resolutions ({', '.join(map(str, have)) or 'none'})"
    )
    return escape(f"{covered['space']} with {covered['classes']} classes: {sizes}")
