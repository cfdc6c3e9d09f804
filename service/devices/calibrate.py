"""What whole networks that were measured on a device say of it, and which ones to measure next.

They calibrate the device's own table; where it has none, they tell how to mix one from the tables of known
devices; and they may contradict a table, which then waits for a review.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from latency_tables.errors import PoorCalibration, TooFewNetworks
from latency_tables.plan import calibration_networks
from latency_tables.prediction.calibration import Calibration
from latency_tables.scale import check_networks, check_units, unlike_known
from latency_tables.trust import check_scale
from service.db import devices as device_rows
from service.db import measurements as measurement_rows
from service.db import tables as table_rows
from service.db.measurements import networks_of
from service.db.models import Device, Table, now
from service.db.session import Session
from service.db.states import TableSource
from service.devices.fitting import Fit
from service.devices.price_book import PriceBook
from service.devices.transfer import Known, known_devices, planned_networks, transferred_table
from service.errors import ImplausibleNetworks
from supernets.errors import NoTable
from supernets.spaces.architecture import Architecture
from supernets.spaces.lowering import dense_from, lower
from supernets.spaces.space import Space

MOST_SOURCES: Final = 100  # other devices that a table may be mixed from
_KEPT: Final = (
    "The networks are kept: predictions on this device say so, without a bound, until another table or other "
    "networks fit."
)
_NOBODY: Final = (
    "no other device yet has a measured table for this space at these resolutions; the networks are kept for "
    "calibration. Profile this device by blocks (`bespoke profile` or `bespoke agent`)."
)


class Method(StrEnum):
    """What measured networks gave."""

    CALIBRATION = "calibration"  # of the device's own table
    TRANSFER = "transfer"  # a table mixed from those of known devices
    REFUSED = "refused"  # they do not fit the table
    NONE = "none"  # nothing yet: there is no table, and none can be mixed


@dataclass(frozen=True)
class Learnt:
    """What the networks of a space say of a device. table_id: of the table held against them, or made."""

    method: Method
    space: Space
    table_id: str | None
    fit: Fit
    warnings: tuple[str, ...] = ()


def learn(session: Session, prices: PriceBook, device: Device, space: Space) -> Learnt:
    """What all networks of a space that were measured on a device say of it now.

    Publishes a transferred table; takes a table that they contradict out of use. Raises ImplausibleNetworks.
    """
    table = _own_table(session, prices, device, space)
    if table is None:
        return _transferred(session, prices, device, space)
    fit = prices.fit(session, table, device, space)
    here, sums = prices.sums(session, table, device, space)
    networks = networks_of(here, measurement_rows.networks(session, device.id, space.name, space.classes))
    genes = np.array([here.genes(a) for a, _ in networks], dtype=np.int64).reshape(-1, here.chain.genes)
    priced, measured_ms = [float(v) for v in sums.price(genes)], [latency_ms for _, latency_ms in networks]
    contradictions = check_networks(priced, measured_ms)
    if contradictions:
        _refuse_strange(session, prices, device, table, here, networks)
        # The networks are like some device, so it is the table that is doubted. They are kept: the next table
        # is judged by them.
        table_rows.doubt(session, table, contradictions)
        doubt = f"Version {table.version} of the table needs a review and is not used"
        reason = f"{contradictions[0].message}. {doubt}"
        return Learnt(Method.REFUSED, space, table.id, Fit(Calibration(), now(), reason), (reason,))
    warnings = [
        finding.message
        for finding in check_scale(priced, measured_ms, sentences=space.generation is not None)
    ]
    if fit.refused is not None:
        return Learnt(Method.REFUSED, space, table.id, fit, (f"{fit.refused} {_KEPT}", *warnings))
    return Learnt(Method.CALIBRATION, space, table.id, fit, tuple(warnings))


def plan(
    session: Session, prices: PriceBook, device: Device, space: Space, count: int
) -> tuple[Space, list[Architecture]]:
    """(space at the resolutions planned for, networks from which most is learnt beside those measured)."""
    rows = measurement_rows.networks(session, device.id, space.name, space.classes)
    # The same plan until something is measured: who asks twice must not be sent to other networks.
    seed = int(device.id[-8:], 16) + len(rows)
    table = _own_table(session, prices, device, space)
    if table is not None:
        here, dense = prices.sums(session, table, device, space)
    else:
        known = _known(session, prices, device, space)
        if known is not None:
            return space, planned_networks(known, [a for a, _ in networks_of(space, rows)], count, seed)
        here, dense = space, dense_from(space, lambda op: float(op.macs))
    done = [here.genes(a) for a, _ in networks_of(here, rows)]
    genes = np.array(done, dtype=np.int64).reshape(-1, here.chain.genes)
    chosen = calibration_networks(dense, np.random.default_rng(seed), count, known=genes)
    return here, [here.architecture(row) for row in chosen]


def _own_table(session: Session, prices: PriceBook, device: Device, space: Space) -> Table | None:
    """The table that prices the space on the device, unless it was mixed from others'."""
    try:
        table = prices.choose_table(session, device, space)
    except NoTable:
        return None
    return None if table.source == TableSource.TRANSFER else table


def _refuse_strange(
    session: Session,
    prices: PriceBook,
    device: Device,
    table: Table,
    space: Space,
    networks: Sequence[tuple[Architecture, float]],
) -> None:
    """Raises ImplausibleNetworks where they are like no known device and the table they contradict is."""
    macs = [float(sum(op.macs for op in lower(space, architecture))) for architecture, _ in networks]
    batch_size = device.context["batch_size"]
    strange = unlike_known(macs, [latency_ms for _, latency_ms in networks], batch_size)
    if strange is not None and not check_units(prices.table(session, table, device)):
        raise ImplausibleNetworks(
            f"of the networks: {strange}. `latency_ms` is in milliseconds; nothing of this post was kept"
        )


def _transferred(session: Session, prices: PriceBook, device: Device, space: Space) -> Learnt:
    """A table from the known devices, or why there is none; the networks are kept either way."""
    networks = networks_of(space, measurement_rows.networks(session, device.id, space.name, space.classes))
    here = space.at(sorted({architecture.resolution for architecture, _ in networks}))
    known = _known(session, prices, device, here)
    if known is None:
        return Learnt(Method.NONE, space, None, Fit(Calibration(), None), (_NOBODY,))
    try:
        table, calibration, provenance = transferred_table(known, device, networks)
    except (PoorCalibration, TooFewNetworks) as reason:
        return Learnt(Method.NONE, space, None, Fit(Calibration(), None, str(reason)), (str(reason),))
    made = table_rows.publish(session, device, table, source=TableSource.TRANSFER, provenance=provenance)
    return Learnt(Method.TRANSFER, space, made.id, Fit(calibration, now()))


def _known(session: Session, prices: PriceBook, device: Device, space: Space) -> Known | None:
    others = device_rows.listed(session, device.tenant_id, None, MOST_SOURCES)
    return known_devices(session, prices, device, space, others)
