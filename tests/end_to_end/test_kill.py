"""`kill -9` of a worker in the middle of training: the job succeeds, and no finished epoch is trained
again."""

import re
import signal

import pytest

from supernets.training.checkpoint import read_folder
from tests.worker.installation import Installation, eventually


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.slow])])
def installation(request, tmp_path):
    url = request.getfixturevalue("migrated_sqlite" if request.param == "sqlite" else "migrated_postgres")
    with Installation(tmp_path, url) as made:
        yield made


def epochs(events):
    """Epoch numbers reported, in order."""
    found = (re.search(r"epoch (\d+) of", e.get("message", "")) for e in events if e["kind"] == "progress")
    return [int(match.group(1)) for match in found if match]


def test_a_killed_worker_loses_no_epoch(installation):
    supernet_id = installation.supernet("trial")
    job_id = installation.submit("supernet", {"supernet_id": supernet_id})
    worker = installation.start_worker()
    assert eventually(lambda: max(epochs(installation.events(job_id)), default=0) >= 3, 900), installation.log
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    before = len(installation.events(job_id))
    assert eventually(lambda: not installation.children(), 60), "the training child outlived its worker"

    installation.start_worker()
    job = installation.wait(job_id, 300)
    assert job.state == "succeeded", job.error
    assert job.attempts == 2
    again = epochs(installation.events(job_id)[before:])
    assert min(again) >= 3, f"epochs {again} were run after the kill in epoch 3"
    assert [e["message"] for e in installation.events(job_id, "crashed")] == ["the worker process was lost"]
    assert sum(e["step"] == "train_supernet" for e in installation.events(job_id, "step_done")) == 1


def steps_told(events):
    """(epoch, step) of every report of the training."""
    found = (
        re.search(r"epoch (\d+) of \d+, step (\d+)", e.get("message", ""))
        for e in events
        if e["kind"] == "progress"
    )
    return [(int(match.group(1)), int(match.group(2))) for match in found if match]


def test_a_worker_told_to_end_keeps_every_step_of_its_training(installation):
    supernet_id = installation.supernet("quick")
    job_id = installation.submit("supernet", {"supernet_id": supernet_id})
    worker = installation.start_worker()
    assert eventually(lambda: len(steps_told(installation.events(job_id))) >= 2, 900), installation.log
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert not installation.children()
    epoch, step = max(steps_told(installation.events(job_id)))
    newest = max((installation.settings.data_dir / "work").glob("supernet-*/checkpoint-*"))
    position = read_folder(newest)[1]["position"]
    assert (position["epoch"] + 1, position["batch"]) >= (epoch, step) or position["epoch"] >= epoch
    assert installation.job(job_id).state == "queued" and installation.events(job_id, "crashed") == []
