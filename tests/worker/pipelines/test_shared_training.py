"""One training for all jobs that want the same supernet, whoever asks, and for as long as anybody does."""

import json
from pathlib import Path

import pytest
from sqlalchemy import update

from service.artifacts import ArtifactStore
from service.db.models import Job, Supernet, Tenant, Worker, now
from service.db.session import create_db_engine, session_factory
from service.db.states import JobState
from service.db.transitions import ask_cancel, create_job, events, move
from service.jobs.queue import JobQueue
from service.settings import Settings
from tests.worker.installation import eventually
from worker.context import JobRun, WorkerContext
from worker.engine import claim
from worker.errors import JobCancelled, JobLost, NobodyWaits
from worker.pipelines.ready_supernet import attach, ensure_supernet
from worker.pipelines.train_supernet import SharedRun, train_shared

DIGEST = "d" * 64


@pytest.fixture
def context(database_url, tmp_path):
    engine = create_db_engine(database_url)
    queue = JobQueue(database_url)
    made = WorkerContext(
        Settings(data_dir=tmp_path),
        "w1",
        session_factory(engine),
        ArtifactStore(tmp_path / "artifacts"),
        queue._client,
    )
    with made.sessions.begin() as session:
        for tenant in ("a", "b"):
            session.add(Tenant(id=f"ten_{tenant}", name=tenant))
        session.flush()
        for tenant in ("a", "b"):
            session.add(
                Supernet(
                    id=f"sup_{tenant}",
                    tenant_id=f"ten_{tenant}",
                    digest=DIGEST,
                    space="digits-mbv3",
                    dataset="digits",
                    recipe="trial",
                    seed=0,
                    classes=10,
                )  # fmt: skip
            )
    yield made
    queue.close()
    engine.dispose()


def new_job(context, tenant="a", running=True):
    with context.sessions.begin() as session:
        request = {"supernet_id": f"sup_{tenant}"}
        job = create_job(session, tenant_id=f"ten_{tenant}", kind="supernet", request=request)
        job_id = job.id
    if running:
        with context.sessions.begin() as session:
            claim(session, job_id, "w1")
    return job_id


def test_all_jobs_of_all_tenants_attach_to_one_training(context):
    assert attach(context, DIGEST, 10) == attach(context, DIGEST, 10) == f"supernet-{DIGEST}-1"
    assert len(context.queue.list_workflows(workflow_id_prefix="supernet-")) == 1


def test_a_training_that_ended_is_followed_by_a_new_one_even_after_pruning(context):
    first = attach(context, DIGEST, 10)
    context.queue.cancel_workflow(first)
    second = attach(context, DIGEST, 10)
    assert second == f"supernet-{DIGEST}-2"
    context.queue.cancel_workflow(second)
    context.queue.delete_workflow(first)
    assert attach(context, DIGEST, 10) == f"supernet-{DIGEST}-3"


def test_who_waits(context):
    shared = SharedRun(context, DIGEST)
    with pytest.raises(NobodyWaits):
        shared.look()
    mine, theirs, queued = new_job(context), new_job(context, "b"), new_job(context, running=False)
    with context.sessions() as session:
        assert set(shared.waiting(session)) == {mine, theirs, queued}
    with context.sessions.begin() as session:
        ask_cancel(session, session.get(Job, mine))
        move(session, queued, JobState.CANCELLED, from_states=(JobState.QUEUED,))
    shared.look()
    with context.sessions() as session:
        assert shared.waiting(session) == [theirs], "cancelling one job leaves the others their supernet"


def test_every_waiting_job_hears_of_the_progress(context):
    jobs = [new_job(context), new_job(context, "b")]
    shared = SharedRun(context, DIGEST)
    shared.progress("train_supernet", 0.5, "epoch 2 of 4", 12.0, always=True)
    with context.sessions() as session:
        for job_id in jobs:
            assert session.get(Job, job_id).progress["eta_s"] == 12.0
            assert events(session, job_id)[-1].data["message"] == "epoch 2 of 4"


