"""Lite residuals: gradients, what is trained, files, and the form that travels with weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch.nn import functional as F

from latency_tables.operators import Operator
from supernets.cut_out import cut_out, fold_batch_norm
from supernets.delivery.export import OnnxFile, export_onnx, onnx_session, parity
from supernets.delivery.format import Delivery
from supernets.delivery.passes import Source
from supernets.delivery.pipeline import deliver
from supernets.errors import InvalidCheckpoint, InvalidPrecision, InvalidTraining
from supernets.layers.group_norm import groups_of, standardised
from supernets.layers.lite import LiteResidual
from supernets.network import Supernet
from supernets.network_form import NetworkForm
from supernets.networks import build_supernet
from supernets.spaces.catalog import space_named
from supernets.training.evaluation import evaluate
from supernets.training.job import load_supernet
from supernets.training.loop import Trainer
from supernets.training.method import Method
from supernets.training.standing import with_statistics
from supernets.training.tuning import alone, specialised, tuned

BATCH = torch.arange(32)
BLOCK = "mbconv/in=9x9x6/out=8/kernel=3/stride=2/mid=12/residual=0/se=0/act=relu6/groups=12"


@pytest.fixture(scope="module")
def trained(space):
    return Supernet(space, generator=torch.Generator().manual_seed(1)).eval()


@pytest.fixture
def started(trained, dataset, sandwich):
    """Makes a training of one network with lite residuals that add something already."""
    largest = trained.space.largest()
    own = specialised(trained, largest, lite=True, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        for part in own.beside.values():
            part.mix.norm.weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(3))
    with_statistics(own, dataset)
    phase = replace(sandwich.phases[0], sampling="uniform", networks=1, teacher="none")
    recipe = replace(sandwich, phases=(phase,))
    trainer = Trainer(
        own.space, dataset, recipe, 0, start=own.state_dict(), own_start=True, form=own.form, train="lite"
    )
    trainer.supernet.load_state_dict(own.state_dict())
    return trainer


def by_hand(module, x):
    """What the published description computes, with torch's own functions (batch-norm by its statistics)."""

    def normed(y, norm):
        return F.batch_norm(
            y, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0, norm.eps
        )

    spatial, mix = module.spatial, module.mix
    y = F.avg_pool2d(x, 2)
    kernel = spatial.conv.weight.shape[-1]
    y = F.conv2d(y, spatial.conv.weight, None, spatial.conv.stride, kernel // 2, 1, 2)
    y = F.relu(normed(y, spatial.norm))
    y = normed(F.conv2d(y, mix.conv.weight), mix.norm)
    return F.interpolate(y, size=module.size, mode="bilinear", align_corners=False)


def test_a_residual_is_the_published_one_and_folded_the_same():
    op = Operator.parse(BLOCK)
    module = LiteResidual(op, 1e-5).eval()
    assert module.spatial.conv.kernel_size == (3, 3) and module.spatial.conv.groups == 2
    x = torch.randn(2, 6, 9, 9, generator=torch.Generator().manual_seed(0))
    assert not module(x).any()  # a fresh one adds nothing
    with torch.no_grad():
        module.mix.norm.weight.fill_(1.5)
        module.spatial.norm.running_mean.normal_()
        assert module(x).shape == (2, 8, 5, 5) == (2, *op.output_shape)
        assert torch.allclose(module(x), by_hand(module, x), atol=1e-6)
        assert torch.allclose(fold_batch_norm(module)(x), module(x), atol=1e-5)
    assert module.macs == 2 * 2 * (6 * 3 * 9 + 6 * 8)
    tiny = LiteResidual(replace(op, in_height=1, in_width=1), 1e-5)
    assert tiny(torch.randn(2, 6, 1, 1)).shape == (2, 8, 1, 1)


def test_gradients_are_those_of_plain_torch(started):
    """Computed without keeping functions: every weight asks for its gradient."""
    phase = started.recipe.phases[0]
    started.backward(phase, BATCH, 0)
    found = {n: p.grad.clone() for n, p in started.supernet.named_parameters() if p.requires_grad}
    network = started.supernet
    network.requires_grad_(True)
    inputs, labels = started._inputs(BATCH, 0, network.space.largest().resolution)
    x = inputs
    for name, op in network.plan(network.space.largest()):
        if not name:
            x = network.through(x, ((name, op),))
            continue
        y = network.blocks[name](x, op)
        x = y + by_hand(network.beside[name], x) if name in network.beside else y
    loss = F.cross_entropy(x, labels, label_smoothing=started.recipe.label_smoothing)
    named = dict(network.named_parameters())
    plain = dict(zip(found, torch.autograd.grad(loss, [named[n] for n in found]), strict=True))
    largest = max(float(one.abs().max()) for one in plain.values())
    assert any(name.startswith("beside.") for name in found)
    assert max(float((found[n] - plain[n]).abs().max()) for n in found) <= 1e-5 * largest


@pytest.mark.parametrize("method", [Method(1, True), Method(4, True, True)], ids=["micro-1", "recomputed"])
def test_methods_give_the_same_gradients(started, method):
    phase = started.recipe.phases[0]
    started.backward(phase, BATCH, 0)
    plain = started.gradients.buffer.clone()
    started.follow(method)
    started.backward(phase, BATCH, 0)
    assert (started.gradients.buffer - plain).abs().max() <= 1e-5 * plain.abs().max()


def test_modules_biases_and_the_last_layer_are_trained_and_nothing_else(trained, dataset, sandwich, tmp_path):
    largest = trained.space.largest()
    own, _, used = tuned(trained, largest, dataset, sandwich, 1, 0, tmp_path, train="lite")
    before = specialised(trained, largest).state_dict()
    after = own.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert own.form.lite and all(any(part.mix.norm.weight) for part in own.beside.values())
    assert not any("conv.weight" in name or name.endswith("feature.weight") for name in changed)
    assert any(name.endswith("linear.weight") for name in changed)
    assert "statistics stand" in used.method
    again, _, _ = tuned(trained, largest, dataset, sandwich, 1, 0, tmp_path, train="lite")
    assert all(torch.equal(value, after[name]) for name, value in again.state_dict().items())
    assert own.macs_beside > 0 and trained.macs_beside == 0


def test_the_file_holds_the_modules_and_scores_are_those_of_the_network(started, dataset):
    own, largest = started.supernet.eval(), started.space.largest()
    network = cut_out(own, largest)
    assert parity(network, export_onnx(network, network.inputs)).holds
    written = deliver(Source(own, largest, dataset), Delivery(opset=11, ir_version=6, batch_size=None))
    assert written.parity.holds
    assert written.parameters > sum(op.parameters for op in network.operators)
    x = np.random.default_rng(0).normal(size=(3, *network.inputs[0].shape)).astype(np.float32)
    opened = OnnxFile(onnx_session(written.file))
    with torch.no_grad():
        assert np.allclose(opened.run(x), written.network(torch.from_numpy(x)), atol=1e-3)
    # Scoring builds layers for itself; accuracy by the cut-out network is the same.
    assert evaluate(own, [largest], dataset)[0] == pytest.approx(_accuracy(written.network, dataset))


def _accuracy(network, dataset):
    inputs = torch.from_numpy(dataset.inputs("validation", network.inputs[0].shape[-1]))
    with torch.no_grad():
        return float((network(inputs).argmax(1).numpy() == dataset.validation.labels).mean())


def test_the_form_travels_with_the_weights(started, trained):
    own = started.supernet
    data = save({n: t.contiguous() for n, t in own.state_dict().items()}, own.form.header())
    read = load_supernet(data, own.space)
    assert read.form == NetworkForm(lite=True)
    assert all(torch.equal(t, own.state_dict()[n]) for n, t in read.state_dict().items())
    with pytest.raises(InvalidCheckpoint, match="not weights"):
        load_supernet(save({n: t.contiguous() for n, t in own.state_dict().items()}), own.space)
    with pytest.raises(InvalidCheckpoint, match="norm is"):
        load_supernet(save({}, {"form": '{"norm": "layer"}'}), own.space)
    usual = save({n: t.contiguous() for n, t in trained.state_dict().items()}, trained.form.header() or None)
    assert load_supernet(usual, trained.space).form == NetworkForm()


def test_what_lite_residuals_cannot_stand_beside_is_refused(space, dataset, sandwich):
    with pytest.raises(InvalidTraining, match="of one network"):
        Supernet(space, form=NetworkForm(lite=True))
    with pytest.raises(InvalidTraining, match="for one network"):
        Trainer(space, dataset, sandwich, 0, train="lite")
    with pytest.raises(InvalidTraining, match="no blocks that lite residuals"):
        build_supernet(space_named("hat-small"), form=NetworkForm(lite=True))
    with pytest.raises(ValueError, match="norm is batch or group"):
        NetworkForm(norm="layer")


def test_int8_is_refused(started, dataset):
    class Plan:
        int8 = (0,)

    with pytest.raises(InvalidPrecision, match="no int8 form"):
        deliver(Source(started.supernet, started.space.largest(), dataset, plan=Plan()), Delivery())


def test_group_norm_with_standardised_weights_for_weights_that_were_trained_so(space, dataset, sandwich):
    """Trained so from the beginning, then lite residuals beside it, exported."""
    largest = space.largest()
    one = alone(space, largest)
    trainer = Trainer(one, dataset, sandwich, 0, form=NetworkForm(norm="group"))
    network = trainer.supernet
    assert not any("running" in name for name in network.state_dict())
    trainer.step(trainer.recipe.phases[0], BATCH, 0, 1e-3)
    own = specialised(network, largest, lite=True)
    assert own.form == NetworkForm(lite=True, norm="group")
    with torch.no_grad():
        for part in own.beside.values():
            part.mix.norm.weight.fill_(0.5)
    plain = cut_out(own.eval(), largest)
    x = torch.randn(3, *plain.inputs[0].shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        alike = own(x, largest)
        assert torch.allclose(plain(x), alike, atol=1e-5)
        assert torch.allclose(fold_batch_norm(plain)(x), alike, atol=1e-5)
        # Samples know nothing of each other.
        assert torch.allclose(torch.cat([plain(x[i : i + 1]) for i in range(3)]), alike, atol=1e-5)
    assert parity(plain, export_onnx(plain, plain.inputs)).holds
    data = save({n: t.contiguous() for n, t in own.state_dict().items()}, own.form.header())
    assert load_supernet(data, one).form.norm == "group"


def test_standardised_weights_have_mean_zero_and_deviation_one():
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)) * 5 + 2
    found = standardised(weight).flatten(1)
    assert torch.allclose(found.mean(1), torch.zeros(4), atol=1e-5)
    assert torch.allclose(found.std(1), torch.ones(4), atol=1e-4)
    assert (groups_of(24), groups_of(12), groups_of(5)) == (3, 3, 5)
