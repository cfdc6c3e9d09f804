"""C7 at full length: the host of a worker is lost while it trains. Another worker goes on at the last
checkpoint.

A frozen worker with its frozen training stands in for the host: its process ids are there, so only silence
tells that it is dead, and when it wakes up it is the most dangerous of all, a host that believes it still has
the job.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update

from service.db import supernets as supernet_rows
from service.db.models import Job, Worker, now
from service.db.states import JobState
from service.db.transitions import create_job
from service.jobs.queue import JOBS, TRAINING
from service.settings import Settings
from tests.reliability.machinery.lab import Lab, freeze, lives
from tests.reliability.machinery.postgres import PostgresServer
from worker.engine import claim
from worker.liveness import FENCED, SWEEP_S, Liveness
from worker.probation import PATIENCE_S
from worker.steps import TRANSIENT, is_outage

EPOCHS = 4  # of the recipe "trial"
GOES_ON_WITHIN_S = 90.0
LOADING_S = 5.0  # what is left for the new training child to load torch and its checkpoint


@pytest.mark.slow
@pytest.mark.postgres
def test_c07_training_of_a_lost_host_goes_on_elsewhere(
    make_lab: Callable[..., Lab], private_postgres: PostgresServer
) -> None:
    lab = make_lab(private_postgres.database())
    job_id = _training_job(lab)
    lost = lab.worker("worker", OMP_NUM_THREADS="1")
    work = lab.settings.data_dir / "work"
    lab.wait_until(lambda: list(work.glob("supernet-*/checkpoint-*")), 240, "the first checkpoint")
    trainers = _trainers(work)
    assert len(trainers) == 1
    freeze(lab.engine, lost.pid, *trainers)
    done = _epochs_done(work)
    assert 1 <= done < EPOCHS
    time.sleep(1)  # what the lost host had sent is there
    before, owner = lab.events(job_id)[-1].sequence, lab.job(job_id).worker_id

    lab.worker("worker", OMP_NUM_THREADS="1")

    def went_on() -> set[int]:
        return _epochs(lab, job_id, before)

    lab.wait_until(went_on, 240, "progress of another worker")
    for pid in (lost.pid, *trainers):  # the host is back, in the middle of the other's training
        os.killpg(pid, signal.SIGCONT)
    assert lost.wait(60) == FENCED
    lab.wait_until(lambda: not any(lives(pid) for pid in trainers), 60, "the end of the lost host's training")
    assert lab.wait([job_id], 400) == {job_id: JobState.SUCCEEDED}

    job = lab.job(job_id)
    assert job.attempts == 2
    assert job.worker_id != owner
    assert went_on() == set(range(done + 1, EPOCHS + 1)), "no epoch of the checkpoint is trained again"
    crashed = [event.data["message"] for event in lab.events(job_id) if event.kind == "crashed"]
    assert crashed == ["the worker process was lost"], "the woken host wrote nothing"
    assert sum(e.kind == "step_done" and e.data["step"] == "train_supernet" for e in lab.events(job_id)) == 1


def _training_job(lab: Lab) -> str:
    with lab.sessions.begin() as session:
        spec: dict[str, Any] = {
            "space": "digits-mbv3",
            "dataset": "digits",
            "recipe": "trial",
            "seed": 0,
            "classes": 10,
        }
        row = supernet_rows.find_or_add(session, lab.tenant, "7" * 64, **spec)
        job = create_job(session, tenant_id=lab.tenant, kind="supernet", request={"supernet_id": row.id})
        lab.queue.submit(session, job)
        return job.id


def _trainers(work: Path) -> list[int]:
    """Process ids of the living trainings under this folder; each leads a group of its own."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes()
        except OSError:
            continue
        if b"supernets.training" in words and str(work).encode() in words:
            found.append(int(place.name))
    return found


def _epochs_done(work: Path) -> int:
    """By the newest checkpoint."""
    (state,) = [
        json.loads(max(folder.glob("checkpoint-*/state.json")).read_bytes())
        for folder in work.glob("supernet-*")
    ]
    return int(state["position"]["epoch"])


def _epochs(lab: Lab, job_id: str, after: int) -> set[int]:
    """The epochs that a training reported after an event."""
    texts = (
        event.data.get("message", "")
        for event in lab.events(job_id)
        if event.sequence > after and event.kind == "progress"
    )
    return {int(match[1]) for text in texts if (match := re.search(r"epoch (\d+) of", text))}


# the sum of the defaults


class _Clock:
    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at


@pytest.mark.parametrize("phase", range(11))
def test_c07_default_settings_move_a_job_within_ninety_seconds(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, phase: int
) -> None:
    """The product's reaper with the default settings on a clock of its own, whatever moment of its round the
    loss falls into."""
    clock = _Clock()
    monkeypatch.setattr("worker.liveness.time", clock)
    defaults = {name: Settings.model_fields[name].default for name in ("heartbeat_s", "dead_after_s")}
    settings = lab.settings.model_copy(update=defaults)
    reaper = Liveness(settings, "reaper", lab.sessions, None)  # type: ignore[arg-type]  # buries only
    # a round begins at the first look, once a second, after a heartbeat is due
    round_s = settings.heartbeat_s + min(SWEEP_S, settings.heartbeat_s)
    with lab.sessions.begin() as session:
        session.add(Worker(id="lost", host="elsewhere", pid=1, seen_at=now()))
    clock.at = round_s * phase / 10  # its last heartbeat was at 0
    while not _dead(lab):
        with lab.sessions.begin() as session:
            reaper._bury(session)
        clock.at += round_s
    noticed_s = clock.at - round_s
    polls = [lab.queue._client.retrieve_queue(name)._polling_interval_sec for name in (JOBS, TRAINING)]
    assert noticed_s + sum(polls) + PATIENCE_S + LOADING_S <= GOES_ON_WITHIN_S, (
        "also for the last of many jobs"
    )
    assert noticed_s > settings.dead_after_s, "a worker that is only slow keeps its jobs"


@pytest.mark.postgres
def test_c07_a_lost_host_keeps_no_lock(
    make_lab: Callable[..., Lab], private_postgres: PostgresServer
) -> None:
    """Lost in the middle of a transaction: PostgreSQL ends it by itself before the worker counts as dead, not
    hours later."""
    lab = make_lab(private_postgres.database())
    job_id = lab.submit()
    with lab.engine.connect() as lost:
        kept_s = lost.scalar(
            text(
                "SELECT extract(epoch FROM current_setting('idle_in_transaction_session_timeout')::interval)"
            )
        )
        assert 0 < kept_s <= Settings.model_fields["dead_after_s"].default / 2
        lost.execute(
            text("SET LOCAL idle_in_transaction_session_timeout = '200ms'")
        )  # the test waits less than the product
        lost.execute(update(Job).where(Job.id == job_id).values(attempts=Job.attempts))
        with lab.sessions.begin() as session:
            assert claim(session, job_id, "another") == 1
        with pytest.raises(TRANSIENT) as caught:
            lost.execute(text("SELECT 1"))
        assert is_outage(caught.value), "should the host come back, this is nothing that fails a job"


def _dead(lab: Lab) -> bool:
    with lab.sessions() as session:
        return session.scalars(select(Worker.dead_at).where(Worker.id == "lost")).one() is not None
