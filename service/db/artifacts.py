"""Queries about stored files: which there are, how large, and which some row still names."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service.db.models import Artifact, MeasurementTask, Model, StepResult, Supernet, now
from service.db.states import ArtifactKind


def register(session: Session, sha256: str, size_bytes: int, kind: ArtifactKind) -> Artifact:
    """The row of a stored file; call after `ArtifactStore.put`. Idempotent, also for two at once."""
    row = session.get(Artifact, sha256)
    if row is not None:
        return row
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    values = {"sha256": sha256, "size_bytes": size_bytes, "kind": kind, "created_at": now()}
    session.execute(insert(Artifact).values(values).on_conflict_do_nothing())
    return session.get_one(Artifact, sha256)


def sizes(session: Session) -> dict[str, int]:
    """SHA-256 of every registered file -> its size in bytes."""
    return dict(session.execute(select(Artifact.sha256, Artifact.size_bytes)).all())


def named(session: Session) -> set[str]:
    """SHA-256 of every file that some row names."""
    wanted = set(session.scalars(select(Artifact.sha256)))
    wanted |= set(session.scalars(select(Model.onnx_sha256)))
    wanted |= {sha256 for sha256 in session.scalars(select(Supernet.weights_sha256)) if sha256}
    wanted |= set(session.scalars(select(MeasurementTask.sha256)))
    # A remembered step names files that may have no row yet: its worker died between the two.
    for result in session.scalars(select(StepResult.result)):
        wanted |= set(named_files(result))
    return wanted


def named_files(value: object) -> list[str]:
    """Every value of a key that ends in `sha256`, at any depth of a JSON value."""
    if isinstance(value, dict):
        own = [v for k, v in value.items() if str(k).endswith("sha256") and isinstance(v, str)]
        return own + [f for v in value.values() for f in named_files(v)]
    return [f for v in value for f in named_files(v)] if isinstance(value, list) else []
