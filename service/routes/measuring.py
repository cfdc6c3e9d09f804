"""Measuring a device: tokens for agents, profile jobs, whole networks as probes, and which of them to
measure."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from latency_tables.errors import InvalidOperator
from latency_tables.formats.hat_csv import TransformerProbe
from latency_tables.measurement import Measurement
from latency_tables.operators import Operator
from service.datasets import known
from service.db import agents as agent_rows
from service.db import measurements as measurement_rows
from service.db.models import Job, new_id, now
from service.db.session import Session
from service.db.states import JobKind, NetworkSource
from service.db.tables import context_of
from service.devices.calibrate import learn, plan
from service.devices.contexts import generating, refuse_undeliverable
from service.devices.transformers import device_from_transformers
from service.devices.view import probes_created
from service.http.auth import REVOKED, digest_of, new_secret
from service.http.dependencies import Caller, IdempotencyKey, Service
from service.http.errors import Problem, error, invalid
from service.http.guard import JSON, NOTHING, GuardedRoute, needs
from service.jobs.requests import ProfileRequest, stored
from service.jobs.submission import submit
from service.routes.devices import device_of
from service.routes.jobs import handed_in
from service.schemas.devices import (
    EnrolmentView,
    Probe,
    ProbePlan,
    ProbePlanItem,
    ProbesCreated,
    ProbesIn,
    ProfileIn,
    TransformersIn,
)
from service.schemas.jobs import JobView
from service.schemas.strict import Name, Whole
from supernets.delivery.catalog import check_precisions
from supernets.delivery.precision import FLOAT32, PRECISIONS_OF_BLOCKS, space_in
from supernets.errors import (
    InvalidArchitecture,
    InvalidPrecision,
    InvalidPruning,
    UnknownSpace,
    UnservableContext,
)
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import ref_in, space_named
from supernets.spaces.space import Space

router = APIRouter(route_class=GuardedRoute, tags=["measuring"])
MOST_PLANNED: Final = 200


def space_at(pointer: str, name: str, classes: int | None = None) -> Space:
    """The space of that name. Raises Problem that points to where it was named."""
    try:
        return space_named(name, classes)
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
    # At once here; other processes ask again within a second.
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
    sentence = None if body.generation is None else body.generation.model_dump()
    space = generating(space_at("/space", body.space, classes), sentence)
    asked = set(body.precisions or ())
    precisions = None if asked <= {FLOAT32} else tuple(p for p in PRECISIONS_OF_BLOCKS if p in asked)
    try:
        space_in(space, precisions, body.prune)
    except InvalidPruning as reason:
        raise invalid("/prune", "invalid_pruning", str(reason)) from None
    except InvalidPrecision as reason:
        raise invalid("/precisions", "invalid_precision", str(reason)) from None
    resolutions = list(space.resolutions) if body.resolutions is None else sorted(set(body.resolutions))
    if not set(resolutions) <= set(space.resolutions):
        raise invalid(
            "/resolutions", "resolution", f"the space has the resolutions {list(space.resolutions)}"
        )

    def action(session: Session) -> Job:
        device = device_of(session, caller.tenant_id, name)
        refuse_undeliverable(space, context_of(device), "/space")
        try:
            check_precisions([context_of(device)], precisions or ())
        except UnservableContext as reason:
            where = [error("/precisions", "unservable_context", str(reason))]
            raise Problem("unservable_context", str(reason), errors=where) from None
        request = ProfileRequest(
            device_id=device.id,
            device=device.name,
            space=space.name,
            classes=space.classes,
            resolutions=tuple(resolutions),
            networks=body.networks,
            remeasure=tuple(_operators(body.remeasure)),
            precisions=precisions,
            prune=body.prune or None,
        )
        return submit(services, session, caller.tenant_id, JobKind.PROFILE, stored(request))

    path = f"/v1/devices/{name}/profiles"
    return handed_in(services, caller, response, idempotency_key, path, body, action)


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
        learnt = learn(session, services.prices, device, space)
    return probes_created(learnt, len(read), together)


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


@router.post("/v1/devices/{name}/transformers", status_code=201, openapi_extra=needs("devices:write", JSON))
def transformers(name: str, body: TransformersIn, services: Service, caller: Caller) -> ProbesCreated:
    """A table from whole transformers as HAT's data sets hold them, with its error on those held out."""
    sentence = None if body.generation is None else body.generation.model_dump()
    space = generating(space_at("/space", body.space, body.classes), sentence)
    if space.generation is None:
        raise invalid("/space", "space", f"networks of {space.name} write no sentences; take hat-wmt")
    probes = [TransformerProbe(tuple(n.features), n.encoder_ms, n.decoder_ms) for n in body.networks]
    with services.sessions.begin() as session:
        device, together = device_of(session, caller.tenant_id, name), new_id("post")
        learnt, held_out = device_from_transformers(
            session, device, space, probes, body.fitted_to, body.seed, caller.name
        )
    made = probes_created(learnt, len(probes), together)
    return made.model_copy(update={"session": None, "held_out": held_out})


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
        here, planned = plan(session, services.prices, device, wanted, count)
    items = [
        ProbePlanItem(space=here.name, architecture=here.to_json(a), architecture_digest=a.digest)
        for a in planned
    ]
    return ProbePlan(items=items)
