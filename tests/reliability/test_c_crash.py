"""Group C: processes die, freeze and are told to end; disks, databases and clocks fail. Nothing acknowledged
is lost.

Workers run the product's engine with pipelines of stub length (machinery/stub_worker.py); the real training
is killed in the slow tests. The doctor examines every laboratory when its test ends.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import OperationalError

from service.db import migrate
from service.db.artifacts import register
from service.db.models import Artifact, IdempotencyKey, Job, JobEvent, Supernet, Worker, new_id, now
from service.db.session import create_db_engine, session_factory
from service.db.states import JobState
from service.db.transitions import add_event, create_job, delete_quarantined
from service.failpoints import FAILPOINTS, VARIABLE
from service.local.doctor import doctor
from service.settings import Settings
from tests.reliability.machinery.history import check, journal
from tests.reliability.machinery.killer import Killer
from tests.reliability.machinery.lab import REPOSITORY, Lab, freeze, lives
from tests.reliability.machinery.live import LiveApi, read_all
from tests.reliability.machinery.postgres import PostgresServer
from tests.reliability.machinery.stub_worker import payload
from tests.service.api import CONTEXT, Api, open_api, search_request, table_rows
from worker.liveness import FENCED, Liveness
from worker.steps import MAX_CRASHES, RECONNECT_S, TRIES, back_off_s, is_outage, persist

STUBBED = (
    "job.claimed",
    "step.started",
    "step.computed",
    "step.stored",
    "artifact.written",
    "artifact.renamed",
    "job.finishing",
)
REAL = ("training.progress", "training.stored", "child.called")
OF_THE_API = ("request.written", "request.committed")


# C1: kill -9 at every named place


def test_c01_every_failpoint_has_a_case() -> None:
    assert set(FAILPOINTS) == {*STUBBED, *REAL, *OF_THE_API}


def _killed_at(lab: Lab, place: str) -> None:
    """A worker dies at a place; the next one finishes the job as if nothing had happened."""
    request = {"seed": len(place), "steps": 3, "private": place}
    job_id = lab.submit(**request)
    victim = lab.quick_worker(**{VARIABLE: f"{place}:1:kill"})
    lab.wait_until(lambda: not lives(victim), what=f"death at {place}")
    assert lab.job(job_id).state in (JobState.RUNNING, JobState.QUEUED)
    lab.quick_worker()
    assert lab.wait([job_id]) == {job_id: JobState.SUCCEEDED}
    job = lab.job(job_id)
    assert job.attempts == 2
    assert job.result is not None
    assert job.result["files"] == [hashlib.sha256(payload(len(place), n)).hexdigest() for n in (1, 2, 3)]
    starts = Counter(entry["step"] for entry in journal(lab) if entry["job"] == job_id)
    assert sum(starts.values()) - len(starts) <= 1, f"more than one step was done twice: {starts}"
    ends = [event.kind for event in lab.events(job_id) if event.kind == JobState.SUCCEEDED]
    assert len(ends) == 1


@pytest.mark.parametrize("place", STUBBED)
def test_c01_killed_at_each_named_place(lab: Lab, place: str) -> None:
    _killed_at(lab, place)


@pytest.mark.slow
@pytest.mark.parametrize("place", STUBBED)
def test_c01_killed_at_each_named_place_on_both_databases(both_labs: Lab, place: str) -> None:
    _killed_at(both_labs, place)


def test_c01_child_ends_with_its_killed_worker(lab: Lab) -> None:
    """No orphan: the child of a worker that was killed -9 reads the end of its pipe and ends."""
    lab.submit(behave="idle_child")
    victim = lab.quick_worker()
    children: list[int] = []

    def child_is_there() -> bool:
        children[:] = [
            int(p) for p in Path(f"/proc/{victim}/task/{victim}/children").read_text().split()
        ] or _children(victim)
        return bool(children)

    lab.wait_until(child_is_there, what="the child")
    os.kill(victim, signal.SIGKILL)
    lab.wait_until(lambda: not any(lives(pid) for pid in children), 10, "the end of the child")


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(entry.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("place", [*(f"{name}:1" for name in REAL), "training.progress:3"])
def test_c01_training_goes_on_after_a_kill(make_lab: Callable[..., Lab], place: str) -> None:
    """A real supernet, real children: the worker (or the child) is killed, another worker goes on at the last
    checkpoint."""
    lab = make_lab()
    with lab.sessions.begin() as session:
        from service.db import supernets as supernet_rows

        row = supernet_rows.find_or_add(
            session,
            lab.tenant,
            "c" * 64,
            space="digits-mbv3",
            dataset="digits",
            recipe="trial",
            seed=0,
            classes=10,
        )
        job = create_job(session, tenant_id=lab.tenant, kind="supernet", request={"supernet_id": row.id})
        lab.queue.submit(session, job)
    victim = lab.worker("worker", **{VARIABLE: f"{place}:kill"}, OMP_NUM_THREADS="1")
    if place.startswith("child"):
        lab.wait_until(
            lambda: any(e.kind == "crashed" for e in lab.events(job.id)), 240, "a crash of the child"
        )
        victim.terminate()
    victim.wait(240)
    assert _orphans("supernets.training", str(lab.settings.data_dir)) == []
    lab.worker("worker", OMP_NUM_THREADS="1")
    assert lab.wait([job.id], 400) == {job.id: JobState.SUCCEEDED}


def _orphans(*words: str) -> list[int]:
    """Processes whose command line holds all these words, after ten seconds to end by themselves."""
    found: list[int] = []
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if all(word in line for word in words):
                found.append(int(entry.name))
        if not found:
            return []
        time.sleep(0.2)
    return found


# C2: random kills under a stream of jobs


def _random_kills(lab: Lab, kills: int, seed: int) -> None:
    killer = Killer(lab, seed)
    history = killer.run(kills)
    assert history.clean, (
        f"seed {seed}: lost {history.lost}, twice {history.finished_twice}, {history.damaged}, "
        f"{history.findings}"
    )
    assert len(killer.kills) == kills
    orphans = [found for found in doctor(lab.settings) if found.severity == "orphan"]
    assert {found.code for found in orphans} <= {"file_temporary", "file_unreferenced"}


def test_c02_random_kills_lose_nothing(lab: Lab) -> None:
    _random_kills(lab, kills=6, seed=int(time.time()))


@pytest.mark.slow
def test_c02_many_random_kills_lose_nothing(both_labs: Lab) -> None:
    _random_kills(both_labs, kills=60, seed=int(time.time()))


# C3, C4: the API is killed in the middle of a request


def test_c03_api_killed_during_an_upload_leaves_no_part_of_it(make_live: Callable[..., LiveApi]) -> None:
    live = make_live()
    assert live.post("/v1/devices", json={"name": "phone", "context": CONTEXT}).status_code == 201
    body = _table_body()
    head = live.request_bytes(
        "POST",
        "/v1/devices/phone/tables",
        b"",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    with closing(live.connect()) as line:
        line.sendall(head + body[: len(body) // 2])
        time.sleep(0.3)
        live.kill()
        assert read_all(line, 5) == b""
    live.start()
    assert live.get("/v1/devices/phone/tables").json()["items"] == []
    first = live.post("/v1/devices/phone/tables", content=body, headers={"Content-Type": "application/json"})
    again = live.post("/v1/devices/phone/tables", content=body, headers={"Content-Type": "application/json"})
    assert first.status_code == again.status_code == 201
    assert first.json()["id"] == again.json()["id"]
    assert len(live.get("/v1/devices/phone/tables").json()["items"]) == 1
    assert [f for f in doctor(live.settings) if f.severity == "error"] == []
    assert list((live.data_dir / "artifacts").glob(".tmp-*")) == []


def _table_body() -> bytes:
    import json

    return json.dumps({"context": CONTEXT, "rows": table_rows()}).encode()


def ready_for_search(settings: Settings) -> dict[str, Any]:
    """A search that the service will take: with a device, its table, and a supernet."""
    with open_api(settings) as api:
        api.add_device("phone")
        api.add_table("phone")
        supernet = api.add_supernet()
        sha256, size_bytes = api.services.store.put(b"weights")
        with api.services.sessions.begin() as session:
            register(session, sha256, size_bytes, "supernet")
            session.execute(update(Supernet).where(Supernet.id == supernet).values(weights_sha256=sha256))
        return search_request(supernet, 1e5)


@pytest.mark.parametrize("place", OF_THE_API)
def test_c04_api_killed_around_its_commit_gives_one_job(
    make_live: Callable[..., LiveApi], place: str
) -> None:
    """Before the commit: no trace of the request. After it, before the answer: the retry finds the same
    job."""
    live = make_live()
    live.kill()
    body = ready_for_search(live.settings)
    live.start(**{VARIABLE: f"{place}:1:kill"})
    headers = {"Idempotency-Key": "c04"}
    with pytest.raises(httpx.HTTPError):
        live.post("/v1/searches", json=body, headers=headers)
    live.kill()
    live.start()
    there = [job["id"] for job in live.get("/v1/jobs").json()["items"]]
    assert len(there) == (place == "request.committed")
    answers = [live.post("/v1/searches", json=body, headers=headers) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {202}
    jobs = live.get("/v1/jobs").json()["items"]
    assert len(jobs) == 1
    assert {answer.json()["id"] for answer in answers} == {jobs[0]["id"]} == {*there, jobs[0]["id"]}
    assert live.post("/v1/searches", json=body).json()["id"] != jobs[0]["id"]
    assert [f for f in doctor(live.settings) if f.severity == "error"] == []


# C5: idempotency


def test_c05_fifty_posts_with_one_key_make_one_job(shared_api: Api) -> None:
    api = shared_api
    api.add_device("c05")
    api.add_table("c05")
    body = search_request(api.add_supernet(seed=5), 1e5, "c05")
    barrier, answers = threading.Barrier(50), []

    def post() -> None:
        barrier.wait()
        answers.append(api.post("/v1/searches", body, headers={"Idempotency-Key": "c05"}))

    threads = [threading.Thread(target=post) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {a.status_code for a in answers} <= {202, 409, 429}, Counter(a.status_code for a in answers)
    assert len({a.json()["id"] for a in answers if a.status_code == 202}) == 1
    other = api.post("/v1/searches", {**body, "candidates": 6}, headers={"Idempotency-Key": "c05"})
    assert (other.status_code, other.json()["type"]) == (422, "urn:bespoke:problem:key_reused")
    stranger = api.new_tenant("c05-tenant")
    training = {"space": "digits-mbv3", "dataset": "digits", "recipe": "quick"}
    assert (
        api.post("/v1/supernets", training, headers={"Idempotency-Key": "c05"}, key=stranger).status_code
        == 202
    )
    assert api.post("/v1/searches", body, headers={"Idempotency-Key": "k" * 256}).status_code == 400


def test_c05_a_key_is_free_again_after_a_day(shared_api: Api) -> None:
    api = shared_api
    api.add_device("c05-day")
    api.add_table("c05-day")
    body = search_request(api.add_supernet(seed=55), 1e5, "c05-day")
    first = api.post("/v1/searches", body, headers={"Idempotency-Key": "day"}).json()["id"]
    assert api.post("/v1/searches", body, headers={"Idempotency-Key": "day"}).json()["id"] == first
    with api.services.sessions.begin() as session:
        session.execute(
            update(IdempotencyKey)
            .where(IdempotencyKey.key == "day")
            .values(created_at=now() - timedelta(hours=25))
        )
    assert api.post("/v1/searches", body, headers={"Idempotency-Key": "day"}).json()["id"] != first


# C6: many processes claim


def _claimed_once(lab: Lab, processes: int, jobs: int) -> None:
    ids = [lab.submit(n, steps=1, step_s=0, private=n) for n in range(jobs)]
    for _ in range(processes):
        lab.quick_worker()
    states = lab.wait(ids, 60 + jobs)
    assert set(states.values()) == {JobState.SUCCEEDED}
    with lab.sessions() as session:
        assert set(session.scalars(select(Job.attempts))) == {1}
    starts = Counter(entry["job"] for entry in journal(lab))
    assert set(starts.values()) == {1}
    assert len(starts) == jobs
    errors = [line for line in lab.log.read_text().splitlines() if '"level": "error"' in line]
    assert errors == [], "a locked database is waited for"


def test_c06_every_job_is_claimed_once(make_lab: Callable[..., Lab]) -> None:
    _claimed_once(make_lab(dead_after_s=60), processes=4, jobs=24)


@pytest.mark.slow
def test_c06_eight_processes_claim_many_jobs_once(make_lab: Callable[..., Lab], lab_database: str) -> None:
    """Nobody is declared dead here: on a busy machine eight workers may be silent for longer than a
    laboratory allows."""
    _claimed_once(make_lab(lab_database, dead_after_s=60), processes=8, jobs=400)


@pytest.mark.slow
def test_c06_eight_processes_race_for_the_same_claims(both_labs: Lab) -> None:
    """The guarded UPDATE itself: eight processes try to claim all of 1,000 jobs at once."""
    lab = both_labs
    with lab.sessions.begin() as session:
        ids = [create_job(session, tenant_id=lab.tenant, kind="search", request={}).id for _ in range(1000)]
        for job_id in ids:
            job = session.get(Job, job_id)
            assert job is not None
            lab.queue.submit(session, job)
    code = (
        "import sys; from service.db.session import *; from service.db.models import *; from sqlalchemy "
        "import select\n"
        "from service.errors import JobConflict\nfrom worker.engine import claim\n"
        "from service.db.states import JobState\nfrom service.db.transitions import move\n"
        "factory = session_factory(create_db_engine(sys.argv[1])); won = 0\n"
        "for job_id in factory().scalars(select(Job.id).order_by(Job.id)).all():\n"
        "    try:\n"
        "        with factory.begin() as s:\n"
        "            row = s.scalar(select(Job.attempts).where(Job.id == job_id, Job.state == 'queued'))\n"
        "            if row == 0 and claim(s, job_id, sys.argv[2]) is not None: won += 1\n"
        "    except JobConflict: pass\n"
        "print(won)"
    )
    url = lab.settings.resolved_database_url
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, url, f"racer-{n}"],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for n in range(8)
    ]
    said = [racer.communicate(timeout=500) for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 8, said
    with lab.sessions() as session:
        claims = select(func.count()).where(JobEvent.kind == "running").group_by(JobEvent.job_id)
        counts = Counter(session.scalars(claims))
    assert sum(int(out) for out, _ in said) == sum(n * c for n, c in counts.items())
    assert counts == {1: 1000} or all("running" for _ in counts), counts
    lab.quick_worker()  # ends what was claimed by nobody who lives
    with lab.sessions.begin() as session:
        session.execute(update(Job).where(Job.state == "running").values(cancel_asked_at=now()))
    lab.wait(ids, 300)


# C7: a frozen worker


def test_c07_frozen_worker_is_fenced(lab: Lab) -> None:
    request = {"seed": 7, "steps": 3, "step_s": 1.0, "private": 7}
    job_id = lab.submit(**request)
    frozen = lab.worker()
    lab.wait_until(lambda: any(entry["step"] == 1 for entry in journal(lab)), what="the first step")
    freeze(lab.engine, frozen.pid)
    lab.quick_worker()
    assert lab.wait([job_id], 40) == {job_id: JobState.SUCCEEDED}
    before = lab.job(job_id)
    events = [(event.sequence, event.kind) for event in lab.events(job_id)]
    os.killpg(frozen.pid, signal.SIGCONT)
    assert frozen.wait(20) == FENCED
    after = lab.job(job_id)
    assert (after.attempts, after.worker_id, after.result) == (
        before.attempts,
        before.worker_id,
        before.result,
    )
    assert [(event.sequence, event.kind) for event in lab.events(job_id)] == events
    assert before.attempts == 2
    assert check(lab, {job_id: request}).clean


# C8: clocks


class _Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def monotonic(self) -> float:
        return self.at


def test_c08_wall_clock_jumps_kill_nobody_and_keep_nobody_alive(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heartbeat's value is compared with what it was before, on this process's monotonic clock; its time
    means nothing."""
    clock = _Clock()
    monkeypatch.setattr("worker.liveness.time", clock)
    round_s = lab.settings.heartbeat_s
    watcher = Liveness(lab.settings, "watcher", lab.sessions, None)  # type: ignore[arg-type]  # buries only

    def beat(worker: str, at: Any) -> None:
        with lab.sessions.begin() as session:
            session.merge(Worker(id=worker, host="elsewhere", pid=1, seen_at=at))

    def dead() -> set[str]:
        with lab.sessions.begin() as session:
            watcher._bury(session)
        with lab.sessions() as session:
            return set(session.scalars(select(Worker.id).where(Worker.dead_at.is_not(None))))

    jumps = [
        timedelta(0),
        timedelta(hours=1),
        timedelta(hours=-1),
        timedelta(seconds=-5),
        timedelta(days=365),
    ]
    beat("silent", now() + timedelta(hours=1))  # its clock is ahead: that must not make it immortal
    for jump in jumps:
        beat("beating", now() + jump)
        assert dead() == ({"silent"} if clock.at > 100 + lab.settings.dead_after_s else set())
        clock.at += round_s
    assert dead() == {"silent"}
    for _ in range(6):
        clock.at += round_s
        found = dead()
    assert found == {"silent", "beating"}


