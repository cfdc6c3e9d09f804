"""A job that a worker has claimed, without the engine: for the steps of a job one by one."""

from service.db.transitions import create_job, events
from worker.context import JobRun
from worker.engine import claim


def new_run(context, kind="search", request=None):
    with context.sessions.begin() as session:
        job_id = create_job(session, tenant_id="ten_1", kind=kind, request=request or {}).id
    with context.sessions.begin() as session:
        claim(session, job_id, "w1")
    return JobRun(context, job_id, 1)


def events_of(context, run):
    with context.sessions() as session:
        return [{"kind": e.kind, **e.data} for e in events(session, run.job_id)]
