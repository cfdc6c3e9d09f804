"""Plain modules: shapes and sizes agree with the operator they are built from; folding keeps the outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latency_tables.operators import Operator
from latency_tables.operators.bottleneck import Bottleneck
from latency_tables.operators.conv import Conv
from latency_tables.operators.head import Head
from latency_tables.operators.maxpool import MaxPool
from latency_tables.operators.mbconv import MBConv
from supernets.cut_out import PlainNetwork, cut_out, fold_batch_norm
from supernets.layers.catalog import build_operator
from supernets.network import Supernet
from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import all_operators, lower

DIGITS = SPACES["digits-mbv3"]

OPERATORS = [
    Conv(9, 9, 3, 16, 3, 2, 0, False, False, "hswish", 1),
    Conv(8, 8, 16, 16, 3, 1, 0, True, False, "relu", 1),
    MBConv(9, 9, 16, 24, 5, 2, 48, False, True, "hswish", 48),
    MBConv(8, 8, 16, 16, 3, 1, 16, True, False, "relu6", 16),
    Bottleneck(9, 9, 16, 32, 3, 2, 8, True, False, "relu", 1),
    Bottleneck(8, 8, 32, 32, 3, 1, 8, True, False, "relu", 1),
    MaxPool(9, 9, 16, 16, 3, 2, 0, False, False, "none", 1),
    Head(4, 4, 16, 10, 1, 1, 32, False, False, "hswish", 1),
    Head(4, 4, 16, 10, 1, 1, 0, False, False, "none", 1),
]


def shake_batch_norm(module: torch.nn.Module, generator: torch.Generator) -> None:
    """Statistics and affine parts that are not the identity, so that forgetting one shows."""
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if value.dim() == 1 and value.is_floating_point():
            with torch.no_grad():
                noise = torch.rand(value.shape, generator=generator) - 0.5
                value.copy_(1 + 0.4 * noise if name.endswith(("running_var", "norm.weight")) else 0.2 * noise)


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.text)
def test_module_has_the_shape_and_parameters_of_its_operator(op: Operator) -> None:
    generator = torch.Generator().manual_seed(0)
    module = build_operator(op, generator=generator).eval()
    y = module(torch.randn(2, op.in_channels, op.in_height, op.in_width, generator=generator))
    assert y.shape == (
        (2, op.out_channels) if op.family == "head" else (2, op.out_channels, op.out_height, op.out_width)
    )
    assert sum(p.numel() for p in fold_batch_norm(module).parameters()) == op.parameters


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.text)
def test_folding_keeps_outputs_and_leaves_no_batch_norm(op: Operator) -> None:
    generator = torch.Generator().manual_seed(1)
    module = build_operator(op, generator=generator).eval()
    shake_batch_norm(module, generator)
    folded = fold_batch_norm(module)
    x = torch.randn(2, op.in_channels, op.in_height, op.in_width, generator=generator)
    torch.testing.assert_close(folded(x), module(x), rtol=1e-4, atol=1e-5)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in folded.modules())


def test_every_operator_of_the_digits_space_can_be_built() -> None:
    for op in all_operators(DIGITS, 8):
        build_operator(op)


def test_cut_out_network_gives_the_logits_of_the_supernet_in_both_modes() -> None:
    generator = torch.Generator().manual_seed(0)
    supernet = Supernet(DIGITS, generator=generator)
    shake_batch_norm(supernet, generator)
    for name, matrix in supernet.named_parameters():
        if ".transforms." in name:
            matrix.data += 0.05 * torch.randn(matrix.shape, generator=generator)
    for architecture in [DIGITS.largest(), DIGITS.smallest(), *DIGITS.sample(np.random.default_rng(0), 6)]:
        x = torch.randn(3, 1, architecture.resolution, architecture.resolution, generator=generator)
        supernet.eval()
        with torch.no_grad():
            torch.testing.assert_close(
                cut_out(supernet, architecture)(x), supernet(x, architecture), rtol=1e-5, atol=1e-5
            )
            supernet.train()
            network = cut_out(supernet, architecture)
            torch.testing.assert_close(network(x), supernet(x, architecture), rtol=1e-4, atol=1e-5)


def test_cut_out_network_is_a_copy() -> None:
    supernet = Supernet(DIGITS)
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    network = cut_out(supernet, DIGITS.smallest())
    for parameter in network.parameters():
        parameter.data.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())


def test_recalibrating_the_plain_network_changes_only_it() -> None:
    supernet = Supernet(DIGITS).eval()
    architecture = DIGITS.largest(8)
    network = cut_out(supernet, architecture).train()
    x = torch.randn(8, 1, 8, 8) * 3 + 1
    before = supernet(x, architecture)
    network(x)
    assert not torch.allclose(network.eval()(x), before)
    torch.testing.assert_close(supernet(x, architecture), before)


def test_same_generator_same_weights() -> None:
    operators = lower(DIGITS, DIGITS.smallest())
    one, two = (PlainNetwork(operators, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    )
