"""`bespoke tables`: latency tables in and out, and from other projects' forms."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markup import escape

from latency_tables.errors import InvalidTable
from latency_tables.formats import hat_csv
from latency_tables.formats.catalog import FORMATS, format_named
from latency_tables.formats.native_json import context_from, loads
from latency_tables.measurement import Context
from service.cli.connection import client
from service.cli.screen import errors, say

app = typer.Typer(no_args_is_help=True, help="Import, export and convert latency tables.")

_HAT: Final = "hat"  # whole transformers, so probes and no table
_MEDIA: Final = {".json": "application/json", ".csv": "text/csv"}

Device = Annotated[str, typer.Argument(help="Name of a registered device.")]


@app.command("import")
def import_table(
    device: Device,
    file: Annotated[Path, typer.Argument(help="A .json or .csv table.", exists=True, dir_okay=False, readable=True)],
) -> None:
    """Register a latency profile: the whole table or nothing. Wrong rows are named by their numbers.

    A CSV has the header operator,median_ms,lower_quartile_ms,mad_ms,count (the first two are required) and takes the
    device's context; a JSON table carries its context, which must be the device's.

    Example: [cyan]bespoke tables import pixel7 pixel7.csv[/]
    """
    media = media_type(file)
    with client() as service:
        made = service.upload_table(device, file.read_bytes(), media)
    say(f"{escape(device)}: table {made['id']} with {made['rows']:,} rows, {made['state'].replace('_', ' ')}")
    for covered in made.get("coverage") or []:
        say(f"  {coverage_text(covered)}")
    for warning in made.get("warnings") or []:
        errors.print(f"[yellow]warning[/]: {escape(str(warning))}")


@app.command("export")
def export_table(
    device: Device,
    output: Annotated[Path, typer.Option("-o", "--output", help="A .json or .csv file to write.")],
    table: Annotated[str | None, typer.Option(help="Id of the table; left out: the newest one.")] = None,
) -> None:
    """Write a table to a file that `tables import` reads back. The same table gives the same bytes.

    Example: [cyan]bespoke tables export this-machine -o this-machine.csv[/]
    """
    media = media_type(output)
    with client() as service:
        table_id = table or newest_table(service.device(device))
        data = service.table(device, table_id, media)
    output.write_bytes(data)
    say(f"{output}  {len(data):,} bytes  table {table_id}")


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="Table in another form.", exists=True, dir_okay=False, readable=True)],
    output: Annotated[Path, typer.Option("-o", "--output", help="A .json or .csv file to write.")],
    form: Annotated[
        str | None, typer.Option("--format", help=f"One of {', '.join([*FORMATS, _HAT])}; left out: by the file's ending.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Take the context of this registered device.")] = None,
    context: Annotated[
        Path | None, typer.Option(help="JSON file of the context the latencies were measured in.", exists=True, dir_okay=False)
    ] = None,
) -> None:
    """Turn a table of another project into one that `tables import` reads. Works without a service.

    A form that does not say in which context it was measured needs --device or --context.

    Examples:

    [cyan]bespoke tables convert note10_lookup_table.yaml --format once-for-all --device note10 -o note10.csv[/]

    [cyan]bespoke tables convert board.json -o board.csv[/]
    """
    if form == _HAT:
        probes = hat_csv.read(_bytes(file))
        output.write_bytes(hat_csv.write(probes))
        say(f"{output}  {len(probes):,} measured transformers, checked; they are probes, not rows of a table")
        return
    chosen = format_named(form or file.name.removesuffix(".gz").rpartition(".")[2].lower())
    write = FORMATS[output.suffix.lower().lstrip(".")].write if media_type(output) else None
    table = chosen.read(_bytes(file), _context(device, context))
    if write is None:
        raise InvalidTable(f"{output.name}: this form is only read; write a .json or a .csv file")
    output.write_bytes(write(table))
    say(f"{output}  {len(table.rows):,} rows")


def _bytes(file: Path) -> bytes:
    """Content of a file, unpacked where it ends in .gz."""
    if file.suffix != ".gz":
        return file.read_bytes()
    try:
        return gzip.decompress(file.read_bytes())
    except (OSError, EOFError, zlib.error):
        raise InvalidTable(f"{file.name} is not a gzip file, or a damaged one; unpack it, or fetch it again") from None


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
            f"{file.name}: a table is a .json or a .csv file; tables of other projects are read by `bespoke tables convert`"
        ) from None


def newest_table(device: dict[str, Any]) -> str:
    """Id of the table that the device uses. Raises InvalidTable where it has none."""
    tables = device.get("tables")
    if not tables:
        raise InvalidTable(f"{device.get('name')} has no table yet; measure one (`bespoke profile`, `bespoke devices enrol`)")
    newest = max(tables, key=lambda t: t["version"])
    return str(newest["id"])


def coverage_text(covered: dict[str, Any]) -> str:
    """One line about how much of a space a table holds."""
    have, all_of = covered.get("resolutions") or [], covered.get("of") or []
    sizes = (
        "every resolution"
        if have == all_of
        else f"{len(have)} of {len(all_of)} resolutions ({', '.join(map(str, have)) or 'none'})"
    )
    return escape(f"{covered['space']} with {covered['classes']} classes: {sizes}")
