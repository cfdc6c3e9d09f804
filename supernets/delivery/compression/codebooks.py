"""Pass `shared-weights`: the weights of a layer take few values, and the file holds a codebook and a byte for
each weight.

Han et al., "Deep Compression" (ICLR 2016): k-means over the weights of a layer, from levels at equal
distances, which they found best. A weight counts by the curvature of the loss, as in Choi et al., "Towards
the Limit of Network Quantization" (ICLR 2017), taken from squared gradients of small batches. The former's
pruning, fine-tuning of the codebook and Huffman code are left out; how small a file becomes under a
general-purpose code is told instead (`deflated_bytes`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from latency_tables.dense import Array

_FEWEST_A_LEVEL: Final = 8  # weights of a layer; a smaller one's codebook would be no saving
_ROUNDS: Final = 30
_LEAST_WEIGHT: Final = 0.1
"""Of the mean: squared gradients of few samples say of too many weights that they do not count."""
MOST_LEVELS: Final = 256

Model = Any  # onnx.ModelProto; the package has no types


def shared_weights(
    network: nn.Module, bits: int, losses: Iterable[Callable[[nn.Module], Tensor]], *, control: bool = False
) -> tuple[nn.Module, dict[str, Any]]:
    """(a copy whose layers have at most 2^bits different weights each, how many weights that are).

    network: folded, in evaluation mode, on the CPU. losses: of it on small batches. control: levels at equal
    distances, without k-means. Biases and small layers stay as they are.
    """
    shared, count, levels = copy.deepcopy(network), 0, 2**bits
    found = weights_of(shared, levels)
    curvatures = [np.ones(1)] * len(found) if control else curvatures_of(shared, found, losses)
    with torch.no_grad():
        for parameter, curvature in zip(found, curvatures, strict=True):
            values = parameter.double().flatten().numpy()
            book = equal_levels(values, levels) if control else k_means(values, levels, curvature)
            parameter.copy_(torch.from_numpy(nearest(values, book)).reshape(parameter.shape))
            count += parameter.numel()
    layers = len(found)
    everything = sum(one.numel() for one in network.parameters())
    return shared, {
        "bits": bits,
        "layers_shared": layers,
        "weights": count,
        "weights_left": everything - count,
        "codebook_bytes": 4 * levels * layers,
    }


def weights_of(network: nn.Module, levels: int) -> list[nn.Parameter]:
    """Weights of convolutions and linear layers that are many for so many levels."""
    return [
        module.get_parameter("weight")
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and module.weight.numel() >= _FEWEST_A_LEVEL * levels
    ]


def curvatures_of(
    network: nn.Module, parameters: Sequence[nn.Parameter], losses: Iterable[Callable[[nn.Module], Tensor]]
) -> list[Array]:
    """Mean squared gradient of each weight, flat; none is without weight."""
    sums = [torch.zeros_like(one, dtype=torch.float64) for one in parameters]
    for loss in losses:
        for total, gradient in zip(sums, torch.autograd.grad(loss(network), list(parameters)), strict=True):
            total.add_(gradient.double().square())
    return [(total + _LEAST_WEIGHT * total.mean() + 1e-30).flatten().numpy() for total in sums]


def k_means(values: Array, levels: int, weights: Array) -> Array:
    """Centres (levels,) in ascending order: Lloyd's algorithm from equal distances."""
    order = np.argsort(values)
    ordered, counted = values[order], weights[order]
    sums = np.concatenate([[0.0], np.cumsum(counted * ordered)])
    masses = np.concatenate([[0.0], np.cumsum(counted)])
    centres = equal_levels(values, levels)
    for _ in range(_ROUNDS):
        edges = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        bounds = np.concatenate([[0], edges, [len(ordered)]])
        mass = masses[bounds[1:]] - masses[bounds[:-1]]
        means = (sums[bounds[1:]] - sums[bounds[:-1]]) / np.maximum(mass, 1e-300)
        moved = np.where(np.diff(bounds) > 0, means, centres)
        if np.array_equal(moved, centres):
            break
        centres = np.sort(moved)
    return centres


def equal_levels(values: Array, levels: int) -> Array:
    """So many values at equal distances from the least to the greatest."""
    return np.linspace(values.min(), values.max(), levels)


def nearest(values: Array, book: Array) -> Array:
    """The value of the book, which ascends, that lies nearest to each."""
    return book[np.searchsorted((book[1:] + book[:-1]) / 2, values)]


def with_codebooks(model: Model) -> Model:
    """A copy in which weights with few values are a codebook and bytes that point into it.

    Nothing that is computed changes: a runtime joins both again as it opens the file, as it does with
    everything that depends on no input.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    nodes, kept = [], []
    for tensor in made.graph.initializer:
        values = numpy_helper.to_array(tensor)
        book = np.unique(values) if tensor.data_type == TensorProto.FLOAT else values.reshape(-1)
        if tensor.data_type != TensorProto.FLOAT or len(book) > MOST_LEVELS or 5 * len(book) > values.size:
            kept.append(tensor)
            continue
        name = tensor.name
        indices = np.searchsorted(book, values.reshape(-1)).astype(np.uint8).reshape(values.shape)
        kept += [
            numpy_helper.from_array(indices, f"{name}.index"),
            numpy_helper.from_array(book, f"{name}.book"),
        ]
        nodes += [
            helper.make_node(
                "Cast", [f"{name}.index"], [f"{name}.place"], f"{name}.place", to=TensorProto.INT32
            ),
            helper.make_node("Gather", [f"{name}.book", f"{name}.place"], [name], f"{name}.weight", axis=0),
        ]
    own = list(made.graph.node)
    del made.graph.node[:], made.graph.initializer[:]
    made.graph.node.extend([*nodes, *own])
    made.graph.initializer.extend(kept)
    return made
