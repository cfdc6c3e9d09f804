"""Training on several processes of one machine: the command, the result, and that every rank ends with the
worker."""

import json
import os
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from service.settings import Settings
from supernets.errors import InvalidTraining, TrainingDiverged
from supernets.training.checkpoint import read_folder
from supernets.training.job import read_description
from supernets.training.recipe import Phase, Recipe
from tests.worker.installation import eventually
from worker.compute.child import Child
from worker.errors import ChildCrashed, WorkerStopping
from worker.pipelines.train_supernet import threads_each, training_module

SHORT = Recipe(
    "short", "for tests", (Phase("short", 2, 4e-3, networks=2),), batch_size=512, optimiser="adamw"
)
LONG = Recipe("long", "for tests", (Phase("long", 5000, 1e-3),), batch_size=512, optimiser="adamw")
KILLED = Recipe("killed", "for tests", (Phase("killed", 12, 4e-3),), batch_size=512, optimiser="adamw")
WILD = Recipe("wild", "for tests", (Phase("wild", 8, 1e30),), batch_size=512)
ODD = Recipe("odd", "for tests", (Phase("odd", 1, 1e-3),), batch_size=511, optimiser="adamw")


def start(tmp_path, recipe, processes=2):
    spec = {
        "space": "digits-mbv3",
        "dataset": "digits",
        "out_dir": str(tmp_path / "out"),
        "recipe": recipe.to_json(),
        "threads": 1,
        "heartbeat_timeout_s": 60.0,
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    module = training_module(processes, tmp_path / "spec.json")
    return Child("training", module, log=tmp_path / "log.txt", check=lambda: None, timeout_s=300)


def processes_of(tmp_path):
    """Ids of the living processes that name this test's specification on their command line."""
    found, spec = [], str(tmp_path / "spec.json").encode()
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if spec in (place / "cmdline").read_bytes().split(b"\0"):
                found.append(int(place.name))
    return found


def test_one_process_needs_no_torchrun():
    assert training_module(1, Path("spec.json")) == ["supernets.training", "spec.json"]
    assert Settings.model_fields["training_processes"].default == 1


def test_several_processes_are_started_by_torchrun_without_restarts(monkeypatch):
    assert " ".join(training_module(4, Path("spec.json"))) == (
        "torch.distributed.run --standalone --max-restarts 0 --nproc-per-node 4 -m supernets.training "
        "spec.json"
    )
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert (threads_each(1), threads_each(2), threads_each(16)) == (None, 4, 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_each(2) is None


def test_two_ranks_train_one_supernet_and_one_of_them_speaks(tmp_path):
    with start(tmp_path, SHORT) as child:
        messages = list(child.messages())
    assert [m["event"] for m in messages].count("result") == 1
    assert sorted({m["epoch"] for m in messages if m["event"] == "progress"}) == [1, 2]
    description = read_description(tmp_path / "out")
    assert description is not None and description["sha256"] == messages[-1]["sha256"]
    assert not list((tmp_path / "out").glob("attempt-*"))
    assert eventually(lambda: not processes_of(tmp_path), 20)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["cancelled", "worker gone"])
def test_every_rank_ends_with_the_worker(tmp_path, end):
    with start(tmp_path, LONG) as child:
        assert next(child.messages())["event"] == "progress"
        assert len(processes_of(tmp_path)) == 3, "torchrun and two ranks"
        if end == "worker gone":
            child._closing.set()
            child._process.stdin.close()  # what the kernel does when a worker is killed
            assert eventually(lambda: not processes_of(tmp_path) or child._process.poll() is not None, 60)
    assert eventually(lambda: not processes_of(tmp_path), 20)


@pytest.mark.slow
def test_ranks_told_to_end_agree_on_the_step_and_the_training_goes_on_from_there(tmp_path):
    inside = replace(KILLED, batch_size=32)  # dozens of steps an epoch
    child = start(tmp_path, inside)
    child._grace_s = 60.0
    with pytest.raises(WorkerStopping), child:
        next(child.messages())
        raise WorkerStopping
    assert eventually(lambda: not processes_of(tmp_path), 20)
    (checkpoint,) = (tmp_path / "out").glob("checkpoint-*")
    position = read_folder(checkpoint)[1]["position"]
    assert position["epoch"] > 0 or position["batch"] > 0
    with start(tmp_path, inside) as child:
        first = next(child.messages())
    assert (first["epoch"], int(first["message"].split("step ")[1].split(",")[0])) >= (
        position["epoch"] + 1,
        position["batch"],
    )


def rank_of(process):
    """Its rank, None for torchrun itself."""
    environment = dict(
        pair.partition(b"=")[::2] for pair in Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    )
    return int(environment[b"RANK"]) if b"RANK" in environment else None


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_others_and_the_training_goes_on_from_its_checkpoint(tmp_path, rank):
    with start(tmp_path, KILLED) as child, pytest.raises(ChildCrashed):
        for message in child.messages():
            if message["event"] == "progress" and message["epoch"] == 2:
                os.kill(next(p for p in processes_of(tmp_path) if rank_of(p) == rank), signal.SIGKILL)
    assert eventually(lambda: not processes_of(tmp_path), 60)
    kept = max(path.name for path in (tmp_path / "out").glob("checkpoint-*"))
    with start(tmp_path, KILLED) as child:
        messages = list(child.messages())
    steps_per_epoch = 2
    first = min(m["epoch"] for m in messages if m["event"] == "progress")
    assert first == int(kept.removeprefix("checkpoint-")) // steps_per_epoch + 1 > 1
    assert messages[-1]["event"] == "result"


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_training_that_diverges_says_where_and_keeps_its_checkpoint(tmp_path, processes):
    with (
        start(tmp_path, WILD, processes) as child,
        pytest.raises(TrainingDiverged, match="phase 'wild', epoch .*, step .*checkpoint") as caught,
    ):
        list(child.messages())
    assert caught.value.phase == "wild"
    assert eventually(lambda: not processes_of(tmp_path), 60)
    for checkpoint in (tmp_path / "out").glob("checkpoint-*"):
        assert all(bool(value.isfinite().all()) for value in read_folder(checkpoint)[0]["supernet"].values())


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_is_an_error_and_no_crash(tmp_path):
    with (
        start(tmp_path, ODD) as child,
        pytest.raises(InvalidTraining, match="cannot be shared by 2 processes"),
    ):
        list(child.messages())
