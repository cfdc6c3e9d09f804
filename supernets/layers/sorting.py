"""Channel sorting: the most important channels come first, so that narrow sub-networks keep them.

Source: Once-for-All (Cai et al., ICLR 2020), `re_organize_middle_weights`: the importance of a mid channel is
the L1 norm of the weights that read it in the projection. Where narrower networks were trained already,
channels are sorted inside the bands between the supported widths, so that those networks keep theirs. The
largest network computes the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latency_tables.operators import squeeze_excite_channels
from supernets.layers.block import ElasticBottleneck, ElasticMBConv, ElasticSqueezeExcite
from supernets.layers.conv import ElasticConvUnit
from supernets.network import Supernet, block_name
from supernets.spaces.lowering import block_choices
from supernets.training.recipe import Phase
from supernets.training.sampling import allowed_values


@torch.no_grad()
def sort_channels(supernet: Supernet, before: Phase) -> None:
    """Sort the mid channels of every block inside the bands of the widths that `before`, the phase that
    ended, trained."""
    supported = supported_mids(supernet, before)
    for name, block in supernet.blocks.items():
        if isinstance(block, ElasticMBConv):
            _sort_mbconv(block, supported[name])
        elif isinstance(block, ElasticBottleneck):
            inner = banded_order(importance(block.project.conv.weight), supported[name])
            _permute_inputs(block.project, inner)
            _permute_outputs(block.spatial, inner)
            first = banded_order(importance(block.spatial.conv.weight), supported[name])
            _permute_inputs(block.spatial, first)
            _permute_outputs(block.reduce, first)


def supported_mids(supernet: Supernet, phase: Phase) -> dict[str, list[int]]:
    """For every block the numbers of mid channels that the phase could draw, ascending."""
    space = supernet.space
    values = allowed_values(space, phase)
    found: dict[str, list[int]] = {}
    for (stage, block), operators in block_choices(space).items():
        column = space.chain.offsets[stage]
        options = space.stages[stage].choices[block]
        kept = {options[int(c)].expand for c in values[column + 2 + block] if not options[int(c)].zero}
        mids = sorted({op.mid_channels for op in operators})
        expands = sorted({c.expand for c in options if not c.zero})
        # Mid channels ascend with the expand ratio; where widths are elastic too, every width's mids stay
        # supported.
        found[block_name(space, stage, block)] = (
            [mid for mid, expand in zip(mids, expands, strict=True) if expand in kept]
            if len(mids) == len(expands)
            else mids
        )
    return found


def importance(weight: Tensor) -> Tensor:
    """L1 norm of what reads each input channel of a convolution; shape (in,)."""
    return weight.abs().sum(dim=(0, 2, 3))


def banded_order(scores: Tensor, bands: list[int]) -> Tensor:
    """Channel indices by descending score inside each band; bands end at the given sizes and at the last
    channel."""
    order, start = [], 0
    for end in sorted({*bands, len(scores)}):
        order.append(start + torch.argsort(scores[start:end], descending=True, stable=True))
        start = end
    return torch.cat(order)


def _sort_mbconv(block: ElasticMBConv, mids: list[int]) -> None:
    if block.expand is None:
        return
    order = banded_order(importance(block.project.conv.weight), mids)
    _permute_inputs(block.project, order)
    _permute_outputs(block.depthwise, order)
    _permute_outputs(block.expand, order)
    if block.squeeze_excite is not None:
        _sort_squeeze_excite(block.squeeze_excite, order, mids)


def _sort_squeeze_excite(part: ElasticSqueezeExcite, order: Tensor, mids: list[int]) -> None:
    reduce, expand = part.reduce, part.expand
    reduce.weight.copy_(reduce.weight[:, order])
    expand.weight.copy_(expand.weight[order])
    if expand.bias is not None:
        expand.bias.copy_(expand.bias[order])
    hidden = banded_order(importance(expand.weight), [squeeze_excite_channels(mid) for mid in mids])
    expand.weight.copy_(expand.weight[:, hidden])
    reduce.weight.copy_(reduce.weight[hidden])
    if reduce.bias is not None:
        reduce.bias.copy_(reduce.bias[hidden])


def _permute_inputs(unit: ElasticConvUnit, order: Tensor) -> None:
    unit.conv.weight.copy_(unit.conv.weight[:, order])


def _permute_outputs(unit: ElasticConvUnit, order: Tensor) -> None:
    unit.conv.weight.copy_(unit.conv.weight[order])
    norm = unit.norm
    for vector in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        vector.copy_(vector[order])
