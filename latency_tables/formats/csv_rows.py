"""The CSV form of a latency table: `operator,median_ms,lower_quartile_ms,mad_ms,count`, the first two required.

Tables of our own agent have the columns `undisturbed_ms,p90_ms,p95_ms,uncertainty` besides.

The context is not in the file. Written cells are canonical operator texts and numbers, so a spreadsheet never meets a
cell that begins with `=`, `+`, `-` or `@`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Final

from latency_tables.errors import InvalidTable
from latency_tables.formats.native_json import MAX_ROWS, OPTIONAL, REQUIRED, RowCollector
from latency_tables.measurement import LATER_FIELDS, Context, Measurement
from latency_tables.operators import Operator
from latency_tables.table import LatencyTable

HEADER: Final = REQUIRED + OPTIONAL
_NUMBER: Final = re.compile(r"[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?", re.ASCII)
_WHOLE: Final = re.compile(r"[0-9]{1,12}", re.ASCII)


def read(data: bytes | str, context: Context | None) -> LatencyTable:
    """Read a table. Raises InvalidTable with row numbers: the first row below the header is 1, on line 2 of the file."""
    if context is None:
        raise InvalidTable("a CSV table does not hold its context; say which device it belongs to")
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
    except UnicodeDecodeError:
        raise InvalidTable("the text is not UTF-8") from None
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    collector = RowCollector(place="row {row} (line {line})")
    try:
        header = _header(next(lines, []))
        for number, cells in _numbered(lines):
            if len(cells) != len(header):
                collector.wrong(number, f"{len(header)} cells are wanted, as in the header")
                continue
            row = dict(zip(header, cells, strict=True))
            bad = _bad_cell(row)
            if bad:
                collector.wrong(number, bad)
            else:
                collector.add(number, {"operator": row["operator"], **_numbers(row)})
    except csv.Error:
        raise InvalidTable("the text is not CSV: a quotation mark is open, or a cell is too long") from None
    return LatencyTable(context, collector.finish())


def _header(cells: Sequence[str]) -> Sequence[str]:
    if len(set(cells)) != len(cells) or not set(HEADER) >= set(cells) >= set(REQUIRED):
        raise InvalidTable(f"the first line must be {','.join(HEADER)}; the first two are required")
    return cells


def _numbered(lines: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    for number, cells in enumerate(lines, 1):
        if number > MAX_ROWS:
            raise InvalidTable(f"a table has at most {MAX_ROWS} rows")
        yield number, cells


def _bad_cell(row: dict[str, str]) -> str | None:
    """What is wrong with a number cell, or None."""
    for name, cell in row.items():
        if name == "operator" or (cell == "" and name in OPTIONAL):
            continue
        form = _WHOLE if name == "count" else _NUMBER
        if form.fullmatch(cell) is None:
            return f"{name} must be a {'whole ' if name == 'count' else ''}number, such as 12 or 0.0213"
    return None


def _numbers(row: dict[str, str]) -> dict[str, float | int | None]:
    found: dict[str, float | int | None] = {}
    for name, cell in row.items():
        if name != "operator":
            found[name] = None if cell == "" else int(cell) if name == "count" else float(cell)
    return found


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
