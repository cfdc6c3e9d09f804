"""From the bytes of a CSV file to lines of cells, as spreadsheets, editors, pandas and R write them.

Taken: UTF-8 with or without a byte order mark, UTF-16, Latin-1; cells separated by comma, semicolon, tab or
bar; decimal commas where the separator is another; comment lines, empty lines, blanks around cells, empty
cells at the end of a line.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from latency_tables.errors import InvalidTable

SEPARATORS: Final = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
COMMENT: Final = "#"
_UTF16: Final = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_MOST_COMMENTS: Final = 10_000


@dataclass(frozen=True)
class Sheet:
    """A file as lines of cells. notes: what was read otherwise than in a plain CSV; separator: between its
    cells."""

    text: str
    separator: str
    notes: tuple[str, ...]

    def lines(self) -> Iterator[tuple[int, list[str]]]:
        """(line from 1 on, cells without blanks around them) of every line that holds something. Raises
        InvalidTable."""
        reader = csv.reader(io.StringIO(self.text, newline=""), delimiter=self.separator, strict=True)
        try:
            for cells in reader:
                stripped = [cell.strip() for cell in cells]
                if any(stripped) and not stripped[0].startswith(COMMENT):
                    yield reader.line_num, stripped
        except csv.Error:
            raise InvalidTable(
                "the text is not CSV: a quotation mark is open, or a cell is too long"
            ) from None


def open_sheet(data: bytes | str, column: str) -> Sheet:
    """Find out how a file is written; `column` is the name that its first line must hold. Raises
    InvalidTable."""
    text, encoding = (data, "UTF-8") if isinstance(data, str) else _decoded(data)
    text = text.lstrip("\ufeff")
    notes = [] if encoding == "UTF-8" else [f"read as {encoding}"]
    first = _first_line(text)
    if first.lower().startswith("sep="):  # Excel's own hint, which is no line of the table
        text = text[text.lower().index("sep=") + len(first) :]
        first = _first_line(text)
    separator = max(SEPARATORS, key=lambda mark: (column in _names(first, mark), first.count(mark)))
    if separator != ",":
        notes.append(f"cells are separated by {SEPARATORS[separator]}")
    return Sheet(text, separator, tuple(notes))


def _decoded(data: bytes) -> tuple[str, str]:
    """(text, name of its encoding). Everything a table needs is ASCII, so any other text is in comments and
    names."""
    codec = _UTF16.get(data[:2])
    if codec is None and data[:400].count(0) > len(data[:400]) / 3:
        codec = "utf-16-le" if data[1:2] == b"\x00" else "utf-16-be"
    if codec is not None:
        try:
            return data.decode(codec), "UTF-16"
        except UnicodeDecodeError:
            raise InvalidTable("the text looks like UTF-16 and is damaged; save it as UTF-8") from None
    try:
        return data.decode("utf-8-sig"), "UTF-8"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "Latin-1, for it is not UTF-8"


def _first_line(text: str) -> str:
    """The first line that holds something and is no comment."""
    for number, line in enumerate(io.StringIO(text, newline=None)):
        stripped = line.strip().lstrip("\ufeff")
        if stripped and not stripped.startswith(COMMENT):
            return stripped
        if number > _MOST_COMMENTS:
            break
    return ""


def _names(line: str, separator: str) -> list[str]:
    return [cell.strip().strip('"').strip().lower() for cell in line.split(separator)]
