"""Measuring a device: tokens for agents, profile jobs, whole networks as probes, and which of them to measure."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import numpy as np
from fastapi import APIRouter
from sqlalchemy.orm import Session
from starlette.responses import Response

from latency_tables.errors import InvalidArchitecture, NoTable, PoorCalibration, UnknownSpace
from latency_tables.measurement import Measurement
from latency_tables.plan import calibration_networks
from service.auth import digest_of, new_secret
from service.datasets import known
from service.db import agents as agent_rows
from service.db import measurements as measurement_rows
from service.db.models import Device, Job, now
from service.dependencies import Caller, Service, Services
from service.device_view import calibration_view, interval_of
from service.errors import Problem, error, invalid
from service.guard import JSON, NOTHING, GuardedRoute, needs
from service.pricing import DEFAULT_CONFIDENCE, networks_of, space_of
from service.routes.devices import device_of
from service.routes.jobs import job_view
from service.routes.supernets import IdempotencyKey
from service.schemas.devices import EnrolmentView, Probe, ProbePlan, ProbePlanItem, ProbesCreated, ProbesIn, ProfileIn
from service.schemas.jobs import JobView
from service.schemas.strict import Name, Whole
from service.submission import once, request_digest, submit
from supernets.spaces.architecture import Architecture
from supernets.spaces.lowering import dense_from
from supernets.spaces.space import Space

router = APIRouter(route_class=GuardedRoute, tags=["measuring"])
MOST_PLANNED: Final = 200


def space_at(pointer: str, name: str, classes: int | None = None) -> Space:
    """The space of that name. Raises Problem that points to where it was named."""
    try:
        return space_of(name, classes)
    except UnknownSpace as unknown:
        raise Problem("unknown_space", str(unknown), errors=[error(pointer, "unknown_space", str(unknown))]) from None


@router.post("/v1/devices/{name}/enrolments", status_code=201, openapi_extra=needs("devices:write", NOTHING))
def enrol(name: str, services: Service, caller: Caller) -> EnrolmentView:
    """A one-time token for a measuring agent on that device."""
    token = new_secret("enrol")
    expires_at = now() + timedelta(seconds=services.settings.enrolment_ttl_s)
    with services.sessions.begin() as session:
        device = device_of(session, caller.tenant_id, name)
        agent_rows.add_enrolment(session, caller.tenant_id, device.id, digest_of(token), expires_at)
    return EnrolmentView(token=token, expires_at=expires_at)


@router.delete("/v1/devices/{name}/agent", status_code=204, response_class=Response, openapi_extra=needs("devices:write"))
def revoke_agent(name: str, services: Service, caller: Caller) -> Response:
    """Close the session of the device's agent: its key stops within a second."""
    with services.sessions.begin() as session:
        device = device_of(session, caller.tenant_id, name)
        agent_rows.close_sessions_of(session, device.id, "revoked")
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
        raise invalid("/classes", "classes", "the data set has another number of classes; leave `classes` out")
    space = space_at("/space", body.space, classes)
    resolutions = list(space.resolutions) if body.resolutions is None else sorted(set(body.resolutions))
    if not set(resolutions) <= set(space.resolutions):
        raise invalid("/resolutions", "resolution", f"the space has the resolutions {list(space.resolutions)}")

    def action(session: Session) -> Job:
        device = device_of(session, caller.tenant_id, name)
        request = {
            "device_id": device.id,
            "device": device.name,
            "space": space.name,
            "classes": space.classes,
            "resolutions": resolutions,
            "networks": body.networks,
        }
        return submit(services, session, caller.tenant_id, "profile", request)

    digest = request_digest("POST", f"/v1/devices/{name}/profiles", body.model_dump())
    job = once(services, caller, idempotency_key, digest, action)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return job_view(job)


@router.post("/v1/devices/{name}/probes", status_code=201, openapi_extra=needs("devices:write", JSON))
def probes(name: str, body: ProbesIn, services: Service, caller: Caller) -> ProbesCreated:
    """Register whole networks that were measured on the device, instead of or besides a full table."""
    read = [_read(index, sample) for index, sample in enumerate(body.samples)]
    if len({(space.name, space.classes) for space, _ in read}) > 1:
        raise invalid("/samples", "spaces", "all samples of one post must be of one space")
    space = read[0][0]
    with services.sessions.begin() as session:
        device = device_of(session, caller.tenant_id, name)
        for (_, architecture), sample in zip(read, body.samples, strict=True):
            measurement_rows.add(session, device, space, architecture, Measurement(sample.latency_ms), "probe")
        return _fitted(session, services, device, space, len(read))


def _read(index: int, sample: Probe) -> tuple[Space, Architecture]:
    space = space_at(f"/samples/{index}/space", sample.space, sample.classes)
    try:
        return space, space.from_json(sample.architecture)
    except (InvalidArchitecture, ValueError) as reason:
        detail = str(reason) if isinstance(reason, InvalidArchitecture) else "not an architecture"
        raise invalid(f"/samples/{index}/architecture", "architecture", detail) from None


def _fitted(session: Session, services: Services, device: Device, space: Space, accepted: int) -> ProbesCreated:
    """What the device's networks say: about its own table, else about a mix of the tables of known devices."""
    table = services.prices.choose_table(session, device, space)
    fit = services.prices.fit(session, table, device, space)
    if fit.refused is not None:
        raise PoorCalibration(fit.refused)
    return ProbesCreated(
        accepted=accepted,
        method="calibration",
        table_id=table.id,
        error=fit.calibration.error,
        worst=fit.calibration.worst,
        interval=interval_of(fit.calibration),
        missing_networks=fit.calibration.missing_networks(DEFAULT_CONFIDENCE),
        calibration=[calibration_view(space, fit)],
        warnings=[],
    )


@router.get("/v1/devices/{name}/probe-plan", openapi_extra=needs("devices:read"))
def probe_plan(name: str, services: Service, caller: Caller, space: Name, count: Whole = 20) -> ProbePlan:
    """Which whole networks to measure on the device, spread over its latencies; what was measured is not planned again."""
    if not 1 <= count <= MOST_PLANNED:
        raise invalid("query/count", "range", f"count must be from 1 to {MOST_PLANNED}")
    wanted = space_at("query/space", space)
    with services.sessions() as session:
        device = device_of(session, caller.tenant_id, name)
        try:
            pricing = services.prices.load(session, device, wanted)
            here, dense = pricing.space, pricing.predicted
        except (NoTable, PoorCalibration):
            here, dense = wanted, dense_from(wanted, lambda op: float(op.macs))
        measured = networks_of(here, measurement_rows.networks(session, device.id, wanted.name, wanted.classes))
    done = np.array([here.genes(a) for a, _ in measured], dtype=np.int64).reshape(-1, here.chain.genes)
    seed = int(device.id[-8:], 16) + len(measured)
    planned = calibration_networks(dense, np.random.default_rng(seed), count, known=done)
    architectures = [here.architecture(genes) for genes in planned]
    items = [ProbePlanItem(space=here.name, architecture=here.to_json(a), architecture_digest=a.digest) for a in architectures]
    return ProbePlan(items=items)
