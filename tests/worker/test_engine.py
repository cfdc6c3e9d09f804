"""The engine with real processes and a pipeline of stub length. Faults in full:
tests/reliability/test_c_crash.py."""

import signal
import subprocess
import sys
import time

import pytest

from tests.reliability.machinery.lab import freeze
from tests.worker.installation import eventually

STUB = "tests.worker.stub_worker"


def steps_done(installation, job_id):
    return [e["step"] for e in installation.events(job_id, "step_done")]


def test_no_job_repeats_what_any_job_has_done_unless_its_file_is_gone(small_installation):
    installation = small_installation
    installation.start_worker(STUB)
    first = installation.submit("search", {"steps": 3})
    job = installation.wait(first)
    assert (job.state, job.attempts, len(job.result["files"])) == ("succeeded", 1, 3)
    assert steps_done(installation, first) == ["stub_0", "stub_1", "stub_2"]
    assert [e["kind"] for e in installation.events(first)][:2] == ["queued", "running"]

    second = installation.submit("search", {"steps": 4})
    assert installation.wait(second).result["files"][:3] == job.result["files"]
    assert steps_done(installation, second) == ["stub_3"]

    installation.store.path(job.result["files"][0]).unlink()
    third = installation.submit("search", {"steps": 3})
    assert installation.wait(third).result == job.result
    assert steps_done(installation, third) == ["stub_0"]
    assert installation.store.read(job.result["files"][0])


def test_errors_end_jobs_each_in_its_way(small_installation):
    installation = small_installation
    worker = installation.start_worker(STUB)
    jobs = {
        how: installation.submit("search", {"steps": 3, "behave": how, "seed": how})
        for how in ("fail", "bug", "transient")
    }
    crashing = installation.submit("search", {"steps": 3, "behave": "child_segv", "seed": "segv"})

    failed = installation.wait(jobs["fail"])
    assert (failed.state, failed.error["type"]) == ("failed", "urn:bespoke:problem:export_failed")
    assert (
        "choose another one" in failed.error["detail"] and installation.events(jobs["fail"], "retrying") == []
    )

    bug = installation.wait(jobs["bug"])
    assert (
        bug.state == "failed"
        and "secret" not in str(bug.error)
        and "secret of the inside" in installation.log
    )

    assert installation.wait(jobs["transient"]).state == "succeeded"
    assert [e["attempt"] for e in installation.events(jobs["transient"], "retrying")] == [1, 2]

    crashed = installation.wait(crashing)
    assert (crashed.state, crashed.error["signal"], crashed.error["step"]) == (
        "quarantined",
        signal.SIGSEGV,
        "stub_1",
    )
    assert worker.poll() is None, "the worker lives on"


def test_sigterm_hands_the_job_back_and_is_no_crash(installation):
    worker = installation.start_worker(STUB)
    job_id = installation.submit("search", {"steps": 4, "step_s": 0.5})
    assert eventually(lambda: len(steps_done(installation, job_id)) >= 1, 300)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert installation.job(job_id).state in ("queued", "succeeded")
    installation.start_worker(STUB)
    job = installation.wait(job_id)
    assert job.state == "succeeded" and installation.events(job_id, "crashed") == []
    assert steps_done(installation, job_id) == [f"stub_{n}" for n in range(4)], "each step was done once"


def test_cancel_stops_a_job_and_its_child_within_five_seconds(small_installation):
    installation = small_installation
    installation.start_worker(STUB)
    job_id = installation.submit("search", {"steps": 3, "behave": "hang"})
    assert eventually(
        lambda: any(e.get("step") == "stub_1" for e in installation.events(job_id, "step_started")), 300
    )
    begun = time.monotonic()
    installation.cancel(job_id)
    assert installation.wait(job_id, 30).state == "cancelled"
    assert time.monotonic() - begun < 5
    assert eventually(lambda: len(installation.children()) == 1, 60), "only the worker is left"


@pytest.mark.slow
def test_a_frozen_worker_cannot_keep_a_job_from_being_cancelled(installation):
    frozen = installation.start_worker(STUB)
    job_id = installation.submit("search", {"steps": 2, "step_s": 60})
    installation.wait(job_id, 60, ("running",))
    freeze(installation.engine, frozen.pid)
    installation.start_worker(STUB)
    installation.cancel(job_id)
    assert installation.wait(job_id, 60).state == "cancelled"


def test_the_engine_loads_no_torch():
    code = "import sys, worker.engine; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
