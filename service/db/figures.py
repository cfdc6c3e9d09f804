"""What the database knows about the whole service; `service.telemetry` shows it to Prometheus."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.db.documents import part
from service.db.models import AgentSession, Job, JobEvent, Model, Worker, now
from service.db.states import JobKind, JobState

_WINDOW: Final = timedelta(hours=1)
_MOST_EVENTS: Final = 5000
_MOST_MODELS: Final = 2000
_MOST_FAILURES: Final = 1000


@dataclass(frozen=True)
class Steps:
    """How often a step was done in the last hour, and how long that took on average."""

    count: int
    mean_s: float


@dataclass(frozen=True)
class Figures:
    """jobs: by kind and state. failures: newest failed jobs by the type of their problem. steps: of the last
    hour, by name.

    wait_s: mean from submission to start, of the last hour. outcomes: delivered networks by `kept`, `broken`
    and `unmeasured` budget. prediction_error: mean of |predicted / measured - 1|.
    """

    jobs: Mapping[tuple[JobKind, JobState], int]
    oldest_queued_s: float
    wait_s: float
    failures: Mapping[str, int]
    steps: Mapping[str, Steps]
    outcomes: Mapping[str, int]
    prediction_error: float
    workers: int
    agents: int


def read(session: Session, worker_seen_s: float, agent_seen_s: float) -> Figures:
    """worker_seen_s, agent_seen_s: how long ago one may have been heard of and still counts as there."""
    outcomes, prediction_error = _models(session)
    return Figures(
        jobs=_jobs(session),
        oldest_queued_s=_oldest_queued_s(session),
        wait_s=_wait_s(session),
        failures=_failures(session),
        steps=_steps(session),
        outcomes=outcomes,
        prediction_error=prediction_error,
        workers=living_workers(session, worker_seen_s),
        agents=_present_agents(session, agent_seen_s),
    )


def living_workers(session: Session, seen_s: float) -> int:
    """Workers that were heard of lately."""
    fresh = now() - timedelta(seconds=seen_s)
    alive = select(func.count()).select_from(Worker).where(Worker.dead_at.is_(None), Worker.seen_at > fresh)
    return session.scalar(alive) or 0


def jobs_of(session: Session, tenant_id: str) -> dict[str, int]:
    """How many jobs of a tenant are in each state."""
    counted = select(Job.state, func.count()).where(Job.tenant_id == tenant_id).group_by(Job.state)
    found = {row[0]: row[1] for row in session.execute(counted)}
    return {state.value: found.get(state.value, 0) for state in JobState}


def _present_agents(session: Session, seen_s: float) -> int:
    seen = now() - timedelta(seconds=seen_s)
    present = select(func.count()).select_from(AgentSession)
    return session.scalar(present.where(AgentSession.closed_at.is_(None), AgentSession.seen_at > seen)) or 0


def _jobs(session: Session) -> dict[tuple[JobKind, JobState], int]:
    """Zero where there is none, so that a graph does not end when the last job leaves a state."""
    counted = session.execute(select(Job.kind, Job.state, func.count()).group_by(Job.kind, Job.state))
    counts = {(kind, state): number for kind, state, number in counted}
    return {(kind, state): counts.get((kind, state), 0) for kind in JobKind for state in JobState}


def _oldest_queued_s(session: Session) -> float:
    oldest = session.scalar(select(func.min(Job.created_at)).where(Job.state == JobState.QUEUED))
    return 0.0 if oldest is None else (now() - oldest).total_seconds()


def _wait_s(session: Session) -> float:
    started = (
        select(Job.created_at, Job.started_at).where(Job.started_at > now() - _WINDOW).limit(_MOST_EVENTS)
    )
    waits = [(begun - made).total_seconds() for made, begun in session.execute(started) if begun is not None]
    return _mean(waits)


def _failures(session: Session) -> dict[str, int]:
    failed = select(Job.error).where(Job.state == JobState.FAILED).order_by(Job.created_at.desc())
    errors = session.scalars(failed.limit(_MOST_FAILURES))
    return Counter(str((error or {}).get("type", "unknown"))[:80] for error in errors)


def _steps(session: Session) -> dict[str, Steps]:
    query = select(JobEvent.data).where(JobEvent.kind == "step_done", JobEvent.at > now() - _WINDOW)
    seconds: dict[str, list[float]] = defaultdict(list)
    for data in session.scalars(query.order_by(JobEvent.at.desc()).limit(_MOST_EVENTS)):
        seconds[str(data.get("step", "unknown"))].append(
            float(data.get("seconds") or data.get("elapsed_s") or 0.0)
        )
    return {step: Steps(len(values), _mean(values)) for step, values in seconds.items()}


def _models(session: Session) -> tuple[dict[str, int], float]:
    """(delivered networks by what became of their budget, mean relative error of the predictions)."""
    outcomes = dict.fromkeys(("kept", "broken", "unmeasured"), 0)
    errors = []
    newest = select(Model.budget_ms, Model.card).order_by(Model.created_at.desc()).limit(_MOST_MODELS)
    for budget_ms, card in session.execute(newest):
        latency = part(card, "latency")
        measured_ms, predicted_ms = latency.get("measured_ms"), latency.get("predicted_ms")
        if measured_ms is None or budget_ms is None:
            outcomes["unmeasured"] += 1
            continue
        outcomes["kept" if measured_ms <= budget_ms else "broken"] += 1
        if predicted_ms:
            errors.append(abs(predicted_ms / measured_ms - 1))
    return outcomes, _mean(errors)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
