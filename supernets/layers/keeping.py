"""Units whose weights are frozen keep one bit of each output for the backward pass instead of their input.

Autograd keeps the input of a convolution and of a batch-norm even where their weights are frozen, so freezing
alone saves little. What is needed is only where the activation was not flat: one bit for ReLU and ReLU6, none
where there is no activation. Gradients are those of the plain unit. Source of the idea: TinyTL (Cai et al.,
NeurIPS 2020), section 3.1; its published code counts this memory and does not save it. Differs: h-swish has a
derivative of many values, so a unit with one keeps the input of the activation (recomputing the block keeps
less), and squeeze-excite keeps its own.
"""

from __future__ import annotations

from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

ONE_BIT: Final = {nn.ReLU: None, nn.ReLU6: 6.0, nn.Identity: None}
"""Activations that need at most one bit, with the value they do not exceed."""


def packed(mask: Tensor) -> Tensor:
    """Booleans of any shape as bits, uint8 (ceil(n / 8),)."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.packbits(mask.contiguous().numpy().reshape(-1)))
    flat = F.pad(mask.contiguous().view(-1).to(torch.uint8), (0, -mask.numel() % 8)).view(-1, 8)
    return (flat << torch.arange(7, -1, -1, device=mask.device, dtype=torch.uint8)).sum(1, dtype=torch.uint8)


def unpacked(bits: Tensor, shape: torch.Size) -> Tensor:
    """What `packed` was given."""
    if bits.device.type == "cpu":
        return torch.from_numpy(np.unpackbits(bits.numpy(), count=shape.numel()).view(bool)).view(shape)
    places = torch.arange(7, -1, -1, device=bits.device, dtype=torch.uint8)
    return ((bits[:, None] >> places) & 1).view(-1)[: shape.numel()].view(shape).bool()


class _FrozenUnit(torch.autograd.Function):
    """Convolution with frozen weight, a bias that may be trained, then ReLU, ReLU6 or nothing."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, groups: int, kind: type[nn.Module]
    ) -> Tensor:
        y = F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2, 1, groups)
        most = ONE_BIT[kind]
        bits = None
        if kind is not nn.Identity:
            passing = y > 0
            if most is not None:
                passing &= y < most
            # Laid out as the output lies in memory, so that nothing is copied to be packed.
            ctx.channels_last = y.is_contiguous(memory_format=torch.channels_last)
            bits = packed(passing.permute(0, 2, 3, 1) if ctx.channels_last else passing)
            y = y.clamp_(0, most)
        ctx.input_shape, ctx.stride, ctx.groups, ctx.output_shape = x.shape, stride, groups, y.shape
        ctx.save_for_backward(weight, bits)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, bits = ctx.saved_tensors
        if bits is not None:
            n, c, h, w = ctx.output_shape
            mask = (
                unpacked(bits, torch.Size((n, h, w, c))).permute(0, 3, 1, 2)
                if ctx.channels_last
                else unpacked(bits, ctx.output_shape)
            )
            gradient = gradient * mask
        wanted, _, of_bias = ctx.needs_input_grad[:3]
        to_x = None
        if wanted:
            # Only the shape of the input is looked at where no gradient of the weight is asked for.
            shape = torch.empty((), dtype=gradient.dtype, device=gradient.device).expand(ctx.input_shape)
            padding = weight.shape[-1] // 2
            to_x = torch.ops.aten.convolution_backward(
                gradient,
                shape,
                weight,
                None,
                [ctx.stride] * 2,
                [padding] * 2,
                [1, 1],
                False,
                [0, 0],
                ctx.groups,
                [True, False, False],
            )[0]
        return to_x, None, gradient.sum((0, 2, 3)) if of_bias else None, None, None, None


def keeps_bits(weight: Tensor, norm: nn.Module) -> bool:
    """Whether a unit is to be computed by `frozen_unit`: it has statistics and they stand, and gradients are
    asked for, but none of its weights."""
    scale = getattr(norm, "weight", None)
    return (
        torch.is_grad_enabled()
        and not weight.requires_grad
        and not norm.training
        and isinstance(getattr(norm, "running_mean", None), Tensor)
        and isinstance(scale, Tensor)
        and not scale.requires_grad
    )


def frozen_unit(
    x: Tensor, weight: Tensor, norm: nn.Module, activation: nn.Module, *, stride: int, groups: int
) -> Tensor:
    """What convolution, batch-norm (by its running statistics, over its first channels) and activation make
    of x; gradients for x and for the batch-norm's bias."""
    channels = weight.shape[0]
    mean, variance, scale, shift = (
        cast(Tensor, getattr(norm, name))[:channels]
        for name in ("running_mean", "running_var", "weight", "bias")
    )
    factor = scale / torch.sqrt(variance + cast(float, norm.eps))
    bias = shift - mean * factor
    folded = weight * factor[:, None, None, None]
    kind = type(activation)
    known = kind if kind in ONE_BIT else nn.Identity
    y: Tensor = _FrozenUnit.apply(x, folded, bias, stride, groups, known)  # type: ignore[no-untyped-call]
    return y if known is kind else cast(Tensor, activation(y))
