"""Channel sorting: the networks that were trained compute the same, and important channels come first."""

from dataclasses import replace

import pytest
import torch

from supernets.layers.sorting import banded_order, importance
from supernets.network import Supernet
from supernets.training.recipe import Phase
from supernets.training.sorting import sort_channels, supported_operators

FULL = Phase("full", 1, 0.1, limits={"kernel": 1, "depth": 1, "expand": 1, "width": 1})
ALL = Phase("all", 1, 0.1)


@pytest.fixture
def supernet(space):
    torch.manual_seed(0)
    net = Supernet(space, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return net.train()


def test_the_largest_network_computes_the_same(space, supernet):
    x = torch.randn(4, 1, 8, 8)
    before = supernet(x, space.largest(8))
    weights = supernet.state_dict()["blocks.body_0.project.conv.weight"].clone()
    sort_channels(supernet, FULL)
    assert not torch.equal(weights, supernet.state_dict()["blocks.body_0.project.conv.weight"])
    assert torch.allclose(supernet(x, space.largest(8)), before, atol=1e-4)


def test_networks_that_were_trained_compute_the_same(space, supernet):
    x = torch.randn(4, 1, 8, 8)
    networks = [space.largest(8), space.smallest(8)]
    before = [supernet(x, a) for a in networks]
    sort_channels(supernet, ALL)
    for architecture, wanted in zip(networks, before, strict=True):
        assert torch.allclose(supernet(x, architecture), wanted, atol=1e-4)


def test_important_channels_come_first(supernet):
    sort_channels(supernet, FULL)
    scores = importance(supernet.blocks["body_0"].project.conv.weight)
    assert torch.all(scores[:-1] >= scores[1:])


def test_bands_keep_their_channels():
    order = banded_order(torch.tensor([1.0, 3.0, 2.0, 9.0, 8.0, 10.0]), [3, 5])
    assert order.tolist() == [1, 2, 0, 3, 4, 5]


def supported_mids(supernet, phase):
    found = supported_operators(supernet, phase)
    return {name: sorted({op.mid_channels for op in operators}) for name, operators in found.items()}


def test_supported_widths_follow_the_phase(supernet):
    assert supported_mids(supernet, FULL)["body_0"] == [24]
    assert supported_mids(supernet, ALL)["body_0"] == [16, 24]
    assert supported_mids(supernet, replace(ALL, limits={"expand": 1}))["last_1"] == [48]
