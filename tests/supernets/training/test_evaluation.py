"""Evaluation: the accuracy of the network as it would be delivered, each computed once."""

from math import prod

import numpy as np
import pytest
import torch

from supernets.cut_out import cut_out
from supernets.data.catalog import load_dataset
from supernets.network import Supernet
from supernets.spaces.catalog import SPACES, space_named
from supernets.spaces.lowering import lower
from supernets.training.batchnorm import calibration_batches, recalibrate
from supernets.training.evaluation import Evaluator, evaluate, score
from supernets.training.memory import ACTIVATION_BYTES, samples_at_once, samples_of_space


@pytest.fixture(scope="module")
def dataset():
    return load_dataset("digits")


@pytest.fixture(scope="module")
def supernet():
    torch.manual_seed(0)
    return Supernet(space_named("digits-mbv3"), generator=torch.Generator().manual_seed(0)).eval()


def sample(networks, seed=0):
    return space_named("digits-mbv3").at([8]).sample(np.random.default_rng(seed), networks)


@torch.no_grad()
def plain_accuracy(network, dataset, split, calibration):
    resolution = network.inputs[0].shape[1]
    recalibrate(network, calibration_batches(dataset, resolution, calibration, at_once=calibration))
    right = sum(
        int((network(torch.from_numpy(inputs)).argmax(dim=1).numpy() == labels).sum())
        for inputs, labels in dataset.batches(split, resolution)
    )
    return right / len(dataset.split(split))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_equals_cutting_out_and_recalibrating(supernet, dataset, split):
    architectures = sample(4)
    found = Evaluator(supernet, dataset, split, calibration=200).qualities(architectures)
    wanted = [plain_accuracy(cut_out(supernet, a), dataset, split, calibration=200) for a in architectures]
    assert found == pytest.approx(wanted, abs=1.01 / 360)  # a tie may fall the other way


class Noting:
    """A task that keeps the outputs which are counted."""

    def __init__(self, task, seen):
        self.task, self.seen = task, seen

    def __getattr__(self, name):
        return getattr(self.task, name)

    def tally(self, outputs, targets):
        self.seen.append(outputs)
        return self.task.tally(outputs, targets)


def test_logits_equal_those_of_the_network_alone(supernet, dataset):
    """However many networks were walked before it."""
    evaluator = Evaluator(supernet, dataset, calibration=100, limit=50)
    together, seen = sample(5), []
    evaluator.task = Noting(evaluator.task, seen)
    evaluator._tallies([*together, together[0]], 8, 0, 6, None)
    assert torch.allclose(seen[0], seen[5], atol=1e-5)


def test_samples_in_parts_give_the_same_accuracy(supernet, dataset, monkeypatch):
    architectures = sample(4)
    wanted = Evaluator(supernet, dataset, calibration=100).qualities(architectures)
    monkeypatch.setattr("supernets.training.evaluation.samples_of_space", lambda space, condition: 100)
    calls = []
    found = Evaluator(supernet, dataset, calibration=100).qualities(
        architectures, lambda *said: calls.append(said)
    )
    assert found == pytest.approx(wanted, abs=1.01 / 360)  # a tie may fall the other way
    assert calls == [(number, 4) for number in (1, 2, 3, 4)]


def test_statistics_of_several_batches_are_those_of_recalibrating_with_them(supernet, dataset, monkeypatch):
    """Also where the networks need more than one group, and come again in another order."""
    architectures = sample(5)
    monkeypatch.setattr("supernets.training.evaluation.samples_of_space", lambda space, condition: 70)
    monkeypatch.setattr("supernets.training.evaluation._GROUP", 2)
    evaluator, seen = Evaluator(supernet, dataset, calibration=200), []
    evaluator.task = Noting(evaluator.task, seen)
    evaluator._tallies(architectures[:2], 8, 0, 2, None)
    plain = cut_out(supernet, architectures[1])
    batches = list(calibration_batches(dataset, 8, 200, at_once=70))
    assert [len(batch) for batch in batches] == [67, 67, 66]
    recalibrate(plain, batches)
    with torch.no_grad():
        wanted = plain(torch.from_numpy(dataset.inputs("validation", 8, np.arange(70))))
    assert torch.allclose(seen[1], wanted, atol=1e-4)
    found = Evaluator(supernet, dataset, calibration=200).qualities(architectures)
    again = Evaluator(supernet, dataset, calibration=200).qualities(architectures[::-1])
    assert found.tolist() == again[::-1].tolist()


@pytest.mark.parametrize("name", SPACES)
def test_samples_at_once_follow_the_memory_that_each_takes(name):
    """Fewer than the sum of what all operators give out would allow, and fewer of larger pictures."""
    space = SPACES[name]
    ends = min(space.resolutions), max(space.resolutions)
    counts = [samples_of_space(space, condition) for condition in ends]
    assert counts[0] >= counts[-1] >= 1
    for count, condition in zip(counts, ends, strict=True):
        operators = lower(space, space.largest(condition))
        path = sum(prod(op.output_shape) for op in operators)
        assert 4 * path * count < ACTIVATION_BYTES and samples_at_once(operators[-1:]) > count


def test_nothing_is_evaluated_twice(supernet, dataset):
    cache, calls = {}, []
    architectures = sample(3)

    def count(done, of):
        calls.append((done, of))

    first = evaluate(supernet, [*architectures, architectures[0]], dataset, cache=cache, progress=count)
    assert calls == [(1, 3), (2, 3), (3, 3)] and len(cache) == 3 and first[0] == first[3]
    again = evaluate(supernet, architectures, dataset, cache=cache, progress=count)
    assert len(calls) == 3 and np.array_equal(again, first[:3])


def test_the_supernet_is_left_as_it_was(supernet, dataset):
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    evaluate(supernet, sample(2), dataset)
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())


def test_scores_make_a_predictor(supernet, dataset):
    said = []
    evaluator = Evaluator(supernet, dataset, calibration=60, limit=60)
    predictor = score(
        evaluator, 24, np.random.default_rng(0), progress=lambda done, of: said.append((done, of))
    )
    assert predictor.held_out is not None and said[-1] == (24, 24)
    assert (
        len({tuple(g) for g in predictor.genes.tolist()})
        == len(predictor.genes)
        == len(evaluator.cache)
        == 24
    )
    assert (predictor.qualities >= 0).all() and (predictor.qualities <= 1).all()
