"""Measuring a device: tokens for agents, profile jobs, whole networks as probes, and which of them to
measure."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import numpy as np
from fastapi import APIRouter
from starlette.responses import Response

from latency_tables.errors import InvalidOperator, PoorCalibration, TooFewNetworks
from latency_tables.measurement import Measurement
from latency_tables.operators import Operator
from latency_tables.plan import calibration_networks
from latency_tables.prediction.calibration import DEFAULT_CONFIDENCE, Calibration
from latency_tables.scale import check_networks, check_units, unlike_known
from latency_tables.trust import check_scale
from service.datasets import known
from service.db import agents as agent_rows
from service.db import devices as device_rows
from service.db import measurements as measurement_rows
from service.db import tables as table_rows
from service.db.models import Device, Job, Table, new_id, now
from service.db.session import Session
from service.db.states import JobKind, NetworkSource, TableSource
from service.devices.pricing import Fit, networks_of, space_of
from service.devices.transfer import Known, known_devices, planned_networks, transferred_table
from service.devices.view import calibration_view, interval_of
from service.http.auth import REVOKED, digest_of, new_secret
from service.http.dependencies import Caller, Service, Services
from service.http.errors import Problem, error, invalid
from service.http.guard import JSON, NOTHING, GuardedRoute, needs
from service.jobs.submission import once, request_digest, submit
from service.routes.devices import device_of
from service.routes.jobs import job_view
from service.routes.supernets import IdempotencyKey
from service.schemas.devices import (
    EnrolmentView,
    Probe,
    ProbePlan,
    ProbePlanItem,
    ProbesCreated,
    ProbesIn,
    ProfileIn,
)
from service.schemas.jobs import JobView
from service.schemas.strict import Name, Whole
from supernets.errors import InvalidArchitecture, NoTable, UnknownSpace
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import ref_in
from supernets.spaces.lowering import dense_from, lower
from supernets.spaces.space import Space

router = APIRouter(route_class=GuardedRoute, tags=["measuring"])
MOST_PLANNED: Final = 200
MOST_SOURCES: Final = 100
_KEPT: Final = (
    "The networks are kept: predictions on this device say so, without a bound, until another "
    "table or other networks fit."
)
_NOBODY: Final = (
    "no other device yet has a measured table for this space at these resolutions; the networks are kept "
    "for calibration. "
    "Profile this device by blocks (`bespoke profile` or `bespoke agent`)."
)


def space_at(pointer: str, name: str, classes: int | None = None) -> Space:
    """The space of that name. Raises Problem that points to where it was named."""
    try:
        return space_of(name, classes)
    except UnknownSpace as unknown:
        raise Problem(
            "unknown_space", str(unknown), errors=[error(pointer, "unknown_space", str(unknown))]
        ) from None


@router.post("/v1/devices/{name}/enrolments", status_code=201, openapi_extra=needs("devices:write", NOTHING))
def enrol(name: str, services: Service, caller: Caller) -> EnrolmentView:
    """A one-time token for a measuring agent on that device."""
    token = new_secret("enrol")
    expires_at = now() + timedelta(seconds=services.settings.enrolment_ttl_s)
    with services.sessions.begin() as session:
        device = device_of(session, caller.tenant_id, name)
        agent_rows.add_enrolment(session, caller.tenant_id, device.id, digest_of(token), expires_at)
    return EnrolmentView(token=token, expires_at=expires_at)


@router.delete(
    "/v1/devices/{name}/agent", status_code=204, response_class=Response, openapi_extra=needs("devices:write")
)
def revoke_agent(name: str, services: Service, caller: Caller) -> Response:
    """Close the session of the device's agent: its key stops within a second."""
    with services.sessions.begin() as session:
        device = device_of(session, caller.tenant_id, name)
        agent_rows.close_sessions_of(session, device.id, REVOKED)
    services.authenticator.forget()
    return Response(status_code=204)