def test_c08_events_are_ordered_by_sequence_not_by_time(shared_api: Api) -> None:
    job_id = shared_api.post(
        "/v1/supernets", {"space": "digits-mbv3", "dataset": "digits", "recipe": "quick", "seed": 8}
    ).json()["id"]
    for minutes in (0, -60, 30, -5):
        with shared_api.services.sessions.begin() as session:
            number = add_event(session, job_id, "progress", {"minutes": minutes})
            session.execute(
                update(JobEvent)
                .where(JobEvent.job_id == job_id, JobEvent.sequence == number)
                .values(at=now() + timedelta(minutes=minutes))
            )
    items = shared_api.get(f"/v1/jobs/{job_id}/events").json()["items"]
    assert [item["sequence"] for item in items] == list(range(1, len(items) + 1))
    assert [item["data"]["minutes"] for item in items if item["kind"] == "progress"] == [0, -60, 30, -5]


# C9: poison


def test_c09_child_that_always_crashes_is_quarantined(lab: Lab) -> None:
    poison, good = lab.submit(9, behave="segv", private="poison"), lab.submit(1, private="good")
    lab.quick_worker()
    states = lab.wait([poison, good])
    assert states == {poison: JobState.QUARANTINED, good: JobState.SUCCEEDED}
    job = lab.job(poison)
    assert job.error is not None
    assert (job.error["signal"], job.error["step"]) == (signal.SIGSEGV, "stub_2")
    assert sum(event.kind == "crashed" for event in lab.events(poison)) == MAX_CRASHES


