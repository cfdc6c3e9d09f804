"""From the ONNX file that torch exports to the one that a context asks for: opset, precision, batch size,
preprocessing.

Every pass keeps what is computed; `supernets.delivery.export.parity` holds the result against torch. Sources:
ONNX's operator changelog. Of the operators that our networks use, only ReduceMean and HardSwish changed
between opset 11 and 20.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from supernets.data.preprocessing import Preprocessing
from supernets.data.steps import Interpolate, Normalise, interpolation
from supernets.delivery.format import EMBEDDED, Delivery
from supernets.delivery.onnx_format import OLDEST_OPSET
from supernets.errors import ExportFailed

Model = Any  # onnx.ModelProto; the package has no types
_FREE_BATCH: Final = "batch"
_UNCHANGED: Final = frozenset(
    [
        "Add",
        "AveragePool",
        "Cast",
        "Clip",
        "Conv",
        "DequantizeLinear",
        "Div",
        "Flatten",
        "Gather",
        "Gemm",
        "GlobalAveragePool",
        "HardSigmoid",
        "MatMul",
        "MaxPool",
        "Mul",
        "QuantizeLinear",
        "Relu",
        "Reshape",
        "Sub",
        "Transpose",
    ]
)
"""Operators whose meaning and form, as our networks use them, are the same in every opset from 11 to 20
(those of int8 from 13 on: `supernets.delivery.onnx_format.check_int8`)."""


def in_form(model: Model, delivery: Delivery, preprocessing: Preprocessing | None = None) -> Model:
    """A copy in the form of that delivery. preprocessing: what an embedding one puts in front. Raises
    ExportFailed."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for one in () if delivery == Delivery() else _PASSES:
        one(made, delivery, preprocessing)
    return made


def _at_opset(model: Model, delivery: Delivery, preprocessing: Preprocessing | None) -> None:
    opset = delivery.opset
    model.ir_version = min(delivery.ir_version, model.ir_version)
    (own,) = model.opset_import
    if opset >= own.version:
        return
    axes = {tensor.name: tensor for tensor in model.graph.initializer}
    rewritten = [made for node in model.graph.node for made in _rewritten(node, opset, axes)]
    del model.graph.node[:]
    model.graph.node.extend(rewritten)
    used = {name for node in rewritten for name in node.input}
    # Axes that became attributes are weights of no node any more.
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    own.version = opset


def _rewritten(node: Any, opset: int, constants: dict[str, Any]) -> Iterable[Any]:
    """The node in the words of an older opset. Raises ExportFailed for an operator that may not have existed
    in it."""
    rule = _RULES.get(node.op_type)
    if opset < OLDEST_OPSET or (rule is None and node.op_type not in _UNCHANGED):
        raise ExportFailed(
            f"{node.op_type} is not known to mean the same in opset {opset}; use a device with a newer "
            "runtime"
        )
    return [node] if rule is None or opset >= rule[0] else rule[1](node, constants)


def _reduce_mean(node: Any, constants: dict[str, Any]) -> list[Any]:
    """Before 18 the axes were an attribute."""
    keepdims = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
    axes = numpy_helper.to_array(constants[node.input[1]]).tolist()
    return [
        helper.make_node("ReduceMean", [node.input[0]], node.output, node.name, axes=axes, keepdims=keepdims)
    ]


def _hard_swish(node: Any, constants: dict[str, Any]) -> list[Any]:
    """Before 14 there was none: x * max(0, min(1, x / 6 + 0.5))."""
    gate = f"{node.output[0]}.gate"
    return [
        helper.make_node("HardSigmoid", [node.input[0]], [gate], f"{node.name}.gate", alpha=1 / 6, beta=0.5),
        helper.make_node("Mul", [node.input[0], gate], node.output, node.name),
    ]


_RULES: Final[dict[str, tuple[int, Callable[[Any, dict[str, Any]], list[Any]]]]] = {
    "ReduceMean": (18, _reduce_mean),
    "HardSwish": (14, _hard_swish),
}
"""Operator -> (the opset from which it has today's form, how it was written before)."""


def _in_float16(model: Model, delivery: Delivery, preprocessing: Preprocessing | None) -> None:
    """Weights, inputs and outputs in float16. Raises ExportFailed for a weight that float16 cannot hold."""
    if delivery.precision != "float16":
        return
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            with np.errstate(over="ignore"):
                # NumPy makes infinity of what is too large; the check below says it in words.
                half = numpy_helper.to_array(tensor).astype(np.float16)
            if not np.isfinite(half).all():
                raise ExportFailed(
                    "a weight lies beyond what float16 can hold; use a device that computes in float32"
                )
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16


def _embedded(model: Model, delivery: Delivery, preprocessing: Preprocessing | None) -> None:
    """Kept pictures in, as bytes: the arithmetic steps of the preprocessing become the first nodes."""
    if delivery.preprocessing != EMBEDDED:
        return
    if preprocessing is None:
        raise ExportFailed("a preprocessing inside the graph was asked for and this task has none")
    given = model.graph.input[0]
    name, shape = given.name, given.type.tensor_type.shape
    nodes = [helper.make_node("Cast", [name], ["pixels"], "pixels", to=TensorProto.FLOAT)]
    weights: list[Any] = []
    last, (height, width) = "pixels", preprocessing.kept_size
    channels = (preprocessing.channels, 1, 1)

    def step(operator: str, output: str, constant: Any, first: bool = False) -> None:
        nonlocal last
        weights.append(
            numpy_helper.from_array(np.ascontiguousarray(constant, dtype=np.float32), f"{output}.constant")
        )
        inputs = [weights[-1].name, last] if first else [last, weights[-1].name]
        nodes.append(helper.make_node(operator, inputs, [output], output))
        last = output

    for number, one in enumerate(preprocessing.steps):
        if isinstance(one, Normalise):
            step("Sub", f"centred_{number}", np.reshape(one.mean, channels))
            step("Div", f"normalised_{number}", np.reshape(one.deviation, channels))
        elif isinstance(one, Interpolate) and (height, width) != (one.height, one.width):
            # Two products with the interpolation's own matrices: Resize rounds its sizes differently from
            # opset to opset.
            step("MatMul", f"rows_{number}", interpolation(height, one.height), first=True)
            step("MatMul", f"columns_{number}", interpolation(width, one.width).T)
            height, width = one.height, one.width
    if delivery.precision == "float16":
        nodes.append(helper.make_node("Cast", [last], ["half"], "half", to=TensorProto.FLOAT16))
        last = "half"
    for node in model.graph.node:
        node.input[:] = [last if used == name else used for used in node.input]
    own = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *own])
    model.graph.initializer.extend(weights)
    given.type.tensor_type.elem_type = TensorProto.UINT8
    shape.dim[2].dim_value, shape.dim[3].dim_value = preprocessing.kept_size


def _with_batch(model: Model, delivery: Delivery, preprocessing: Preprocessing | None) -> None:
    """No operator of our networks knows the batch size: it is a number at both ends of the graph."""
    for value in (*model.graph.input, *model.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if delivery.batch_size is None:
            first.dim_param = _FREE_BATCH
        else:
            first.dim_value = delivery.batch_size


_PASSES: Final[tuple[Callable[[Model, Delivery, Preprocessing | None], None], ...]] = (
    _at_opset,
    _in_float16,
    _embedded,
    _with_batch,
)
"""In that order: the embedded arithmetic stays in float32, and everything that is in the graph gets the
batch."""
