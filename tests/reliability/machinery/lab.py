"""A database, an artifact store, acknowledged jobs, and worker processes that can be killed, frozen and
replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from service.artifacts import ArtifactStore
from service.db.migrate import upgrade
from service.db.models import Job, JobEvent, Tenant, new_id
from service.db.session import create_db_engine, session_factory
from service.db.states import ENDED
from service.db.transitions import create_job
from service.jobs.queue import JobQueue
from service.local.doctor import Finding, doctor
from service.settings import Settings
from tests.reliability.machinery.zygote import Zygote

REPOSITORY = Path(__file__).parents[3]
BEAT_S, DEAD_S = 0.5, 2.0
JOURNAL = "BESPOKE_TEST_JOURNAL"  # the stub workers append every start of a step to this file


class Lab:
    """One installation of the product under a folder. Use as a context manager: all its processes end with
    it."""

    def __init__(
        self, folder: Path, database_url: str = "", *, zygote: Zygote | None = None, **settings: Any
    ) -> None:
        self.folder = folder
        self._zygote = zygote
        self._forked: list[int] = []
        self.settings = Settings(
            data_dir=folder / "data",
            database_url=database_url,
            **{"heartbeat_s": BEAT_S, "dead_after_s": DEAD_S, **settings},
        )
        self.extra = settings
        self.settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.engine = create_db_engine(self.settings.resolved_database_url)
        upgrade(self.engine)
        self.sessions = session_factory(self.engine)
        self.store = ArtifactStore(self.settings.data_dir / "artifacts")
        self.queue = JobQueue(self.settings.resolved_database_url)
        self.journal = folder / "journal.jsonl"
        self.log = folder / "workers.log"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.tenant = self.new_tenant("lab")

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            end(process)
        for pid in self._forked:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        self.processes, self._forked = [], []
        self.queue.close()
        self.engine.dispose()

    def new_tenant(self, name: str) -> str:
        with self.sessions.begin() as session:
            row = session.scalar(select(Tenant).where(Tenant.name == name)) or Tenant(
                id=new_id("ten"), name=name
            )
            session.add(row)
            session.flush()
            return row.id

    def submit(self, seed: int = 0, *, tenant: str = "", priority: int = 10, **request: Any) -> str:
        """A job id once the transaction is committed: from here on it is acknowledged."""
        with self.sessions.begin() as session:
            wanted = {"seed": seed, **request}
            job = create_job(
                session, tenant_id=tenant or self.tenant, kind="search", request=wanted, priority=priority
            )
            self.queue.submit(session, job)
        return job.id

    def environment(self, **more: str) -> dict[str, str]:
        keep = {key: value for key, value in os.environ.items() if not key.startswith("BESPOKE_")}
        settings = {
            "BESPOKE_DATA_DIR": str(self.settings.data_dir),
            "BESPOKE_DATABASE_URL": self.settings.database_url,
            **{f"BESPOKE_{name.upper()}": str(value) for name, value in self.extra.items()},
            "BESPOKE_HEARTBEAT_S": str(self.settings.heartbeat_s),
            "BESPOKE_DEAD_AFTER_S": str(self.settings.dead_after_s),
            JOURNAL: str(self.journal),
        }
        return {**keep, **settings, **more}

    def worker(
        self, module: str = "tests.reliability.machinery.stub_worker", **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start a worker process."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module],
                cwd=REPOSITORY,
                env=self.environment(**environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def quick_worker(self, **environment: str) -> int:
        """Process id of a worker that is there in a moment; its exit status cannot be had."""
        assert self._zygote is not None
        pid = self._zygote.worker(self.environment(**environment), self.log)
        self._forked.append(pid)
        return pid

    def job(self, job_id: str) -> Job:
        with self.sessions() as session:
            return session.scalars(select(Job).where(Job.id == job_id)).one()

    def events(self, job_id: str) -> list[JobEvent]:
        with self.sessions() as session:
            return list(
                session.scalars(select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.sequence))
            )

    def states(self, jobs: Iterable[str] | None = None) -> dict[str, str]:
        with self.sessions() as session:
            found = dict(map(tuple, session.execute(select(Job.id, Job.state))))
        return found if jobs is None else {job: found[job] for job in jobs}

    def wait(
        self, jobs: Iterable[str], silence_s: float = 120, *, states: Iterable[str] = ENDED
    ) -> dict[str, str]:
        """Wait until every job is in one of the states. Raises AssertionError where nothing happens for so
        long."""
        wanted, ids, heard, news = set(states), list(jobs), -1, time.monotonic()
        while True:
            found = self.states(ids)
            if all(state in wanted for state in found.values()):
                return found
            with self.sessions() as session:
                count = session.scalar(select(func.count()).select_from(JobEvent)) or 0
            if count != heard:
                heard, news = count, time.monotonic()
            if time.monotonic() - news > silence_s:
                raise AssertionError(f"nothing happened for {silence_s} s: {found}\n{self.said()}")
            time.sleep(0.05)

    def wait_until(self, true: Any, timeout_s: float = 180, what: str = "it") -> None:
        end_at = time.monotonic() + timeout_s
        while not true():
            if time.monotonic() > end_at:
                raise AssertionError(f"{what} did not happen within {timeout_s} s\n{self.said()}")
            time.sleep(0.02)

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    def examine(self) -> list[Finding]:
        """The doctor's errors: after a fault there must be none. (Orphans are what a sweep is for.)"""
        return [found for found in doctor(self.settings) if found.severity == "error"]

    def session(self) -> Session:
        return self.sessions()


def lives(pid: int) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except OSError:
        return False


def freeze(engine: Engine, *pids: int) -> None:
    """Stop these processes, with the groups they lead, while they hold no lock on a SQLite file, which nobody
    could take."""
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN EXCLUSIVE")
        for pid in pids:
            (os.killpg if os.getpgid(pid) == pid else os.kill)(pid, signal.SIGSTOP)
        while not all(
            map(_stands_still, pids)
        ):  # a thread within a system call ends it first, and it may take a lock
            time.sleep(0.001)
        connection.rollback()


def _stands_still(pid: int) -> bool:
    """Whether every thread of the process, and of the group it leads, is stopped or gone."""
    group = [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and _group(int(path.name)) == pid
    ]
    states = set()
    for member in {pid, *group}:
        for thread in Path(f"/proc/{member}/task").glob("*/stat"):
            with suppress(OSError):  # it ended meanwhile
                states.add(thread.read_text().rsplit(")", 1)[1].split()[0])
    return states <= set("TtZX")


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its group, frozen or not."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
