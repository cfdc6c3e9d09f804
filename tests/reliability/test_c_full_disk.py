"""C14: the disk is full. Uploads are refused, jobs wait, and all goes on by itself once there is room."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from service.db.states import JobState
from service.local.doctor import doctor
from tests.reliability.machinery.history import check, journal
from tests.reliability.machinery.lab import Lab, lives
from tests.reliability.machinery.live import LiveApi
from tests.reliability.machinery.postgres import PostgresServer
from tests.service.api import CONTEXT, table_rows


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB and 200 files. Without the right to mount one, RLIMIT_FSIZE stands in (see
    c14_file_size_limit)."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m,nr_inodes=200,mode=0700", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("no right to mount a tmpfs; test_c14_file_size_limit stands in")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)


def full_of_bytes(folder: Path) -> Path:
    """Not a byte is left; the folder that must go to make room."""
    ballast = folder / "ballast"
    ballast.mkdir()
    with (ballast / "bytes").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    return ballast


def full_of_files(folder: Path) -> Path:
    """Room for bytes and for no further file."""
    ballast = folder / "ballast"
    ballast.mkdir()
    with suppress(OSError):
        for number in range(10_000):
            (ballast / str(number)).touch()
    return ballast


FULL = pytest.mark.parametrize("fill", [full_of_bytes, full_of_files])


@FULL
def test_c14_full_disk_refuses_an_upload_and_recovers_without_a_restart(
    small_disk: Path, fill: Callable[[Path], Path], make_live: Callable[..., LiveApi]
) -> None:
    live = make_live(data_dir=small_disk / "data")
    assert live.post("/v1/devices", json={"name": "phone", "context": CONTEXT}).status_code == 201
    ballast = fill(small_disk)
    statuses = [
        live.post("/v1/devices/phone/tables", json={"context": CONTEXT, "rows": table_rows()})
        for _ in range(3)
    ]
    assert {a.status_code for a in statuses} == {503}, [a.text for a in statuses]
    assert {a.json()["type"].rsplit(":", 1)[1] for a in statuses} <= {"storage_full", "db_busy"}
    assert all("retry-after" in a.headers for a in statuses)
    assert live.get("/v1/devices/phone").status_code == 200
    shutil.rmtree(ballast)
    assert live.get("/v1/devices/phone/tables").json()["items"] == []
    answer = live.post("/v1/devices/phone/tables", json={"context": CONTEXT, "rows": table_rows()})
    assert answer.status_code == 201, answer.text
    assert [f for f in doctor(live.settings) if f.severity == "error"] == []


def test_c14_full_disk_makes_a_job_wait_not_fail(
    small_disk: Path, make_lab: Callable[..., Lab], private_postgres: PostgresServer
) -> None:
    """The artifact store is full, the database is not: the step is tried again until there is room."""
    lab = make_lab(private_postgres.database())
    lab.store.root.rmdir()
    lab.store.root.symlink_to(small_disk)
    ballast = full_of_bytes(small_disk)
    job_id = lab.submit(14, steps=2)
    lab.quick_worker()
    lab.wait_until(lambda: any(e.kind == "retrying" for e in lab.events(job_id)), what="a retry")
    assert list(lab.store.root.glob(".tmp-*")) == []
    shutil.rmtree(ballast)
    assert lab.wait([job_id]) == {job_id: JobState.SUCCEEDED}


def _jobs_wait(lab: Lab, disk: Path, fill: Callable[[Path], Path], seconds: float) -> None:
    """Database, artifacts, journal and logs on one disk. A job is running and one is queued while there is no
    room."""
    asked = {"seed": 14, "steps": 4, "step_s": 0.5}
    running = lab.submit(**asked, private="running")
    worker = lab.quick_worker()
    lab.wait_until(lambda: any(entry["step"] == 1 for entry in journal(lab)), what="the first step")
    queued = lab.submit(**asked, private="queued")
    ballast = fill(disk)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert set(lab.states([running, queued]).values()) <= {JobState.QUEUED, JobState.RUNNING}
        time.sleep(0.2)
    assert lives(worker), "the worker waits for room too"
    shutil.rmtree(ballast)
    assert set(lab.wait([running, queued]).values()) == {JobState.SUCCEEDED}
    assert lives(worker), "it went on without a restart"
    jobs = {running: {**asked, "private": "running"}, queued: {**asked, "private": "queued"}}
    history = check(lab, jobs)
    assert history.clean, history
    assert history.crashes_seen == 0
    assert list(lab.store.root.glob(".tmp-*")) == []


@FULL
def test_c14_full_disk_under_the_database_makes_jobs_wait(
    small_disk: Path, fill: Callable[[Path], Path], make_lab: Callable[..., Lab]
) -> None:
    _jobs_wait(make_lab(folder=small_disk / "lab"), small_disk, fill, 2)


@pytest.mark.slow
@FULL
def test_c14_disk_that_stays_full_for_a_minute_makes_jobs_wait(
    small_disk: Path, fill: Callable[[Path], Path], make_lab: Callable[..., Lab]
) -> None:
    """Longer than any number of tries, and than the silence after which a worker is declared dead."""
    _jobs_wait(make_lab(folder=small_disk / "lab"), small_disk, fill, 60)


def test_c14_file_size_limit(make_live: Callable[..., LiveApi]) -> None:
    """Writes fail with EFBIG at a limit of the process: the upload is refused, the database stays whole."""
    import resource

    live = make_live()
    assert live.process is not None
    assert live.post("/v1/devices", json={"name": "phone", "context": CONTEXT}).status_code == 201
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.prlimit(
        live.process.pid, resource.RLIMIT_FSIZE, ((live.data_dir / "bespoke.db").stat().st_size, hard)
    )
    answer = live.post("/v1/devices/phone/tables", json={"context": CONTEXT, "rows": table_rows()})
    assert answer.status_code == 503, answer.text
    resource.prlimit(live.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    assert (
        live.post("/v1/devices/phone/tables", json={"context": CONTEXT, "rows": table_rows()}).status_code
        == 201
    )
    assert [f for f in doctor(live.settings) if f.severity == "error"] == []
