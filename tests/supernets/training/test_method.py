"""Methods that keep a limit on memory give the gradients of plain training; the fastest that keeps it is
taken."""

from dataclasses import replace

import pytest
import torch

from supernets.cut_out import cut_out
from supernets.errors import InvalidCheckpoint, InvalidTraining, MemoryLimitTooLow
from supernets.layers.units import ConvUnit
from supernets.network import Supernet
from supernets.training import method as methods_of_training
from supernets.training.batchnorm import calibration_batches, recalibrate
from supernets.training.loop import Trainer
from supernets.training.memory import samples_of_space
from supernets.training.method import Meter, Method, choose, kept_bytes, methods
from supernets.training.standing import settle, with_statistics
from supernets.training.tuning import alone, specialised, tuned

MB = 2**20
BATCH = torch.arange(32)


@pytest.fixture(scope="module")
def trained(space, dataset):
    """A supernet with statistics of its own."""
    return with_other_statistics(space, seed=1)


def with_other_statistics(space, seed):
    """A supernet whose statistics are not those of its weights."""
    generator = torch.Generator().manual_seed(seed)
    supernet = Supernet(space, generator=generator)
    for part in supernet.modules():
        if hasattr(part, "running_mean"):
            part.running_mean.uniform_(-0.5, 0.5, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
    return supernet.eval()


@pytest.fixture
def trainer(trained, dataset, sandwich):
    """Makes a training of one network of that supernet."""
    own = specialised(trained, trained.space.largest())
    with_statistics(own, dataset)
    recipe = replace(
        sandwich, phases=(replace(sandwich.phases[0], sampling="uniform", networks=1, teacher="none"),)
    )

    def make(train="all"):
        return Trainer(own.space, dataset, recipe, 0, start=own.state_dict(), own_start=True, train=train)

    def started(train="all"):
        made = make(train)
        made.supernet.load_state_dict(own.state_dict())
        return made

    return started


def gradients(trainer, method):
    trainer.follow(method)
    trainer.backward(trainer.recipe.phases[0], BATCH, 0)
    return trainer.gradients.buffer.clone()


@pytest.mark.parametrize("train", ["all", "bias", "last"])
@pytest.mark.parametrize(
    "method",
    [Method(1, True), Method(5, True), Method(None, True, True), Method(4, True, True)],
    ids=["micro-1", "micro-5", "recomputed", "micro-4-recomputed"],
)
def test_a_method_gives_the_gradients_of_one_batch(trainer, train, method):
    made = trainer(train)
    plain = gradients(made, Method(frozen=True))
    other = gradients(made, method)
    assert plain.abs().max() > 0
    assert (other - plain).abs().max() <= 1e-5 * plain.abs().max()


def test_recomputed_blocks_give_the_gradients_of_batch_statistics(space, dataset, sandwich):
    """A supernet by the sandwich rule, with its shared leading blocks and its teacher."""
    trainer = Trainer(space, dataset, sandwich, 0)
    plain, other = gradients(trainer, Method()), gradients(trainer, Method(recompute=True))
    assert (other - plain).abs().max() <= 1e-5 * plain.abs().max()


@pytest.mark.parametrize("activation", ["none", "relu", "relu6", "hswish"])
@pytest.mark.parametrize(
    "layout", [torch.contiguous_format, torch.channels_last], ids=["planes", "channels-last"]
)
@pytest.mark.parametrize("groups", [1, 8], ids=["dense", "depthwise"])
def test_a_frozen_unit_gives_the_same_with_one_bit(activation, layout, groups):
    unit = ConvUnit(8, 8, 3, stride=2, groups=groups, activation=activation).eval()
    torch.manual_seed(0)
    for value in (unit.norm.running_mean, unit.norm.weight, unit.norm.bias):
        torch.nn.init.normal_(value)
    x = (3 * torch.randn(3, 8, 11, 11)).to(memory_format=layout)
    found = []
    for frozen in (False, True):
        unit.conv.weight.requires_grad_(not frozen)
        unit.norm.weight.requires_grad_(not frozen)
        unit.norm.bias.grad, given = None, x.clone().requires_grad_()
        kept = kept_bytes(lambda given=given: unit(given))
        output = unit(given)
        output.square().sum().backward()
        found.append((output.detach(), given.grad, unit.norm.bias.grad, kept))
    for plain, other in zip(found[0][:3], found[1][:3], strict=True):
        assert (plain - other).abs().max() <= 1e-5 * plain.abs().max()
    bits = {"none": 0, "relu": 108, "relu6": 108, "hswish": output.nbytes}[activation]
    assert found[1][3] == unit.conv.weight.nbytes + bits
    assert found[0][3] > found[1][3]


def test_batches_are_shared_out_evenly():
    assert [(p.start, p.stop) for p, _ in Method(8).parts(20)] == [(0, 10), (10, 20)]
    assert sum(share for _, share in Method(3, True).parts(20)) == pytest.approx(1)
    assert max(p.stop - p.start for p, _ in Method(3, True).parts(20)) == 3
    assert list(Method().parts(7)) == [(slice(0, 7), 1.0)]


def test_a_supernet_has_no_standing_statistics_and_one_network_may_go_down_to_one_sample():
    several = methods(32, standing=False)
    assert min(m.micro_batch or 32 for m in several) == 8 and not any(m.frozen for m in several)
    one = methods(32, standing=True)
    assert one[0] == Method() and one[-1] == Method(1, True, True)
    assert all(m.frozen == ((m.micro_batch or 32) < 8) for m in one)


class Process:
    """Memory as steps of a method take it."""

    def __init__(self, monkeypatch, rest=100, inside=2, kept=5):
        self.rest, self.inside, self.kept, self.now, self.tried = rest, inside, kept, rest, []
        monkeypatch.setattr(methods_of_training.memory, "resident_bytes", lambda: rest * MB)
        monkeypatch.setattr(methods_of_training.memory, "peak_bytes", lambda: self.now * MB)
        monkeypatch.setattr(methods_of_training.memory, "begin_peak", self.begin)

    def begin(self):
        self.now = self.rest

    def step(self, method):
        size = method.micro_batch or 32
        self.now = self.rest + size * (self.inside + (0 if method.recompute else self.kept))
        self.tried.append(self.now)

    def kept_of(self, method):
        return (method.micro_batch or 32) * self.kept * MB


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [
        (400, Method()),
        (300, Method(16)),
        (150, Method(4, True)),
        (114, Method(1, True)),
        (110, Method(2, True, True)),
    ],
    ids=["roomy", "half", "a few", "one", "recomputed"],
)
def test_the_fastest_method_that_keeps_the_limit_is_taken_and_none_that_breaks_it_is_tried(
    monkeypatch, limit, wanted
):
    process = Process(monkeypatch)
    found = choose(limit, methods(32, standing=True), 32, process.step, process.kept_of, Meter())
    assert found == wanted
    assert max(process.tried) <= limit


