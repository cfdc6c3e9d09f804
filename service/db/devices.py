"""Queries about devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from latency_tables.measurement import Context
from service.db.documents import Fields, context_document, items, part
from service.db.happenings import tell
from service.db.models import (
    AgentPost,
    AgentSession,
    Device,
    Enrolment,
    Job,
    MeasurementTask,
    Model,
    NetworkMeasurement,
    Table,
    TableRow,
    new_id,
)
from service.db.states import ACTIVE, HappeningKind, JobKind

_NODES, _SESSION = "nodes_by_provider", "nodes_session"


def named(session: Session, tenant_id: str, name: str) -> Device | None:
    return session.scalar(select(Device).where(Device.tenant_id == tenant_id, Device.name == name))


def by_id(session: Session, device_id: str) -> Device | None:
    return session.get(Device, device_id)


def of_tenant(session: Session, tenant_id: str, device_id: str) -> Device | None:
    return session.scalar(select(Device).where(Device.id == device_id, Device.tenant_id == tenant_id))


def of_model(session: Session, model: Model) -> Device:
    """The device that a network was made for, where it was made for one."""
    return session.get_one(Device, model.device_id)


def all_named(session: Session, tenant_id: str, names: Sequence[str]) -> dict[str, Device]:
    query = select(Device).where(Device.tenant_id == tenant_id, Device.name.in_(names))
    return {device.name: device for device in session.scalars(query)}


def listed(session: Session, tenant_id: str, after: str | None, limit: int) -> Sequence[Device]:
    """Devices by name, those after a name."""
    query = select(Device).where(Device.tenant_id == tenant_id)
    if after is not None:
        query = query.where(Device.name > after)
    return session.scalars(query.order_by(Device.name).limit(limit)).all()


def add(session: Session, tenant_id: str, name: str, description: str, context: Context) -> Device:
    row = Device(
        id=new_id("dev"),
        tenant_id=tenant_id,
        name=name,
        description=description,
        context=context_document(context),
        revision=1,
    )
    session.add(row)
    session.flush()
    tell(session, tenant_id, HappeningKind.DEVICE, name, {"registered": True})
    return row


def describe(session: Session, device: Device, description: str) -> bool:
    """Change the description of the revision that was read; False when the device has another one by now."""
    statement = update(Device).where(Device.id == device.id, Device.revision == device.revision)
    values = {"description": description, "revision": device.revision + 1}
    done = session.connection().execute(statement.values(**values)).rowcount == 1
    session.refresh(device)
    return done


def count_nodes(
    session: Session, device: Device, session_id: str, networks: Sequence[Mapping[str, int]]
) -> None:
    """Add to the nodes by provider that the device's page shows: those of the networks measured in the newest
    session."""
    if not networks:
        return
    known = device.environment or {}
    nodes = Counter(part(known, _NODES) if known.get(_SESSION) == session_id else {})
    for network in networks:
        nodes.update(network)
    device.environment = {**known, _NODES: dict(nodes), _SESSION: session_id}


def nodes_by_provider(device: Device) -> dict[str, int] | None:
    """Nodes of measured networks by the provider that computed them; None where no agent has told."""
    nodes = (device.environment or {}).get(_NODES)
    if not isinstance(nodes, dict) or not all(isinstance(n, int) for n in nodes.values()):
        return None  # an agent says of its environment what it likes
    return {str(name): n for name, n in nodes.items()}


def set_environment(session: Session, device_id: str, environment: Fields) -> None:
    """What the newest agent sees of its device; the nodes counted before stay until it has measured."""
    known = session.scalar(select(Device.environment).where(Device.id == device_id)) or {}
    # A new agent has measured nothing yet; what the page shows meanwhile is of the one before.
    if _SESSION in known:
        environment = {**environment, **{name: known[name] for name in (_NODES, _SESSION)}}
    session.execute(update(Device).where(Device.id == device_id).values(environment=environment))


def why_kept(session: Session, device: Device) -> str | None:
    """Why a device cannot be deleted, or None: a delivered model or a job that has not ended needs it."""
    if session.scalar(select(Model.id).where(Model.device_id == device.id).limit(1)) is not None:
        return "a delivered model was made for it"
    jobs = select(Job.request).where(
        Job.tenant_id == device.tenant_id, Job.state.in_(ACTIVE), Job.kind != JobKind.SUPERNET
    )
    for request in session.scalars(jobs):
        targets = [request.get("device_id"), *(pinned.device_id for pinned in pinned_by(request))]
        if device.id in targets:
            return "a job that has not ended works for it"
    return None


class Pinned(NamedTuple):
    """A device and the version of its table that a search holds on to."""

    device_id: str
    table_id: str


def pinned_by(request: Fields) -> list[Pinned]:
    """What a search is pinned to, the devices of its groups too."""
    members = [member for target in items(request, "targets") for member in target.get("group", [target])]
    return [Pinned(m["device_id"], m["table_id"]) for m in members if "device_id" in m]


def remove(session: Session, device_id: str) -> None:
    """Delete a device with its tables, measurements and agents."""
    tables = select(Table.id).where(Table.device_id == device_id)
    sessions = select(AgentSession.id).where(AgentSession.device_id == device_id)
    # Children first: foreign keys are enforced, on SQLite too.
    session.execute(delete(TableRow).where(TableRow.table_id.in_(tables)))
    session.execute(delete(Table).where(Table.device_id == device_id))
    session.execute(delete(MeasurementTask).where(MeasurementTask.device_id == device_id))
    session.execute(delete(AgentPost).where(AgentPost.session_id.in_(sessions)))
    for owned in (AgentSession, Enrolment, NetworkMeasurement):
        session.execute(delete(owned).where(owned.device_id == device_id))
    session.execute(delete(Device).where(Device.id == device_id))
