"""What `GET /v1/devices/{name}` shows: how well a device is known, from its tables and measured networks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

from latency_tables import trust
from latency_tables.errors import BespokeError
from latency_tables.prediction.calibration import DEFAULT_CONFIDENCE, Calibration
from service.db import agents as agent_rows
from service.db import devices as device_rows
from service.db import measurements as measurement_rows
from service.db import tables as table_rows
from service.db.documents import Reason
from service.db.models import AgentSession, Device, Table, now
from service.db.session import Session
from service.db.states import TableSource
from service.devices.calibrate import Learnt
from service.devices.fitting import Fit
from service.devices.price_book import PriceBook
from service.http.dependencies import Services
from service.schemas.devices import (
    AgentView,
    CalibrationView,
    ContextView,
    Coverage,
    DeviceView,
    FindingView,
    Interval,
    ProbesCreated,
    Replication,
    TableView,
)
from supernets.delivery.catalog import remark
from supernets.delivery.precision import ASKED, INT8, MIXED, space_in
from supernets.errors import InvalidArchitecture, InvalidPrecision, NoTable
from supernets.spaces.architecture import SpaceRef
from supernets.spaces.catalog import SPACES, is_space, space_named
from supernets.spaces.space import Space

_TABLES_SHOWN: Final = 20


def device_views(session: Session, services: Services, devices: Sequence[Device]) -> list[DeviceView]:
    """Views of several devices, with three queries for all of them."""
    ids = [device.id for device in devices]
    tables = table_rows.of_devices(session, ids)
    sessions = agent_rows.last_sessions(session, ids)
    return [_view(session, services, d, tables[d.id], sessions.get(d.id)) for d in devices]


def device_view(session: Session, services: Services, device: Device) -> DeviceView:
    return device_views(session, services, [device])[0]


def _view(
    session: Session, services: Services, device: Device, tables: list[Table], agent: AgentSession | None
) -> DeviceView:
    used = max((t for t in tables if t.state == table_rows.READY), key=lambda t: t.precedence, default=None)
    used_id = None if used is None else used.id
    covered = [] if used is None else coverage(session, services.prices, used, device)
    calibrations = calibration_views(session, services.prices, device)
    # One figure for lists; the page of the device has all of them.
    best = next((c for c in calibrations if c.state == "fitted"), None)
    return DeviceView(
        name=device.name,
        description=device.description,
        context=ContextView(**device.context),
        created_at=device.created_at,
        revision=device.revision,
        agent=None if agent is None else _agent_view(session, services, agent),
        tables=[table_view(t, used_id) for t in tables[:_TABLES_SHOWN]],
        table_id=used_id,
        coverage=covered,
        calibration=calibrations,
        prediction_error=None if best is None else best.error,
        interval=None if best is None else best.interval,
        date=None if used is None else used.created_at,
        replication=_replication(session, services.prices, device, tables),
        environment=device.environment,
        nodes_by_provider=device_rows.nodes_by_provider(device),
        remarks=[text for text in (remark(table_rows.context_of(device)),) if text],
    )


def table_view(table: Table, used_id: str | None) -> TableView:
    """used_id: of the device's table in use."""
    return TableView(
        id=table.id,
        version=table.version,
        rows=table.rows,
        source=table.source,
        state=table.state,
        digest=table.digest,
        reasons=[finding_view(reason) for reason in table.reasons],
        in_use=table.id == used_id,
        created_at=table.created_at,
        created_by=table.created_by,
        used_at=table.used_at,
        used_by=table.used_by,
        accepted_at=table.accepted_at,
        accepted_by=table.accepted_by,
        accepted_note=table.accepted_note,
    )


def finding_view(reason: Reason) -> FindingView:
    return FindingView(
        kind=reason.get("kind") or "note",
        severity=reason.get("severity") or trust.Severity.WARNING,
        message=reason.get("message") or "",
        operator=reason.get("operator"),
    )


def coverage(session: Session, prices: PriceBook, table: Table, device: Device) -> list[Coverage]:
    """Spaces that the table covers at some resolution: with their own number of classes, and with those
    measured."""
    found = []
    for space in spaces_of_interest(session, device):
        resolutions = prices.coverage(session, table, device, space)
        rounded = _in_int8(session, prices, table, device, space)
        if resolutions or rounded:
            found.append(
                Coverage(
                    space=space.name,
                    classes=space.classes,
                    resolutions=list(resolutions),
                    of=list(space.resolutions),
                    precisions=rounded,
                    pruned=_pruned(session, prices, table, device, space.at(resolutions))
                    if resolutions
                    else [],
                )
            )
    return found


def _pruned(session: Session, prices: PriceBook, table: Table, device: Device, space: Space) -> list[int]:
    """Of the resolutions that a table covers those with the widths of pruned blocks."""
    try:
        return list(prices.coverage(session, table, device, space.with_pruning()))
    except InvalidArchitecture:  # it has none
        return []


