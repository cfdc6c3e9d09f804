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
from supernets.search.measured import Latency
from supernets.spaces.lowering import lower
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


class Answers:
    """What an agent on the device would say of files: one latency for each, or nothing."""

    def __init__(self, ms):
        self.ms, self.files = ms, []

    def settled(self, networks):
        self.files += [one.file.onnx_sha256 for one in networks]
        return [None if self.ms is None else (Latency(self.ms, 0.01, 1),) for _ in networks]


@pytest.mark.parametrize(("ms", "kept"), [(0.04, True), (0.06, False), (None, False)])
def test_lite_residuals_are_delivered_only_as_they_were_measured(context, ready, ms, kept):
    run, goal, agent = new_run(context), target(0.05, resolutions=(8,), measured=True), Answers(ms)
    cut_out = ExportedNetwork(NETWORK, 0.9, 0.05, FOUND, FILE, latencies=(Latency(0.03, 0.01, 1),))
    with TorchChild(run) as torch_child:
        solving = SimpleNamespace(
            job=SimpleNamespace(torch_child=torch_child),
            scored=lambda networks, tuned, reduced: {
                NETWORK.digest: torch_child.score(tuned, networks, "validation")[0]
            },
            result=lambda architecture, tuned: None,
        )
        files = SimpleNamespace(file=lambda goal, one, tuned: torch_child.deliver(tuned, one, Delivery()))
        made = replace(tuning(run, ready), part="lite")
        delivered = made.better(goal, cut_out, solving, files, agent)
    told = delivered.tuning
    assert told.kept is kept and told.train == "lite" and told.validation > told.validation_before
    if kept:
        assert delivered.latencies[0].ms == ms and agent.files == [delivered.file.onnx_sha256]
        assert "measured" in told.priced_by and "predicted_ms" in told.priced_by
        operators = lower(SPACE, NETWORK)
        assert delivered.file.macs > sum(op.macs for op in operators)
        assert delivered.file.parameters > sum(op.parameters for op in operators)
        assert delivered.file.parity_max_abs_error <= 1e-4
    else:
        assert delivered.file == FILE and told.priced_by is None
        assert ("above the budget" if ms else "no agent on dev") in told.failure


def test_where_nobody_measured_no_lite_residuals_are_trained(context, ready):
    run, cut_out = new_run(context), ExportedNetwork(NETWORK, 0.9, 0.8, FOUND, FILE)
    made = replace(tuning(run, ready), part="lite")
    delivered = made.better(target(0.05, resolutions=(8,)), cut_out, None, None, None)
    assert delivered.file == FILE and delivered.tuning.seconds is None
    assert "no latency table" in delivered.tuning.failure and "start one" in delivered.tuning.failure
    (told,) = [e for e in events_of(context, run) if e["kind"] == "fine_tuned"]
    assert told["failure"] == delivered.tuning.failure