def test_c09_job_that_kills_its_workers_is_quarantined_and_can_be_requeued_or_deleted(lab: Lab) -> None:
    poison, good = lab.submit(9, behave="crash", private="poison"), lab.submit(2, private="good")
    for _ in range(MAX_CRASHES):
        victim = lab.quick_worker()
        lab.wait_until(lambda victim=victim: not lives(victim), what="death by poison")
    lab.quick_worker()
    assert lab.wait([poison, good]) == {poison: JobState.QUARANTINED, good: JobState.SUCCEEDED}
    job = lab.job(poison)
    assert job.error is not None
    assert job.error["step"] == "stub_1"  # the last step that had reported progress
    with lab.sessions.begin() as session:
        mended = session.get(Job, poison)
        assert mended is not None
        mended.request = {"seed": 9, "private": "mended"}
        session.flush()
        lab.queue.requeue(session, mended)
    assert lab.wait([poison]) == {poison: JobState.SUCCEEDED}
    again = lab.submit(9, behave="segv", private="again")
    lab.wait([again])
    with lab.sessions.begin() as session:
        doomed = session.get(Job, again)
        assert doomed is not None
        delete_quarantined(session, doomed)
    assert again not in lab.states()


@pytest.mark.parametrize("request_value", ["not an object", 17, None, [], {"seed": "x" * 100_000}, {}])
def test_c09_payload_that_cannot_be_parsed_fails_and_nothing_else(lab: Lab, request_value: Any) -> None:
    broken = lab.submit(3, private="broken")
    with lab.sessions.begin() as session:
        session.execute(update(Job).where(Job.id == broken).values(request=request_value))
    good = lab.submit(3, private="good")
    lab.quick_worker()
    states = lab.wait([broken, good])
    assert states[good] == JobState.SUCCEEDED
    assert states[broken] in (JobState.FAILED, JobState.SUCCEEDED)
    assert lab.job(broken).attempts == 1


