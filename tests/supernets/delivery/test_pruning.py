"""Channels cut out of networks: which stay, least squares as numpy has it, better than no refit, in one file."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from latency_tables.operators import Operator
from supernets.accuracy.pruning import all_cells
from supernets.cut_out import PlainNetwork, cut_out
from supernets.data.catalog import load_digits
from supernets.delivery import pruned_scores, pruning
from supernets.delivery.format import Delivery
from supernets.delivery.passes import CUT, PLAIN, Source, passed, supernet_of_pruned
from supernets.delivery.pipeline import deliver
from supernets.delivery.precision import PrecisionPlan
from supernets.delivery.pruned_scores import losses_alone, of_one_width, random_pruned
from supernets.delivery.pruning import Moments, narrowed
from supernets.delivery.rounded_scores import RoundedEvaluator
from supernets.errors import InvalidPruning
from supernets.layers.catalog import build_operator
from supernets.network import Supernet
from supernets.network_form import NetworkForm
from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import lower
from supernets.tasks.catalog import task_of

SPACE = SPACES["digits-mbv3"]
PRUNED = SPACE.with_pruning()
LEAST = PRUNED.smallest(8)


@cache
def source():
    supernet = Supernet(SPACE, generator=torch.Generator().manual_seed(0)).eval()
    return Source(supernet, LEAST, load_digits())


def test_the_fit_is_that_of_numpy():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 5)) + 2, rng.normal(size=(300, 3)) - 1
    moments = Moments(5, 3)
    for start in range(0, 300, 100):
        part = slice(start, start + 100)
        moments.add(torch.from_numpy(x[part]), torch.from_numpy(y[part]))
    weights, biases = moments.solve(torch.zeros(3, 5), ridge=0.0)
    wanted = np.linalg.lstsq(np.column_stack([x, np.ones(300)]), y, rcond=None)[0]
    np.testing.assert_allclose(weights.numpy(), wanted[:-1].T, rtol=1e-8)
    np.testing.assert_allclose(biases.numpy(), wanted[-1], rtol=1e-8)
    residual = y - x @ wanted[:-1] - wanted[-1]
    share = np.square(residual).mean(0).sum() / y.var(0).sum()
    assert moments.error(weights, biases) == pytest.approx(share)
    # What the inputs do not tell stays as it was.
    constant = Moments(2, 1)
    constant.add(torch.ones(10, 2), torch.arange(10.0)[:, None])
    with pytest.raises(InvalidPruning, match="cannot be refitted"):
        constant.solve(torch.ones(1, 2), ridge=0.0)


@pytest.mark.parametrize(
    "text",
    [
        "mbconv/in=6x6x16/out=24/kernel=3/stride=2/mid={}/residual=0/se=1/act=hswish/groups={}",
        "mbconv/in=6x6x16/out=16/kernel=3/stride=1/mid={}/residual=1/se=0/act=relu/groups={}",
        "bottleneck/in=6x6x16/out=32/kernel=3/stride=1/mid={}/residual=1/se=0/act=relu/groups=1",
    ],
)
def test_a_narrow_block_keeps_what_is_read_most_and_does_what_the_whole_one_does(text):
    whole, narrow = (Operator.parse(text.format(n, n)) for n in (40, 24))
    generator = torch.Generator().manual_seed(0)
    layer = build_operator(whole, generator=generator).eval()
    read = layer.closing.conv.weight.abs().sum((0, 2, 3))
    xs = [torch.randn(64, 16, 6, 6, generator=generator)]
    fitted = narrowed(layer, whole, narrow, xs, xs, eps=1e-5)
    plain = narrowed(layer, whole, narrow, xs, xs, refit=False, eps=1e-5)
    with torch.no_grad():
        errors = [float((one.layer(xs[0]) - layer(xs[0])).square().mean()) for one in (fitted, plain)]
        np.testing.assert_allclose(fitted.ours[0], fitted.layer(xs[0]), atol=1e-5)
        np.testing.assert_allclose(fitted.theirs[0], layer(xs[0]), atol=1e-5)
    assert errors[0] < 0.9 * errors[1] and fitted.told.error < fitted.told.unfitted
    assert (fitted.told.channels, fitted.told.of) == (24, 40)
    kept = read.argsort(descending=True)[:24].sort().values
    wanted = layer.state_dict()["project.conv.weight"][:, kept]
    assert torch.equal(plain.layer.state_dict()["project.conv.weight"], wanted)
    with pytest.raises(InvalidPruning, match="cannot be cut out"):
        narrowed(layer, narrow, whole, xs, xs, eps=1e-5)


def test_a_pruned_network_is_refitted_and_its_file_does_what_it_does():
    found = source()
    written = deliver(found, Delivery())
    assert isinstance(written.network, PlainNetwork) and written.parity.holds
    assert written.network.operators == tuple(lower(PRUNED, LEAST))
    assert written.network.refit["method"] == "least squares" and len(written.network.refit["blocks"]) == 3
    x = task_of(found.data).examples(found.data, "validation", 8, np.arange(200))[0]
    with torch.no_grad():
        wanted = cut_out(found.supernet, SPACE.unpruned(LEAST))
        wanted = passed(replace(found, architecture=SPACE.unpruned(LEAST)), PLAIN)(x)
        errors = [
            float((passed(replace(found, refit=refit), PLAIN)(x) - wanted).square().mean())
            for refit in (True, False)
        ]
    assert errors[0] < errors[1], "refitted it is nearer to the whole network"


def test_pruned_and_in_int8_is_one_network_more():
    names = [name for name, _ in source().supernet.plan(SPACE.unpruned(LEAST))]
    plan = PrecisionPlan.uniform("int8", len(names))
    written = deliver(replace(source(), plan=plan), Delivery())
    assert written.parity.rounded is not None and written.network.plain.refit is not None
    evaluator = RoundedEvaluator(source(), limit=64)
    assert 0 <= evaluator.quality(LEAST, plan) <= 1 and evaluator.plain(LEAST) is evaluator.plain(LEAST)


def test_it_can_be_trained_on_from_its_refitted_weights():
    own = supernet_of_pruned(source())
    plain = passed(source(), CUT)
    x = task_of(source().data).examples(source().data, "train", 8, np.arange(32))[0]
    with torch.no_grad():
        np.testing.assert_allclose(own(x, LEAST), plain(x), atol=1e-4)
    assert LEAST in own.space and own.space.count() == 1
    # Of its own weights nothing is cut out: it is whole.
    again = Source(own, LEAST, source().data)
    assert again.whole == LEAST and supernet_of_pruned(again) is own
    assert passed(again, PLAIN).refit is None


def test_what_every_cell_loses_alone(monkeypatch):
    monkeypatch.setattr(pruning, "REFIT_SAMPLES", 32)
    monkeypatch.setattr(pruned_scores, "_SAMPLES", 32)
    told: list[int] = []
    lost = losses_alone(source(), PRUNED.at([8]), "validation", lambda done, of: told.append(of))
    assert set(lost) == set(all_cells(PRUNED)) and all(np.isfinite(list(lost.values())))
    assert set(told) == {len(of_one_width(PRUNED))} == {3}
    networks = random_pruned(PRUNED, 20, np.random.default_rng(0))
    assert all(one in PRUNED for one in networks)
    assert any(one != PRUNED.unpruned(one) for one in networks)


def test_what_cannot_be_pruned_is_refused():
    standing = Supernet(SPACE, form=NetworkForm(norm="group")).eval()
    with pytest.raises(InvalidPruning, match="group-norm"):
        passed(replace(source(), supernet=standing), CUT)
    few = source().data
    split = few.split("train")
    rows = np.unique(split.labels, return_index=True)[1]  # one of each class
    small = replace(few, train=type(split)(split.images[rows], split.labels[rows]))
    with pytest.raises(InvalidPruning, match="10 training samples"):
        passed(replace(source(), data=small), CUT)
