"""How every operator family is computed: the built-in layers and those of installed distributions.

See `docs/add_an_operator_family.md`. Separate from `latency_tables.operators.catalog`, because that one is
read where torch is not installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, Final

import torch
from torch import nn

from latency_tables.errors import InvalidOperator
from latency_tables.operators import Operator
from latency_tables.operators.catalog import family_named
from supernets.layers.block import ElasticBlock, Layer, LayerSettings, SeparatePaths, initialise
from supernets.layers.bottleneck import BOTTLENECK
from supernets.layers.conv import CONV
from supernets.layers.cross_memory import CROSS_MEMORY
from supernets.layers.dequantize import DEQUANTIZE
from supernets.layers.encoder_attend import ENCODER_ATTEND
from supernets.layers.ffn import FFN
from supernets.layers.head import HEAD
from supernets.layers.maxpool import MAXPOOL
from supernets.layers.mbconv import MBCONV
from supernets.layers.quantize import QUANTIZE
from supernets.layers.source_embed import SOURCE_EMBED
from supernets.layers.step_attend import STEP_ATTEND
from supernets.layers.step_cross import STEP_CROSS
from supernets.layers.step_embed import STEP_EMBED
from supernets.layers.step_output import STEP_OUTPUT

ENTRY_POINT_GROUP: Final = "bespoke.layers"

LAYERS: dict[str, Layer] = {
    layer.family: layer
    for layer in (
        *(CONV, MBCONV, BOTTLENECK, MAXPOOL, HEAD, QUANTIZE, DEQUANTIZE),
        *(SOURCE_EMBED, ENCODER_ATTEND, FFN, CROSS_MEMORY),
        *(STEP_EMBED, STEP_ATTEND, STEP_CROSS, STEP_OUTPUT),
    )
}


def register_layer(layer: Any) -> Layer:
    """Add a family's layers to the catalog of this process. Raises ValueError when the family has others
    already, TypeError for what is no Layer, InvalidOperator for a family that is not in the catalog of
    operators.
    """
    if not isinstance(layer, Layer):
        raise TypeError(f"{layer!r} is not a Layer; see docs/add_an_operator_family.md")
    family_named(layer.family)
    if LAYERS.setdefault(layer.family, layer) != layer:
        raise ValueError(
            f"the operator family {layer.family!r} has layers already; give the new family another name"
        )
    return layer


def register_installed_layers() -> None:
    """Add the layers that installed distributions offer as entry points `bespoke.layers`."""
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        register_layer(entry.load())


def layer_of(op: Operator) -> Layer:
    """How operators of that family are computed. Raises InvalidOperator."""
    try:
        return LAYERS[op.family]
    except KeyError:
        raise InvalidOperator(
            f"the operator family {op.family!r} has no layers here: its distribution must offer them as an "
            f"entry point of the group {ENTRY_POINT_GROUP!r}"
        ) from None


def build_operator(
    op: Operator, *, eps: float = 1e-5, dropout: float = 0.0, generator: torch.Generator | None = None
) -> nn.Module:
    """The operator as a module, a batch of its input in, random weights.

    eps: of the batch-norms. dropout: before a last linear layer.
    """
    module = layer_of(op).plain(op, LayerSettings(eps, dropout))
    initialise(module, generator)
    return module


@lru_cache(maxsize=1024)
def weightless(op: Operator) -> nn.Module:
    """An operator without weights, in evaluation mode; one module for all networks."""
    return build_operator(op).eval()


def build_block(
    operators: Sequence[Operator], *, shared: bool, settings: LayerSettings
) -> ElasticBlock[Any] | None:
    """The block that can be each of these operators (at one resolution), of one family; None where it has no
    weights.

    shared: one set of weights for all of them, or one each.
    """
    elastic = layer_of(operators[0]).elastic
    if elastic is None:
        return None
    if not shared and len(operators) > 1:
        return SeparatePaths({op.path: build_operator(op, eps=settings.eps) for op in operators})
    return elastic(operators, settings)


register_installed_layers()
