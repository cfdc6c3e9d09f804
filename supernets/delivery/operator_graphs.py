"""ONNX graphs of operators, built node by node from their modules: what `torch.onnx.export` makes of them,
byte for byte.

The exporter needs a quarter of a second for each operator, most of it for what an operator has none of
(functions, decompositions, shape inference over a traced program). A table of some hundred operators is made
here in the time of one such export. That both make the same bytes is a test over every kind of operator, so
that what is timed stays what is delivered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from latency_tables.inputs import InputSpec
from supernets.layers.block import Drawn, DrawnOfSeveral

IR_VERSION: Final = 10
INPUT: Final = "input"
OUTPUT: Final = "output"
_PLACES: Final = ("input", "weight", "bias")


def operator_model(
    module: nn.Module,
    inputs: Sequence[InputSpec],
    output_shape: Sequence[int],
    opset: int,
    output_dtype: str = "float32",
) -> Any:
    """The onnx.ModelProto of an operator's module, batch-norm folded. Shapes with the batch.

    Raises KeyError for a module that does not draw itself (`supernets.layers.block.Drawn`,
    `DrawnOfSeveral`), or holds one that does not.
    """
    if len(inputs) != 1 and not isinstance(module, DrawnOfSeveral):
        raise KeyError(type(module))
    left = helper.np_dtype_to_tensor_dtype(np.dtype(output_dtype))
    graph = Drawing()
    names = [INPUT] if len(inputs) == 1 else [spec.name for spec in inputs]
    for name, spec in zip(names, inputs, strict=True):
        graph.given(name, helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype)), list(spec.shape))
    graph.finish(
        module.draw_from(graph, names) if isinstance(module, DrawnOfSeveral) else graph.module(module, INPUT)
    )
    made = helper.make_graph(
        graph.nodes,
        "network",
        graph.inputs,
        [helper.make_tensor_value_info(OUTPUT, left, list(output_shape))],
        graph.weights,
    )
    model = onnx.ModelProto(
        ir_version=IR_VERSION, producer_name="pytorch", producer_version=torch.__version__
    )
    model.opset_import.append(helper.make_opsetid("", opset))
    model.graph.CopyFrom(made)
    return model


class Drawing:
    """Nodes and weights in the order of the forward pass, named by their structure alone."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.inputs: list[Any] = []

    def given(self, name: str, kind: int, shape: Sequence[str | int]) -> str:
        """An input of the graph; sizes that are free have a name."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def shared(self, name: str, given: np.ndarray[Any, Any]) -> str:
        """A weight with a name of its own."""
        self.weights.append(numpy_helper.from_array(given, name))
        return name

    def split(self, x: str, parts: int, axis: int) -> list[str]:
        """Equal parts of a value along an axis."""
        label = f"Split_{len(self.nodes)}"
        outputs = [f"{label}.out{place or ''}" for place in range(parts)]
        self.nodes.append(helper.make_node("Split", [x], outputs, label, axis=axis, num_outputs=parts))
        return outputs

    def add(self, kind: str, inputs: Sequence[str | np.ndarray[Any, Any]], **attributes: Any) -> str:
        """A node; arrays among its inputs become its weights. The name of its output."""
        label = f"{kind}_{len(self.nodes)}"
        names = []
        for position, given in enumerate(inputs):
            if isinstance(given, str):
                names.append(given)
                continue
            name = f"{label}.{_PLACES[position] if position < len(_PLACES) else position}"
            self.weights.append(
                numpy_helper.from_array(np.ascontiguousarray(given).reshape(given.shape), name)
            )
            names.append(name)
        made = onnx.NodeProto(op_type=kind, name=label, domain="")
        made.input.extend(names)
        made.output.append(f"{label}.out")
        made.attribute.extend(helper.make_attribute(key, attributes[key]) for key in sorted(attributes))
        self.nodes.append(made)
        return f"{label}.out"

    def finish(self, last: str) -> None:
        """Call the last value the output."""
        self.nodes[-1].output[:] = [OUTPUT]
        if f"{self.nodes[-1].name}.out" != last:
            raise ValueError("the last node does not make the output")

    def module(self, part: nn.Module, x: str) -> str:
        return part.draw(self, x) if isinstance(part, Drawn) else _FORMS[type(part)](self, part, x)


def _array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = tensor.detach().cpu().numpy()
    return found


def _conv(g: Drawing, conv: nn.Conv1d | nn.Conv2d, x: str) -> str:
    weights = [_array(conv.weight), *([] if conv.bias is None else [_array(conv.bias)])]
    pads = [int(p) for p in conv.padding] * 2
    window = {"kernel_shape": list(conv.kernel_size), "strides": list(conv.stride), "pads": pads}
    ones = [1] * len(conv.kernel_size)
    return g.add("Conv", [x, *weights], auto_pad="NOTSET", dilations=ones, group=conv.groups, **window)


def _linear(g: Drawing, part: nn.Linear, x: str) -> str:
    weights = [_array(part.weight), *([] if part.bias is None else [_array(part.bias)])]
    return g.add("Gemm", [x, *weights], alpha=1.0, beta=1.0, transA=0, transB=1)


def _relu6(g: Drawing, part: nn.ReLU6, x: str) -> str:
    return g.add("Clip", [x, np.array(0.0, dtype=np.float32), np.array(6.0, dtype=np.float32)])


def _pair(value: int | tuple[int, int]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _max_pool(g: Drawing, part: nn.MaxPool2d, x: str) -> str:
    window = {
        "kernel_shape": _pair(part.kernel_size),
        "strides": _pair(part.stride),
        "pads": _pair(part.padding) * 2,
    }
    return g.add("MaxPool", [x], auto_pad="NOTSET", ceil_mode=0, dilations=[1, 1], storage_order=0, **window)


def _average_pool(g: Drawing, part: nn.AvgPool2d, x: str) -> str:
    window = {"kernel_shape": _pair(part.kernel_size), "strides": _pair(part.stride), "pads": [0, 0, 0, 0]}
    said = {"ceil_mode": int(part.ceil_mode), "count_include_pad": int(part.count_include_pad)}
    return g.add("AveragePool", [x], auto_pad="NOTSET", **said, **window)


_FORMS: Final[dict[type[nn.Module], Callable[[Drawing, Any, str], str]]] = {
    nn.Conv1d: _conv,
    nn.Conv2d: _conv,
    nn.Linear: _linear,
    nn.Identity: lambda g, part, x: x,
    nn.Dropout: lambda g, part, x: x,
    nn.ReLU: lambda g, part, x: g.add("Relu", [x]),
    nn.ReLU6: _relu6,
    nn.Hardswish: lambda g, part, x: g.add("HardSwish", [x]),
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _average_pool,
}
