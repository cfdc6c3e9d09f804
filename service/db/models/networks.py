"""What is trained and delivered: supernets, networks, and the files that both are kept in."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Float, ForeignKey, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from service.db.documents import Document
from service.db.models.columns import Base, now


class Supernet(Base):
    """A trained supernet; `digest` is the hash of all that went into it, so it is trained once for all
    jobs."""

    __tablename__ = "supernets"
    __table_args__ = (UniqueConstraint("tenant_id", "digest"),)
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    digest: Mapped[str] = mapped_column(String(64))
    space: Mapped[str] = mapped_column(String(64))
    dataset: Mapped[str] = mapped_column(String(64))
    dataset_fingerprint: Mapped[str | None] = mapped_column(String(64))  # null: older than fingerprints
    recipe: Mapped[str] = mapped_column(String(64))
    seed: Mapped[int] = mapped_column(BigInteger)
    classes: Mapped[int] = mapped_column(Integer)
    parent_id: Mapped[str | None] = mapped_column(String(40))  # the supernet whose weights it began with
    options: Mapped[Document | None] = mapped_column()  # what else was asked of the training, see SupernetIn
    weights_sha256: Mapped[str | None] = mapped_column(String(64))  # artifact; null while it trains
    predictor: Mapped[Document | None] = mapped_column()  # QualityPredictor.to_json
    summary: Mapped[Document | None] = mapped_column()  # qualities of the largest and smallest, history
    created_at: Mapped[datetime] = mapped_column(default=now)
    ready_at: Mapped[datetime | None] = mapped_column()


class Model(Base):
    """A delivered network. The file is an artifact; the card is everything a person needs to trust it."""

    __tablename__ = "models"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    device_id: Mapped[str | None] = mapped_column(
        ForeignKey("devices.id"), index=True
    )  # null: for limits alone
    supernet_id: Mapped[str] = mapped_column(ForeignKey("supernets.id"), index=True)
    table_id: Mapped[str | None] = mapped_column(ForeignKey("latency_tables.id"), index=True)
    budget_ms: Mapped[float | None] = mapped_column(Float(53))
    onnx_sha256: Mapped[str] = mapped_column(ForeignKey("artifacts.sha256"))
    card: Mapped[Document] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(default=now)
    name: Mapped[str | None] = mapped_column(String(128))  # what people call it
    note: Mapped[str | None] = mapped_column(Text)


class Artifact(Base):
    """A content-addressed file in the artifact store."""

    __tablename__ = "artifacts"
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str] = mapped_column(String(32))  # ArtifactKind
    created_at: Mapped[datetime] = mapped_column(default=now)
