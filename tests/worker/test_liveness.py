"""Who counts as dead. No wall clock decides it."""

import inspect
import os
import subprocess
import sys
from datetime import timedelta

import pytest
from dbos import DBOS

from service.db.models import Job, Tenant, Worker, now
from service.db.session import create_db_engine, session_factory
from service.db.states import JobState
from service.db.transitions import create_job
from service.jobs.queue import JobQueue
from service.settings import Settings
from worker import liveness as module
from worker.liveness import Liveness, hand_over, host_name, new_worker_id


@pytest.fixture
def place(database_url, tmp_path):
    engine = create_db_engine(database_url)
    queue = JobQueue(database_url)
    sessions = session_factory(engine)
    settings = Settings(data_dir=tmp_path, heartbeat_s=1, dead_after_s=30)
    made = Liveness(settings, "me", sessions, queue._client)
    with sessions.begin() as session:
        session.add(Worker(id="me", host=host_name(), pid=os.getpid()))
    yield made, sessions
    queue.close()
    engine.dispose()


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

    monkeypatch.setattr(module.time, "monotonic", lambda: Clock.now)
    return Clock


def listen(liveness, clock, seconds):
    """Beat once a second for so long."""
    for _ in range(seconds):
        clock.now += 1
        liveness.beat()


def add(sessions, worker_id, host, pid=1, seen_at=None):
    with sessions.begin() as session:
        session.add(Worker(id=worker_id, host=host, pid=pid, seen_at=seen_at or now()))


def dead(sessions):
    with sessions() as session:
        return {w.id for w in session.query(Worker).filter(Worker.dead_at.is_not(None))}


def test_silence_by_our_own_clock_is_death(place, clock):
    liveness, sessions = place
    add(sessions, "other", "elsewhere")
    liveness.beat()
    listen(liveness, clock, 30)
    assert dead(sessions) == set()
    listen(liveness, clock, 1)
    assert dead(sessions) == {"other"}


def test_silence_while_nobody_could_be_heard_is_no_death(place, clock):
    """After an outage of the database every worker finds the others' heartbeats as old as its own; none may
    bury the rest."""
    liveness, sessions = place
    add(sessions, "other", "elsewhere")
    listen(liveness, clock, 10)
    for _ in range(5):
        clock.now += 3600
        liveness.beat()
    assert dead(sessions) == set()
    listen(liveness, clock, 30)
    assert dead(sessions) == {"other"}


def test_a_heartbeat_is_life_whatever_its_time_says(place, clock):
    liveness, sessions = place
    add(sessions, "other", "elsewhere", seen_at=now() - timedelta(days=1))
    for hours in (-5, 3, -1, 8):
        listen(liveness, clock, 20)
        with sessions.begin() as session:
            session.get(Worker, "other").seen_at = now() + timedelta(hours=hours)
    assert dead(sessions) == set()


def test_a_time_in_the_future_keeps_nobody_alive(place, clock):
    liveness, sessions = place
    add(sessions, "other", "elsewhere", seen_at=now() + timedelta(hours=1))
    listen(liveness, clock, 32)
    assert dead(sessions) == {"other"}


def test_a_process_that_is_gone_from_this_host_is_dead_at_once(place):
    liveness, sessions = place
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    add(sessions, "gone", host_name(), finished.pid)
    add(sessions, "here", host_name(), os.getpid())
    add(sessions, "elsewhere", "another-host", finished.pid)
    liveness.beat()
    assert dead(sessions) == {"gone"}


def test_one_that_was_declared_dead_ends(place, monkeypatch):
    liveness, sessions = place
    ended = []
    monkeypatch.setattr(module.os, "_exit", ended.append)
    liveness.beat()
    assert ended == []
    with sessions.begin() as session:
        session.get(Worker, "me").dead_at = now()
    liveness.beat()
    assert ended == [75]


def test_a_cancellation_nobody_carries_out_is_carried_out(place):
    liveness, sessions = place
    ids = {}
    for name, asked in (("late", 60), ("fresh", 0), ("none", None)):
        with sessions.begin() as session:
            if session.get(Tenant, "t") is None:
                session.add(Tenant(id="t", name="t"))
                session.flush()
            job = create_job(session, tenant_id="t", kind="search", request={})
            job.state = JobState.RUNNING
            job.cancel_asked_at = None if asked is None else now() - timedelta(seconds=asked)
            ids[name] = job.id
    liveness.sweep_cancelled()
    with sessions() as session:
        assert {name: session.get(Job, i).state for name, i in ids.items()} == {
            "late": "cancelled", "fresh": "running", "none": "running",
        }  # fmt: skip


def test_worker_ids_are_unique_per_life():
    assert new_worker_id() != new_worker_id()


def test_hand_over_of_nothing_touches_nothing(place):
    liveness, _ = place
    assert hand_over(liveness._client, []) == 0
    assert hand_over(liveness._client, ["never-lived"]) == 0


def test_the_engines_private_hand_over_is_what_we_think_it_is():
    """Its effect is proven by tests/end_to_end/test_kill.py; here the name and the argument."""
    parameters = inspect.signature(DBOS._recover_pending_workflows).parameters
    assert list(parameters) == ["executor_ids"]
