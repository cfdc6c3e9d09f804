"""A latency profile from a file or a post becomes a version of the device's table, and the answer says what
that means.

What was imported last is what is in use, the same bytes again too; where that cannot be, the answer says
which version is and why. Nothing is lost without a word: spaces that are not covered any more are named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from latency_tables import scale, trust
from latency_tables.table import LatencyTable
from service.db import devices as device_rows
from service.db import measurements as measurement_rows
from service.db import tables as table_rows
from service.db.documents import ContextDocument
from service.db.measurements import networks_of
from service.db.models import Device, Table
from service.db.session import Session
from service.db.states import TableSource
from service.devices.covering import lost, nearest_lack, of, pixels
from service.devices.price_book import PriceBook
from service.devices.view import coverage, spaces_of_interest
from service.http.dependencies import Services
from service.http.errors import Problem
from service.schemas.devices import TableCreated, TableInUse
from supernets.spaces.catalog import is_space, space_named
from supernets.spaces.lowering import covered_resolutions, lower
from supernets.spaces.space import Space

ADD: Final = "add"
MOST_DEVICES: Final = 50


@dataclass(frozen=True, eq=False)
class Incoming:
    """A table on its way in. notes: what was read otherwise than written. base_id: of the table it was added
    to.

    replaced: rows of that table which others took the place of.
    """

    table: LatencyTable
    notes: tuple[str, ...] = ()
    base_id: str | None = None
    replaced: int = 0


def added_to_table_in_use(
    session: Session, prices: PriceBook, device: Device, incoming: Incoming
) -> Incoming:
    """The rows of the table in use with those that come in; of an operator that both have, the incoming row
    counts."""
    base, given = table_rows.in_use(session, device.id), incoming.table
    if base is None:
        alone = "there is no table in use to add to; this one stands alone"
        return replace(incoming, notes=(*incoming.notes, alone))
    rows = prices.table(session, base, device).rows
    replaced = sum(op in rows and rows[op] != m for op, m in given.rows.items())
    merged = LatencyTable(given.context, {**rows, **given.rows})
    return replace(incoming, table=merged, base_id=base.id, replaced=replaced)


def register(
    session: Session, services: Services, device: Device, incoming: Incoming, by: str | None
) -> TableCreated:
    """Store the table, or put the version of the same rows in use again. Raises Problem `conflict`.

    by: the name of the caller's key.
    """
    before = table_rows.in_use(session, device.id)
    if incoming.base_id is not None and (before is None or before.id != incoming.base_id):
        raise Problem("conflict", "another table was put in use at the same moment; add the rows again")
    known = table_rows.with_digest(session, device.id, incoming.table.digest)
    row = known or _published(session, services, device, incoming.table, by)
    # A million rows are at hand; reading them back from the database takes longer than all the rest.
    services.prices.know(row.id, incoming.table)
    # The same rows again are no new version: whoever imports them wants them in use.
    if known is not None:
        table_rows.put_in_use(session, known, by)
    used = table_rows.in_use(session, device.id)
    warnings = [*incoming.notes, *(reason["message"] for reason in row.reasons)]
    return TableCreated(
        id=row.id,
        version=row.version,
        rows=row.rows,
        state=row.state,
        coverage=coverage(session, services.prices, row, device),
        warnings=[*warnings, *coverage_notes(session, services.prices, device, row, before)],
        in_use=used is not None and used.id == row.id,
        table_in_use=None if used is None else TableInUse(id=used.id, version=used.version),
        explanation=explanation(device, row, used, again=known is not None),
        replaced=incoming.replaced,
    )


def _published(
    session: Session, services: Services, device: Device, table: LatencyTable, by: str | None
) -> Table:
    findings = [*trust.review_table(table), *check_scale_of(session, services.prices, device, table)]
    return table_rows.publish(session, device, table, source=TableSource.UPLOAD, findings=findings, by=by)


def check_scale_of(
    session: Session, prices: PriceBook, device: Device, table: LatencyTable
) -> list[trust.Finding]:
    """Units and scale: against the device's table in use, the tenant's other devices, and networks measured
    on the device."""
    base = table_rows.in_use(session, device.id)
    earlier = (
        None
        if base is None
        else scale.Earlier(f"version {base.version}", prices.table(session, base, device))
    )
    others = device_rows.listed(session, device.tenant_id, None, MOST_DEVICES)
    rates = {
        o.name: prices.rate(session, o)
        for o in others
        if o.id != device.id and alike(o.context, device.context)
    }
    found = scale.check_units(
        table, earlier, {name: rate for name, rate in rates.items() if rate is not None}
    )
    # Wrong units show in both; to be told once is enough.
    return found or check_networks_of(session, device, table)


def alike(first: ContextDocument, second: ContextDocument) -> bool:
    """Whether rates of two contexts can be compared: one input at a time, or several."""
    return (first["batch_size"] > 1) == (second["batch_size"] > 1)


def check_networks_of(session: Session, device: Device, table: LatencyTable) -> list[trust.Finding]:
    """The sums of a table's rows against whole networks that were measured on the device, of every space it
    covers."""
    for name, classes in measurement_rows.spaces_measured(session, device.id):
        if not is_space(name):
            continue
        space = space_named(name, classes)
        sizes = covered_resolutions(space, table)
        rows = measurement_rows.networks(session, device.id, name, classes)
        measured = networks_of(space.at(sizes), rows) if sizes else []
        sums = [table.latency_ms(lower(space, architecture)) for architecture, _ in measured]
        found = scale.check_networks(sums, [latency_ms for _, latency_ms in measured])
        if found:
            return found
    return []


def explanation(device: Device, row: Table, used: Table | None, again: bool = False) -> str:
    """Which version is in use, and why where that is not `row`."""
    if used is not None and used.id == row.id:
        return f"version {row.version} is in use" + (" again: its rows were imported before" if again else "")
    stays = "no version is in use" if used is None else f"version {used.version} stays in use"
    return (
        f"{stays}: version {row.version} needs a review first. Correct it, or, if it is true as it stands, "
        f"`bespoke tables accept {device.name} {row.version}`"
    )


def coverage_notes(
    session: Session, prices: PriceBook, device: Device, row: Table, before: Table | None
) -> list[str]:
    """What the table does not cover: nothing at all, or less than the one that was in use before it."""
    spaces = spaces_of_interest(session, device)

    def sizes_of(table: Table) -> dict[Space, tuple[int, ...]]:
        return {space: prices.coverage(session, table, device, space) for space in spaces}

    now = sizes_of(row)
    notes = [] if any(now.values()) else [covers_nothing(prices.table(session, row, device), spaces)]
    notes += _energy_note(prices.table(session, row, device))
    if before is None or before.id == row.id or row.state != table_rows.READY:
        return notes
    return notes + [
        _lost_note(space, sizes, row, before, now[space])
        for space, sizes in lost(sizes_of(before), now).items()
    ]


def covers_nothing(table: LatencyTable, spaces: Sequence[Space]) -> str:
    """What to say of a table with which no search can be run as it is."""
    nearest = nearest_lack(table, spaces)
    least = "it holds no operator of any space" if nearest is None else f"nearest: {nearest}"
    return f"the table covers no space at any resolution; {least}"


def _energy_note(table: LatencyTable) -> list[str]:
    """Energies of some rows alone are of no use for a network that needs the others."""
    known = sum(m.energy_mj is not None for m in table.rows.values())
    return (
        []
        if known in (0, len(table.rows))
        else [f"energy_mj is known of {known} of {len(table.rows)} rows only"]
    )


def _lost_note(space: Space, sizes: Sequence[int], row: Table, before: Table, kept: Sequence[int]) -> str:
    then = (
        f"only {pixels(kept)} can be searched now"
        if kept
        else f"{space.name} goes on with version {before.version}"
    )
    return (
        f"version {row.version} does not cover {of(space)} at {pixels(sizes)}, which version "
        f"{before.version} does: {then}. Import with --add (?mode=add) to keep the rows of both"
    )