def test_a_limit_that_nothing_keeps_is_refused_with_the_least_that_works(monkeypatch):
    process = Process(monkeypatch)
    with pytest.raises(MemoryLimitTooLow, match="memory_mb=108") as refused:
        choose(101, methods(32, standing=True), 32, process.step, process.kept_of, Meter())
    assert refused.value.least_mb == 108
    choose(108, methods(32, standing=True), 32, process.step, process.kept_of, Meter())


@pytest.mark.parametrize("seed", range(5))
def test_a_settled_network_computes_the_same_after_it_is_recalibrated(space, dataset, seed):
    trained = with_other_statistics(space, seed)
    largest = trained.space.largest()
    own = specialised(trained, largest).eval()  # statistics that are not those of its weights
    x = torch.randn(16, 1, largest.resolution, largest.resolution, generator=torch.manual_seed(seed))
    before = own(x, largest).detach()
    settle(own, dataset)
    network = cut_out(own, largest)
    at_once = samples_of_space(own.space, largest.resolution)
    recalibrate(network, calibration_batches(dataset, largest.resolution, at_once=at_once))
    assert torch.allclose(network(x), before, atol=1e-5)
    unsettled = cut_out(specialised(trained, largest), largest)
    recalibrate(unsettled, calibration_batches(dataset, largest.resolution, at_once=at_once))
    assert not torch.allclose(unsettled(x), before, atol=1e-2)


@pytest.mark.parametrize("train", ["bias", "last"])
def test_only_the_part_that_is_trained_changes(trained, dataset, sandwich, tmp_path, train):
    largest = trained.space.largest()
    own, _, used = tuned(trained, largest, dataset, sandwich, 1, 0, tmp_path, train=train)
    before = specialised(trained, largest).state_dict()
    changed = {name for name, value in own.state_dict().items() if not torch.equal(value, before[name])}
    assert not any("conv." in name or name.endswith("feature.weight") for name in changed)
    assert any(name.endswith("linear.weight") for name in changed)
    assert used.limit_mb is None and "statistics stand" in used.method and used.peak_mb > 50


def test_a_fine_tuning_within_a_limit_says_what_it_took_and_goes_on_by_the_same_method(
    trained, dataset, sandwich, tmp_path
):
    largest = trained.space.largest()
    with pytest.raises(MemoryLimitTooLow) as refused:
        tuned(trained, largest, dataset, sandwich, 1, 0, tmp_path, memory_mb=64)
    assert refused.value.least_mb > 64
    roomy = 2 * refused.value.least_mb
    _, _, used = tuned(trained, largest, dataset, sandwich, 1, 0, tmp_path, memory_mb=roomy)
    assert used.limit_mb == roomy and 50 < used.peak_mb <= roomy
    again, _, _ = tuned(trained, largest, dataset, sandwich, 1, 0, tmp_path, memory_mb=roomy)
    assert again.space == alone(trained.space, largest)


def test_parts_of_a_supernet_and_unknown_parts_are_refused(space, dataset, sandwich, trained, tmp_path):
    with pytest.raises(InvalidTraining, match="for one network"):
        Trainer(space, dataset, sandwich, 0, train="bias")
    with pytest.raises(InvalidTraining, match="one of all, bias"):
        tuned(trained, space.largest(), dataset, sandwich, 1, 0, tmp_path, train="everything")
    with pytest.raises(InvalidCheckpoint, match="method"):
        Method.from_json({"speed": 2})
