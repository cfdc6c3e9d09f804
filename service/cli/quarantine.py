"""`bespoke quarantine`: for the operator, on the machine of the service: jobs that crashed three times."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from service.cli.connection import current
from service.cli.screen import age, grid, say
from service.errors import JobConflict

if TYPE_CHECKING:
    from service.db.models import Job
    from service.db.session import Session
    from service.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Jobs that crashed three times: look, queue again, delete.")
JobId = Annotated[str, typer.Argument(help="Id of the job, as `bespoke quarantine list` shows it.")]


def _settings() -> Settings:
    from service.settings import read_settings

    return read_settings(current().data_dir)


@contextmanager
def _session() -> Iterator[Session]:
    from service.db.session import create_db_engine, session_factory

    engine = create_db_engine(_settings().resolved_database_url)
    try:
        with session_factory(engine).begin() as session:
            yield session
    finally:
        engine.dispose()


def _job(session: Session, job_id: str) -> Job:
    from service.db import jobs as job_rows

    job = job_rows.of_any_tenant(session, job_id)
    if job is None:
        raise JobConflict(
            f"there is no job {job_id} here; `bespoke quarantine list` shows those that wait for you"
        )
    return job


@app.command("list")
def list_jobs() -> None:
    """List the quarantined jobs of all tenants, with the step and the signal of their last crash."""
    from service.db import jobs as job_rows

    with _session() as session:
        jobs = job_rows.quarantined(session)
    rows = []
    for job in jobs:
        problem, since = job.error or {}, None if job.ended_at is None else job.ended_at.isoformat()
        rows.append(
            (
                job.id,
                job.tenant_id,
                job.kind,
                escape(str(problem.get("step"))),
                problem.get("signal"),
                age(since),
            )
        )
    grid("", ("job", "tenant", "kind", "last step", ">signal", "since"), rows, "No job is in quarantine.")


@app.command()
def requeue(job_id: JobId) -> None:
    """Queue a job again. It may crash three more times before it is back here."""
    from service.jobs.queue import JobQueue

    # By the database and not over HTTP: who may do this is who may log in on the machine.
    queue = JobQueue(_settings().resolved_database_url)
    try:
        with _session() as session:
            queue.requeue(session, _job(session, job_id))
    finally:
        queue.close()
    say(f"{escape(job_id)} is queued again")


@app.command()
def delete(job_id: JobId) -> None:
    """Forget a quarantined job and all its events."""
    from service.db.transitions import delete_quarantined

    with _session() as session:
        delete_quarantined(session, _job(session, job_id))
    say(f"{escape(job_id)} is deleted")
