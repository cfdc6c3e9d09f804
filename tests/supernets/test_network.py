"""The supernet: slices, kernel transforms, no state between calls."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from supernets.errors import InvalidArchitecture
from supernets.layers.norm import ElasticBatchNorm
from supernets.layers.units import ElasticConv
from supernets.network import Supernet
from supernets.spaces.catalog import SPACES

DIGITS = SPACES["digits-mbv3"]


def test_kernel_transforms_start_as_centre_crops() -> None:
    conv = ElasticConv(6, 6, (3, 5, 7), depthwise=True)
    conv.initialise(torch.Generator().manual_seed(0))
    torch.testing.assert_close(conv.sliced(6, 6, 5), conv.weight[:, :, 1:6, 1:6])
    torch.testing.assert_close(conv.sliced(4, 4, 3), conv.weight[:4, :, 2:5, 2:5])


def test_small_kernels_go_through_the_chain_of_transforms() -> None:
    generator = torch.Generator().manual_seed(0)
    conv = ElasticConv(4, 4, (3, 5, 7), depthwise=True)
    conv.initialise(generator)
    for matrix in conv.transforms.values():
        matrix.data = torch.randn(matrix.shape, generator=generator)
    five = torch.stack(
        [(conv.transforms["7to5"] @ w[0, 1:6, 1:6].reshape(25)).reshape(1, 5, 5) for w in conv.weight]
    )
    three = torch.stack(
        [(conv.transforms["5to3"] @ w[0, 1:4, 1:4].reshape(9)).reshape(1, 3, 3) for w in five]
    )
    torch.testing.assert_close(conv.sliced(4, 4, 5), five)
    torch.testing.assert_close(conv.sliced(4, 4, 3), three)


def test_sliced_batch_norm_updates_only_the_channels_it_saw() -> None:
    norm = ElasticBatchNorm(8)
    norm(torch.randn(4, 5, 3, 3) + 2)
    assert (norm.running_mean[:5] != 0).all()
    assert (norm.running_mean[5:] == 0).all()


def test_forward_keeps_no_active_sub_network() -> None:
    supernet = Supernet(DIGITS, generator=torch.Generator().manual_seed(0)).eval()
    architectures = DIGITS.at((8,)).sample(np.random.default_rng(0), 5)
    x = torch.randn(2, 1, 8, 8)
    first = [supernet(x, a) for a in architectures]
    again = [supernet(x, a) for a in reversed(architectures)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_gradients_reach_exactly_the_slices_in_use() -> None:
    supernet = Supernet(DIGITS)
    smallest = DIGITS.smallest(8)
    supernet(torch.randn(4, 1, 8, 8), smallest).square().mean().backward()
    block = supernet.get_submodule("blocks.stage1_0")
    expand, mid = block.get_parameter("expand.conv.weight").grad, 32
    assert expand is not None
    assert expand[:mid].abs().sum() > 0
    assert expand[mid:].abs().sum() == 0
    assert block.get_parameter("depthwise.conv.transforms.5to3").grad is not None
    assert supernet.get_submodule("blocks.stage1_2").get_parameter("expand.conv.weight").grad is None


def test_wrong_resolution_and_foreign_architecture_are_refused() -> None:
    supernet = Supernet(DIGITS)
    with pytest.raises(InvalidArchitecture, match="resize"):
        supernet(torch.zeros(1, 1, 8, 8), DIGITS.largest(16))
    foreign = SPACES["ofa-mbv3"].smallest()
    with pytest.raises(InvalidArchitecture):
        supernet(torch.zeros(1, 1, 128, 128), foreign)
