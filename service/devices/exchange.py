"""A device as one file, out of one service and into another: all of it or nothing, checked like anything that
is posted.

The file holds no id, no tenant and no key. What it says of itself is not believed: rows are read and reviewed
again, and what an agent measured elsewhere comes in as registered (`upload`, `probe`), since this service did
not watch it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from latency_tables import trust
from latency_tables.errors import BespokeError, InvalidTable
from latency_tables.formats.native_json import OPTIONAL, rows_from
from latency_tables.measurement import Measurement
from latency_tables.scale import check_units
from latency_tables.table import LatencyTable
from service.db import devices as device_rows
from service.db import measurements as measurement_rows
from service.db import tables as table_rows
from service.db.documents import Document, Fields
from service.db.models import Device, Table
from service.db.session import Session
from service.db.states import NetworkSource, TableSource, TableState
from service.http import strict_json
from service.http.errors import Problem, error, invalid, validation_problem
from service.schemas.exchange import DeviceFile, TableInFile
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import space_named
from supernets.spaces.space import Space

FORMAT: Final = "bespoke-device"
VERSION: Final = 1
_LEAST_ROW_BYTES: Final = 40


@dataclass(frozen=True, eq=False)
class Checked:
    """A file that was read to its end and found good."""

    file: DeviceFile
    tables: tuple[tuple[TableInFile, LatencyTable, list[trust.Finding]], ...]
    networks: tuple[tuple[Space, Architecture, Measurement, int | None], ...]


def canonical(document: Fields) -> bytes:
    """The one way to write a document, without its own hash."""
    rest = {key: value for key, value in document.items() if key != "sha256"}
    return json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def write_device(session: Session, device: Device, most_bytes: int) -> bytes:
    """The file of a device with every version of its table; the same device gives the same bytes.

    Raises Problem where the file would be larger than `most_bytes`: nothing is left out without a word.
    """
    tables = table_rows.of_devices(session, [device.id])[device.id]
    # Before the rows are read: a device with a hundred versions would fill the memory first.
    if _LEAST_ROW_BYTES * sum(table.rows for table in tables) > most_bytes:
        raise _too_large(most_bytes)
    numbers: dict[str, int] = {}
    document: Document = {
        "format": FORMAT,
        "version": VERSION,
        "name": device.name,
        "description": device.description,
        "context": device.context,
        # The one in use comes last, so that it is in use where the file is imported.
        "tables": [_table(session, t) for t in sorted(tables, key=lambda t: t.precedence)],
        "networks": [
            {
                "space": n.space,
                "classes": n.classes,
                "architecture": n.architecture,
                **_numbers(n.measurement),
                **({} if n.session is None else {"together": numbers.setdefault(n.session, len(numbers))}),
            }
            for space, classes in measurement_rows.spaces_measured(session, device.id)
            for n in measurement_rows.networks(session, device.id, space, classes)
        ],
    }
    document["sha256"] = hashlib.sha256(canonical(document)).hexdigest()
    content = (
        json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
    )
    if len(content) > most_bytes:
        raise _too_large(most_bytes)
    return content


def _too_large(most_bytes: int) -> Problem:
    return Problem(
        "payload_too_large",
        f"the file would be larger than {most_bytes} bytes and could not be read back; delete versions of "
        "the table that nothing uses, or raise BESPOKE_MAX_TABLE_BYTES",
    )


def _table(session: Session, row: Table) -> Document:
    rows = table_rows.rows_of(session, row.id)
    found: Document = {
        "digest": row.digest,
        "source": row.source,
        "state": row.state,
        "rows": [{"operator": op.text, **_numbers(rows[op])} for op in sorted(rows)],
    }
    calibration = row.provenance.get("calibration")
    return found if calibration is None else {**found, "calibration": calibration}


def _numbers(m: Measurement) -> dict[str, float | int]:
    given = {name: getattr(m, name) for name in ("median_ms", *OPTIONAL)}
    return {name: value for name, value in given.items() if value is not None}


def read_device(data: bytes) -> Checked:
    """Everything in a file, checked. Raises Problem that says which part is wrong."""
    document = strict_json.loads(data)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise invalid("/format", "format", "this is no device file; `bespoke devices export` writes one")
    if document.get("version") != VERSION:
        raise invalid(
            "/version",
            "version",
            f"this service reads version {VERSION} of device files; export it again from there",
        )
    # Against accidents, not against attackers: whoever edits the file can hash it too. All of it is checked
    # below.
    if document.get("sha256") != hashlib.sha256(canonical(document)).hexdigest():
        raise invalid("/sha256", "damaged", "the file is damaged or was changed by hand; export it again")
    try:
        file = DeviceFile.model_validate(document)
    except ValidationError as found:
        raise validation_problem([{**e, "loc": ("body", *e["loc"])} for e in found.errors()]) from None
    return Checked(file, tuple(_read_table(file, i) for i in range(len(file.tables))), _read_networks(file))


def _read_table(file: DeviceFile, index: int) -> tuple[TableInFile, LatencyTable, list[trust.Finding]]:
    given, place = file.tables[index], f"/tables/{index}"
    try:
        table = LatencyTable(file.context.context(), rows_from(given.rows))
    except InvalidTable as reason:
        rows = [
            error(f"{place}/rows/{number - 1}", "row", f"row {number}: {text}")
            for number, text in reason.rows
        ]
        raise Problem(
            "invalid_table", str(reason), errors=rows or [error(place, "rows", str(reason))]
        ) from None
    if table.digest != given.digest:
        raise invalid(
            f"{place}/digest", "damaged", "the rows are not those of the digest; export the device again"
        )
    if (TableSource(given.source) is TableSource.TRANSFER) != (given.calibration is not None):
        raise invalid(
            f"{place}/calibration",
            "calibration",
            "a transferred table has its calibration, and no other has one",
        )
    findings = [*trust.review_table(table), *check_units(table)]
    if TableState(given.state) is TableState.NEEDS_REVIEW and not trust.needs_review(findings):
        findings.append(
            trust.Finding(
                trust.FindingKind.IMPORTED,
                trust.Severity.REVIEW,
                "it needed a review in the service it was exported from",
            )
        )
    return given, table, findings


def _read_networks(file: DeviceFile) -> tuple[tuple[Space, Architecture, Measurement, int | None], ...]:
    spaces: dict[tuple[str, int], Space] = {}
    found = []
    for index, n in enumerate(file.networks):
        key = (n.space, n.classes)
        try:
            if key not in spaces:
                spaces[key] = space_named(*key)
            architecture = spaces[key].from_json(n.architecture)
            measurement = n.measurement()
        except BespokeError as reason:
            raise invalid(f"/networks/{index}", "network", str(reason)) from None
        found.append((spaces[key], architecture, measurement, n.together))
    return tuple(found)


def store_device(
    session: Session, tenant_id: str, checked: Checked, name: str | None, by: str | None = None
) -> Device:
    """The device of a file in the caller's transaction, under another name if given; `by` is the name of the
    caller's key."""
    file = checked.file
    context = file.context.context()
    device = device_rows.add(session, tenant_id, name or file.name, file.description, context)
    for given, table, findings in checked.tables:
        provenance: Document = {"imported": {"source": given.source, "file": file.sha256}}
        if given.calibration is not None:
            provenance["calibration"] = given.calibration.model_dump()
        # What an agent measured there was not watched here.
        source = TableSource.UPLOAD if given.calibration is None else TableSource.TRANSFER
        table_rows.publish(
            session, device, table, source=source, findings=findings, provenance=provenance, by=by
        )
    for space, architecture, measurement, number in checked.networks:
        together = None if number is None else f"{file.sha256}/{number}"
        measurement_rows.add(session, device, space, architecture, measurement, NetworkSource.PROBE, together)
    return device