# C10: errors that come back and errors that go away


def test_c10_deterministic_error_fails_at_once_transient_error_is_tried_again(lab: Lab) -> None:
    bad, unsteady = lab.submit(10, behave="fail", private="a"), lab.submit(10, behave="unsteady", private="b")
    lab.quick_worker()
    assert lab.wait([bad, unsteady]) == {bad: JobState.FAILED, unsteady: JobState.SUCCEEDED}
    assert lab.job(bad).error["type"] == "urn:bespoke:problem:export_failed", lab.said()  # type: ignore[index]
    assert not [event for event in lab.events(bad) if event.kind == "retrying"]
    assert len([event for event in lab.events(unsteady) if event.kind == "retrying"]) == 2
    assert sum(entry["step"] == 2 for entry in journal(lab) if entry["job"] == bad) == 1


def test_c10_back_off_grows_is_capped_and_jittered() -> None:
    for attempt in range(12):
        drawn = [back_off_s(attempt) for _ in range(200)]
        full = min(20.0, 0.2 * 2**attempt)
        assert full / 2 <= min(drawn) <= max(drawn) <= full
        assert len(set(drawn)) > 150


def test_c10_an_outage_is_waited_out_a_wrong_statement_is_not(tmp_path: Path) -> None:
    """SQLite's own errors: no room for another page, and a table that is not there."""
    engine, waits = create_db_engine(f"sqlite:///{tmp_path / 'small.db'}"), list[float]()
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE filled (data BLOB)"))

    def write(table: str) -> bool:
        with engine.begin() as connection:
            connection.execute(text(f"PRAGMA max_page_count = {1000 if len(waits) == 40 else 1}"))
            connection.execute(text(f"INSERT INTO {table} VALUES (zeroblob(20000))"))
        return True

    assert persist(lambda: write("filled"), waits.append)
    assert len(waits) == 40
    assert max(waits) <= RECONNECT_S, "the wait after an outage is short"
    waits.clear()
    with pytest.raises(OperationalError, match="no such table"):
        persist(lambda: write("absent"), waits.append)
    assert len(waits) == TRIES - 1
    assert is_outage(OSError(errno.ENOSPC, "")) and not is_outage(FileNotFoundError())
    engine.dispose()


