"""Queries about supernets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service.db.documents import Fields, part
from service.db.happenings import tell
from service.db.jobs import before
from service.db.models import Job, JobEvent, Model, Supernet, new_id, now
from service.db.states import HappeningKind, JobKind


@dataclass(frozen=True)
class TrainingReport:
    """One report of a training. metrics: `phase`, `epoch`, `epochs`, `loss` (mean over the epoch so far) …"""

    at: datetime
    fraction: float
    metrics: Mapping[str, Any]


def get(session: Session, tenant_id: str, supernet_id: str) -> Supernet | None:
    return session.scalar(select(Supernet).where(Supernet.tenant_id == tenant_id, Supernet.id == supernet_id))


def by_id(session: Session, supernet_id: str) -> Supernet | None:
    return session.get(Supernet, supernet_id)


def of_all_tenants(session: Session, digest: str) -> Sequence[Supernet]:
    """The rows of all tenants that were made of the same inputs: they are trained once."""
    return session.scalars(select(Supernet).where(Supernet.digest == digest)).all()


def finish(session: Session, digest: str, weights_sha256: str, predictor: Fields, summary: Fields) -> None:
    """Make the supernets of these inputs ready, those that are not, and tell their tenants."""
    unfinished = update(Supernet).where(Supernet.digest == digest, Supernet.ready_at.is_(None))
    made = {"weights_sha256": weights_sha256, "predictor": dict(predictor), "summary": dict(summary)}
    session.execute(unfinished.values(**made, ready_at=now()))
    for row in of_all_tenants(session, digest):
        tell(session, row.tenant_id, HappeningKind.SUPERNET, row.id, {"state": "ready"})


def class_weights_of(row: Supernet) -> str | None:
    """How classes were weighed in its training, None for alike."""
    found = (row.options or {}).get("class_weights")
    return found if isinstance(found, str) else None


def of_model(session: Session, model: Model) -> Supernet:
    """What a delivered network was cut from; it cannot be deleted before the model."""
    return session.get_one(Supernet, model.supernet_id)


def listed(
    session: Session, tenant_id: str, after: tuple[datetime, str] | None, limit: int
) -> Sequence[Supernet]:
    """Supernets, the newest first."""
    query = select(Supernet).where(Supernet.tenant_id == tenant_id)
    if after is not None:
        query = query.where(before(Supernet.created_at, Supernet.id, after))
    return session.scalars(query.order_by(Supernet.created_at.desc(), Supernet.id.desc()).limit(limit)).all()


def history(session: Session, tenant_id: str, supernet_id: str) -> list[TrainingReport]:
    """Progress of the job that trained it which holds numbers, in order."""
    wanted = (
        Job.tenant_id == tenant_id,
        Job.request["supernet_id"].as_string() == supernet_id,
        Job.kind == JobKind.SUPERNET,
    )
    trained = session.scalar(select(Job.id).where(*wanted).order_by(Job.created_at.desc()).limit(1))
    query = select(JobEvent.at, JobEvent.data).where(JobEvent.job_id == trained, JobEvent.kind == "progress")
    found = session.execute(query.order_by(JobEvent.sequence)).all()
    reports = [TrainingReport(at, float(data["fraction"]), part(data, "metrics")) for at, data in found]
    return [report for report in reports if isinstance(report.metrics.get("loss"), float)]


def of_dataset(session: Session, tenant_id: str, dataset: str) -> Sequence[Supernet]:
    """Supernets that were trained, or are being trained, on what had that name; the oldest first."""
    query = select(Supernet).where(Supernet.tenant_id == tenant_id, Supernet.dataset == dataset)
    return session.scalars(query.order_by(Supernet.created_at, Supernet.id)).all()


def digest_of(inputs: Fields) -> str:
    """Hash of all that goes into a supernet."""
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def initial_weights(session: Session, row: Supernet) -> str | None:
    """SHA-256 of the weights that a supernet begins with; None for random ones."""
    return session.scalar(select(Supernet.weights_sha256).where(Supernet.id == row.parent_id))


def with_digest(session: Session, tenant_id: str, digest: str) -> Supernet | None:
    """The supernet of those inputs, None where there is none."""
    return session.scalar(select(Supernet).where(Supernet.tenant_id == tenant_id, Supernet.digest == digest))


def find_or_add(
    session: Session,
    tenant_id: str,
    digest: str,
    *,
    space: str,
    dataset: str,
    recipe: str,
    seed: int,
    classes: int,
    dataset_fingerprint: str | None = None,
    parent_id: str | None = None,
    options: Fields | None = None,
) -> Supernet:
    """The supernet of these inputs; two requests at once get the same one."""
    values = {
        "id": new_id("sup"),
        "tenant_id": tenant_id,
        "digest": digest,
        "space": space,
        "dataset": dataset,
        "dataset_fingerprint": dataset_fingerprint,
        "recipe": recipe,
        "seed": seed,
        "classes": classes,
        "parent_id": parent_id,
        "options": dict(options) if options else None,
        "created_at": now(),
    }
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    wanted = select(Supernet).where(Supernet.tenant_id == tenant_id, Supernet.digest == digest)
    # Looked for first: most are there, and an INSERT that changes nothing takes SQLite's one write lock.
    known = session.scalar(wanted)
    if known is not None:
        return known
    session.execute(
        insert(Supernet).values(**values).on_conflict_do_nothing(index_elements=["tenant_id", "digest"])
    )
    return session.scalars(wanted).one()