def _in_int8(
    session: Session, prices: PriceBook, table: Table, device: Device, space: Space
) -> dict[str, list[int]]:
    """Resolutions that a table covers with blocks in int8, by what a search asks for."""
    if not any(op.precision == INT8 for op in prices.table(session, table, device).rows):
        return {}
    found = {}
    for asked in (INT8, MIXED):
        with suppress(InvalidPrecision):
            found[asked] = list(prices.coverage(session, table, device, space_in(space, ASKED[asked])))
    return {asked: resolutions for asked, resolutions in found.items() if resolutions}


def spaces_of_interest(session: Session, device: Device) -> list[Space]:
    """Every space of the catalog, and those of which networks were measured on the device."""
    spaces = list(SPACES.values())
    for name, classes in measurement_rows.spaces_measured(session, device.id):
        if is_space(name) and (name not in SPACES or classes != SPACES[name].classes):
            spaces.append(space_named(name, classes))
    return spaces


def calibration_views(session: Session, prices: PriceBook, device: Device) -> list[CalibrationView]:
    """One for each space of which networks were measured on the device, or which its table in use came
    with a calibration for."""
    found = []
    used = table_rows.in_use(session, device.id)
    known = list(measurement_rows.spaces_measured(session, device.id))
    given = {} if used is None else used.provenance
    name, classes = given.get("space"), given.get("classes")
    if isinstance(name, str) and isinstance(classes, int) and SpaceRef(name, classes) not in known:
        known.append(SpaceRef(name, classes))
    for name, classes in known:
        if not is_space(name):
            continue
        space = space_named(name, classes)
        try:
            table = prices.choose_table(session, device, space)
            fit = prices.fit(session, table, device, space)
            measured = len(measurement_rows.networks(session, device.id, name, classes)) if fit.refused else 0
            found.append(calibration_view(space, fit, measured))
        except NoTable as error:
            found.append(calibration_view(space, Fit(Calibration(), None, str(error))))
    return found


def calibration_view(space: Space, fit: Fit, measured: int = 0) -> CalibrationView:
    """measured: whole networks of the space that were measured, which a refused calibration does not rest
    on."""
    c = fit.calibration
    state = "refused" if fit.refused else "fitted" if c.networks else "none"
    return CalibrationView(
        space=space.name,
        classes=space.classes,
        state=state,
        networks=measured if fit.refused else c.networks,
        intercept_ms=c.intercept_ms,
        slope=c.slope,
        error=c.error,
        worst=c.worst,
        interval=interval_of(c),
        missing_networks=c.missing_networks(DEFAULT_CONFIDENCE),
        reason=fit.refused,
        measured_at=fit.measured_at,
        sessions=c.sessions.count,
        session_spread=c.sessions.spread,
    )


def probes_created(learnt: Learnt, accepted: int, together: str) -> ProbesCreated:
    """accepted: networks of the post; together: names them, so that they can be deleted."""
    calibration = learnt.fit.calibration
    return ProbesCreated(
        accepted=accepted,
        session=together,
        method=learnt.method,
        table_id=learnt.table_id,
        error=calibration.error,
        worst=calibration.worst,
        interval=interval_of(calibration),
        missing_networks=calibration.missing_networks(DEFAULT_CONFIDENCE),
        calibration=[calibration_view(learnt.space, learnt.fit, accepted)],
        warnings=list(learnt.warnings),
    )


def interval_of(calibration: Calibration) -> Interval | None:
    """The one-sided 95 % interval, where enough networks were measured."""
    if calibration.missing_networks(DEFAULT_CONFIDENCE):
        return None
    return Interval(confidence=DEFAULT_CONFIDENCE, factor=calibration.margin(DEFAULT_CONFIDENCE))


def _replication(
    session: Session, prices: PriceBook, device: Device, tables: list[Table]
) -> Replication | None:
    """The two newest tables that the device's own agent filled, next to each other."""
    measured = [t for t in tables if t.source == TableSource.AGENT][:2]
    if len(measured) < 2:
        return None
    try:
        # The older one first: the change is told as it went.
        result = trust.replication(*(prices.table(session, t, device) for t in reversed(measured)))
    except BespokeError:
        return None
    if result.operators == 0:
        return None
    return Replication(
        tables=[t.id for t in measured],
        operators=result.operators,
        median_difference=result.change,
        kendall_tau=result.kendall_tau,
        reproducible=result.holds,
    )


def _agent_view(session: Session, services: Services, row: AgentSession) -> AgentView:
    limit = now() - timedelta(seconds=services.settings.agent_present_s)
    open_ = row.closed_at is None and row.expires_at > now()
    return AgentView(
        present=open_ and row.seen_at is not None and row.seen_at > limit,
        session_id=row.id,
        seen_at=row.seen_at,
        expires_at=row.expires_at,
        state="open" if open_ else row.closed_reason or "expired",
        open_tasks=agent_rows.count_open_tasks(session, row.device_id),
    )