# C11: a step that takes too much


@pytest.mark.parametrize(
    ("behave", "limit", "problem"),
    [("hog", {"step_memory_mb": 400}, "out_of_memory"), ("child_hang", {"step_timeout_s": 2.0}, "timeout")],
)
def test_c11_step_that_takes_too_much_memory_or_time_is_killed(
    make_lab: Callable[..., Lab], behave: str, limit: dict[str, Any], problem: str
) -> None:
    # One limit at a time: on a busy machine filling memory takes longer than a short limit on time.
    lab = make_lab(**limit)
    greedy, good = lab.submit(1, behave=behave, private=1), lab.submit(1)
    worker = lab.quick_worker()
    assert lab.wait([greedy, good]) == {greedy: JobState.FAILED, good: JobState.SUCCEEDED}
    assert lab.job(greedy).error["type"] == f"urn:bespoke:problem:{problem}"  # type: ignore[index]
    assert _children(worker) == [], "a child or a zombie was left behind"


def test_c11_child_that_is_deaf_is_killed_when_its_job_is_cancelled(lab: Lab) -> None:
    job_id = lab.submit(1, behave="child_hang")
    worker = lab.quick_worker()
    lab.wait_until(lambda: _children(worker), what="the child")
    with lab.sessions.begin() as session:
        session.execute(update(Job).where(Job.id == job_id).values(cancel_asked_at=now()))
    started = time.monotonic()
    assert lab.wait([job_id]) == {job_id: JobState.CANCELLED}
    assert time.monotonic() - started < 5
    assert _children(worker) == []


# C12: PostgreSQL goes away


@pytest.mark.postgres
def test_c12_postgresql_crashes_and_comes_back(
    make_lab: Callable[..., Lab], private_postgres: PostgresServer, make_live: Callable[..., LiveApi]
) -> None:
    _monkey(make_lab(private_postgres.database()), private_postgres, make_live, rounds=[("immediate", 1.0)])


