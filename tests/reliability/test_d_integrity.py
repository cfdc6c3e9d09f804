"""Group D: what is stored stays what it was, and what is given out is what was stored."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select, update

from service.artifacts import ArtifactStore
from service.db.models import (
    Artifact,
    Job,
    JobEvent,
    Model,
    StepResult,
    Supernet,
    Table,
    TableRow,
    new_id,
    now,
)
from service.db.states import ENDED, TRANSITIONS, JobState
from service.db.transitions import ask_cancel, create_job, move
from service.errors import JobConflict, JobEnded
from service.local.doctor import doctor, sweep
from tests.reliability.machinery.history import journal
from tests.reliability.machinery.lab import REPOSITORY, Lab
from tests.service.api import Api, is_problem, search_request, table_rows

STRACE = Path("/usr/bin/strace")
needs_strace = pytest.mark.skipif(
    not STRACE.exists(), reason="no strace here; the failpoints artifact.* (C1) stand in"
)


def published_model(api: Api, data: bytes, device: str) -> tuple[str, str]:
    """(model id, SHA-256) of a delivered network, as a finished search leaves it behind."""
    api.add_device(device)
    table = api.add_table(device)["id"]
    supernet = api.add_supernet(seed=len(device))
    job = api.post("/v1/searches", search_request(supernet, 1e5, device)).json()["id"]
    sha256, size_bytes = api.services.store.put(data)
    model_id = new_id("mod")
    with api.services.sessions.begin() as session:
        session.merge(Artifact(sha256=sha256, size_bytes=size_bytes, kind="onnx_model"))
        session.flush()
        device_id = session.scalars(select(Table.device_id).where(Table.id == table)).one()
        session.add(
            Model(
                id=model_id,
                tenant_id=api.tenant_id,
                job_id=job,
                device_id=device_id,
                supernet_id=supernet,
                table_id=table,
                budget_ms=1.0,
                onnx_sha256=sha256,
                card={"id": model_id, "file": {"sha256": sha256, "size_bytes": size_bytes}},
            )
        )
    return model_id, sha256


def test_d01_download_is_what_its_hash_says_or_nothing(shared_api: Api) -> None:
    data = random.Random(1).randbytes(50_000)
    model_id, sha256 = published_model(shared_api, data, "d01")
    answer = shared_api.get(f"/v1/models/{model_id}/onnx")
    assert answer.status_code == 200
    assert hashlib.sha256(answer.content).hexdigest() == sha256
    assert answer.headers["ETag"] == f'"{sha256}"'
    assert answer.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"
    assert model_id in answer.headers["Content-Disposition"]
    path = shared_api.services.store.path(sha256)
    path.chmod(0o600)
    for at in random.Random(2).sample(range(len(data)), 20):
        damaged = bytearray(data)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        for headers in ({}, {"Range": "bytes=0-10"}, {"Range": f"bytes={max(0, at - 500)}-{at - 400}"}):
            is_problem(
                shared_api.get(f"/v1/models/{model_id}/onnx", headers=headers), 503, code="artifact_corrupt"
            )
    path.unlink()
    is_problem(shared_api.get(f"/v1/models/{model_id}/onnx"), 503, code="artifact_missing")
    path.write_bytes(data)
    assert shared_api.get(f"/v1/models/{model_id}/onnx").content == data


# D2: the write protocol, seen and broken from outside


PUT = "import sys; from pathlib import Path; from service.artifacts import ArtifactStore; "
PUT += "ArtifactStore(Path(sys.argv[1])).put(b'new' * 9000)"
WANTED = hashlib.sha256(b"new" * 9000).hexdigest()


def _put_under_strace(root: Path, *options: str, log: Path) -> int:
    command = ["strace", "-f", "-qq", "-o", str(log), *options, sys.executable, "-c", PUT, str(root)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, timeout=120, check=False).returncode


@needs_strace
def test_d02_order_of_writes_is_temporary_sync_rename_sync(tmp_path: Path) -> None:
    root, log = tmp_path / "store", tmp_path / "log"
    root.mkdir(mode=0o700)
    status = _put_under_strace(root, "-y", "-e", "trace=openat,write,fsync,rename", log=log)
    assert status == 0
    lines = [line.split(" ", 1)[1] for line in log.read_text().splitlines() if str(root) in line]
    kinds = [re.match(r"\s*(\w+)\(", line)[1] for line in lines]  # type: ignore[index]
    opened = next(line for line in lines if "O_CREAT" in line)
    assert ".tmp-" in opened
    assert "O_EXCL" in opened
    assert "0600" in opened
    order = [kind for kind in kinds if kind != "openat"]
    assert order[0] == "write"
    assert order.index("fsync") < order.index("rename") < len(order) - 1
    assert order[order.index("rename") + 1 :].count("fsync") >= 1
    synced_after = [line for line in lines[kinds.index("rename") :] if "fsync" in line]
    assert any(WANTED[:2] + ">" in line for line in synced_after), "the folder of the new name is not synced"


@needs_strace
def test_d02_failure_or_death_at_any_call_leaves_old_or_new(tmp_path: Path) -> None:
    """Every fsync, write and rename fails once with EIO or ENOSPC, or the process is killed at it."""
    faults = [
        ("rename", "signal=KILL"),
        ("rename", "error=EIO"),
        ("fsync", "signal=KILL"),
        ("fsync", "error=EIO"),
    ]
    for number, (call, fault) in enumerate(faults):
        for when in (1, 2, 3, 4):
            root = tmp_path / f"store{number}-{when}"
            root.mkdir(mode=0o700)
            status = _put_under_strace(
                root, "-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={when}", log=tmp_path / "log"
            )
            store = ArtifactStore(root)
            assert set(store.stored()) <= {WANTED}
            if store.path(WANTED).exists():
                assert store.read(WANTED) == b"new" * 9000
            if status == 0:
                assert store.whole(WANTED)
                break
            assert store.put(b"new" * 9000)[0] == WANTED, "a store with leftovers takes the file"
            assert store.whole(WANTED)


# D3, D4: the sweep and the doctor


def _litter(lab: Lab) -> dict[str, Path]:
    """Old and young files, named by rows or not."""
    made = {}
    for name in ("referenced_old", "unreferenced_old", "unreferenced_young", "step_old"):
        sha256, size_bytes = lab.store.put(name.encode() * 100)
        made[name] = lab.store.path(sha256)
        with lab.sessions.begin() as session:
            if name.startswith("referenced"):
                session.add(Artifact(sha256=sha256, size_bytes=size_bytes, kind="report"))
            if name.startswith("step"):
                session.add(
                    StepResult(digest="d" * 64, step="stub", result={"inner": [{"stub_sha256": sha256}]})
                )
    for name in ("temporary_old", "temporary_young"):
        made[name] = lab.store.root / f".tmp-{name}"
        made[name].write_bytes(b"half")
    for name, path in made.items():
        if name.endswith("old"):
            os.utime(path, (time.time() - 90_000, time.time() - 90_000))
    return made


def test_d03_sweep_removes_what_nobody_names_and_nothing_else(lab: Lab) -> None:
    made = _litter(lab)
    swept: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: swept.append(sweep(lab.settings, older_than_s=86_400)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(swept) == 2, "two sweeps at once"
    assert sorted(swept[0] + swept[1]) == sorted([made["unreferenced_old"].name, made["temporary_old"].name])
    left = {name for name, path in made.items() if path.exists()}
    assert left == {"referenced_old", "step_old", "unreferenced_young", "temporary_young"}
    assert sweep(lab.settings, older_than_s=86_400) == []
    sweep(lab.settings, older_than_s=0)
    time.sleep(1.1)
    assert [f for f in doctor(lab.settings) if f.severity == "orphan"] == []


def test_d04_doctor_finds_every_kind_of_damage(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    lab.examine = list  # type: ignore[method-assign]  # what is damaged here stays damaged
    assert doctor(lab.settings) == []
    ids = [lab.submit(number) for number in range(9)]
    assert doctor(lab.settings) == []
    whole, flipped, gone = (lab.store.put(text)[0] for text in (b"whole", b"flipped", b"gone"))
    lab.store.path(flipped).chmod(0o600)
    lab.store.path(flipped).write_bytes(b"flippeD")
    lab.store.path(gone).unlink()
    lab.store.put(b"orphan")
    (lab.store.root / ".tmp-x").write_bytes(b"")
    os.utime(lab.store.root / ".tmp-x", (0, 0))
    with lab.sessions.begin() as session:
        for sha256, size_bytes in ((whole, 99), (flipped, 7), (gone, 4)):
            session.add(Artifact(sha256=sha256, size_bytes=size_bytes, kind="report"))
        session.execute(
            update(Job).where(Job.id == ids[0]).values(state="succeeded", ended_at=now(), result={})
        )  # no event
        session.execute(update(Job).where(Job.id == ids[1]).values(state="running"))  # no worker
        session.execute(update(Job).where(Job.id == ids[2]).values(state="dancing"))
        session.execute(update(JobEvent).where(JobEvent.job_id == ids[3]).values(sequence=2))
        session.execute(update(Job).where(Job.id == ids[4]).values(workflow_id="nobody"))
        session.add_all(
            JobEvent(job_id=ids[5], sequence=n, kind=k)
            for n, k in ((2, "succeeded"), (3, "running"), (4, "queued"))
        )
        session.add(
            Supernet(
                id="sup_x",
                tenant_id=lab.tenant,
                digest="e" * 64,
                space="s",
                dataset="d",
                recipe="r",
                seed=0,
                classes=2,
                ready_at=now(),
            )
        )
    found = Counter(finding.code for finding in doctor(lab.settings))
    wanted = {
        "file_size", "file_corrupt", "file_missing", "file_unreferenced", "file_temporary", "event_state", "job_row", "job_state",
        "event_gap", "job_lost", "event_move", "supernet_weights",
    }  # fmt: skip
    assert wanted <= set(found), wanted - set(found)


def test_d04_doctor_finds_a_table_that_lost_rows(shared_api: Api) -> None:
    shared_api.add_device("d04")
    table = shared_api.add_table("d04")["id"]
    first = table_rows()[0]["operator"]
    with shared_api.services.sessions.begin() as session:
        row = session.get(TableRow, (table, first))
        assert row is not None
        session.delete(row)
    codes = {(f.code, f.subject) for f in doctor(shared_api.settings) if f.severity == "error"}
    assert ("table_rows", table) in codes


# D6: two hands on one thing; a table under a job's feet


def test_d06_two_changes_with_one_etag_are_one_change(shared_api: Api) -> None:
    shared_api.add_device("d06")
    etag = shared_api.get("/v1/devices/d06").headers["ETag"]
    barrier, statuses = threading.Barrier(8), []

    def change(number: int) -> None:
        barrier.wait()
        body = {"description": str(number)}
        statuses.append(
            shared_api.call("PATCH", "/v1/devices/d06", body, headers={"If-Match": etag}).status_code
        )

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(statuses) == {200: 1, 412: 7}
    is_problem(
        shared_api.call("PATCH", "/v1/devices/d06", {"description": "x"}), 428, code="precondition_required"
    )


def test_d06_job_keeps_the_table_it_was_given(shared_api: Api) -> None:
    shared_api.add_device("d06t")
    first = shared_api.add_table("d06t")["id"]
    job = shared_api.post(
        "/v1/searches", search_request(shared_api.add_supernet(seed=66), 1e5, "d06t")
    ).json()["id"]
    before = shared_api.get(f"/v1/devices/d06t/tables/{first}").content
    slower = [
        {**row, "median_ms": row["median_ms"] * 2, "lower_quartile_ms": row["lower_quartile_ms"] * 2}
        for row in table_rows()
    ]
    second = shared_api.add_table("d06t", slower)["id"]
    assert first != second
    with shared_api.services.sessions() as session:
        request = session.scalars(select(Job.request).where(Job.id == job)).one()
    assert [target["table_id"] for target in request["targets"]] == [first]
    assert shared_api.get(f"/v1/devices/d06t/tables/{first}").content == before
    is_problem(shared_api.call("DELETE", f"/v1/devices/d06t/tables/{first}"), 409, code="in_use")
    is_problem(shared_api.call("DELETE", "/v1/devices/d06t"), 409, code="in_use")
    assert shared_api.call("DELETE", f"/v1/devices/d06t/tables/{second}").status_code == 204
    shared_api.post(f"/v1/jobs/{job}/cancel")
    assert shared_api.call("DELETE", "/v1/devices/d06t").status_code == 204


# D7: the same inputs give the same result, also through kills


def test_d07_same_inputs_give_the_same_result_also_when_killed(lab: Lab) -> None:
    calm = lab.submit(7, steps=4, private="calm")
    lab.quick_worker()
    lab.wait([calm])
    os.killpg(lab._forked[-1], 9)
    killed = lab.submit(7, steps=4, private="killed")
    for place in ("step.computed:2", "step.stored:1"):
        victim = lab.quick_worker(BESPOKE_FAILPOINT=f"{place}:kill")
        lab.wait_until(
            lambda victim=victim: not Path(f"/proc/{victim}").exists() or "Z" in _state(victim), what="death"
        )
    lab.quick_worker()
    lab.wait([killed])
    assert lab.job(killed).result == lab.job(calm).result


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


# D8: cancel, delete, list


@pytest.mark.parametrize("step", [1, 2, 3])
def test_d08_cancel_at_every_step_ends_within_five_seconds_without_a_result(lab: Lab, step: int) -> None:
    job_id = lab.submit(8, steps=3, step_s=2.0, private=step)
    lab.quick_worker()
    lab.wait_until(lambda: any(entry["step"] == step for entry in journal(lab)), what=f"step {step}")
    with lab.sessions.begin() as session:
        ask_cancel(session, session.get_one(Job, job_id))
    started = time.monotonic()
    assert lab.wait([job_id]) == {job_id: JobState.CANCELLED}
    assert time.monotonic() - started < 5
    assert lab.job(job_id).result is None
    with lab.sessions.begin() as session, pytest.raises(JobEnded):
        ask_cancel(session, session.get_one(Job, job_id))


def test_d08_queued_job_is_cancelled_at_once_and_never_runs(lab: Lab) -> None:
    job_id = lab.submit(8)
    with lab.sessions.begin() as session:
        ask_cancel(session, session.get_one(Job, job_id))
    lab.queue.cancel(job_id)
    assert lab.states([job_id]) == {job_id: JobState.CANCELLED}
    other = lab.submit(9)
    lab.quick_worker()
    lab.wait([other])
    assert not [entry for entry in journal(lab) if entry["job"] == job_id]


def test_d08_pages_while_jobs_are_added_miss_and_repeat_nothing(shared_api: Api) -> None:
    made = set()
    with shared_api.services.sessions.begin() as session:
        for _ in range(60):
            job = create_job(session, tenant_id=shared_api.tenant_id, kind="search", request={"targets": []})
            move(session, job.id, JobState.CANCELLED, from_states=(JobState.QUEUED,))
            made.add(job.id)
    seen: list[str] = []
    after = ""
    while True:
        page = shared_api.get(f"/v1/jobs?limit=7{after}").json()
        seen += [item["id"] for item in page["items"]]
        with shared_api.services.sessions.begin() as session:
            added = create_job(
                session, tenant_id=shared_api.tenant_id, kind="search", request={"targets": []}
            )
            move(session, added.id, JobState.CANCELLED, from_states=(JobState.QUEUED,))
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert len(seen) == len(set(seen))
    assert made <= set(seen)


# R3: the states of a job against a model of them


def test_d08_states_of_jobs_against_a_model(lab: Lab) -> None:
    """Hypothesis state machine: every move, cancellation and second worker, legal or not, against a dict."""
    from hypothesis import HealthCheck, settings, strategies
    from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

    class Jobs(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.model: dict[str, tuple[JobState, int]] = {}

        @rule()
        def add(self) -> None:
            with lab.sessions.begin() as session:
                self.model[create_job(session, tenant_id=lab.tenant, kind="search", request={}).id] = (
                    JobState.QUEUED,
                    0,
                )

        @rule(
            index=strategies.integers(0, 9), to=strategies.sampled_from(JobState), stale=strategies.booleans()
        )
        def go(self, index: int, to: JobState, stale: bool) -> None:
            """A worker moves a job; `stale`: it holds an attempt that is no longer the job's."""
            if not self.model:
                return
            job = sorted(self.model)[index % len(self.model)]
            state, attempt = self.model[job]
            sources = tuple(s for s in JobState if to in TRANSITIONS[s])
            values = {"attempts": attempt + 1} if to is JobState.RUNNING else None
            legal = state in sources and not stale
            try:
                with lab.sessions.begin() as session:
                    move(
                        session,
                        job,
                        to,
                        from_states=sources,
                        attempt=attempt + stale,
                        values=values,
                        result={},
                        error={"type": "x"},
                    )
            except JobConflict:
                assert not legal
            else:
                assert legal
                self.model[job] = (to, attempt + (to is JobState.RUNNING))

        @rule(index=strategies.integers(0, 9))
        def cancel(self, index: int) -> None:
            if not self.model:
                return
            job = sorted(self.model)[index % len(self.model)]
            state, attempt = self.model[job]
            try:
                with lab.sessions.begin() as session:
                    ask_cancel(session, session.get_one(Job, job))
            except JobEnded:
                assert state in ENDED
            else:
                assert state not in ENDED
                if state is JobState.QUEUED:
                    self.model[job] = (JobState.CANCELLED, attempt)

        @invariant()
        def agrees(self) -> None:
            with lab.sessions() as session:
                rows = {
                    row.id: (row.state, row.attempts)
                    for row in session.scalars(select(Job).where(Job.id.in_(self.model)))
                }
            assert rows == self.model

        def teardown(self) -> None:
            codes = {f.code for f in doctor(lab.settings, deep=False) if f.severity == "error"}
            assert codes <= {"job_lost", "job_row"}, (
                codes
            )  # these jobs were never handed to the queue, and have no worker
            with lab.sessions.begin() as session:
                for job in self.model:
                    session.delete(session.get_one(Job, job))

    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    run_state_machine_as_test(
        Jobs,
        settings=settings(
            max_examples=8, stateful_step_count=20, deadline=None, suppress_health_check=checks
        ),
    )
