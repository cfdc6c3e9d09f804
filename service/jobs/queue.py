"""The way from a job row to a worker: DBOS's queue in the same database, filled in the same transaction.

Nothing here knows torch. What the engine stores is JSON (its portable serializer), never pickle.
"""

from __future__ import annotations

from typing import Final

from dbos import DBOS, DBOSClient, EnqueueOptions
from dbos._serialization import (
    DBOSPortableJSON,
)  # not exported; tests/service/jobs/test_queue.py holds it in place

from service.db import jobs as job_rows
from service.db.models import Job
from service.db.session import Engine, Session
from service.db.states import JobKind
from service.db.transitions import requeue

APPLICATION: Final = "bespoke"
JOBS: Final = "jobs"  # light parents, wide: many of them only wait for a supernet or an agent
TRAINING: Final = "gpu"  # one at a time per worker process
WORKFLOWS: Final = {kind.value: kind.value for kind in JobKind}
PARALLEL_JOBS: Final = 48
SERIALIZER: Final = DBOSPortableJSON
_RANKS: Final = 100_000  # places per priority, for fairness between tenants


def migrate_engine_tables(url: str) -> None:
    """Create or update the job engine's own tables; before any `JobQueue` and after our own migrations."""
    DBOS.migrate(url)


class JobQueue:
    """Hands jobs to the workers. Thread-safe; `close` it at the end."""

    def __init__(self, database: str | Engine) -> None:
        url = database if isinstance(database, str) else database.url.render_as_string(hide_password=False)
        migrate_engine_tables(url)
        self._client = DBOSClient(
            system_database_url=url,
            serializer=SERIALIZER,
            application_name=APPLICATION,
            system_database_pool_size=3,
            retry_connection_errors=False,
        )
        # Submitting to a queue that was never registered would wait for ever.
        self._client.register_queue(JOBS, worker_concurrency=PARALLEL_JOBS, polling_interval_sec=0.25)
        self._client.register_queue(TRAINING, worker_concurrency=1, polling_interval_sec=0.25)

    def submit(self, session: Session, job: Job, *, workflow_id: str | None = None) -> None:
        """Queue a job in the caller's transaction: rolled back together, kept together."""
        workflow_id = job_rows.name_workflow(session, job, workflow_id or job.id)
        options: EnqueueOptions = {
            "workflow_name": WORKFLOWS[job.kind],
            "queue_name": JOBS,
            "workflow_id": workflow_id,
            "priority": self._rank(session, job),
        }
        # In the caller's transaction: a job that is acknowledged is in the queue, whatever dies next.
        self._client.enqueue_in_transaction(session, options, job.id)

    def requeue(self, session: Session, job: Job) -> None:
        """Queue a quarantined job once more, in the caller's transaction. Raises JobConflict."""
        requeue(session, job)
        # A workflow of a new name: the engine remembers that the old one has ended.
        self.submit(session, job, workflow_id=f"{job.id}-{job.attempts}")

    def cancel(self, job_id: str) -> None:
        """Take a job out of the queue. One that is running stops by itself (`cancel_asked_at`)."""
        for status in self._client.list_workflows(
            workflow_id_prefix=job_id, status="ENQUEUED", load_input=False, load_output=False
        ):
            self._client.cancel_workflow(status.workflow_id)

    def close(self) -> None:
        self._client.destroy()

    def _rank(self, session: Session, job: Job) -> int:
        """Priority first; within it a tenant's n-th active job is behind every other tenant's first n - 1."""
        ahead = job_rows.count_active(session, job.tenant_id, besides=job.id)
        return max(job.priority, 1) * _RANKS + min(ahead, _RANKS - 1)