@router.post("/v1/devices/{name}/profiles", status_code=202, openapi_extra=needs("devices:write", JSON))
def profile(
    name: str,
    body: ProfileIn,
    services: Service,
    caller: Caller,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Queue the measuring of what the device's table lacks for a space; the device's agent does it."""
    classes = body.classes if body.dataset is None else known(services.settings, body.dataset).classes
    if body.dataset is not None and body.classes not in (None, classes):
        raise invalid(
            "/classes", "classes", "the data set has another number of classes; leave `classes` out"
        )
    space = space_at("/space", body.space, classes)
    resolutions = list(space.resolutions) if body.resolutions is None else sorted(set(body.resolutions))
    if not set(resolutions) <= set(space.resolutions):
        raise invalid(
            "/resolutions", "resolution", f"the space has the resolutions {list(space.resolutions)}"
        )

    def action(session: Session) -> Job:
        device = device_of(session, caller.tenant_id, name)
        request = {
            "device_id": device.id,
            "device": device.name,
            "space": space.name,
            "classes": space.classes,
            "resolutions": resolutions,
            "networks": body.networks,
            "remeasure": _operators(body.remeasure),
        }
        return submit(services, session, caller.tenant_id, JobKind.PROFILE, request)

    digest = request_digest("POST", f"/v1/devices/{name}/profiles", body.model_dump())
    job = once(services, caller, idempotency_key, digest, action)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return job_view(job)


def _operators(texts: list[str]) -> list[str]:
    """Raises Problem that points to the first text that is no operator."""
    for index, text in enumerate(texts):
        try:
            Operator.parse(text)
        except InvalidOperator as reason:
            raise invalid(f"/remeasure/{index}", "operator", str(reason)) from None
    return sorted(set(texts))


@router.post("/v1/devices/{name}/probes", status_code=201, openapi_extra=needs("devices:write", JSON))
def probes(name: str, body: ProbesIn, services: Service, caller: Caller) -> ProbesCreated:
    """Register whole networks that were measured on the device, instead of or besides a full table."""
    read = [_read(index, sample) for index, sample in enumerate(body.samples)]
    if len({(space.name, space.classes) for space, _ in read}) > 1:
        raise invalid("/samples", "spaces", "all samples of one post must be of one space")
    space = read[0][0]
    with services.sessions.begin() as session:
        device, together = device_of(session, caller.tenant_id, name), new_id("post")
        for (_, architecture), sample in zip(read, body.samples, strict=True):
            measured = Measurement(sample.latency_ms, p95_ms=sample.p95_ms)
            measurement_rows.add(
                session, device, space, architecture, measured, NetworkSource.PROBE, together
            )
        return _fitted(session, services, device, space, len(read)).model_copy(update={"session": together})


def _read(index: int, sample: Probe) -> tuple[Space, Architecture]:
    if sample.p95_ms is not None and sample.p95_ms < sample.latency_ms:
        raise invalid(
            f"/samples/{index}/p95_ms",
            "measurement",
            "the latency of 19 runs in 20 is never below latency_ms",
        )
    try:
        told = ref_in(sample.architecture)  # an architecture of this service says its classes itself
        classes = sample.classes if told is None or sample.classes is not None else told.classes
        space = space_at(f"/samples/{index}/space", sample.space, classes)
        return space, space.from_json(sample.architecture)
    except (InvalidArchitecture, ValueError) as reason:
        detail = str(reason) if isinstance(reason, InvalidArchitecture) else "not an architecture"
        raise invalid(f"/samples/{index}/architecture", "architecture", detail) from None


def _fitted(
    session: Session, services: Services, device: Device, space: Space, accepted: int
) -> ProbesCreated:
    """What the device's networks say: about its own table, else about a mix of the tables of known
    devices."""
    try:
        table = services.prices.choose_table(session, device, space)
    except NoTable:
        return _transferred(session, services, device, space, accepted)
    if table.source == TableSource.TRANSFER:
        return _transferred(session, services, device, space, accepted)
    fit = services.prices.fit(session, table, device, space)
    here, sums = services.prices.sums(session, table, device, space)
    networks = networks_of(here, measurement_rows.networks(session, device.id, space.name, space.classes))
    genes = np.array([here.genes(a) for a, _ in networks], dtype=np.int64).reshape(-1, here.chain.genes)
    priced, measured_ms = [float(v) for v in sums.price(genes)], [latency_ms for _, latency_ms in networks]
    contradictions = check_networks(priced, measured_ms)
    if contradictions:
        _refuse_strange(session, services, device, table, here, networks)
        # The networks are like some device, so it is the table that is doubted; they are kept to judge the
        # next one by.
        table_rows.doubt(session, table, contradictions)
        reason = (
            f"{contradictions[0].message}. Version {table.version} of the table needs a review and is "
            "not used"
        )
        return _created(accepted, "refused", table.id, space, Fit(Calibration(), now(), reason), [reason])
    warnings = [finding.message for finding in check_scale(priced, measured_ms)]
    if fit.refused is not None:
        return _created(accepted, "refused", table.id, space, fit, [f"{fit.refused} {_KEPT}", *warnings])
    return _created(accepted, "calibration", table.id, space, fit, warnings)


def _refuse_strange(
    session: Session,
    services: Services,
    device: Device,
    table: Table,
    space: Space,
    networks: list[tuple[Architecture, float]],
) -> None:
    """Raises Problem `implausible` where the networks are unlike every known device and the table they
    contradict is not."""
    macs = [float(sum(op.macs for op in lower(space, architecture))) for architecture, _ in networks]
    batch_size = int(device.context["batch_size"])
    strange = unlike_known(macs, [latency_ms for _, latency_ms in networks], batch_size)
    if strange is not None and not check_units(services.prices.table(session, table, device)):
        raise Problem(
            "implausible",
            f"of the networks: {strange}. `latency_ms` is in milliseconds; nothing of this post was kept",
        )


def _transferred(
    session: Session, services: Services, device: Device, space: Space, accepted: int
) -> ProbesCreated:
    """A table from the known devices, or why there is none; the probes are kept either way."""
    rows = measurement_rows.networks(session, device.id, space.name, space.classes)
    networks = networks_of(space, rows)
    here = space.at(sorted({architecture.resolution for architecture, _ in networks}))
    known_tables = _known(session, services, device, here)
    if known_tables is None:
        return _created(accepted, "none", None, space, Fit(Calibration(), None), [_NOBODY])
    try:
        table, calibration, provenance = transferred_table(known_tables, device, networks)
    except (PoorCalibration, TooFewNetworks) as reason:
        return _created(accepted, "none", None, space, Fit(Calibration(), None, str(reason)), [str(reason)])
    made = table_rows.publish(session, device, table, source=TableSource.TRANSFER, provenance=provenance)
    return _created(accepted, "transfer", made.id, space, Fit(calibration, now()), [])


def _known(session: Session, services: Services, device: Device, space: Space) -> Known | None:
    others = device_rows.listed(session, device.tenant_id, None, MOST_SOURCES)
    return known_devices(session, services.prices, device, space, others)


def _created(
    accepted: int, method: str, table_id: str | None, space: Space, fit: Fit, warnings: list[str]
) -> ProbesCreated:
    calibration = fit.calibration
    return ProbesCreated(
        accepted=accepted,
        method=method,
        table_id=table_id,
        error=calibration.error,
        worst=calibration.worst,
        interval=interval_of(calibration),
        missing_networks=calibration.missing_networks(DEFAULT_CONFIDENCE),
        calibration=[calibration_view(space, fit, accepted)],
        warnings=warnings,
    )


@router.get("/v1/devices/{name}/probe-plan", openapi_extra=needs("devices:read"))
def probe_plan(
    name: str,
    services: Service,
    caller: Caller,
    space: Name,
    count: Whole = 20,
    resolution: Whole | None = None,
) -> ProbePlan:
    """Which whole networks to measure on the device; what was measured is not planned again.

    Without a table of its own: those from which most is learnt, given the tables of known devices.
    """
    if not 1 <= count <= MOST_PLANNED:
        raise invalid("query/count", "range", f"count must be from 1 to {MOST_PLANNED}")
    wanted = space_at("query/space", space)
    if resolution is not None:
        if resolution not in wanted.resolutions:
            raise invalid(
                "query/resolution", "resolution", f"the space has the resolutions {list(wanted.resolutions)}"
            )
        wanted = wanted.at([resolution])
    with services.sessions() as session:
        device = device_of(session, caller.tenant_id, name)
        here, planned = _planned(session, services, device, wanted, count)
    items = [
        ProbePlanItem(space=here.name, architecture=here.to_json(a), architecture_digest=a.digest)
        for a in planned
    ]
    return ProbePlan(items=items)


def _planned(
    session: Session, services: Services, device: Device, space: Space, count: int
) -> tuple[Space, list[Architecture]]:
    """(space at the resolutions planned for, networks)."""
    rows = measurement_rows.networks(session, device.id, space.name, space.classes)
    seed = int(device.id[-8:], 16) + len(rows)
    try:
        table = services.prices.choose_table(session, device, space)
    except NoTable:
        table = None
    if table is not None and table.source != TableSource.TRANSFER:
        here, dense = services.prices.sums(session, table, device, space)
    else:
        known_tables = _known(session, services, device, space)
        if known_tables is not None:
            measured = [a for a, _ in networks_of(space, rows)]
            return space, planned_networks(known_tables, measured, count, seed)
        here, dense = space, dense_from(space, lambda op: float(op.macs))
    done = [here.genes(a) for a, _ in networks_of(here, rows)]
    genes = np.array(done, dtype=np.int64).reshape(-1, here.chain.genes)
    chosen = calibration_networks(dense, np.random.default_rng(seed), count, known=genes)
    return here, [here.architecture(row) for row in chosen]
