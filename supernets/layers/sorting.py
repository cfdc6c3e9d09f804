"""Channel sorting: the most important channels come first, so that narrow sub-networks keep them.

Source: Once-for-All (Cai et al., ICLR 2020), `re_organize_middle_weights`: the importance of a mid channel is
the L1 norm of the weights that read it in the projection. Where narrower networks were trained already,
channels are sorted inside the bands between the supported widths, so that those networks keep theirs. The
largest network computes the same. Each family sorts its own block (`ElasticBlock.sort_channels`) with these
parts; `supernets.training.sorting` says when.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latency_tables.operators import squeeze_excite_channels
from supernets.layers.block import State
from supernets.layers.units import ConvUnit, ElasticConvUnit, ElasticSqueezeExcite, SqueezeExcite


def importance(weight: Tensor) -> Tensor:
    """L1 norm of what reads each input channel of a convolution; shape (in,)."""
    return weight.abs().sum(dim=(0, 2, 3))


def banded_order(scores: Tensor, bands: list[int]) -> Tensor:
    """Channel indices by descending score inside each band; bands end at the given sizes and at the last
    channel."""
    order, start = [], 0
    for end in sorted({*bands, len(scores)}):
        # Stable: channels of equal importance keep their places, so that sorting twice changes nothing.
        order.append(start + torch.argsort(scores[start:end], descending=True, stable=True))
        start = end
    return torch.cat(order)


def most_important(scores: Tensor, kept: int) -> Tensor:
    """Indices, ascending, of so many channels of the greatest score."""
    return torch.argsort(scores, descending=True, stable=True)[:kept].sort().values


def outputs_of(unit: nn.Module, prefix: str, kept: Tensor) -> State:
    """State of a plain unit with those of its output channels; nothing of one that has no weights."""
    return {
        prefix + name: value[kept] if value.ndim else value  # not the count of batches
        for name, value in unit.state_dict().items()
    }


def inputs_of(unit: ConvUnit, prefix: str, kept: Tensor) -> State:
    """State of a plain unit that reads those channels only."""
    state = unit.state_dict()
    return {prefix + name: v[:, kept] if name == "conv.weight" else v for name, v in state.items()}


def gated(part: SqueezeExcite, prefix: str, kept: Tensor) -> State:
    """State of a squeeze-excite of those channels, with the hidden units that they read most of."""
    state = part.state_dict()
    units = squeeze_excite_channels(len(kept))
    hidden = most_important(importance(state["expand.weight"][kept]), units)
    return {
        f"{prefix}reduce.weight": state["reduce.weight"][hidden][:, kept],
        f"{prefix}reduce.bias": state["reduce.bias"][hidden],
        f"{prefix}expand.weight": state["expand.weight"][kept][:, hidden],
        f"{prefix}expand.bias": state["expand.bias"][kept],
    }


def sort_squeeze_excite(part: ElasticSqueezeExcite, order: Tensor, mids: list[int]) -> None:
    reduce, expand = part.reduce, part.expand
    reduce.weight.copy_(reduce.weight[:, order])
    expand.weight.copy_(expand.weight[order])
    if expand.bias is not None:
        expand.bias.copy_(expand.bias[order])
    # Its hidden units are cut off with the channels, so they are sorted in bands of their own.
    hidden = banded_order(importance(expand.weight), [squeeze_excite_channels(mid) for mid in mids])
    expand.weight.copy_(expand.weight[:, hidden])
    reduce.weight.copy_(reduce.weight[hidden])
    if reduce.bias is not None:
        reduce.bias.copy_(reduce.bias[hidden])


def permute_inputs(unit: ElasticConvUnit, order: Tensor) -> None:
    unit.conv.weight.copy_(unit.conv.weight[:, order])


def permute_outputs(unit: ElasticConvUnit, order: Tensor) -> None:
    unit.conv.weight.copy_(unit.conv.weight[order])
    for vector in (*unit.norm.parameters(), *unit.norm.buffers()):
        if vector.ndim:  # not the count of batches
            vector.copy_(vector[order])
