"""Small ONNX files for the agent's tests."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def convolution(channels=4, seed=0, shape=(1, 3, 8, 8)):
    """A 3x3 convolution and a relu."""
    weights = np.random.default_rng(seed).standard_normal((channels, shape[1], 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["y"]),
    ]
    return model(nodes, [numpy_helper.from_array(weights, "w")], shape, (1, channels, *shape[2:]))


def model(nodes, initializers, in_shape, out_shape, opsets=(("", 20),), **extra):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, in_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out_shape)],
        initializers,
    )
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets]
    return helper.make_model(graph, opset_imports=imports, ir_version=10, **extra).SerializeToString()


def heavy(size_mib, seed=0):
    """A network of large weights that takes hardly any time: one of them is looked up."""
    weights = np.full((size_mib * 2**18,), seed, dtype=np.float32)
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["w", "i"], ["y"]),
    ]
    return model(nodes, [numpy_helper.from_array(weights, "w")], (1, 1), (1, 1))


def hard_sigmoid_in_double():
    """Valid ONNX that ONNX Runtime does not open: it has no kernel for it in float64."""
    nodes = [
        helper.make_node("Cast", ["x"], ["d"], to=TensorProto.DOUBLE),
        helper.make_node("HardSigmoid", ["d"], ["h"]),
        helper.make_node("Cast", ["h"], ["y"], to=TensorProto.FLOAT),
    ]
    return model(nodes, [], (1, 3, 8, 8), (1, 3, 8, 8))
