"""Files in int8 that are measured: operators between two others in int8, boundaries, and whole networks with
random weights.

They are rounded by the code that rounds a delivered network, on random samples: how long a file takes depends
on its graph and not on its ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import torch

from latency_tables.operators import Operator
from supernets.cut_out import PlainNetwork, fold_batch_norm
from supernets.delivery.export import finished_form, int8_graph, settled_operator
from supernets.delivery.format import OPSET, Delivery
from supernets.delivery.int8_graphs import boundary_graph, operator_graph
from supernets.delivery.onnx_format import check_int8
from supernets.delivery.parity import random_input
from supernets.delivery.precision import (
    FLOAT32,
    INT8,
    PrecisionPlan,
    Rounding,
    plan_of,
)
from supernets.delivery.quantising import Samples, quantise
from supernets.delivery.ranges import Range
from supernets.delivery.simulated import Levels, QuantisedNetwork
from supernets.errors import InvalidPrecision

QUANTIZE, DEQUANTIZE = "quantize", "dequantize"
_SAMPLES: Final = 4
_RANDOM: Final = Rounding(method="minmax")
_BOUNDARY: Final = Levels(Range(-4.0, 4.0))  # of normal values


def is_rounded(op: Operator) -> bool:
    """Whether the file of an operator is one of these."""
    return op.precision == INT8 or op.family in (QUANTIZE, DEQUANTIZE)


def rounded_operators(
    operators: Iterable[Operator], delivery: Delivery, *, seed: int = 0
) -> dict[Operator, bytes]:
    """The file of every operator in int8 and of every boundary."""
    files: dict[Operator, bytes] = {}
    for op in operators:
        if op.precision == INT8:
            plain = op.at(FLOAT32)
            files[op] = int8_operators([plain], delivery, seed=seed)[plain]
        else:
            files[op] = boundary_file(op.family, op.output_shape, delivery)
    return files


def int8_operators(
    operators: Iterable[Operator],
    delivery: Delivery,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> dict[Operator, bytes]:
    """One file per operator with settled random weights in int8, 8-bit in and (but for one that closes a
    network) out.

    Between two blocks in int8 nothing is converted, so nothing is here. Raises InvalidPrecision for an
    operator that has no int8 form.
    """
    check_int8(delivery)
    wanted, files = list(dict.fromkeys(operators)), {}
    for number, op in enumerate(wanted, 1):
        network = _rounded_operator(op, seed)
        block = network.block(0)
        if block is None:
            raise InvalidPrecision(f"{op.text} has no int8 form")
        files[op] = finished_form(operator_graph(block, op, OPSET), delivery)
        progress(number, len(wanted))
    return files


def boundary_file(kind: str, shape: tuple[int, ...], delivery: Delivery) -> bytes:
    """What stands between a block in float32 and one in int8: `quantize`, the other way round `dequantize`.

    shape: of one sample, without the batch. Raises InvalidPrecision for another kind.
    """
    check_int8(delivery)
    if kind not in (QUANTIZE, DEQUANTIZE):
        raise InvalidPrecision(f"a boundary is {QUANTIZE} or {DEQUANTIZE}")
    return finished_form(boundary_graph(kind, shape, _BOUNDARY, OPSET), delivery)


def chosen_network(operators: Sequence[Operator], delivery: Delivery, *, eps: float, seed: int = 0) -> bytes:
    """A whole network with settled random weights, to calibrate a table with, from the operators that a
    search chose, each with its precision; those that change it (`quantize`, `dequantize`) follow from the
    others and are left out. eps: of batch-norms."""
    check_int8(delivery)
    kept = [op for op in operators if op.family not in (QUANTIZE, DEQUANTIZE)]
    plain = PlainNetwork([op.at(FLOAT32) for op in kept], eps=eps)
    for number, op in enumerate(plain.operators):
        plain.layers[number] = settled_operator(op, seed, eps)
    plain, plan = fold_batch_norm(plain), plan_of(kept)
    return finished_form(int8_graph(quantise(plain, plan, _random(plain), _RANDOM)), delivery)


def _rounded_operator(op: Operator, seed: int) -> QuantisedNetwork:
    plain = PlainNetwork([op])
    plain.layers[0] = settled_operator(op, seed)
    plain = fold_batch_norm(plain)
    return quantise(plain, PrecisionPlan((INT8,)), _random(plain), _RANDOM)


def _random(plain: PlainNetwork) -> Samples:
    if len(plain.inputs) != 1:
        raise InvalidPrecision("a network with several inputs has no int8 form here")
    generator = torch.Generator().manual_seed(0)
    calibration = random_input(plain.inputs[0].of_batch(_SAMPLES), generator)
    return Samples(calibration, calibration)
