"""What a worker leaves behind: a delivered network of a job, written straight into the installation."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import select

from service.artifacts import ArtifactStore
from service.db.artifacts import register
from service.db.models import Job, Model, Supernet, Tenant, new_id, now
from service.db.session import create_db_engine, session_factory
from service.db.states import JobKind, JobState
from service.db.transitions import create_job, move
from service.settings import Settings

SIZE_ONLY: dict[str, Any] = {
    "device": None,
    "budget_ms": None,
    "devices": [],
    "architecture": {},
    "latency": {"predicted_ms": None, "measured_ms": None, "verified": False, "chosen_by": "limits"},
    "accuracy": {"predicted": 0.98, "measured": 0.97, "dataset": "digits", "split": "test", "samples": 360},
    "constraints": [{"name": "size_bytes", "limit": 400_000, "value": 390_000, "basis": "file"}],
    "search": {"strategy": "exact", "optimal": True, "gap": 0.0},
    "state": "good",
    "suspect_reason": None,
}


def deliver(data_dir: Path, card: dict[str, Any], data: bytes, job_id: str | None = None) -> str:
    """A model with that card and file, of that job or of one that has ended; its id."""
    settings = Settings(data_dir=data_dir)
    engine = create_db_engine(settings.resolved_database_url)
    sha256, size_bytes = ArtifactStore(data_dir / "artifacts").put(data)
    model_id = new_id("model")
    file = {"sha256": sha256, "size_bytes": size_bytes, "parameters": 1, "macs": 1, "opset": 20}
    with session_factory(engine).begin() as session:
        tenant_id = session.scalars(select(Tenant.id)).first() or ""
        if job_id is None:
            job_id = create_job(session, tenant_id=tenant_id, kind=JobKind.SEARCH, request={"targets": []}).id
        move(session, job_id, JobState.RUNNING, from_states=[JobState.QUEUED])
        register(session, sha256, size_bytes, "onnx_model")
        supernet = Supernet(
            id=new_id("sup"), tenant_id=tenant_id, digest=model_id.ljust(64, "0")[-64:], space="digits-mbv3",
            dataset="digits", recipe="quick", seed=0, classes=10, created_at=now(),
        )  # fmt: skip
        session.add(supernet)
        session.flush()
        whole = {**card, "id": model_id, "job_id": job_id, "file": file}
        session.add(
            Model(
                id=model_id,
                tenant_id=tenant_id,
                job_id=job_id,
                supernet_id=supernet.id,
                onnx_sha256=sha256,
                card=whole,
            )
        )
        result = {
            "models": [{"id": model_id, "device": card["device"], "state": card["state"]}],
            "failures": [],
        }
        move(session, job_id, JobState.SUCCEEDED, from_states=[JobState.RUNNING], result=result)
    engine.dispose()
    return model_id


@contextmanager
def delivering(data_dir: Path, card: dict[str, Any]) -> Iterator[None]:
    """While this is open, the next search that is queued is delivered with that card."""
    engine = create_db_engine(Settings(data_dir=data_dir).resolved_database_url)
    before = set(_queued(engine))
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            for job_id in set(_queued(engine)) - before:
                deliver(data_dir, card, b"a network", job_id)
                return
            time.sleep(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        engine.dispose()


def _queued(engine: Any) -> list[str]:
    with session_factory(engine)() as session:
        return list(
            session.scalars(select(Job.id).where(Job.kind == JobKind.SEARCH, Job.state == JobState.QUEUED))
        )
