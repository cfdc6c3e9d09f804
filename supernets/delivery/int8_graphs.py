"""ONNX graphs of networks and operators in int8: QuantizeLinear and DequantizeLinear around float32 operators
(QDQ), which a runtime replaces by its integer kernels.

Every operator reads its inputs through a DequantizeLinear of its own and every 8-bit value is written by one
QuantizeLinear, so that each group of nodes that a runtime replaces stands alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from latency_tables.operators import Operator
from supernets.delivery.int8_steps import INPUT, OUTPUT, Step
from supernets.delivery.simulated import Int8Block, Levels, QuantisedNetwork, Weights

IR_VERSION: Final = 10
_CHANNELS_LAST, _CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


@dataclass
class Int8Graph:
    """Nodes and constants in the order of the forward pass."""

    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """A node; the name of its output."""
        made = helper.make_node(kind, list(inputs), [output], name=output)
        made.attribute.extend(helper.make_attribute(key, attributes[key]) for key in sorted(attributes))
        self.nodes.append(made)
        return output

    def constant(self, name: str, value: Any) -> str:
        """A constant; its name."""
        self.weights.append(
            numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name)
        )
        return name

    def quantised(self, x: str, levels: Levels, output: str) -> str:
        """The 8-bit form of a float value."""
        scale = self.constant(f"{output}.scale", np.float32(levels.range.scale))
        zero = self.constant(f"{output}.zero", np.uint8(levels.range.zero_point))
        return self.add("QuantizeLinear", [x, scale, zero], output)

    def dequantised(self, x: str, levels: Levels, output: str) -> str:
        """The float form of an 8-bit value."""
        scale = self.constant(f"{output}.scale", np.float32(levels.scale))
        zero = self.constant(f"{output}.zero", np.uint8(levels.range.zero_point))
        return self.add("DequantizeLinear", [x, scale, zero], output)

    def float_nodes(self, model: Any, prefix: str, x: str) -> str:
        """The nodes of a float32 graph, fed with x; the name of what it gives."""
        names = {model.graph.input[0].name: x, "": ""}
        for tensor in model.graph.initializer:
            self.constant(f"{prefix}{tensor.name}", numpy_helper.to_array(tensor))
        for node in model.graph.node:
            made = onnx.NodeProto()
            made.CopyFrom(node)
            made.name = f"{prefix}{node.name}"
            made.input[:] = [names.get(name, f"{prefix}{name}") for name in node.input]
            made.output[:] = [f"{prefix}{name}" for name in node.output]
            self.nodes.append(made)
        return f"{prefix}{model.graph.output[0].name}"

    def block(self, block: Int8Block, prefix: str, x: str) -> str:
        """The steps of a block. x: its 8-bit input; the name of what it gives: 8-bit, or float where its last
        value has no levels."""
        values = {INPUT: x}
        for step in block.steps:
            values[step.output] = self._step(block, step, prefix, [values[name] for name in step.inputs])
        return values[block.output]

    def _step(self, block: Int8Block, step: Step, prefix: str, given: list[str]) -> str:
        label = f"{prefix}{step.output}"
        read = [
            self.dequantised(x, block.levels[name], f"{label}.in{place}")
            for place, (x, name) in enumerate(zip(given, step.inputs, strict=True))
        ]
        if step.weight is not None:
            weights = Weights.of(step, block.levels[step.inputs[0]].scale, block.bits)
            read += self._weights(label, weights, block.levels[step.inputs[0]].scale, step.kind)
        if step.constant is not None:
            read.append(self._constant(label, step.constant))
        attributes = {"transB": 0} if step.kind == "Gemm" else dict(step.attributes)
        y = read[0] if step.kind == "Identity" else self.add(step.kind, read, f"{label}.float", **attributes)
        levels = block.levels.get(step.output)
        return y if levels is None else self.quantised(y, levels, label)

    def _weights(self, label: str, found: Weights, input_scale: float, kind: str) -> list[str]:
        """Weights of 8 bits and a bias of 32, as floats; those of a Gemm transposed, channels last."""
        values, axis = (found.values.T, 1) if kind == "Gemm" else (found.values, 0)
        name = f"{label}.weight"
        inputs = [
            self.constant(f"{name}.int8", values),
            self.constant(f"{name}.scale", found.scales),
            self.constant(f"{name}.zero", np.zeros(len(found.scales), np.int8)),
        ]
        read = [self.add("DequantizeLinear", inputs, name, axis=axis)]
        if found.bias is not None:
            name = f"{label}.bias"
            inputs = [
                self.constant(f"{name}.int32", found.bias),
                self.constant(f"{name}.scale", (found.scales * np.float32(input_scale)).astype(np.float32)),
                self.constant(f"{name}.zero", np.zeros(len(found.scales), np.int32)),
            ]
            read.append(self.add("DequantizeLinear", inputs, name, axis=0))
        return read

    def _constant(self, label: str, value: float) -> str:
        """A number as the highest (or lowest) of 256 levels."""
        name = f"{label}.constant"
        top, zero = (255, 0) if value >= 0 else (0, 255)
        inputs = [
            self.constant(f"{name}.int8", np.uint8(top)),
            self.constant(f"{name}.scale", np.float32(abs(value) / 255)),
            self.constant(f"{name}.zero", np.uint8(zero)),
        ]
        return self.add("DequantizeLinear", inputs, name)

    def model(self, given: Any, result: Any, opset: int) -> Any:
        """The whole as an onnx.ModelProto."""
        graph = helper.make_graph(self.nodes, "network", [given], [result], self.weights)
        made = onnx.ModelProto(ir_version=IR_VERSION, producer_name="pytorch")
        made.opset_import.append(helper.make_opsetid("", opset))
        made.graph.CopyFrom(graph)
        return made


def network_graph(network: QuantisedNetwork, float_models: Mapping[int, Any], opset: int) -> Any:
    """onnx.ModelProto of a network, float32 in and out. float_models: of the layers in float32, by number."""
    graph, x = Int8Graph(), INPUT
    levels: Levels | None = None  # of x, None where it is float
    for number in range(len(network.operators)):
        block, prefix = network.block(number), f"{number}/"
        if block is None:
            if levels is not None:
                x = graph.dequantised(x, levels, f"{prefix}dequantised")
            x, levels = graph.float_nodes(float_models[number], prefix, x), None
            continue
        if levels is None:
            x = graph.quantised(x, block.levels[INPUT], f"{prefix}quantised")
        x = graph.block(block, prefix, x)
        levels = block.levels.get(block.output)
    if levels is not None:
        x = graph.dequantised(x, levels, f"{OUTPUT}.float")
    (given,) = network.inputs
    return graph.model(
        _value(INPUT, TensorProto.FLOAT, given.shape),
        _value(x, TensorProto.FLOAT, network.operators[-1].output_shape),
        opset,
    )


def operator_graph(block: Int8Block, op: Operator, opset: int) -> Any:
    """onnx.ModelProto of a block between two others in int8: 8-bit in, 8-bit out (float32 where it closes a
    network)."""
    graph, given, result = Int8Graph(), op.inputs[0].shape, op.output_shape
    # A mean over pixels or a pool is as quick in either order, and no runtime turns anything for those alone.
    turns = any(step.kind == "Conv" for step in block.steps)
    x = graph.block(block, "", _channels_last(graph, INPUT, given) if turns else INPUT)
    kind = TensorProto.UINT8 if block.output in block.levels else TensorProto.FLOAT
    if turns and kind == TensorProto.UINT8:
        x = _declared(graph, x, result)
    return graph.model(_value(INPUT, TensorProto.UINT8, given), _value(x, kind, result), opset)


def boundary_graph(kind: str, shape: Sequence[int], levels: Levels, opset: int) -> Any:
    """onnx.ModelProto of `quantize` (float32 in, 8-bit out) or `dequantize`, of one value of that shape
    (without the batch)."""
    graph = Int8Graph()
    if kind == "quantize":
        x = _declared(graph, graph.quantised(INPUT, levels, "levels"), shape)
        types = (TensorProto.FLOAT, TensorProto.UINT8)
    else:
        x = graph.dequantised(_channels_last(graph, INPUT, shape), levels, "levels")
        types = (TensorProto.UINT8, TensorProto.FLOAT)
    return graph.model(_value(INPUT, types[0], shape), _value(x, types[1], shape), opset)


def _channels_last(graph: Int8Graph, x: str, shape: Sequence[int]) -> str:
    """What a block is fed with in a network: integer kernels keep channels last, and a runtime that turns
    them does so where int8 begins and ends, not between two blocks. The bytes are taken as they would lie
    there, and the Transpose cancels the runtime's own; where there are no pixels there is nothing to turn.

    Without it every row of a table would pay for turning its input and its output.
    """
    if len(shape) != 3:
        return x
    channels, height, width = shape
    sizes = graph.constant("last.sizes", np.array([0, height, width, channels], np.int64))
    return graph.add("Transpose", [graph.add("Reshape", [x, sizes], "last")], "first", perm=_CHANNELS_FIRST)


def _declared(graph: Int8Graph, x: str, shape: Sequence[int]) -> str:
    """The same at the other end."""
    if len(shape) != 3:
        return x
    turned = graph.add("Transpose", [x], "turned", perm=_CHANNELS_LAST)
    sizes = graph.constant("turned.sizes", np.array([0, *shape], np.int64))
    return graph.add("Reshape", [turned, sizes], OUTPUT)


def _value(name: str, kind: int, shape: Sequence[int]) -> Any:
    return helper.make_tensor_value_info(name, kind, [1, *shape])
