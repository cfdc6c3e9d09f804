"""Children: what they may know, how their end is told, and that nothing of them stays."""

import logging
import os
import time
from pathlib import Path

import pytest

from supernets.errors import InvalidDataset
from tests.worker.installation import eventually
from worker.compute.child import Child, scrubbed_environment
from worker.errors import ChildCrashed, JobCancelled, OutOfMemory, WorkerStopping


def start(tmp_path, how, check=lambda: None, **options):
    return Child("stub", ["tests.worker.stub_child", how], log=tmp_path / "log.txt", check=check, **options)


def test_noise_on_standard_output_is_no_message(tmp_path):
    with start(tmp_path, "noise") as child:
        assert list(child.messages()) == [{"event": "result", "value": 1}]


def test_a_signal_is_told(tmp_path):
    with start(tmp_path, "segv") as child, pytest.raises(ChildCrashed) as caught:
        list(child.messages())
    assert caught.value.signal == 11


def test_an_exit_code_is_told_with_the_end_of_the_log(tmp_path):
    with start(tmp_path, "exit3") as child, pytest.raises(ChildCrashed) as caught:
        list(child.messages())
    assert caught.value.signal == 0 and "about to leave" in caught.value.tail


def test_an_error_of_the_child_keeps_its_kind(tmp_path):
    with start(tmp_path, "error") as child, pytest.raises(InvalidDataset, match="no classes"):
        list(child.messages())


def test_what_check_raises_ends_the_wait_and_the_child(tmp_path):
    begun = time.monotonic()

    def check():
        if time.monotonic() - begun > 0.5:
            raise JobCancelled

    with start(tmp_path, "hang", check) as child, pytest.raises(JobCancelled):
        list(child.messages())
    assert not Path(f"/proc/{child.pid}").exists()


def left_by(error, child):
    """What a job does that ends while its child works: the child is heard of, then the block is left."""
    with pytest.raises(error), child:
        next(child.messages())
        raise error
    assert not Path(f"/proc/{child.pid}").exists()


def test_a_child_with_a_grace_may_keep_what_it_has_done_when_the_worker_stops(tmp_path):
    left_by(WorkerStopping, start(tmp_path, "keeps", grace_s=60))
    assert "kept" in (tmp_path / "log.txt").read_text()


def test_a_child_that_does_not_end_in_its_grace_is_killed_and_the_loss_is_said(tmp_path, caplog):
    caplog.set_level(
        logging.WARNING, "bespoke.worker"
    )  # other tests of this process may have made it quieter
    begun = time.monotonic()
    left_by(WorkerStopping, start(tmp_path, "deaf", grace_s=0.5))
    assert time.monotonic() - begun < 60
    assert "since its last checkpoint is lost" in caplog.text


def test_a_cancelled_job_gives_no_grace(tmp_path):
    left_by(JobCancelled, start(tmp_path, "keeps", grace_s=60))
    assert "kept" not in (tmp_path / "log.txt").read_text()


def test_grandchildren_end_too(tmp_path):
    with start(tmp_path, "family") as child:
        grandchild = next(child.messages())["pid"]
        os.kill(grandchild, 0)

    def gone():
        return (
            not Path(f"/proc/{grandchild}").exists() or " Z " in Path(f"/proc/{grandchild}/stat").read_text()
        )

    assert eventually(gone, 5)


def test_the_worker_is_heard_while_the_child_works(tmp_path):
    with start(tmp_path, "beats") as child:
        assert list(child.messages()) == [{"event": "result", "heard": 2}]


def test_c11_memory_is_limited(tmp_path):
    with start(tmp_path, "memory", memory_bytes=1 << 30) as child:
        assert list(child.messages()) == [{"event": "result", "got": False}]


def test_c11_a_child_that_dies_of_memory_says_so_and_is_no_crash(tmp_path):
    (tmp_path / "log.txt").write_text("MemoryError of an earlier child\n")
    with start(tmp_path, "exit3") as child, pytest.raises(ChildCrashed):
        list(child.messages())
    with (
        start(tmp_path, "hog", memory_bytes=1 << 30) as child,
        pytest.raises(OutOfMemory, match="memory"),
    ):
        list(child.messages())


def test_a_child_knows_no_secrets(tmp_path, monkeypatch):
    for name in ("BESPOKE_DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "BESPOKE_DATA_DIR"):
        monkeypatch.setenv(name, "secret")
    assert "secret" not in scrubbed_environment().values()
    with start(tmp_path, "environment") as child:
        (message,) = child.messages()
    assert not {"BESPOKE_DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "BESPOKE_DATA_DIR"} & set(
        message["environment"]
    )


def test_a_child_does_not_spin_while_it_waits(monkeypatch):
    for name in ("OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert {
        "OMP_WAIT_POLICY": "PASSIVE",
        "OPENBLAS_NUM_THREADS": "1",
    }.items() <= scrubbed_environment().items()
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    assert scrubbed_environment()["OPENBLAS_NUM_THREADS"] == "4", "whoever sets it has a reason"


def test_what_it_logs_is_told_with_its_name(tmp_path):
    told = []
    tell = lambda what, lines: told.append((what, lines))  # noqa: E731
    with start(tmp_path, "exit3", tell=tell) as child, pytest.raises(ChildCrashed):
        list(child.messages())
    assert told == [("stub", ["about to leave"])]
