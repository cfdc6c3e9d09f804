"""Targets of a request priced by the tables that they are pinned to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from service.db import devices
from service.db.documents import Document
from service.db.models import Device
from service.db.session import Session
from service.db.tables import context_of
from service.devices.costs import asked_for
from service.devices.price_book import PriceBook
from service.devices.pricing import Pricing
from service.jobs.requests import PinnedDevice, SearchTarget
from supernets.delivery.catalog import common_delivery
from supernets.delivery.precision import ASKED, FLOAT32, space_in
from supernets.errors import NoTable
from supernets.search.limits import LIMITS
from supernets.search.restriction import mask_of
from supernets.search.targets import LATENCY, Further, OnDevice, Target
from supernets.spaces.architecture import Architecture
from supernets.spaces.space import Space

NAMED: Final = 5  # operators that a card names of those a table lacks


def load_target(
    session: Session,
    book: PriceBook,
    tenant_id: str,
    space: Space,
    index: int,
    wanted: SearchTarget,
    confidence: float | None,
) -> Target:
    """Price one target of a request with the tables it is pinned to.

    Raises NoTable, NoEnergy, PoorCalibration, TooFewNetworks, InvalidPrecision, InvalidPruning.
    """
    space = space_in(space, ASKED[wanted.precision or FLOAT32], bool(wanted.prune))
    places = [
        _on_device(session, book, tenant_id, space, wanted, member, confidence) for member in wanted.members()
    ]
    here = space.at(_shared(space, wanted.resolutions, places))
    contexts = [place.context for place in places if place.context is not None]
    form = common_delivery(contexts, space)
    left_out: Document = {
        "exclude": wanted.exclude,
        "resolutions": wanted.resolutions,
        "missing": _missing(places),
    }
    return Target(
        index,
        here,
        tuple(places),
        limits=_lowest(wanted.budgets()),
        mask=mask_of(here, wanted.exclude, _only(here, wanted)),
        left_out={name: value for name, value in left_out.items() if value},
        bytes_per_value=form.bytes_per_value,
    )


def _on_device(
    session: Session,
    book: PriceBook,
    tenant_id: str,
    space: Space,
    wanted: SearchTarget,
    member: PinnedDevice,
    confidence: float | None,
) -> OnDevice:
    """One device of a target with its prices, by the table it is pinned to."""
    device = devices.named(session, tenant_id, member.device)
    # Another device may have taken the name meanwhile, and its prices would be of another piece of hardware.
    if device is None or device.id != member.device_id:
        raise NoTable(f"device {member.device} of this job is no longer there; register it again")
    partly, asked = wanted.missing == "exclude", asked_for(member.budget)
    whole = book.load(session, device, space, table_id=member.table_id, confidence=confidence, partial=partly)
    pricing = book.with_costs(
        session,
        device,
        whole,
        whole.within(wanted.resolutions, wanted.exclude, _only(space, wanted)),
        [*asked],
        confidence=confidence,
        partial=partly,
    )
    budget_ms = float(member.budget[LATENCY])
    plain = _in_float(session, book, device, space, member.table_id)
    return OnDevice(
        device.name,
        device.id,
        pricing.table_id,
        budget_ms,
        pricing,
        limit_ms=budget_ms,
        bounded=confidence is not None,
        whole=whole,
        context=context_of(device),
        further=tuple(Further(pricing.costs[name], limit, limit) for name, limit in asked.items()),
        in_float=plain,
    )


def _in_float(
    session: Session, book: PriceBook, device: Device, space: Space, table_id: str
) -> Pricing | None:
    """Prices of the networks in float32, of a space that has none of them: what they are compared with."""
    if FLOAT32 in space.precisions:
        return None
    try:
        plain = space.with_precisions((FLOAT32,))
        return book.load(session, device, plain, table_id=table_id, partial=True)
    except NoTable:
        return None


def _only(space: Space, wanted: SearchTarget) -> Architecture | None:
    """The network that a target is for, where it is one."""
    return None if wanted.network is None else space.from_json(wanted.network)


def _shared(space: Space, resolutions: Sequence[int] | None, places: Sequence[OnDevice]) -> list[int]:
    """Resolutions that may be chosen on every device. Raises NoTable."""
    # In the order of the space: dense tables are indexed by it.
    allowed = [r for r in space.resolutions if resolutions is None or r in resolutions]
    shared = [r for r in allowed if all(r in place.pricing.space.resolutions for place in places)]
    if not shared:
        raise NoTable(
            f"the tables of {' and '.join(p.device for p in places)} have no resolution of {space.name} "
            "in common"
        )
    return shared


def _lowest(budgets: Sequence[Mapping[str, int | float]]) -> dict[str, int]:
    """The limits that hold on any device, the lowest of each name."""
    limits: dict[str, int] = {}
    for name, limit in ((n, v) for budget in budgets for n, v in budget.items() if n in LIMITS):
        limits[name] = min(int(limit), limits.get(name, int(limit)))
    return limits


def _missing(places: Sequence[OnDevice]) -> list[Document]:
    """What the card says of operators that tables lack: how many, and the first ones."""
    return [
        {"device": p.device, "operators": len(p.pricing.lacking), "first": list(p.pricing.lacking[:NAMED])}
        for p in places
        if p.pricing.lacking
    ]
