"""Searches of transferred supernets: ranked by likelihood, equal networks told as equal, the control beside the network."""

import math
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.torch import load, save

from supernets.accuracy.likelihood import Scale
from supernets.data.normalisation import Normalisation
from supernets.tasks.metric import ACCURACY, Metric
from tests.worker.pipelines.search.test_card import NETWORK, SPACE, card
from tests.worker.pipelines.search.test_targets import target
from tests.worker.runs import events_of, new_run
from worker.compute.operations.loading import dataset_of
from worker.compute.requests import ControlAccuracy, FileAccuracy, Places
from worker.compute.torch_child import TorchChild
from worker.pipelines.scoring import Scored, validation_results
from worker.pipelines.search.control import ControlTraining, compared
from worker.pipelines.search.deliver import _fastest_of_equals
from worker.pipelines.search.exported import Control, Equal
from worker.pipelines.search.solve import Solving
from worker.pipelines.train_supernet import _as_accuracies

GENERATOR = np.random.default_rng(0)
HARD = GENERATOR.normal(-1, 0.5, 64)  # how hard each group of samples is, for all networks


def scored(behind, noise=0.0, accuracy=0.8):
    groups = HARD - behind + noise * np.random.default_rng(1).normal(size=64)
    return Scored(accuracy, tuple(groups.tolist()))


def solved(*costs):
    return SimpleNamespace(candidates=[SimpleNamespace(costs=c) for c in costs])


def test_of_equal_networks_the_fastest_comes_first_and_the_card_can_say_so():
    found = [scored(0.0), scored(0.01, noise=0.5, accuracy=0.79), scored(0.3)]
    order, equal = _fastest_of_equals([0, 1, 2], solved([3.0], [2.0], [1.0]), found)
    assert order == [1, 0, 2], "the third is faster, and worse beyond a standard error"
    assert equal == Equal(2, 0.8, pytest.approx(0.0, abs=0.2), pytest.approx(0.0625, rel=0.5))
    assert abs(equal.behind) < equal.standard_error


@pytest.mark.parametrize(
    ("found", "costs"),
    [
        ([None, None], ([2.0], [1.0])),
        ([Scored(0.8), Scored(0.8)], ([2.0], [1.0])),
        ([scored(0.0), scored(0.2)], ([2.0], [1.0])),
        ([scored(0.0), scored(0.0, 0.1)], ([], [])),
    ],
    ids=["counted", "no likelihoods", "nothing equal", "no costs"],
)
def test_the_order_stays_where_nothing_is_equal_or_nothing_is_known(found, costs):
    assert _fastest_of_equals([0, 1], solved(*costs), found) == ([0, 1], None)


@pytest.mark.parametrize(
    ("mine", "theirs", "said"),
    [(0.9, 0.5, "gained 40.0 points"), (0.5, 0.9, "cost 40.0 points here: train this data set from scratch"),
     (0.801, 0.8, "made no difference")],
    ids=["gain", "loss", "neither"],
)  # fmt: skip
def test_a_control_names_gain_and_loss_with_the_error_of_their_difference(mine, theirs, said):
    test = FileAccuracy(mine, 400, "digits", "test")
    found = compared(ACCURACY, test, ControlAccuracy(theirs, 400, 104))
    assert said in found.said and found.steps == 104 and found.from_scratch == theirs
    assert found.gain_points == pytest.approx(100 * (mine - theirs))
    wanted = 100 * math.sqrt((mine * (1 - mine) + theirs * (1 - theirs)) / 400)
    assert found.standard_error == pytest.approx(wanted, abs=1e-3)


def test_a_metric_without_bounds_has_no_standard_error_and_an_error_that_falls_is_a_gain():
    loss = Metric("loss", higher_is_better=False, lowest=0.0, highest=None)
    found = compared(loss, FileAccuracy(0.5, 9, "d", "test"), ControlAccuracy(0.7, 9, 1))
    assert found.standard_error is None and found.gain_points == pytest.approx(0.2)


