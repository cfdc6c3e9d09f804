"""Gradients of wide depthwise convolutions put together from strips: the same as torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from supernets.layers.depthwise import strip_convolution, wants_strips
from supernets.layers.units import ElasticConv


@pytest.mark.parametrize("kernel", [5, 7, 9])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (7, 7), (9, 12), (4, 4), (2, 3), (1, 1)])
def test_gradients_are_those_of_the_plain_convolution(
    kernel: int, stride: int, height: int, width: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (
        torch.randn(3, 8, height, width, generator=generator)
        .to(memory_format=torch.channels_last)
        .requires_grad_()
    )
    weight = torch.randn(8, 1, kernel, kernel, generator=generator, requires_grad=True)
    assert wants_strips(x, weight)
    y = strip_convolution(x, weight, stride)
    gradient = torch.randn(y.shape, generator=generator)
    y.backward(gradient)

    exact_x, exact_weight = (v.detach().double().requires_grad_() for v in (x, weight))
    exact = F.conv2d(exact_x, exact_weight, None, stride, kernel // 2, 1, 8)
    exact.backward(gradient.double())
    for found, wanted in ((y, exact), (x.grad, exact_x.grad), (weight.grad, exact_weight.grad)):
        assert found is not None and wanted is not None
        torch.testing.assert_close(found, wanted.float(), rtol=1e-4, atol=1e-4)


def test_only_where_a_gradient_of_a_wide_kernel_is_asked_for() -> None:
    x = torch.randn(2, 8, 8, 8).to(memory_format=torch.channels_last)
    wide, narrow = (torch.randn(8, 1, k, k, requires_grad=True) for k in (7, 3))
    assert wants_strips(x, wide)
    assert not wants_strips(x, narrow)
    assert not wants_strips(x.contiguous(), wide)
    assert not wants_strips(x, wide.detach())
    with torch.no_grad():
        assert not wants_strips(x, wide)
    with torch.autocast("cpu", torch.bfloat16):
        assert not wants_strips(x, wide)


def test_kernel_transforms_get_their_gradient_through_the_strips() -> None:
    generator = torch.Generator().manual_seed(0)
    conv = ElasticConv(8, 8, (3, 5, 7), depthwise=True)
    conv.initialise(generator)
    x = torch.randn(4, 6, 10, 10, generator=generator)
    found = []
    for form in (torch.channels_last, torch.contiguous_format):  # strips, and torch's own
        conv.zero_grad()
        conv(x.contiguous(memory_format=form), 6, 5).square().sum().backward()
        found.append([parameter.grad for parameter in conv.parameters()])
    for strips, plain in zip(*found, strict=True):
        assert (strips is None) == (plain is None)
        if strips is not None:
            torch.testing.assert_close(strips, plain, rtol=1e-3, atol=1e-3)