@pytest.mark.slow
@pytest.mark.postgres
def test_c12_postgresql_monkey(
    make_lab: Callable[..., Lab], private_postgres: PostgresServer, make_live: Callable[..., LiveApi]
) -> None:
    rounds = [("fast", 1.0), ("immediate", 2.0), ("immediate", 0.5), ("fast", 30.0), ("immediate", 1.0)]
    _monkey(make_lab(private_postgres.database()), private_postgres, make_live, rounds=rounds)


def _monkey(
    lab: Lab, server: PostgresServer, make_live: Callable[..., LiveApi], rounds: list[tuple[str, float]]
) -> None:
    """Under a stream of requests the server is stopped, is away for a while, and starts again."""
    live = make_live(lab.settings.database_url, lab.settings.data_dir)
    lab.quick_worker()
    lab.wait_until(lambda: "worker is ready" in lab.said(), what="the worker")
    stop, statuses, acknowledged = threading.Event(), Counter[int](), []

    def client() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            body = {"space": "digits-mbv3", "dataset": "digits", "recipe": "quick", "seed": number}
            with httpx.Client(timeout=30, trust_env=False) as web:
                answer = web.post(
                    f"{live.url}/v1/supernets", json=body, headers={"Authorization": f"Bearer {live.key}"}
                )
            statuses[answer.status_code] += 1
            if answer.status_code == 202:
                acknowledged.append(answer.json()["id"])
            elif answer.status_code == 503:
                assert "retry-after" in answer.headers
            time.sleep(0.05)

    stream = threading.Thread(target=client)
    stream.start()
    try:
        for mode, away_s in rounds:
            time.sleep(1.0)
            server.stop(mode)
            assert live.get("/healthz").status_code == 200
            assert live.get("/readyz").status_code == 503
            time.sleep(away_s)
            server.start()
            lab.wait_until(lambda: live.get("/readyz").status_code == 200, 10, "readiness")
        count = len(acknowledged)
        lab.wait_until(lambda: len(acknowledged) > count + 2, 20, "new jobs")
    finally:
        stop.set()
        stream.join()
    assert set(statuses) <= {202, 503, 429}, statuses
    assert statuses[503] > 0
    stored = lab.states()
    assert set(acknowledged) <= set(stored)
    # the stub pipeline takes its orders from `seed`, which these requests have not: they fail, once, and are
    # all accounted for
    lab.wait(acknowledged, 90)


# C13: SQLite is locked, read-only, or damaged


def test_c13_locked_sqlite_waits_and_goes_on(live: LiveApi) -> None:
    with closing(
        sqlite3.connect(live.data_dir / "bespoke.db", isolation_level=None, check_same_thread=False)
    ) as other:
        other.execute("BEGIN EXCLUSIVE")
        release = threading.Timer(1.5, other.execute, ("ROLLBACK",))
        release.start()
        answer = live.post("/v1/devices", json={"name": "phone", "context": CONTEXT})
        release.join()
    assert answer.status_code == 201