def test_the_card_has_the_control_what_is_equal_and_the_confusions(monkeypatch):
    plain = card(0.97)
    assert plain["control"] is None and plain["accuracy"]["equal"] is None
    assert plain["accuracy"]["ranked_by"] == "quality" and plain["accuracy"]["confusion"] is None
    control, equal = Control(0.6, 9, 37.0, 1.0, "gained"), Equal(2, 0.98, 0.01, 0.02)
    full = replace(NETWORK, control=control, equal=equal, scored=Scored(0.9, (-1.0,)))
    monkeypatch.setattr("tests.worker.pipelines.search.test_card.NETWORK", full)
    found = card(0.97)
    assert found["control"] == asdict(control) and found["accuracy"]["equal"] == asdict(equal)
    assert found["accuracy"]["ranked_by"] == "log_likelihood" and found["accuracy"]["validation"] == 0.9


def test_accuracies_of_likelihoods_follow_the_line_unless_it_falls():
    found = [Scored(0.5, (-2.0,)), Scored(0.7, (-1.0,)), Scored(0.7, (-1.5,))]
    scale, values = _as_accuracies(found)
    assert scale is not None and values[0] < values[2] < values[1] and values.mean() == pytest.approx(1.9 / 3)
    assert _as_accuracies([Scored(0.5), Scored(0.7)])[0] is None
    scale, values = _as_accuracies([Scored(0.7, (-2.0,)), Scored(0.5, (-1.0,))])
    assert scale is None and values.tolist() == [0.7, 0.5], "counted answers decide"


def test_likelihoods_are_scored_and_the_control_is_trained_in_the_child(context, ready):
    """One child for all of it: scores by likelihood, their key apart from counted ones, and 16 steps from scratch."""
    run, goal = new_run(context), target(0.05, resolutions=(8,))
    network = SPACE.smallest(8)
    supernet = replace(ready, recipe="transfer", steps=16, epochs=1, scale=Scale(1.0, 0.2))
    with TorchChild(run) as torch_child:
        found = validation_results(
            run, torch_child, supernet.ref, [network], lambda done, of: None, likelihoods=True
        )[network.digest]
        assert len(found.likelihoods) == 64 and -5 < found.likelihood < 0
        job = SimpleNamespace(run=run, ready=supernet, torch_child=torch_child)
        solving = Solving.__new__(Solving)
        solving.job, solving._results = job, {}
        quality = solving.scored([network])[network.digest]
        assert quality == pytest.approx(1.0 + 0.2 * found.likelihood)
        assert solving.result(network) == found and solving.result(SPACE.largest(8)) is None
        # One that is counted as it would be delivered is ranked as all others are, and shown as counted.
        shallow = SPACE.smallest(12)
        rounded = solving.scored([shallow], reduced=True)[shallow.digest]
        alike = validation_results(
            run, torch_child, supernet.ref, [shallow], lambda done, of: None, likelihoods=True
        )[shallow.digest]
        assert rounded == pytest.approx(1.0 + 0.2 * alike.likelihood, abs=1e-4)
        shown = solving.counted([shallow], supernet.ref, reduced=True)[shallow.digest]
        assert shown == solving.result(shallow).accuracy == pytest.approx(alike.accuracy)
        delivered = replace(NETWORK, architecture=network, test=FileAccuracy(0.1, 360, "digits", "test"))
        controls = ControlTraining(run, supernet, 1, 0)
        control = controls.of(torch_child, goal, delivered)
        assert control.steps == 16 and control.from_scratch > 0.15
        assert control.gain_points == pytest.approx(100 * (0.1 - control.from_scratch), abs=1e-3)
    assert controls.of(None, goal, delivered) == control, "trained once"
    done = [e["step"] for e in events_of(context, run) if e["kind"] == "step_done"]
    assert done == ["score_network", "score_rounded", "score_network", "train_control"]
    assert replace(controls, tune_epochs=5).steps == 96 and ControlTraining(run, ready, 1).steps is None


def test_data_are_normalised_as_the_weights_expect_and_as_their_own_for_a_control(context, ready):
    expects = Normalisation((3.0,), (9.0,), 16.0)
    sha256, _ = context.store.put(save(load(context.store.read(ready.weights_sha256)), expects.header()))
    places = Places(str(context.store.root), str(context.work_folder("data")), {})
    ref = replace(ready.ref, weights_sha256=sha256)
    plain = dataset_of(places, ref, expected=False)
    assert dataset_of(places, ref).mean.tolist() == [3.0] != plain.mean.tolist()
    assert dataset_of(places, ready.ref).mean.tolist() == plain.mean.tolist(), "weights of before say nothing"
