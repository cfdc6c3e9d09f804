"""What a measuring agent may do: enrol, ask for tasks, fetch their files, post measurements. Nothing else."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from latency_tables.errors import InvalidMeasurement
from latency_tables.measurement import Context
from service.db import agents as agent_rows
from service.db import devices as device_rows
from service.db.documents import Fields
from service.db.faults import Conflict
from service.db.models import AgentSession, Device, Enrolment, MeasurementTask, now
from service.db.session import Session
from service.http.auth import AGENT_SCOPE, PUBLIC, Identity, digest_of, kind_of, new_secret
from service.http.dependencies import Caller, Service
from service.http.errors import Problem, error, invalid, not_found
from service.http.guard import AGENT_POST, JSON, GuardedRoute, needs, unauthenticated
from service.schemas.agent import (
    Accepted,
    EnrolIn,
    Enrolled,
    FailureIn,
    FileView,
    MeasurementIn,
    MeasurementsIn,
    TaskInput,
    TaskList,
    TaskView,
)
from service.schemas.strict import Sha256, Whole

router = APIRouter(route_class=GuardedRoute, tags=["agent"])
MOST_TASKS: Final = 500
POLL_S: Final = 2.0
_SLACK_S: Final = 2.0


@router.post("/v1/agent/enrol", status_code=201, openapi_extra=needs(PUBLIC, JSON))
def enrol(body: EnrolIn, request: Request, services: Service) -> Enrolled:
    """Spend a one-time token: an identity for one device and one session."""
    fingerprint = body.environment.get("fingerprint")
    if (
        not isinstance(fingerprint, str)
        or not 8 <= len(fingerprint) <= 64
        or set(fingerprint) - set("0123456789abcdef")
    ):
        raise invalid("/environment/fingerprint", "fingerprint", "8 to 64 hexadecimal digits are needed")
    secret = new_secret("agent")
    with services.sessions.begin() as session:
        token = (
            agent_rows.enrolment_by_digest(session, digest_of(body.token))
            if kind_of(body.token) == "enrol"
            else None
        )
        if token is None or token.expires_at <= now():
            services.limiter.count_bad_key(request.client.host if request.client else "")
            raise unauthenticated("the token is unknown or has expired; ask for a new one")
        device = device_rows.by_id(session, token.device_id)
        if device is None:
            raise not_found("device")
        _check_context(Context(**device.context), body.context.context())
        row = _redeem(
            session, token, secret, body.environment, fingerprint, services.settings.agent_session_ttl_s
        )
        device_rows.set_environment(session, device.id, body.environment)
    services.authenticator.forget()
    return Enrolled(device=device.name, session_id=row.id, agent_key=secret, expires_at=row.expires_at)


def _check_context(wanted: Context, measured: Context) -> None:
    """Raises Problem `context_mismatch` with an error for each field that differs."""
    fields = wanted.differing(measured)
    if fields:
        values = wanted.as_dict()
        detail = (
            f"the agent measures in another context than the device's: {', '.join(fields)} differ. Start the "
            "agent with the options that `bespoke devices enrol` prints, or register a device of the agent's "
            "context"
        )
        errors = [
            error(f"/context/{name}", "context_mismatch", f"the device has {values[name]}") for name in fields
        ]
        raise Problem("context_mismatch", detail, errors=errors)


def _redeem(
    session: Session,
    token: Enrolment,
    secret: str,
    environment: Fields,
    fingerprint: str,
    ttl_s: float,
) -> AgentSession:
    """Of several redemptions at once exactly one gets a session."""
    if not agent_rows.use_enrolment(session, token.id):
        raise Problem("token_used", "a token is good for one agent; ask for a new one")
    expires_at = now() + timedelta(seconds=ttl_s)
    return agent_rows.open_session(session, token, digest_of(secret), environment, fingerprint, expires_at)


def _session_of(session: Session, caller: Identity) -> tuple[AgentSession, Device]:
    """The agent's open session and its device. Raises Problem `session_closed`."""
    row = agent_rows.get_session(session, caller.session_id)
    device = None if row is None else device_rows.by_id(session, row.device_id)
    if row is None or device is None:
        raise not_found("session")
    if row.closed_at is not None or row.expires_at <= now():
        raise Problem(
            "session_closed", f"the session is over ({row.closed_reason or 'expired'}); enrol the agent again"
        )
    return row, device


@router.get("/v1/agent/tasks", openapi_extra=needs(AGENT_SCOPE))
def tasks(services: Service, caller: Caller, limit: Whole = 50) -> TaskList:
    """What to measure next; asking is also the sign of life."""
    with services.sessions.begin() as session:
        row, device = _session_of(session, caller)
        agent_rows.beat(session, row.id)
        found = agent_rows.open_tasks(session, device.id, max(1, min(limit, MOST_TASKS)))
        remaining = agent_rows.count_open_tasks(session, device.id) if found else 0
        # Tasks of one job at a time: they share a sentinel.
        items = [t for t in found if t.job_id == found[0].job_id]
        sentinel = agent_rows.sentinel(session, items[0].job_id) if items else None
    return TaskList(
        session_id=row.id,
        context=device.context,
        sentinel=None
        if sentinel is None
        else FileView(sha256=sentinel.sha256, size_bytes=sentinel.size_bytes),
        items=[_task_view(t) for t in items],
        remaining=remaining,
        poll_s=POLL_S,
    )


