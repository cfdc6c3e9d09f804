"""States of a job: every legal transition, no other, each with its event, whoever writes at the same time."""

import threading
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.db.models import Job, Tenant, new_id
from service.db.session import create_db_engine, session_factory
from service.db.states import ENDED, TRANSITIONS, JobState
from service.db.transitions import add_event, ask_cancel, create_job, events, move, record_progress
from service.errors import JobConflict, JobEnded


@pytest.fixture
def sessions(database_url):
    engine = create_db_engine(database_url)
    made = session_factory(engine)
    with made.begin() as session:
        session.add(Tenant(id="ten_1", name="one"))
    yield made
    engine.dispose()


def new_job(sessions, state=JobState.QUEUED):
    with sessions.begin() as session:
        job = create_job(session, tenant_id="ten_1", kind="search", request={"targets": []})
        job.state = state
        return job.id


def state_of(sessions, job_id):
    with sessions() as session:
        return session.get(Job, job_id).state


def test_a_new_job_is_queued_with_its_event(sessions):
    job_id = new_job(sessions)
    with sessions() as session:
        assert [(e.sequence, e.kind) for e in events(session, job_id)] == [(1, "queued")]
        job = session.get(Job, job_id)
        assert (job.state, job.attempts, job.started_at, job.ended_at) == ("queued", 0, None, None)


def test_unknown_kinds_are_refused(sessions):
    with pytest.raises(ValueError, match="kind"), sessions.begin() as session:
        create_job(session, tenant_id="ten_1", kind="mine_coins", request={})


def test_every_transition_is_legal_or_refused(sessions):
    for before, after in product(JobState, JobState):
        job_id = new_job(sessions, before)
        if after not in TRANSITIONS[before]:
            with pytest.raises(ValueError, match="no job goes"), sessions.begin() as session:
                move(session, job_id, after, from_states=(before,))
            assert state_of(sessions, job_id) == before
            continue
        with sessions.begin() as session:
            move(session, job_id, after, from_states=(before,), data={"why": "test"})
        with sessions() as session:
            job = session.get(Job, job_id)
            assert job.state == after
            assert (job.ended_at is not None) is (after in ENDED)
            assert [e.kind for e in events(session, job_id)] == ["queued", after]


def test_a_move_from_another_state_fails_loudly_and_writes_nothing(sessions):
    job_id = new_job(sessions)
    with pytest.raises(JobConflict), sessions.begin() as session:
        move(session, job_id, JobState.SUCCEEDED, from_states=(JobState.RUNNING,), result={"models": []})
    with sessions() as session:
        assert len(events(session, job_id)) == 1


def test_the_attempt_fences_a_worker_that_lost_the_job(sessions):
    job_id = new_job(sessions)
    with sessions.begin() as session:
        move(session, job_id, JobState.RUNNING, from_states=(JobState.QUEUED,), values={"attempts": 2})
    for write in (
        lambda s: move(s, job_id, JobState.SUCCEEDED, from_states=(JobState.RUNNING,), attempt=1, result={}),
        lambda s: record_progress(s, job_id, "train", 0.5, "half", attempt=1),
    ):
        with pytest.raises(JobConflict), sessions.begin() as session:
            write(session)
    assert state_of(sessions, job_id) == JobState.RUNNING
    with sessions.begin() as session:
        move(
            session,
            job_id,
            JobState.SUCCEEDED,
            from_states=(JobState.RUNNING,),
            attempt=2,
            result={"models": []},
        )


def test_a_rolled_back_move_leaves_neither_state_nor_event(sessions):
    job_id = new_job(sessions)
    with pytest.raises(KeyError), sessions.begin() as session:
        move(session, job_id, JobState.RUNNING, from_states=(JobState.QUEUED,))
        raise KeyError
    with sessions() as session:
        assert session.get(Job, job_id).state == "queued" and len(events(session, job_id)) == 1


@given(fraction=st.floats(-2, 3), eta=st.none() | st.floats(-10, 1e6))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_progress_stays_between_nothing_and_all(sessions, fraction, eta):
    job_id = new_job(sessions, JobState.RUNNING)
    with sessions.begin() as session:
        record_progress(session, job_id, "train_supernet", fraction, "epoch", eta)
        progress = session.get(Job, job_id).progress
    assert 0 <= progress["fraction"] <= 1 and (progress["eta_s"] is None or progress["eta_s"] >= 0)


def test_progress_of_a_job_that_is_not_running_is_refused(sessions):
    job_id = new_job(sessions)
    with pytest.raises(JobConflict), sessions.begin() as session:
        record_progress(session, job_id, "train", 0.1, "x", None)


def test_events_of_many_writers_are_numbered_without_gaps(sessions):
    job_id = new_job(sessions, JobState.RUNNING)

    def write(number):
        for i in range(15):
            with sessions.begin() as session:
                add_event(session, job_id, "note", {"writer": number, "i": i})

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with sessions() as session:
        found = events(session, job_id)
        assert [e.sequence for e in found] == list(range(1, 62))
        assert [e.sequence for e in events(session, job_id, after=58)] == [59, 60, 61]


def test_cancel_of_a_queued_job_is_immediate(sessions):
    job_id = new_job(sessions)
    with sessions.begin() as session:
        ask_cancel(session, session.get(Job, job_id))
    with sessions() as session:
        job = session.get(Job, job_id)
        assert job.state == "cancelled" and job.cancel_asked_at is not None
        assert [e.kind for e in events(session, job_id)] == ["queued", "cancelled"]


def test_cancel_of_a_running_job_is_a_wish_and_asking_twice_is_one(sessions):
    job_id = new_job(sessions, JobState.RUNNING)
    asked = []
    for _ in range(2):
        with sessions.begin() as session:
            job = session.get(Job, job_id)
            ask_cancel(session, job)
            asked.append(job.cancel_asked_at)
    assert state_of(sessions, job_id) == "running" and asked[0] == asked[1]


def test_an_ended_job_cannot_be_cancelled(sessions):
    for ended in ENDED:
        job_id = new_job(sessions, ended)
        with pytest.raises(JobEnded) as caught, sessions.begin() as session:
            ask_cancel(session, session.get(Job, job_id))
        assert caught.value.state == ended and state_of(sessions, job_id) == ended


def test_one_of_many_concurrent_moves_wins(sessions):
    job_id = new_job(sessions, JobState.RUNNING)
    won, lost = [], []

    def end(state):
        try:
            with sessions.begin() as session:
                move(session, job_id, state, from_states=(JobState.RUNNING,))
            won.append(state)
        except JobConflict:
            lost.append(state)

    threads = [threading.Thread(target=end, args=(s,)) for s in (*ENDED, *ENDED)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and len(lost) == 7 and state_of(sessions, job_id) == won[0]


def test_ids_say_what_they_name():
    assert new_id("job").startswith("job_") and new_id("job") != new_id("job")
