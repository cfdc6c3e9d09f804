"""Every table format, by name. `over_http` ones may come from anybody; the others are for the command line only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from latency_tables.errors import InvalidTable
from latency_tables.formats import csv_rows, native_json, once_for_all, proxylessnas
from latency_tables.measurement import Context
from latency_tables.table import LatencyTable


@dataclass(frozen=True)
class Format:
    """How a latency table is read and written.

    read: bytes and the device's context (None: the file's own) -> table; raises InvalidTable, ContextMismatch.
    write: byte-stable; None where the form is only read.
    """

    name: str
    description: str
    media_type: str | None
    over_http: bool
    read: Callable[[bytes, Context | None], LatencyTable]
    write: Callable[[LatencyTable], bytes] | None


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("json", "context and rows (API.md)", "application/json", True, native_json.read, native_json.write),
        Format("once-for-all", "YAML or JSON, `expand` = mid channels; read only", None, False, once_for_all.read, None),
        Format("proxylessnas", "YAML or JSON, `expand` = ratio; read only", None, False, proxylessnas.read, None),
        Format("csv", "one row an operator; the context is the device's", "text/csv", True, csv_rows.read, csv_rows.write),
    )
}


def format_named(name: str) -> Format:
    """The format of that name. Raises InvalidTable that lists the known ones."""
    try:
        return FORMATS[name]
    except KeyError:
        raise InvalidTable(f"unknown table format; known are {', '.join(sorted(FORMATS))}") from None
