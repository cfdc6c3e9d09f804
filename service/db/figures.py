"""What the database knows about the whole service, as figures for Prometheus."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import timedelta
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.db.models import AgentSession, Job, JobEvent, Model, Worker, now
from service.db.states import JobKind
from service.jobs.transitions import JobState
from service.settings import Settings
from service.telemetry import Telemetry

_WINDOW: Final = timedelta(hours=1)
_MOST_EVENTS: Final = 5000
_MOST_MODELS: Final = 2000


def refresh(session: Session, telemetry: Telemetry, settings: Settings) -> None:
    """Set every gauge that follows from SQL."""
    _jobs(session, telemetry)
    _steps(session, telemetry)
    _models(session, telemetry)
    telemetry.workers.set(living_workers(session, settings))
    seen = now() - timedelta(seconds=settings.agent_present_s)
    present = (
        select(func.count())
        .select_from(AgentSession)
        .where(AgentSession.closed_at.is_(None), AgentSession.seen_at > seen)
    )
    telemetry.agents.set(session.scalar(present) or 0)


def living_workers(session: Session, settings: Settings) -> int:
    """Workers that were heard of lately."""
    alive = select(func.count()).select_from(Worker)
    fresh = now() - timedelta(seconds=settings.dead_after_s)
    return session.scalar(alive.where(Worker.dead_at.is_(None), Worker.seen_at > fresh)) or 0


def jobs_of(session: Session, tenant_id: str) -> dict[str, int]:
    """How many jobs of a tenant are in each state."""
    counted = select(Job.state, func.count()).where(Job.tenant_id == tenant_id).group_by(Job.state)
    found = {row[0]: row[1] for row in session.execute(counted)}
    return {state.value: found.get(state.value, 0) for state in JobState}


def _jobs(session: Session, telemetry: Telemetry) -> None:
    counts = {
        (k, s): n
        for k, s, n in session.execute(
            select(Job.kind, Job.state, func.count()).group_by(Job.kind, Job.state)
        )
    }
    for kind in JobKind:
        for state in JobState:
            telemetry.jobs.labels(kind, state.value).set(counts.get((kind, state.value), 0))
    oldest = session.scalar(
        select(Job.created_at).where(Job.state == JobState.QUEUED).order_by(Job.created_at).limit(1)
    )
    telemetry.oldest_queued.set(0 if oldest is None else (now() - oldest).total_seconds())
    started = (
        select(Job.created_at, Job.started_at).where(Job.started_at > now() - _WINDOW).limit(_MOST_EVENTS)
    )
    waits = [(begun - made).total_seconds() for made, begun in session.execute(started) if begun is not None]
    telemetry.wait_seconds.set(sum(waits) / len(waits) if waits else 0)
    errors = session.scalars(
        select(Job.error).where(Job.state == JobState.FAILED).order_by(Job.created_at.desc()).limit(1000)
    )
    telemetry.failures.clear()
    for problem, number in Counter(str((e or {}).get("type", "unknown"))[:80] for e in errors).items():
        telemetry.failures.labels(problem).set(number)


def _steps(session: Session, telemetry: Telemetry) -> None:
    query = select(JobEvent.data).where(JobEvent.kind == "step_done", JobEvent.at > now() - _WINDOW)
    seconds: dict[str, list[float]] = defaultdict(list)
    for data in session.scalars(query.order_by(JobEvent.at.desc()).limit(_MOST_EVENTS)):
        seconds[str(data.get("step", "unknown"))].append(
            float(data.get("seconds") or data.get("elapsed_s") or 0.0)
        )
    telemetry.step_seconds.clear()
    telemetry.step_count.clear()
    for step, values in seconds.items():
        telemetry.step_seconds.labels(step).set(sum(values) / len(values))
        telemetry.step_count.labels(step).set(len(values))


def _models(session: Session, telemetry: Telemetry) -> None:
    kept = broken = unmeasured = 0
    errors = []
    for budget, card in session.execute(
        select(Model.budget_ms, Model.card).order_by(Model.created_at.desc()).limit(_MOST_MODELS)
    ):
        latency = card.get("latency", {})
        measured, predicted = latency.get("measured_ms"), latency.get("predicted_ms")
        if measured is None or budget is None:
            unmeasured += 1
            continue
        kept, broken = kept + (measured <= budget), broken + (measured > budget)
        if predicted:
            errors.append(abs(predicted / measured - 1))
    for outcome, number in (("kept", kept), ("broken", broken), ("unmeasured", unmeasured)):
        telemetry.models.labels(outcome).set(number)
    telemetry.table_error.set(sum(errors) / len(errors) if errors else 0)
