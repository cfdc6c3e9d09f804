"""`python -m tests.reliability.machinery.stub_worker`: the real engine, with pipelines of stub length.

Only this process has these pipelines: what is proven is the product's engine, steps, stores and database,
while a "search" takes a tenth of a second. Its request says what to do:
  steps, step_s     how many steps, how long each seed              what the files hold: the same seed gives
  the same bytes behave            "crash" (the worker process dies in step 2), "segv" (a child does), "fail",
  "unsteady", "hog", "hang",
                    "child_hang"; left out: all goes well
Every start of a step is appended to JOURNAL (one short write, so that it is whole or absent), before the
work.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from service.db.artifacts import register
from service.settings import Settings
from supernets.errors import ExportFailed
from tests.reliability.machinery.lab import JOURNAL
from worker.compute.child import Child
from worker.context import JobRun
from worker.pipelines import catalog


def payload(seed: int, step: int, size: int = 2000) -> bytes:
    """The bytes that step writes for a seed."""
    block = hashlib.sha256(f"{seed}/{step}".encode()).digest()
    return block * (size // len(block))


def stub(run: JobRun) -> dict[str, Any]:
    request = run.request
    files: list[str] = []
    for number in range(1, int(request.get("steps", 4)) + 1):
        inputs = {
            "seed": request["seed"],
            "step": number,
            "before": files[-1:],
            "for": request.get("private"),
        }
        done = run.step(f"stub_{number}", inputs, dict[str, str], lambda number=number: _work(run, number))
        files.append(done["stub_sha256"])
        run.progress(f"stub_{number}", number / int(request.get("steps", 4)), "", always=True)
    return {"files": files, "models": []}


def _work(run: JobRun, number: int) -> dict[str, Any]:
    journal(
        {
            "job": run.job_id,
            "attempt": run.attempt,
            "step": number,
            "pid": os.getpid(),
            "at": time.monotonic(),
        }
    )
    if number == 2:
        _misbehave(run)
    end = time.monotonic() + float(run.request.get("step_s", 0.02))
    while time.monotonic() < end:
        run.check()
        time.sleep(0.005)
    sha256, size_bytes = run.context.store.put(payload(run.request["seed"], number))
    run.write(lambda session: register(session, sha256, size_bytes, "report") and None)
    return {"stub_sha256": sha256}


def _misbehave(run: JobRun) -> None:
    behave = run.request.get("behave")
    if behave == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    elif behave == "fail":
        raise ExportFailed("this job is meant to fail")
    elif behave == "unsteady" and _first_times(run, 2):
        raise OSError(5, "the disk stuttered")
    elif behave == "hang":
        run.pause(3600)
    elif behave == "idle_child":
        _idle_child(run)
    elif behave in ("segv", "hog", "child_hang"):
        _child(run, behave)


def _first_times(run: JobRun, count: int) -> bool:
    """Whether this is one of the first `count` times that this is asked for the job."""
    file = run.context.work_folder("stub") / run.job_id
    seen = int(file.read_text()) if file.exists() else 0
    file.write_text(str(seen + 1))
    return seen < count


def _child(run: JobRun, behave: str) -> None:
    log = run.context.work_folder("logs") / "stub-child.txt"
    arguments = ["tests.reliability.machinery.stub_child", behave]
    memory = run.context.settings.step_memory_mb << 20
    timeout_s = run.context.settings.step_timeout_s
    with Child(
        "stub", arguments, log=log, check=run.check, memory_bytes=memory, timeout_s=timeout_s
    ) as child:
        for _ in child.messages():
            pass


def _idle_child(run: JobRun) -> None:
    """The product's own child, with nothing to do."""
    log = run.context.work_folder("logs") / "stub-child.txt"
    with Child("stub", ["worker.compute.child_process", "30"], log=log, check=run.check) as child:
        for _ in child.messages():
            pass


def journal(entry: dict[str, Any]) -> None:
    path = os.environ.get(JOURNAL)
    if path:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, json.dumps(entry).encode() + b"\n")
        finally:
            os.close(descriptor)


def main() -> None:
    os.umask(0o077)
    for kind in ("search", "supernet", "profile"):
        catalog.PIPELINES[kind] = stub
    import logging

    from worker.__main__ import JsonLines

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level="INFO", handlers=[handler])
    for chatty in ("dbos", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    from worker.engine import Engine

    settings = Settings()
    Path(settings.data_dir).mkdir(parents=True, exist_ok=True, mode=0o700)
    Engine(settings).run()


if __name__ == "__main__":
    main()