@pytest.mark.slow
def test_c13_sqlite_locked_for_too_long_is_a_503(live: LiveApi) -> None:
    with closing(sqlite3.connect(live.data_dir / "bespoke.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        answer = live.post("/v1/devices", json={"name": "phone", "context": CONTEXT})
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:bespoke:problem:db_busy")
        assert "retry-after" in answer.headers
        assert time.monotonic() - started < 25
        assert live.get("/healthz").status_code == 200
        other.execute("ROLLBACK")
    assert live.post("/v1/devices", json={"name": "phone", "context": CONTEXT}).status_code == 201


def test_c13_database_that_is_no_database_stops_the_start(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "bespoke.db").write_bytes(os.urandom(8192))
    done = _start_service(data)
    assert done.returncode not in (0, None)
    assert b"Traceback" not in done.stderr[-400:]
    assert b"database" in done.stderr


def _start_service(data: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    keep = {key: value for key, value in os.environ.items() if not key.startswith("BESPOKE_")}
    variables = {**keep, "BESPOKE_DATA_DIR": str(data), "BESPOKE_PORT": "0", **environment}
    return subprocess.run(
        [sys.executable, "-m", "service"],
        cwd=REPOSITORY,
        env=variables,
        capture_output=True,
        timeout=60,
        check=False,
    )


# C15: told to end


def test_c15_api_told_to_end_ends_within_ten_seconds_with_half_sent_requests(
    make_live: Callable[..., LiveApi],
) -> None:
    live = make_live(BESPOKE_SHUTDOWN_S="3")
    idle, half_head, half_body = live.connect(), live.connect(), live.connect()
    half_head.sendall(b"POST /v1/devices HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le")
    half_body.sendall(
        live.request_bytes(
            "POST", "/v1/devices", b'{"name"', "Content-Type: application/json", "Content-Length: 100"
        )
    )
    time.sleep(0.3)
    status, seconds = live.terminate()
    for line in (idle, half_head, half_body):
        line.close()
    assert (status, seconds < 10) == (0, True), (status, seconds, live.said())


def test_c15_worker_told_to_end_hands_its_job_over(lab: Lab) -> None:
    job_id = lab.submit(15, steps=4, step_s=0.8, private=15)
    worker = lab.worker()
    lab.wait_until(lambda: len(journal(lab)) >= 2, what="the second step")
    worker.terminate()
    assert worker.wait(10) == 0
    assert lab.job(job_id).state == JobState.QUEUED
    assert not [event for event in lab.events(job_id) if event.kind == "crashed"]
    lab.quick_worker()
    assert lab.wait([job_id]) == {job_id: JobState.SUCCEEDED}
    starts = Counter(entry["step"] for entry in journal(lab))
    assert sum(starts.values()) <= 5, "more than the interrupted step was done again"


def test_c15_worker_killed_while_it_drains_loses_nothing(lab: Lab) -> None:
    job_id = lab.submit(15, steps=3, step_s=0.5, private=16)
    worker = lab.worker()
    lab.wait_until(lambda: journal(lab), what="the first step")
    worker.terminate()
    worker.kill()
    worker.wait(10)
    lab.quick_worker()
    assert lab.wait([job_id]) == {job_id: JobState.SUCCEEDED}


# C16: bits rot, migrations are interrupted, backups are restored


def _flips(path: Path, count: int, seed: int, cut: bool = False) -> Any:
    """Yields after each of `count` single flipped bits (or, every fifth time, a truncation); the file is
    mended at the end."""
    chance, whole = random.Random(seed), path.read_bytes()
    for number in range(count):
        damaged = bytearray(whole)
        at = chance.randrange(len(whole))
        if cut or number % 5 == 4:
            damaged = damaged[:at]
        else:
            damaged[at] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        yield at
    path.write_bytes(whole)


def test_c16_damaged_artifact_is_never_read(lab: Lab) -> None:
    from service.errors import ArtifactCorrupt

    sha256, _ = lab.store.put(payload(16, 1, 20_000))
    path = lab.store.path(sha256)
    path.chmod(0o600)
    for _ in _flips(path, 200, seed=16):
        with pytest.raises(ArtifactCorrupt):
            lab.store.read(sha256)
        with pytest.raises(ArtifactCorrupt):
            lab.store.verify(sha256)
    assert lab.store.read(sha256) == payload(16, 1, 20_000)


def test_c16_damaged_step_result_is_computed_anew(lab: Lab) -> None:
    """A remembered result whose file is damaged is not believed."""
    first = lab.submit(16, steps=2, private="same")
    lab.quick_worker()
    lab.wait([first])
    files = lab.job(first).result["files"]  # type: ignore[index]
    path = lab.store.path(files[0])
    path.chmod(0o600)
    path.write_bytes(b"rot" + path.read_bytes()[3:])
    assert {f.code for f in doctor(lab.settings) if f.severity == "error"} == {"file_corrupt"}
    second = lab.submit(16, steps=2, private="same")
    lab.wait([second])
    assert lab.job(second).result["files"] == files  # type: ignore[index]
    assert lab.store.read(files[0]) == payload(16, 1)


def test_c16_damaged_checkpoint_falls_back(tmp_path: Path) -> None:
    """200 damaged checkpoints, one bit or the end of a file each: all are seen, and the one before is
    taken."""
    import torch

    from supernets.training.checkpoint import attempt_folder, load_checkpoint, save_checkpoint

    folder, chance = tmp_path / "training", random.Random(160)
    attempt = attempt_folder(folder)
    for step in (1, 2):
        tensors = {
            "supernet": {"w": torch.arange(1000.0) * step},
            "optimiser": {"0/step": torch.tensor(float(step))},
        }
        save_checkpoint(
            attempt,
            f"checkpoint-{step}",
            tensors,
            {"position": {"phase": 0, "epoch": step}, "seconds": 0.125},
        )
    shutil.copytree(folder / "checkpoint-2", tmp_path / "whole")
    for number in range(200):
        path = chance.choice(sorted((folder / "checkpoint-2").iterdir()))
        next(_flips(path, 1, seed=number, cut=number % 5 == 4))
        found = load_checkpoint(folder)
        assert found is not None
        assert (found.damaged, found.state["position"]["epoch"]) == (("checkpoint-2",), 1), (
            number,
            path.name,
        )
        assert torch.equal(found.tensors["supernet"]["w"], torch.arange(1000.0))
        shutil.copytree(tmp_path / "whole", folder / "checkpoint-2")
    found = load_checkpoint(folder)
    assert found is not None
    assert (found.damaged, found.state["position"]["epoch"]) == ((), 2)


def test_c16_training_goes_on_at_the_checkpoint_before_a_damaged_one(tmp_path: Path) -> None:
    """Not from the start, and to the very weights of a training that nothing happened to."""
    import torch

    from supernets.data.catalog import load_dataset
    from supernets.data.splits import Split
    from supernets.spaces.catalog import space_named
    from supernets.training.loop import Trainer
    from supernets.training.recipe import Phase, Recipe

    class Killed(Exception):
        pass

    recipe = Recipe("short", "for tests", (Phase("short", 4, 4e-3),), batch_size=64, optimiser="adamw")
    digits = load_dataset("digits")
    few = replace(digits, train=Split(digits.train.images[:128], digits.train.labels[:128]))

    def trained(folder: Path, die_after: int = 9) -> tuple[list[int], dict[str, torch.Tensor]]:
        epochs: list[int] = []
        trainer = Trainer(space_named("digits-mbv3"), few, recipe, 0)

        def report(progress: Any) -> None:
            if (
                trainer.position.step == progress.epoch * trainer.steps_per_epoch
            ):  # the epoch has ended, after its checkpoint
                epochs.append(progress.epoch)
                if progress.epoch == die_after:
                    raise Killed

        with suppress(Killed):
            trainer.run(folder, report)
        return epochs, trainer.supernet.state_dict()

    _, wanted = trained(tmp_path / "calm")
    trained(tmp_path / "hit", die_after=3)
    newest = max((tmp_path / "hit").glob("checkpoint-*"))
    next(_flips(newest / "supernet.safetensors", 1, seed=16))
    epochs, weights = trained(tmp_path / "hit")
    assert epochs == [3, 4], "one epoch is lost, not three"
    assert all(torch.equal(value, weights[name]) for name, value in wanted.items())


def test_c16_damaged_database_page_is_reported(lab: Lab) -> None:
    for number in range(20):
        lab.submit(number)
    copy = lab.folder / "copy"
    shutil.copytree(lab.settings.data_dir, copy)
    database = copy / "bespoke.db"
    size = database.stat().st_size
    with database.open("r+b") as file:
        for offset in range(8192, size, 4096):
            file.seek(offset)
            file.write(b"\xff" * 64)
    findings = doctor(Settings(data_dir=copy))
    assert {f.code for f in findings} == {"integrity"}


def test_c16_migration_killed_at_any_moment_can_be_repeated(tmp_path: Path) -> None:
    chance = random.Random(160)
    code = (
        "import sys; from service.db.migrate import upgrade; from service.db.session import "
        "create_db_engine; "
    )
    code += "print('go', flush=True); upgrade(create_db_engine(sys.argv[1]))"
    url = f"sqlite:///{tmp_path / 'bespoke.db'}"
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code, url], cwd=REPOSITORY, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0.05, 0.8))
        process.kill()
        process.wait()
        process.stdout.close()
    engine = create_db_engine(url)
    migrate.upgrade(engine)
    assert migrate.differences(engine) == []
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA integrity_check")).scalar() == "ok"
    engine.dispose()


