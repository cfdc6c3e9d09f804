"""A block in int8: its float32 graph rewritten as steps of which each gives one 8-bit tensor.

The rewriting is where speed is won or lost. An activation that only cuts off (ReLU, ReLU6) costs nothing: the
range that its values are rounded to ends where they do. A hard sigmoid is a cut-off of x + 3 to [0, 6] whose
levels are read a sixth as large, so after a convolution it costs nothing either, and h-swish is an addition
and a product of 8-bit tensors. Rounding those in float32, as tools do that keep a graph's own operators,
makes squeeze-excite and h-swish slower than they are without int8 (figures: docs/compression.md).

Sources: Jacob et al. (CVPR 2018) for the arithmetic; Howard et al., "Searching for MobileNetV3" (2019), for
the hard forms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from onnx import helper, numpy_helper

from supernets.delivery.ranges import Range
from supernets.errors import InvalidPrecision

Floats = npt.NDArray[np.float32]
INPUT: Final = "input"
OUTPUT: Final = "output"
_AXIS_OF_CHANNELS: Final = {"Conv": 0, "Gemm": 0}
_CUTS: Final = ("Relu", "Clip")
_WITH_WEIGHTS: Final = ("Conv", "Gemm")
_PLAIN: Final = ("Add", "Mul", "AveragePool", "MaxPool", "GlobalAveragePool", "Flatten")


@dataclass(frozen=True, eq=False)
class Step:
    """One operation and the rounding of what it gives.

    kind: as ONNX names it, `Identity` where only the rounding is left. inputs: names of 8-bit values. weight:
    (out, ...); bias: (out,). constant: the other summand of an `Add` with one input. low, high: what is cut
    off before rounding. fixed: its range, where that is no matter of calibration; gain: what its levels are
    multiplied by when they are read. keeps: the levels are those of its input.
    """

    kind: str
    inputs: tuple[str, ...]
    output: str
    weight: Floats | None = None
    bias: Floats | None = None
    constant: float | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    low: float = -math.inf
    high: float = math.inf
    fixed: Range | None = None
    gain: float = 1.0
    keeps: bool = False

    @property
    def cuts(self) -> bool:
        """Whether it relies on its rounding to cut values off."""
        return self.fixed is not None or self.low > -math.inf or self.high < math.inf


@dataclass(frozen=True, eq=False)
class _Node:
    kind: str
    inputs: tuple[str | Floats, ...]
    output: str
    attributes: Mapping[str, Any]


def int8_steps(model: Any) -> tuple[Step, ...]:
    """The steps of a block's float32 graph (onnx.ModelProto, one input, one output, opset 18 or newer).

    Raises InvalidPrecision, which names the operator, for a graph with one that has no int8 form here.
    """
    nodes = _nodes(model)
    uses: dict[str, list[_Node]] = {}
    for node in nodes:
        for name in node.inputs:
            if isinstance(name, str):
                uses.setdefault(name, []).append(node)
    done: set[str] = set()
    found: list[Step] = []
    for node in nodes:
        if node.output not in done:
            made = _rewritten(node)
            last, absorbed = _with_cuts(made[-1], uses)
            done.update(absorbed)
            found += [*made[:-1], last]
    return tuple(found)


def _nodes(model: Any) -> list[_Node]:
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return [
        _Node(
            node.op_type,
            tuple(weights.get(name, name) for name in node.input),
            node.output[0],
            {one.name: helper.get_attribute_value(one) for one in node.attribute},
        )
        for node in model.graph.node
    ]


def _with_cuts(step: Step, uses: Mapping[str, Sequence[_Node]]) -> tuple[Step, set[str]]:
    """The step with the activations after it that its rounding can do, and the names of their outputs."""
    absorbed: set[str] = set()
    while len(uses.get(step.output, ())) == 1 and not step.keeps and step.fixed is None:
        (node,) = uses[step.output]
        if node.kind in _CUTS:
            low, high = _bounds(node)
            step = replace(step, low=max(step.low, low), high=min(step.high, high), output=node.output)
        elif node.kind == "HardSigmoid" and step.kind in _WITH_WEIGHTS and not step.cuts:
            slope, shift = _gate(node)
            bias = np.zeros(len(step.weight), np.float32) if step.bias is None else step.bias  # type: ignore[arg-type]
            moved = (bias + np.float32(shift / slope)).astype(np.float32)
            step = replace(step, bias=moved, fixed=Range(0.0, 1 / slope), gain=slope, output=node.output)
        else:
            break
        absorbed.add(node.output)
    return step, absorbed


def _rewritten(node: _Node) -> list[Step]:
    """The node as steps, the last of which gives its output."""
    given = tuple(name for name in node.inputs if isinstance(name, str))
    if node.kind in _WITH_WEIGHTS:
        return [_weighted(node, given)]
    if node.kind in _CUTS:
        low, high = _bounds(node)
        return [Step("Identity", given[:1], node.output, low=low, high=high)]
    if node.kind == "HardSwish":
        gate = f"{node.output}.gate"
        return [_gating(given[0], gate, 1 / 6, 0.5), Step("Mul", (given[0], gate), node.output)]
    if node.kind == "HardSigmoid":
        return [_gating(given[0], node.output, *_gate(node))]
    if node.kind == "ReduceMean":
        return _mean(node, given[0])
    if node.kind in _PLAIN and len(given) == len(node.inputs):
        keeps = node.kind in ("MaxPool", "Flatten")
        return [Step(node.kind, given, node.output, attributes=node.attributes, keeps=keeps)]
    raise InvalidPrecision(
        f"{node.kind[:64]} has no int8 form here; leave the block that holds it in float32"
    )


def _weighted(node: _Node, given: tuple[str, ...]) -> Step:
    weight, bias = (*node.inputs[1:], None)[:2]
    if len(given) != 1 or isinstance(weight, str) or isinstance(bias, str) or weight is None:
        raise InvalidPrecision(f"a {node.kind} whose weights are computed has no int8 form here")
    if node.kind == "Gemm":
        told = node.attributes
        usual = told.get("alpha", 1.0) == told.get("beta", 1.0) == 1.0 and not told.get("transA", 0)
        if not usual:
            raise InvalidPrecision("a scaled or transposed Gemm has no int8 form here")
        weight = weight if told.get("transB", 0) else np.ascontiguousarray(weight.T)
        return Step("Gemm", given, node.output, weight, bias)
    return Step("Conv", given, node.output, weight, bias, attributes=node.attributes)


def _gating(given: str, output: str, slope: float, shift: float) -> Step:
    """clip(slope * x + shift, 0, 1) as a sum that is cut off to [0, 1 / slope]."""
    return Step("Add", (given,), output, constant=shift / slope, fixed=Range(0.0, 1 / slope), gain=slope)


def _mean(node: _Node, given: str) -> list[Step]:
    axes = node.inputs[1] if len(node.inputs) > 1 else node.attributes.get("axes", ())
    if isinstance(axes, str) or sorted(int(axis) for axis in axes) != [2, 3]:
        raise InvalidPrecision("a mean over anything but the pixels has no int8 form here")
    if node.attributes.get("keepdims", 1):
        return [Step("GlobalAveragePool", (given,), node.output)]
    pooled = f"{node.output}.pooled"
    return [
        Step("GlobalAveragePool", (given,), pooled),
        Step("Flatten", (pooled,), node.output, attributes={"axis": 1}, keeps=True),
    ]


def _bounds(node: _Node) -> tuple[float, float]:
    """What a cutting activation keeps."""
    if node.kind == "Relu":
        return 0.0, math.inf
    ends = [float(end) if not isinstance(end, str) else None for end in node.inputs[1:]]
    low, high = (*ends, None, None)[:2]
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    if not low <= 0 <= high:
        raise InvalidPrecision("an activation that cuts zero off has no int8 form here")
    return low, high


def _gate(node: _Node) -> tuple[float, float]:
    """(slope, shift) of a hard sigmoid."""
    return float(node.attributes.get("alpha", 0.2)), float(node.attributes.get("beta", 0.5))
