"""Every table format, by name. `over_http` ones may come from anybody; the others are for the command line
only."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from latency_tables.errors import InvalidTable
from latency_tables.formats import csv_rows, native_json, once_for_all, proxylessnas
from latency_tables.measurement import Context
from latency_tables.table import LatencyTable


class Reader(Protocol):
    """Bytes and the device's context (None: the file's own) -> table. Raises InvalidTable, ContextMismatch.

    unit: what the latencies are given in, where the form does not say. notes: what was read otherwise than it
    is written by us is added to it, in words.
    """

    def __call__(
        self, data: bytes, context: Context | None, unit: str = ..., notes: list[str] | None = ...
    ) -> LatencyTable: ...


@dataclass(frozen=True)
class Format:
    """How a latency table is read and written.

    write: byte-stable; None where the form is only read.
    """

    name: str
    description: str
    media_type: str | None
    over_http: bool
    read: Reader
    write: Callable[[LatencyTable], bytes] | None


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format(
            "json",
            "context and rows (docs/api.md)",
            "application/json",
            True,
            native_json.read,
            native_json.write,
        ),
        Format(
            "once-for-all",
            "YAML or JSON, `expand` = mid channels; read only",
            None,
            False,
            once_for_all.read,
            None,
        ),
        Format(
            "proxylessnas", "YAML or JSON, `expand` = ratio; read only", None, False, proxylessnas.read, None
        ),
        Format(
            "csv",
            "one row an operator; the context is the device's",
            "text/csv",
            True,
            csv_rows.read,
            csv_rows.write,
        ),
    )
}


def format_named(name: str) -> Format:
    """The format of that name. Raises InvalidTable that lists the known ones."""
    try:
        return FORMATS[name]
    except KeyError:
        raise InvalidTable(f"unknown table format; known are {', '.join(sorted(FORMATS))}") from None


_HEAD_BYTES: Final = 1 << 16
_BLOCK: Final = re.compile(rb"expanded_conv-input:[\w:-]*")
_OTHER_KEY: Final = re.compile(rb"(AvgPool2D|Conv|Conv_1|Conv_2|Logits)-input:\d")


def recognised(data: bytes) -> Format | None:
    """The form that the bytes are in, by what is in them; None where it is none of ours. Reads only the
    beginning."""
    head = data[:_HEAD_BYTES]
    block = _BLOCK.search(head)
    if block is not None:
        return FORMATS["once-for-all" if b"-se:" in block[0] or b"-hs:" in block[0] else "proxylessnas"]
    if _OTHER_KEY.search(head):
        return FORMATS["once-for-all"]
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return FORMATS["json"]
    text = head.replace(b"\x00", b"").lower()
    return FORMATS["csv"] if b"operator" in text and b"median" in text else None
