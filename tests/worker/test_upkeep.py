"""Hourly tidying: what ended long ago and what no row names goes, nothing else."""

import os
import time
from datetime import timedelta

import pytest

from service.artifacts import ArtifactStore
from service.db.artifacts import register
from service.db.models import Job, Tenant, now
from service.db.session import create_db_engine, session_factory
from service.db.transitions import create_job
from service.jobs.queue import JobQueue
from worker.upkeep import TRAININGS, prune, sweep_files, sweep_trainings


@pytest.fixture
def place(database_url):
    engine = create_db_engine(database_url)
    queue = JobQueue(database_url)
    sessions = session_factory(engine)
    with sessions.begin() as session:
        session.add(Tenant(id="t", name="t"))
    yield sessions, queue
    queue.close()
    engine.dispose()


def test_only_ended_workflows_are_pruned(place):
    sessions, queue = place
    ids = []
    for _ in range(3):
        with sessions.begin() as session:
            job = create_job(session, tenant_id="t", kind="search", request={})
            queue.submit(session, job)
            ids.append(job.id)
    queue.cancel(ids[0])
    assert prune(queue._client) == 0, "it ended just now"
    assert prune(queue._client, timedelta(seconds=-5)) == 1
    left = {w.workflow_id for w in queue._client.list_workflows()}
    assert left == set(ids[1:])


def test_only_old_files_without_a_row_are_swept(place, tmp_path):
    sessions, _ = place
    store = ArtifactStore(tmp_path / "artifacts")
    named, lost, young = (store.put(data)[0] for data in (b"named", b"lost", b"young"))
    with sessions.begin() as session:
        register(session, named, 5, "report")
    for sha256 in (named, lost):
        os.utime(store.path(sha256), (time.time() - 90_000,) * 2)
    assert sweep_files(sessions, store) == 1
    assert sorted(store.stored()) == sorted([named, young])


def test_checkpoints_of_trainings_go_when_their_job_ended_long_ago(place, tmp_path):
    sessions, _ = place
    with sessions.begin() as session:
        ids = [create_job(session, tenant_id="t", kind="search", request={}).id for _ in range(3)]
    with sessions.begin() as session:
        for job_id, days in zip(ids[:2], (8, 1), strict=True):
            session.get(Job, job_id).ended_at = now() - timedelta(days=days)
    for name in (*(TRAININGS + job_id for job_id in ids), TRAININGS + "job_gone", "supernet-of-somebody"):
        (tmp_path / "work" / name / "target").mkdir(parents=True)
    assert sweep_trainings(sessions, tmp_path / "work") == 2
    assert {p.name for p in (tmp_path / "work").iterdir()} == {
        TRAININGS + ids[1],
        TRAININGS + ids[2],
        "supernet-of-somebody",
    }
