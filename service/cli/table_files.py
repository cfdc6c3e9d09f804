"""Table files on disk: one, several or a folder, packed or not, in any form of the catalog, as one table."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from latency_tables.errors import InvalidTable
from latency_tables.formats.catalog import FORMATS, Format, format_named, recognised
from latency_tables.measurement import Context
from latency_tables.merging import merged
from latency_tables.table import LatencyTable

ENDINGS: Final = (".json", ".csv", ".tsv", ".yaml", ".yml")
PACKED: Final = ".gz"
MOST_BYTES: Final = 1 << 30


@dataclass(frozen=True)
class TableFile:
    """One file with its bytes, unpacked, and the form they are in."""

    path: Path
    data: bytes
    form: Format

    @property
    def taken_by_service(self) -> bool:
        """Whether the service reads it as it is; its messages then name the rows of this very file."""
        return self.form.over_http and self.form.media_type is not None


def table_files(paths: Sequence[Path], form: str | None = None) -> list[TableFile]:
    """The files at these paths; of a folder every file with the ending of a table, in order of their names.

    form: of the catalog; None: each by what is in it. Raises InvalidTable.
    """
    found = [file for path in paths for file in (_of_folder(path) if path.is_dir() else [path])]
    chosen = None if form is None else format_named(form)
    return [_opened(file, chosen) for file in found]


def _of_folder(folder: Path) -> list[Path]:
    files = sorted(
        f for f in folder.iterdir() if f.is_file() and not f.name.startswith(".") and _ending(f) in ENDINGS
    )
    if not files:
        raise InvalidTable(
            f"{folder} holds no table: wanted are files that end in {', '.join(ENDINGS)}, packed as .gz or "
            "not"
        )
    return files


def _ending(file: Path) -> str:
    return Path(file.name.lower().removesuffix(PACKED)).suffix


def _opened(file: Path, form: Format | None) -> TableFile:
    data = unpacked(file)
    found = form or recognised(data)
    if found is None:
        raise InvalidTable(
            f"{file.name} is in no form of a table that is recognised. A CSV begins with a line that holds "
            "`operator` and `median_ms`; `bespoke tables convert --format` names the form of others: "
            f"{', '.join(FORMATS)}"
        )
    return TableFile(file, data, found)


def unpacked(file: Path) -> bytes:
    """Content of a file, unpacked where it is packed with gzip. Raises InvalidTable."""
    data = file.read_bytes()
    if not data.startswith(b"\x1f\x8b") and file.suffix != PACKED:
        return data
    try:
        with gzip.open(io.BytesIO(data)) as packed:
            content: bytes = packed.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error):
        raise InvalidTable(
            f"{file.name} is not a gzip file, or a damaged one; unpack it, or fetch it again"
        ) from None
    if len(content) > MOST_BYTES:
        raise InvalidTable(f"{file.name} holds more than {MOST_BYTES} bytes when unpacked; a table has less")
    return content


def read_tables(
    files: Sequence[TableFile], context: Context | None, unit: str, tell: Callable[[str], None]
) -> LatencyTable:
    """All files as one table; `tell` hears what was read otherwise than written. Raises InvalidTable that
    names the file."""
    tables = []
    for file in files:
        notes: list[str] = []
        try:
            tables.append(file.form.read(file.data, context, unit, notes))
        except InvalidTable as error:
            raise InvalidTable(f"{file.path.name} ({file.form.name}): {error}", error.rows) from None
        for note in notes:
            tell(f"{file.path.name}: {note}")
    table, notes = merged(tables)
    for note in notes:
        tell(note)
    return table
