"""Who may work on a job, and what counts as a crash. In one process, on both databases."""

import json

import pytest
from sqlalchemy import text, update

from service.db.models import Job, Tenant
from service.db.session import create_db_engine, session_factory
from service.db.states import ENDED, JobState
from service.db.transitions import ask_cancel, create_job, events, move, record_progress
from worker.engine import claim


@pytest.fixture
def sessions(database_url):
    engine = create_db_engine(database_url)
    made = session_factory(engine)
    with made.begin() as session:
        session.add(Tenant(id="ten_1", name="one"))
    yield made
    engine.dispose()


@pytest.fixture
def job_id(sessions):
    with sessions.begin() as session:
        return create_job(session, tenant_id="ten_1", kind="search", request={}).id


def claimed(sessions, job_id, worker="w1"):
    with sessions.begin() as session:
        return claim(session, job_id, worker)


def kinds(sessions, job_id):
    with sessions() as session:
        return [e.kind for e in events(session, job_id)]


def test_a_queued_job_becomes_ours(sessions, job_id):
    assert claimed(sessions, job_id) == 1
    with sessions() as session:
        job = session.get(Job, job_id)
        assert (job.state, job.worker_id) == ("running", "w1") and job.started_at is not None
    assert kinds(sessions, job_id) == ["queued", "running"]


def test_unknown_and_ended_jobs_are_left_alone(sessions, job_id):
    assert claimed(sessions, "job_unknown") is None
    for state in ENDED:
        with sessions.begin() as session:
            session.execute(update(Job).values(state=state))
        assert claimed(sessions, job_id) is None


def test_a_lost_job_counts_a_crash_with_its_last_step_and_the_third_quarantines(sessions, job_id):
    claimed(sessions, job_id)
    with sessions.begin() as session:
        record_progress(session, job_id, "train_supernet", 0.5, "epoch 3 of 6", None)
    started = []
    for expected in (2, 3, None):
        assert claimed(sessions, job_id, f"w{expected}") == expected
        with sessions() as session:
            started.append(session.get(Job, job_id).started_at)
    assert len(set(started)) == 1, "a job starts once"
    with sessions() as session:
        job = session.get(Job, job_id)
        assert (job.state, job.error["step"]) == ("quarantined", "train_supernet")
    assert kinds(sessions, job_id).count("crashed") == 3


def test_a_job_that_was_handed_back_did_not_crash(sessions, job_id):
    for attempt in range(1, 6):
        assert claimed(sessions, job_id) == attempt
        with sessions.begin() as session:
            move(
                session, job_id, JobState.QUEUED, from_states=(JobState.RUNNING,), values={"worker_id": None}
            )
    assert "crashed" not in kinds(sessions, job_id)


def test_a_lost_job_that_was_to_be_cancelled_is_cancelled(sessions, job_id):
    claimed(sessions, job_id)
    with sessions.begin() as session:
        ask_cancel(session, session.get(Job, job_id))
    assert claimed(sessions, job_id) is None
    assert kinds(sessions, job_id)[-1] == "cancelled"


def test_recovery_never_reads_the_request(sessions, job_id):
    broken = [{"deep": "x"}, 17, [], None, "text"]
    for attempt, request in enumerate(broken[:3], 1):
        with sessions.begin() as session:
            session.execute(
                text("UPDATE jobs SET request = :r"), {"r": json.dumps(request) if request else "null"}
            )
            if session.connection().dialect.name == "sqlite":
                session.execute(text("UPDATE jobs SET request = '{broken'"))
        assert claimed(sessions, job_id) == attempt
    assert kinds(sessions, job_id).count("crashed") == 2
