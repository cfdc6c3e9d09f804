"""JSON logs, one line an event, and figures for Prometheus. No secret and no body ever enters either."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from structlog.tracebacks import ExceptionDictTransformer

from service.db.figures import Figures

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_LONGEST: Final = 300
# Without local variables: a key or a body may be among them.
_TRACEBACKS: Final = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))


def configure_logging(level: str) -> None:
    """Every line of this process as one JSON object on standard error."""
    number = getattr(logging, level.upper())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    structlog.configure(
        processors=[*shared, _TRACEBACKS, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _TRACEBACKS,
            structlog.processors.JSONRenderer(),
        ],
    )
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "dbos", "alembic"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    logging.getLogger("uvicorn.access").disabled = True  # our own line says more
    for name in ("alembic", "dbos"):  # they tell every step of a migration
        logging.getLogger(name).setLevel(logging.WARNING)


def log() -> Any:
    """The logger of the API."""
    return structlog.get_logger("bespoke.api")


def shown(text: str) -> str:
    """A caller's text as it may stand in a log: short, and printable once it is JSON."""
    return text[:_LONGEST]


@dataclass
class Telemetry:
    """Counters of this process; figures that SQL knows are set when they are asked for."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        r = self.registry
        self.requests = Counter(
            "bespoke_http_requests", "Requests", ["method", "route", "status"], registry=r
        )
        self.seconds = Histogram(
            "bespoke_http_request_seconds", "Time to answer", ["route"], buckets=_BUCKETS, registry=r
        )
        self.jobs = Gauge("bespoke_jobs", "Jobs by kind and state", ["kind", "state"], registry=r)
        self.oldest_queued = Gauge(
            "bespoke_job_oldest_queued_seconds", "Age of the oldest queued job", registry=r
        )
        self.wait_seconds = Gauge(
            "bespoke_job_wait_seconds", "Mean wait of the jobs started in the last hour", registry=r
        )
        self.step_seconds = Gauge(
            "bespoke_step_seconds", "Mean duration of a step in the last hour", ["step"], registry=r
        )
        self.step_count = Gauge(
            "bespoke_steps_last_hour", "Steps done in the last hour", ["step"], registry=r
        )
        self.failures = Gauge(
            "bespoke_job_failures", "Failed jobs by the type of their problem", ["problem"], registry=r
        )
        self.workers = Gauge("bespoke_workers_alive", "Workers whose heart beats", registry=r)
        self.agents = Gauge("bespoke_agents_present", "Measuring agents heard of lately", registry=r)
        self.models = Gauge("bespoke_models", "Delivered networks by outcome", ["outcome"], registry=r)
        self.table_error = Gauge(
            "bespoke_prediction_error", "Mean relative error of verified networks", registry=r
        )
        self.corrupt = Counter(
            "bespoke_artifact_corrupt", "Files found damaged before they were served", registry=r
        )

    def show(self, figures: Figures) -> None:
        """Set every gauge that follows from SQL. What is there no more disappears."""
        for (kind, state), number in figures.jobs.items():
            self.jobs.labels(kind.value, state.value).set(number)
        self.oldest_queued.set(figures.oldest_queued_s)
        self.wait_seconds.set(figures.wait_s)
        # Else a problem that occurs no more would keep its last number for ever.
        self.failures.clear()
        for problem, number in figures.failures.items():
            self.failures.labels(problem).set(number)
        self.step_seconds.clear()
        self.step_count.clear()
        for step, done in figures.steps.items():
            self.step_seconds.labels(step).set(done.mean_s)
            self.step_count.labels(step).set(done.count)
        for outcome, number in figures.outcomes.items():
            self.models.labels(outcome).set(number)
        self.table_error.set(figures.prediction_error)
        self.workers.set(figures.workers)
        self.agents.set(figures.agents)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        self.requests.labels(method, route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)
