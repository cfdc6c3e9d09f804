"""Parts of transformers as ONNX nodes: what the graphs of single operators and those of whole networks share,
so that what is timed is what is delivered.

A decoding step has one token in each row, so its values are matrices (rows, width); the encoder's, and the
decoder's over a whole prefix, are (batch, length, width). Queries are scaled within their weights.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from torch import Tensor

from supernets.layers.attention import Attention
from supernets.layers.block import Graph
from supernets.layers.feed_forward import FeedForward
from supernets.layers.slicing import SlicedLayerNorm, SlicedLinear

Array = np.ndarray[Any, Any]


def array(tensor: Tensor) -> Array:
    """The values of a weight."""
    found: Array = tensor.detach().float().cpu().numpy()
    return found


def whole(*numbers: int) -> Array:
    """Shapes, axes and the like."""
    return np.array(numbers, dtype=np.int64)


def rows(g: Graph, x: str, weight: Array, bias: Array | None = None) -> str:
    """A linear layer over (rows, in). weight: (out, in)."""
    return g.add("Gemm", [x, weight, *([] if bias is None else [bias])], transB=1)


def linear(g: Graph, x: str, weight: Array, bias: Array | None = None) -> str:
    """A linear layer over (batch, length, in). weight: (out, in)."""
    y = g.add("MatMul", [x, np.ascontiguousarray(weight.T)])
    return y if bias is None else g.add("Add", [y, bias])


def _of(layer: SlicedLinear) -> tuple[Array, Array]:
    return array(layer.weight), array(layer.bias)


def normalised(g: Graph, norm: SlicedLayerNorm, x: str, y: str) -> str:
    """The layer-norm of a residual sum."""
    total = g.add("Add", [x, y])
    weight, bias = array(norm.weight), array(norm.bias)
    return g.add("LayerNormalization", [total, weight, bias], axis=-1, epsilon=1e-5)


def fed_forward(g: Graph, part: FeedForward, norm: SlicedLayerNorm, x: str, *, step: bool) -> str:
    """The feed-forward part with its residual sum and layer-norm."""
    apply = rows if step else linear
    inside = g.add("Relu", [apply(g, x, *_of(part.first))])
    return normalised(g, norm, x, apply(g, inside, *_of(part.second)))


class Asking(Protocol):
    """What asks and what makes the output of an attention."""

    query: SlicedLinear
    output: SlicedLinear


def queries(g: Graph, part: Asking, heads: int, x: str, *, step: bool) -> str:
    """(rows, heads, 1, d) of a step, (batch, heads, length, d) else, scaled."""
    weight, bias = _of(part.query)
    scale = np.float32((weight.shape[0] // heads) ** -0.5)
    if step:
        return _one_token(g, rows(g, x, weight * scale, bias * scale), heads, weight.shape[0])
    return _by_head(g, linear(g, x, weight * scale, bias * scale), heads, weight.shape[0])


def keys_values(g: Graph, part: Attention, heads: int, x: str, *, step: bool) -> tuple[str, str]:
    """Keys and values, each (rows, heads, 1, d) of a step, (batch, heads, length, d) else."""
    weight, bias = _of(part.key_value)
    half = weight.shape[0] // 2
    found = []
    for place in (slice(half), slice(half, None)):
        if step:
            found.append(_one_token(g, rows(g, x, weight[place], bias[place]), heads, half))
        else:
            found.append(_by_head(g, linear(g, x, weight[place], bias[place]), heads, half))
    return found[0], found[1]


def attended(
    g: Graph, part: Asking, asked: str, keys: str, values: str, mask: str | None, *, step: bool
) -> str:
    """What is read, through the output layer. asked, keys, values: (batch, heads, length, d). mask: added to
    the scores."""
    scores = g.add("MatMul", [asked, g.add("Transpose", [keys], perm=[0, 1, 3, 2])])
    if mask is not None:
        scores = g.add("Add", [scores, mask])
    mixed = g.add("MatMul", [g.add("Softmax", [scores], axis=-1), values])
    weight, bias = _of(part.output)
    if step:
        return rows(g, g.add("Reshape", [mixed, whole(-1, weight.shape[1])]), weight, bias)
    turned = g.add("Transpose", [mixed], perm=[0, 2, 1, 3])
    return linear(g, g.add("Reshape", [turned, whole(0, 0, weight.shape[1])]), weight, bias)


def _one_token(g: Graph, x: str, heads: int, width: int) -> str:
    return g.add("Reshape", [x, whole(-1, heads, 1, width // heads)])


def _by_head(g: Graph, x: str, heads: int, width: int) -> str:
    return g.add("Transpose", [g.add("Reshape", [x, whole(0, 0, heads, width // heads)])], perm=[0, 2, 1, 3])
