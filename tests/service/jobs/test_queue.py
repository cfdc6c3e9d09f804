"""Handing jobs over: in the same transaction as the row, fairly, as JSON, and without torch."""

import json
import subprocess
import sys

import pytest
from sqlalchemy import text

from service.db.models import Job, Tenant
from service.db.session import create_db_engine, session_factory
from service.db.transitions import ask_cancel, create_job
from service.jobs.queue import JOBS, SERIALIZER, JobQueue


@pytest.fixture
def engine(database_url):
    made = create_db_engine(database_url)
    with session_factory(made).begin() as session:
        session.add_all([Tenant(id="ten_a", name="a"), Tenant(id="ten_b", name="b")])
    yield made
    made.dispose()


@pytest.fixture
def queue(engine, database_url):
    made = JobQueue(database_url)
    yield made
    made.close()


def queued(queue):
    """Workflow ids in the order in which workers would take them."""
    found = queue._client.list_workflows(status="ENQUEUED", queue_name=JOBS)
    return [w.workflow_id for w in sorted(found, key=lambda w: (w.priority, w.created_at))]


def submit(engine, queue, tenant="ten_a", priority=10):
    with session_factory(engine).begin() as session:
        job = create_job(session, tenant_id=tenant, kind="search", request={}, priority=priority)
        queue.submit(session, job)
        return job.id


def test_kept_together(engine, queue):
    job_id = submit(engine, queue)
    assert queued(queue) == [job_id]
    with session_factory(engine)() as session:
        assert session.get(Job, job_id).workflow_id == job_id


def test_rolled_back_together(engine, queue):
    with pytest.raises(KeyError), session_factory(engine).begin() as session:
        queue.submit(session, create_job(session, tenant_id="ten_a", kind="search", request={}))
        raise KeyError
    assert queued(queue) == []
    with session_factory(engine)() as session:
        assert session.query(Job).count() == 0


def test_a_cancelled_job_leaves_the_queue(engine, queue):
    kept, gone = submit(engine, queue), submit(engine, queue)
    with session_factory(engine).begin() as session:
        ask_cancel(session, session.get(Job, gone))
    queue.cancel(gone)
    queue.cancel(gone)
    assert queued(queue) == [kept]


def test_priority_first_then_fair_between_tenants(engine, queue):
    many = [submit(engine, queue, "ten_a") for _ in range(10)]
    few = [submit(engine, queue, "ten_b") for _ in range(2)]
    urgent = submit(engine, queue, "ten_a", priority=1)
    order = queued(queue)
    assert order[0] == urgent
    assert order.index(few[0]) <= 2, "a tenant's first job waits for one job of every other tenant at most"
    assert order.index(few[1]) <= 4
    assert [j for j in order if j in many] == many


def test_the_engine_stores_json_and_no_pickle(engine, queue):
    job_id = submit(engine, queue)
    table = "dbos.workflow_input" if engine.dialect.name == "postgresql" else "workflow_input"
    with engine.connect() as connection:
        (inputs,) = connection.execute(text(f"SELECT inputs FROM {table}")).one()
    assert json.loads(inputs)["positionalArgs"] == [job_id]
    assert SERIALIZER.name() == "portable_json"


def test_opening_the_queue_twice_is_harmless(engine, queue, database_url):
    job_id = submit(engine, queue)
    other = JobQueue(engine)
    assert queued(other) == [job_id]
    other.close()


def test_the_api_side_never_loads_torch():
    code = "import sys, service.jobs.queue, service.db.transitions, service.artifacts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
