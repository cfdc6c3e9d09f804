"""Queries about whole networks that were measured on a device."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from latency_tables.measurement import Measurement
from service.db.models import Device, NetworkMeasurement, new_id
from service.db.states import NetworkSource
from supernets.errors import InvalidArchitecture
from supernets.spaces.architecture import Architecture, SpaceRef
from supernets.spaces.space import Space


def networks(session: Session, device_id: str, space: str, classes: int) -> Sequence[NetworkMeasurement]:
    """Networks of a space measured on a device, the oldest first."""
    query = select(NetworkMeasurement).where(
        NetworkMeasurement.device_id == device_id,
        NetworkMeasurement.space == space,
        NetworkMeasurement.classes == classes,
    )
    return session.scalars(query.order_by(NetworkMeasurement.created_at, NetworkMeasurement.id)).all()


def label_of(row: NetworkMeasurement) -> str:
    """Names the session that a network was measured in: those of one session are faster or slower
    together."""
    # A network that was verified is a session of its own where an older version did not say.
    return row.session or (row.id if row.source == NetworkSource.VERIFY else "")


def networks_of(space: Space, rows: Sequence[NetworkMeasurement]) -> list[tuple[Architecture, float]]:
    """Measured networks of a space that can still be read, each once (the newest measurement counts)."""
    newest: dict[str, tuple[Architecture, float]] = {}
    for row in rows:
        try:
            architecture = space.from_json(row.architecture)
        except InvalidArchitecture:
            continue  # of a resolution that the table does not cover, or of an older form of the space
        if architecture not in space:
            continue  # it has blocks in a precision that the space is not searched in
        newest[row.architecture_digest] = (architecture, row.latency_ms)
    return list(newest.values())


def spaces_measured(session: Session, device_id: str) -> list[SpaceRef]:
    """The spaces of which networks were measured on a device."""
    query = select(NetworkMeasurement.space, NetworkMeasurement.classes).where(
        NetworkMeasurement.device_id == device_id
    )
    return [
        SpaceRef(space, classes)
        for space, classes in session.execute(query.distinct().order_by("space", "classes"))
    ]


def add(
    session: Session,
    device: Device,
    space: Space,
    architecture: Architecture,
    measurement: Measurement,
    source: str,
    together: str | None = None,
) -> NetworkMeasurement:
    """Keep the latency of a whole network. source: `probe`, `agent` or `verify`; together: names the job or
    post it is of."""
    row = NetworkMeasurement(
        id=new_id("net"),
        tenant_id=device.tenant_id,
        device_id=device.id,
        space=space.name,
        classes=space.classes,
        architecture=space.to_json(architecture),
        architecture_digest=architecture.digest,
        **measurement.to_json(),
        source=source,
        session=together,
    )
    session.add(row)
    session.flush()
    return row


def keep_once(
    session: Session,
    tenant_id: str,
    device_id: str,
    job_id: str,
    space: Space,
    architecture: Architecture,
    measurement: Measurement,
) -> None:
    """Keep the latency of a network that a job verified; the job's second attempt writes the same row."""
    name = f"{job_id}/{device_id}/{architecture.digest}"
    session.merge(
        NetworkMeasurement(
            id=f"net_{hashlib.sha256(name.encode()).hexdigest()[:32]}",
            tenant_id=tenant_id,
            device_id=device_id,
            space=space.name,
            classes=space.classes,
            architecture=space.to_json(architecture),
            architecture_digest=architecture.digest,
            **measurement.to_json(),
            source=NetworkSource.VERIFY,
            session=job_id,
        )
    )


def remove(session: Session, device_id: str, together: str) -> int:
    """Delete the networks of one session; how many there were."""
    chosen = (NetworkMeasurement.device_id == device_id, NetworkMeasurement.session == together)
    return session.connection().execute(delete(NetworkMeasurement).where(*chosen)).rowcount