def test_a_ready_supernet_is_found_without_a_training(context):
    run = JobRun(context, new_job(context), 1)
    ready = {"weights_sha256": "e" * 64, "predictor": {"form": "x"}, "ready_at": now()}
    with context.sessions.begin() as session:
        session.execute(update(Supernet).values(**ready))
    found = ensure_supernet(run, "sup_a")
    assert (found.id, found.weights_sha256, found.space.name) == ("sup_a", "e" * 64, "digits-mbv3")
    assert context.queue.list_workflows(workflow_id_prefix="supernet-") == []


def test_a_waiting_job_can_be_cancelled_and_can_be_lost(context):
    cancelled, lost = new_job(context), new_job(context)
    with context.sessions.begin() as session:
        ask_cancel(session, session.get(Job, cancelled))
        session.execute(update(Job).where(Job.id == lost).values(attempts=2))
    with pytest.raises(JobCancelled):
        ensure_supernet(JobRun(context, cancelled, 1), "sup_a")
    with pytest.raises(JobLost):
        ensure_supernet(JobRun(context, lost, 1), "sup_a")


def told(context, job_id):
    with context.sessions() as session:
        return [event.kind for event in events(session, job_id)]


def test_a_worker_that_was_declared_dead_says_nothing_about_a_training(context):
    """It froze, another one trains by now: neither its progress nor its failures reach the jobs, and the
    workflow stays open."""
    job_id = new_job(context)
    with context.sessions.begin() as session:
        session.add(Worker(id="w1", host="elsewhere", pid=1, dead_at=now()))
    run = SharedRun(context, DIGEST)
    before = told(context, job_id)
    for say in (
        lambda: run.progress("train_supernet", 0.5, "late", always=True),
        lambda: run.event("crashed", {}),
        run.look,
    ):
        with pytest.raises(JobLost):
            say()
    with pytest.raises(JobLost):
        train_shared(context, DIGEST)
    assert told(context, job_id) == before


@pytest.mark.slow
def test_trained_once_and_cancelling_one_job_leaves_it_to_the_other(small_installation):
    installation = small_installation
    supernet_id = installation.supernet("trial")
    first, second = (installation.submit("supernet", {"supernet_id": supernet_id}) for _ in range(2))
    installation.start_worker()
    assert eventually(lambda: len(installation.events(first, "progress")) >= 4, 900)
    installation.cancel(first)
    assert installation.wait(first).state == "cancelled"
    job = installation.wait(second, 300)
    assert job.state == "succeeded" and job.result == {"supernet_id": supernet_id}
    steps = [e["step"] for e in installation.events(second, "step_started")]
    assert steps[:2] == ["train_supernet", "score_subnetworks"] and set(steps[2:]) == {"score_network"}
    third = installation.submit("supernet", {"supernet_id": supernet_id})
    installation.wait(third)
    assert installation.events(third, "step_started") == []


def test_a_training_from_a_parent_is_told_its_weights_and_where_they_lie(context, monkeypatch):
    sha256, _ = context.store.put(b"weights of the parent")
    with context.sessions.begin() as session:
        parent = Supernet(
            id="sup_parent",
            tenant_id="ten_a",
            digest="e" * 64,
            space="digits-mbv3",
            dataset="digits",
            recipe="imported",
            seed=0,
            classes=1000,
            weights_sha256=sha256,
        )
        session.add(parent)
        session.execute(update(Supernet).where(Supernet.digest == DIGEST).values(parent_id="sup_parent"))
    job_id, started = new_job(context), []

    class Started(Exception):
        """The child is not run: what it would be told is looked at."""

    def child(kind, module, **rest):
        started.append(json.loads(Path(module[-1]).read_text()))
        raise Started

    monkeypatch.setattr("worker.pipelines.train_supernet.Child", child)
    train_shared(context, DIGEST)
    (told,) = started
    assert told["start"] == sha256 and Path(told["start_file"]).read_bytes() == b"weights of the parent"
    with context.sessions() as session:
        kinds = {event.kind: event.data for event in events(session, job_id, 0, 100)}
    assert kinds["initial_weights"] == {"supernet": "sup_parent", "weights_sha256": sha256}
