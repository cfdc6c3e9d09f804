"""Depthwise convolution on a CPU whose weight gradient does not fall off oneDNN's fast path.

oneDNN has a kernel for the weight gradient of depthwise convolutions in channels-last order, but only of
kernels at most three columns wide; wider ones run as grouped convolutions padded to 16 x 16 channels, several
times slower than the forward pass. The gradient of a 5x5 or 7x7 kernel is therefore put together from strips
of three columns: the columns at an offset d see the input moved by d pixels. Same sums in another order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_STRIP = 3


def wants_strips(x: Tensor, weight: Tensor) -> bool:
    """Whether `strip_convolution` is the faster way for this input and this depthwise weight (C, 1, K, K)."""
    return (
        weight.shape[-1] > _STRIP
        and weight.requires_grad
        and torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def strip_convolution(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Depthwise convolution of x (B, C, H, W) with weight (C, 1, K, K), K odd, stride 1 or 2, padded by K //
    2."""
    y: Tensor = _StripConvolution.apply(x, weight, stride)  # type: ignore[no-untyped-call]
    return y


class _StripConvolution(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, stride: int) -> Tensor:
        return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, len(weight))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.stride = inputs[2]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        edge = weight.shape[-1] // 2
        of_input = (
            _gradients(gradient, x, weight, ctx.stride, (edge, edge), of_weight=False)
            if ctx.needs_input_grad[0]
            else None
        )
        return of_input, weight_gradient(gradient, x, weight.shape[-1], ctx.stride), None


def weight_gradient(gradient: Tensor, x: Tensor, kernel: int, stride: int) -> Tensor:
    """Gradient (C, 1, kernel, kernel) from that of the output (B, C, H', W') and the input x (B, C, H, W)."""
    channels, height, width = x.shape[1:]
    edge = kernel // 2
    # What the fast kernel asks of the padding; elsewhere the rows are padded here.
    rows = edge if edge % stride == 0 and height >= kernel else 0
    found = x.new_zeros(channels, 1, kernel, kernel)
    like = x.new_empty(channels, 1, kernel, _STRIP)
    reach = edge // 2 * 2
    for shift in range(-reach, reach + 1, 2):
        if abs(shift) >= width:
            continue  # these columns see padding only
        moved, outputs = _overlap(x, gradient, shift, stride)
        if rows == 0:
            moved = F.pad(moved, (0, 0, edge, edge))
        strip = _gradients(outputs, moved, like, stride, (rows, 1), of_weight=True)
        # A moved strip lacks the pixels that were cut off, which only its outer columns do not see.
        first, last = max(-edge, shift - (shift <= 0)), min(edge, shift + (shift >= 0))
        found[..., edge + first : edge + last + 1] = strip[..., first - shift + 1 : last - shift + 2]
    return found


def _overlap(x: Tensor, gradient: Tensor, shift: int, stride: int) -> tuple[Tensor, Tensor]:
    """Columns of the input and of the output's gradient that meet when the input is moved by `shift`
    pixels."""
    if shift == 0:
        return x, gradient
    if shift < 0:
        return x[..., :shift], gradient[..., -shift // stride :]
    return x[..., shift:], gradient[..., : -shift // stride]


def _gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: int, padding: tuple[int, int], *, of_weight: bool
) -> Tensor:
    """Gradient of a depthwise convolution: of its weight or of its input."""
    wanted = [not of_weight, of_weight, False]
    found = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [stride, stride], padding, [1, 1], False, [0, 0], len(weight), wanted
    )
    chosen: Tensor = found[of_weight]
    return chosen