def _task_view(task: MeasurementTask) -> TaskView:
    return TaskView(
        id=task.id,
        kind=task.kind,
        sha256=task.sha256,
        size_bytes=task.size_bytes,
        nonce=task.nonce,
        operator=task.operator,
        input_shape=task.input_shape,
        inputs=[TaskInput(**spec.to_json()) for spec in agent_rows.inputs_of(task)],
    )


@router.get(
    "/v1/agent/files/{sha256}",
    response_class=Response,
    responses={200: {"content": {"application/onnx": {}}}},
    openapi_extra=needs(AGENT_SCOPE),
)
def file(sha256: Sha256, services: Service, caller: Caller) -> Response:
    """The file of one of the device's tasks, hashed before it is served."""
    with services.sessions() as session:
        _, device = _session_of(session, caller)
        if not agent_rows.has_file(session, device.id, sha256):
            raise not_found("file")
    return Response(
        services.store.read(sha256), media_type="application/onnx", headers={"ETag": f'"{sha256}"'}
    )


@router.post("/v1/agent/measurements", openapi_extra=needs(AGENT_SCOPE, AGENT_POST))
def measurements(body: MeasurementsIn, services: Service, caller: Caller) -> Accepted:
    """Answers to tasks: all of a post or nothing, and once for each sequence number."""
    # Without what the agent did not send: a post may be repeated to a service that was updated meanwhile.
    told = body.model_dump(exclude=None if body.failures else {"failures"})
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    changed = False
    try:
        with services.sessions.begin() as session:
            row, device = _session_of(session, caller)
            if body.session_id != row.id:
                raise Problem(
                    "wrong_task",
                    "the session is not this agent's",
                    errors=[error("/session_id", "wrong_task", "")],
                )
            known = agent_rows.post_of(session, row.id, body.sequence)
            if known is not None:
                return _again(known.body_digest, digest, known.answer)
            agent_rows.beat(session, row.id)
            if body.fingerprint == row.fingerprint:
                _accept(session, row, device, body)
                answer = {"accepted": len(body.items) + len(body.failures)}
                agent_rows.add_post(session, row.id, body.sequence, digest, answer)
            else:
                changed = True
                agent_rows.close_session(session, row.id, "device_changed")
    except Conflict:
        # The same post arrived twice at once; what the other one was answered holds.
        with services.sessions() as session:
            known = agent_rows.post_of(session, body.session_id, body.sequence)
        if known is None:
            raise
        return _again(known.body_digest, digest, known.answer)
    # After the commit: the session must be closed whether or not its agent hears of it.
    if changed:
        services.authenticator.forget()
        raise Problem(
            "device_changed", "processor, governor, threads or versions changed; enrol the agent again"
        )
    return Accepted(**answer)


def _again(known_digest: str, digest: str, answer: Fields) -> Accepted:
    if known_digest != digest:
        raise Problem("sequence_reused", "every post has a sequence number of its own")
    return Accepted(**answer)


def _accept(session: Session, row: AgentSession, device: Device, body: MeasurementsIn) -> None:
    """Store every answer. Raises Problem for the first that is not this agent's, or cannot be true."""
    ids = [*(item.task_id for item in body.items), *(failure.task_id for failure in body.failures)]
    if len(set(ids)) != len(ids):
        raise invalid("/items", "duplicate", "a task is answered twice in one post")
    found = agent_rows.tasks_named(session, device.id, ids)
    for index, item in enumerate(body.items):
        _check(f"/items/{index}", item, found.get(item.task_id))
        _check_measurement(f"/items/{index}", item)
    for index, failure in enumerate(body.failures):
        _check(f"/failures/{index}", failure, found.get(failure.task_id))
    # All checks before the first write: of a post that lies in one number nothing is kept.
    _check_durations(row, body)
    closed = [agent_rows.answer_task(session, item.task_id, row.id, item.result()) for item in body.items]
    closed += [agent_rows.fail_task(session, one.task_id, row.id, one.reason) for one in body.failures]
    if not all(closed):
        raise Problem(
            "wrong_task", "a task has been answered or withdrawn meanwhile; ask for the tasks again"
        )
    device_rows.count_nodes(session, device, row.id, [item.nodes for item in body.items if item.nodes])


def _check(pointer: str, item: MeasurementIn | FailureIn, task: MeasurementTask | None) -> None:
    if task is None or task.kind == agent_rows.SENTINEL:
        raise Problem(
            "wrong_task",
            "not a task of this device",
            errors=[error(f"{pointer}/task_id", "wrong_task", "unknown")],
        )
    if item.nonce != task.nonce:
        raise Problem(
            "nonce", "ask for the tasks again", errors=[error(f"{pointer}/nonce", "nonce", "not the task's")]
        )
    if item.sha256 != task.sha256:
        raise Problem(
            "wrong_task",
            "not the task's file",
            errors=[error(f"{pointer}/sha256", "sha256", "not the task's")],
        )


def _check_measurement(pointer: str, item: MeasurementIn) -> None:
    try:
        item.measurement()
    except InvalidMeasurement as reason:
        raise invalid(pointer, "measurement", str(reason)) from None


def _check_durations(row: AgentSession, body: MeasurementsIn) -> None:
    """What was measured cannot have taken longer than the session has lasted, by the service's own clock."""
    lasted_s = (now() - row.created_at).total_seconds() + _SLACK_S
    spent_s = (
        sum((item.lower_quartile_ms or item.median_ms) * (item.count or 1) / 2 for item in body.items) / 1e3
    )
    if spent_s > lasted_s:
        raise Problem("implausible", "the measurements would have taken longer than the session has lasted")