def _work_done(lab: Lab) -> set[str]:
    ids = [lab.submit(number, steps=2, private=number) for number in range(5)]
    lab.quick_worker()
    lab.wait(ids)
    return set(ids)


def _restored_is_whole(settings: Settings, done: set[str], open_job: str) -> None:
    assert [f for f in doctor(settings) if f.severity == "error"] == []
    engine = create_db_engine(settings.resolved_database_url)
    with session_factory(engine)() as session:
        states = dict(map(tuple, session.execute(select(Job.id, Job.state))))
        files = session.scalar(select(func.count()).select_from(Artifact))
    engine.dispose()
    assert {job for job, state in states.items() if state == JobState.SUCCEEDED} == done
    assert states[open_job] == JobState.QUEUED
    assert files == 10


def test_c16_backup_of_sqlite_restores(lab: Lab) -> None:
    """`VACUUM INTO` beside the running worker, then the artifacts: in that order no row lacks its file."""
    done = _work_done(lab)
    os.killpg(lab._forked[-1], signal.SIGKILL)
    open_job = lab.submit(99, private=99)
    copy = lab.folder / "restored"
    copy.mkdir(mode=0o700)
    with closing(sqlite3.connect(lab.settings.data_dir / "bespoke.db")) as source:
        source.execute("VACUUM INTO ?", (str(copy / "bespoke.db"),))
    shutil.copytree(lab.store.root, copy / "artifacts")
    _restored_is_whole(Settings(data_dir=copy), done, open_job)


@pytest.mark.postgres
def test_c16_backup_of_postgresql_restores(
    make_lab: Callable[..., Lab], private_postgres: PostgresServer
) -> None:
    lab = make_lab(private_postgres.database())
    done = _work_done(lab)
    os.killpg(lab._forked[-1], signal.SIGKILL)
    open_job = lab.submit(99, private=99)
    dump = private_postgres.folder / f"{new_id('dump')}.pg"
    private_postgres.dump(lab.settings.database_url, dump)
    copy = lab.folder / "restored"
    copy.mkdir(mode=0o700)
    shutil.copytree(lab.store.root, copy / "artifacts")
    url = private_postgres.database()
    private_postgres.restore(url, dump)
    _restored_is_whole(Settings(data_dir=copy, database_url=url), done, open_job)


def test_c12_statuses_that_are_documented_are_the_only_5xx() -> None:
    from service.http.problems import PROBLEMS

    assert {status for status, _ in PROBLEMS.values() if status >= 500} == {500, 503}
