"""Fine-tuning inside a search job: a step of its own in the child, done once for whoever chooses the
network."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save

from service.db.models import Artifact, Job, now
from supernets.delivery.catalog import Delivery
from supernets.errors import InvalidArchitecture
from supernets.network import Supernet
from tests.worker.pipelines.search.test_card import FILE, FOUND
from tests.worker.pipelines.search.test_targets import SPACE, target
from tests.worker.runs import events_of, new_run
from worker.compute.torch_child import TorchChild
from worker.errors import JobCancelled
from worker.pipelines.search.exported import ExportedNetwork
from worker.pipelines.search.tune import FineTuning
from worker.upkeep import TRAININGS

NETWORK = SPACE.smallest()


def tuning(run, ready, epochs=2, targets=1):
    return FineTuning(run, ready, targets, epochs)


def test_a_network_is_trained_on_once_and_is_a_supernet_of_its_own(context, ready):
    run, goal = new_run(context), target(0.05, resolutions=(8,))
    made = tuning(run, ready, targets=2)
    with TorchChild(run) as torch_child:
        loaded, tuned = made.trained(torch_child, goal, NETWORK)
        assert tuned.seconds > 0 and loaded.weights_sha256 != ready.weights_sha256 and loaded.alone == NETWORK
        scores = [torch_child.score(s, [NETWORK], "validation")[0] for s in (ready.ref, loaded)]
        assert scores[1] > scores[0] + 0.1, "32 steps from random weights teach something"
        file = torch_child.deliver(loaded, NETWORK, Delivery())
        assert file.parity_max_abs_error <= 1e-4
        tested = torch_child.measure_accuracy(ready.ref, NETWORK, file.onnx_sha256, Delivery())
        assert abs(tested.accuracy - scores[1]) < 0.1, "the file holds the weights that were trained on"
        with pytest.raises(InvalidArchitecture, match="stage1"):
            torch_child.score(loaded, [SPACE.largest(8)], "validation")
    happened = events_of(context, run)
    assert [e["step"] for e in happened if e["kind"] == "step_done"] == ["fine_tune"]
    said = [e["message"] for e in happened if e["kind"] == "progress"]
    assert all(text.startswith("target 1 of 2, dev within 0.05 ms: ") for text in said)
    assert any(re.search(r"epoch 2 of 2, loss [\d.]+$", text) for text in said)
    assert list(context.work_folder(f"{TRAININGS}{run.job_id}").iterdir()) == [], (
        "checkpoints go when the result is there"
    )
    with context.sessions() as session:
        assert session.get(Artifact, loaded.weights_sha256).kind == "subnetwork", "the hourly sweep leaves it"

    later = new_run(context)
    assert tuning(later, ready).trained(None, goal, NETWORK) == (loaded, tuned), (
        "another job does not do it again"
    )
    assert [e["kind"] for e in events_of(context, later) if e["kind"].startswith("step")] == ["step_reused"]


def test_a_cancelled_fine_tuning_keeps_its_checkpoints_and_no_child(context, ready):
    run, goal = new_run(context), target(0.05, resolutions=(8,))
    made = tuning(run, ready, epochs=40)
    report = made._report

    def cancel_after_two_epochs(*arguments):
        report(*arguments)
        if arguments[-1].training.epoch == 3:
            with context.sessions.begin() as session:
                session.get(Job, run.job_id).cancel_asked_at = now()
            run._checked = float("-inf")

    object.__setattr__(made, "_report", cancel_after_two_epochs)
    with pytest.raises(JobCancelled), TorchChild(run) as torch_child:
        made.trained(torch_child, goal, NETWORK)
    (folder,) = context.work_folder(f"{TRAININGS}{run.job_id}").iterdir()
    assert len(list(folder.glob("checkpoint-*"))) == 2


def test_a_fine_tuning_that_diverges_costs_nobody_the_network(context, ready):
    broken = Supernet(SPACE, generator=torch.Generator().manual_seed(0)).state_dict()
    weights, _ = context.store.put(save({name: value * torch.nan for name, value in broken.items()}))
    run, goal, ready = (
        new_run(context),
        target(0.05, resolutions=(8,)),
        replace(ready, weights_sha256=weights),
    )
    cut_out = ExportedNetwork(NETWORK, 0.9, 0.8, FOUND, FILE)
    with TorchChild(run) as torch_child:
        solving = SimpleNamespace(job=SimpleNamespace(torch_child=torch_child))
        delivered = tuning(run, ready).better(goal, cut_out, solving, None, None)
    assert delivered == replace(cut_out, tuning=delivered.tuning)
    assert not delivered.tuning.kept and "epoch 1" in delivered.tuning.failure
    (told,) = [e for e in events_of(context, run) if e["kind"] == "fine_tuned"]
    assert told["failure"] == delivered.tuning.failure
