"""The CSV form of a latency table: `operator,median_ms,lower_quartile_ms,mad_ms,count`, the first two
required.

Tables of our own agent have the columns `undisturbed_ms,p90_ms,p95_ms,uncertainty` besides. Written is this
form alone. Read is what people's tools make of it (see `csv_text`): columns in any order, others among them
(ignored, and named), a unit in the name (`median_us`), `90.0` as a count.

The context is not in the file. Written cells are canonical operator texts and numbers, so a spreadsheet never
meets a cell that begins with `=`, `+`, `-` or `@`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from latency_tables.errors import InvalidTable
from latency_tables.formats.csv_text import SEPARATORS, Sheet, open_sheet
from latency_tables.formats.native_json import MAX_ROWS, OPTIONAL, REQUIRED, RowCollector
from latency_tables.measurement import LATER_FIELDS, Context, Measurement
from latency_tables.operators import Operator
from latency_tables.table import LatencyTable
from latency_tables.units import MS, UNITS_MS

HEADER: Final = REQUIRED + OPTIONAL
_OPERATOR: Final = HEADER[0]
_NUMBER: Final = re.compile(r"\+?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,4})?", re.ASCII)
_MEANS: Final = (
    "mean",
    "mean_ms",
    "avg",
    "avg_ms",
    "average",
    "average_ms",
    "latency",
    "latency_ms",
    "time",
    "time_ms",
)
_NAMED: Final = 5


@dataclass(frozen=True)
class _Header:
    """columns: place in a line -> name of ours. ignored: names of the other columns. unit: of the
    latencies."""

    columns: dict[int, str]
    ignored: tuple[str, ...]
    unit: str
    width: int


def read(
    data: bytes | str, context: Context | None, unit: str = MS, notes: list[str] | None = None
) -> LatencyTable:
    """Read a table. Raises InvalidTable with row numbers: the first row below the header is 1.

    unit: what the latencies are given in, where the names of the columns do not say. notes: what was read
    otherwise than it is written by us is added to it.
    """
    if context is None:
        raise InvalidTable("a CSV table does not hold its context; say which device it belongs to")
    sheet = open_sheet(data, _OPERATOR)
    lines = sheet.lines()
    line, cells = next(lines, (0, []))
    header = _header(cells, sheet, unit)
    collector = RowCollector(place="row {row} (line {line})", header_line=line, unit=header.unit)
    commas = False
    for number, row in _numbered(lines, line):
        named = _named(row, header)
        if isinstance(named, str):
            collector.wrong(number, named)
            continue
        commas |= _with_points(named, sheet.separator)
        bad = _bad_cell(named)
        if bad:
            collector.wrong(number, bad)
        else:
            collector.add(number, {_OPERATOR: named[_OPERATOR], **_numbers(named)})
    if notes is not None:
        notes += _notes(sheet, header, unit, commas)
    return LatencyTable(context, collector.finish())


def _header(cells: Sequence[str], sheet: Sheet, unit: str) -> _Header:
    names = [cell.lower() for cell in cells]
    units = {name: u for name in HEADER if name.endswith("_ms") for u in UNITS_MS if name[:-2] + u in names}
    spelt = {(name[:-2] + units[name] if name in units else name): name for name in HEADER}
    columns = {place: spelt[name] for place, name in enumerate(names) if name in spelt}
    ours = list(columns.values())
    if len(set(ours)) != len(ours):
        raise InvalidTable("the first line must name each column once; one is there twice")
    if not set(REQUIRED) <= set(ours):
        raise InvalidTable(_without(ours, names, sheet))
    found = set(units.values())
    if len(found) > 1 or (unit != MS and found - {unit, MS}):
        raise InvalidTable(
            "the first line names columns of different units, or of another unit than was said; use one"
        )
    ignored = tuple(cells[place] for place in range(len(cells)) if place not in columns)
    return _Header(columns, ignored, unit if found <= {MS} else found.pop(), len(cells))


def _without(ours: Sequence[str], names: Sequence[str], sheet: Sheet) -> str:
    """What a first line lacks, and what it has as far as that can be said without repeating the file."""
    lacking = " and ".join(f"`{name}`" for name in REQUIRED if name not in ours)
    has = (
        f"{len(names)} columns separated by {SEPARATORS[sheet.separator]}" if len(names) > 1 else "one column"
    )
    means = next((name for name in _MEANS if name in names), None)
    hint = (
        ""
        if means is None
        else f", `{means}` among them: medians are wanted, so name the column `median_ms` if it holds them"
    )
    return (
        f"the first line must be {','.join(HEADER[:5])}; the first two are required. It lacks {lacking} "
        f"and has {has}{hint}"
    )


def _numbered(lines: Iterator[tuple[int, list[str]]], header_line: int) -> Iterator[tuple[int, list[str]]]:
    for count, (line, cells) in enumerate(lines, 1):
        if count > MAX_ROWS:
            raise InvalidTable(f"a table has at most {MAX_ROWS} rows")
        yield line - header_line, cells


def _named(cells: list[str], header: _Header) -> dict[str, str] | str:
    """Cells by our names, or what is wrong with the line. Empty cells at its end may be there or not."""
    if any(cells[header.width :]):
        return (
            f"{header.width} cells are wanted, as in the header, not {len(cells)}; write decimals with "
            "a point"
        )
    named = {name: cells[place] if place < len(cells) else "" for place, name in header.columns.items()}
    if any(place >= len(cells) for place, name in header.columns.items() if name in REQUIRED):
        return f"{header.width} cells are wanted, as in the header"
    return named


def _with_points(row: dict[str, str], separator: str) -> bool:
    """Write decimal commas as points, in place, where cells are separated by something else; whether there
    were any."""
    found = False
    for name, cell in row.items():
        if separator != "," and name != _OPERATOR and cell.count(",") == 1 and "." not in cell:
            row[name], found = cell.replace(",", "."), True
    return found


def _bad_cell(row: dict[str, str]) -> str | None:
    """What is wrong with a number cell, or None."""
    for name, cell in row.items():
        if name == _OPERATOR or (cell == "" and name in OPTIONAL):
            continue
        good = _NUMBER.fullmatch(cell) is not None
        if name == "count" and not (good and float(cell).is_integer()):
            return "count must be a whole number, such as 12"
        if not good:
            hint = "; write decimals with a point" if "," in cell else ""
            return f"{name} must be a number, such as 12 or 0.0213{hint}"
    return None


def _numbers(row: dict[str, str]) -> dict[str, float | int | None]:
    found: dict[str, float | int | None] = {}
    for name, cell in row.items():
        if name != _OPERATOR:
            found[name] = None if cell == "" else int(float(cell)) if name == "count" else float(cell)
    return found


def _notes(sheet: Sheet, header: _Header, unit: str, commas: bool) -> list[str]:
    notes = [*sheet.notes, *(["decimal commas are read as points"] if commas else [])]
    if header.unit != unit:
        notes.append(f"latencies are read as {header.unit}, as the first line says")
    if header.ignored:
        shown = [_shown(name) for name in header.ignored[:_NAMED]]
        more = "" if len(header.ignored) <= _NAMED else f" and {len(header.ignored) - _NAMED} more"
        notes.append(f"columns that no table has are ignored: {', '.join(shown)}{more}")
    return notes


def _shown(name: str) -> str:
    return "one without a name" if not name else "".join(c if c.isprintable() else "?" for c in name[:40])


def write(table: LatencyTable) -> bytes:
    """The table as CSV; equal tables give equal bytes, and `read` gives the table back.

    Every column, those that came later only where some row has them: so old tables keep their bytes.
    """
    used = [name for name in LATER_FIELDS if any(getattr(m, name) is not None for m in table.rows.values())]
    names = [name for name in HEADER if name not in LATER_FIELDS or name in used]
    lines = [",".join(names)]
    lines += [_line(op, m, names[1:]) for op, m in table.rows.items()]
    return ("\n".join(lines) + "\n").encode("ascii")


def _line(operator: Operator, m: Measurement, names: Sequence[str]) -> str:
    return ",".join([operator.text, *(_cell(name, getattr(m, name)) for name in names)])


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if name == "count" else repr(float(value))
