"""Both decoder graphs of a transformer as one, with the weights once: `decoder_model_merged.onnx`.

The convention is that of optimum and transformers.js: `use_cache_branch` (bool, [1]) says whether the caches
that are given count. In the first call they do not, whatever they hold; keys and values of what is read are
made then, and given back unchanged afterwards. All caches have one shape (`uniform`), since loaders derive it
from the configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from supernets.delivery.format import IR_VERSION, OPSET
from supernets.errors import ExportFailed

MERGED: Final = "decoder_model_merged.onnx"
SWITCH: Final = "use_cache_branch"
_ORDER: Final = ("input_ids", "encoder_attention_mask", "encoder_hidden_states")


def merged_decoder(first: bytes, later: bytes) -> bytes:
    """One graph of `decoder_model.onnx` (the first call) and `decoder_with_past_model.onnx` (the later ones).
    Raises ExportFailed where they are none of one network."""
    graphs = {"first": onnx.load_from_string(first).graph, "later": onnx.load_from_string(later).graph}
    made = {output.name for output in graphs["first"].output}
    again = {output.name for output in graphs["later"].output}
    if not {"logits"} < again < made:
        raise ExportFailed("the decoders give caches of different layers; they are none of one network")
    weights: dict[bytes, TensorProto] = {}
    outputs = [output.name for output in graphs["first"].output]
    branches = {name: _branch(name, graph, outputs, weights) for name, graph in graphs.items()}
    inputs = {value.name: value for graph in graphs.values() for value in graph.input}
    ordered = sorted(inputs, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
    # In the order of the layers, as the graph with caches has them: names sort 10 before 2.
    caches = [value.name for value in graphs["later"].input if value.name not in _ORDER]
    ordered = [*(name for name in ordered if name not in caches), *caches]
    tokens = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])
    given = [tokens if name == "input_ids" else inputs[name] for name in ordered]
    switch = helper.make_tensor_value_info(SWITCH, TensorProto.BOOL, [1])
    node = helper.make_node(
        "If", [SWITCH], outputs, then_branch=branches["later"], else_branch=branches["first"]
    )
    graph = helper.make_graph(
        [node],
        "merged",
        [*given, switch],
        [_loose(value) for value in graphs["first"].output],
        list(weights.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="bespoke")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _branch(
    name: str, graph: GraphProto, outputs: Sequence[str], weights: dict[bytes, TensorProto]
) -> GraphProto:
    """A graph as a branch: its weights go to those of all, its values get names of their own."""
    known = {value.name: value.name for value in graph.input}
    turns: list[NodeProto] = []
    for weight in graph.initializer:
        key = _key(weight)
        turned = _turned(weight)
        if key not in weights and turned in weights:
            made = f"{name}/{weight.name}/turned"
            turns.append(helper.make_node("Transpose", [weights[turned].name], [made], perm=[1, 0]))
            known[weight.name] = made
            continue
        if key not in weights:
            weights[key] = TensorProto()
            weights[key].CopyFrom(weight)
            weights[key].name = f"weight_{len(weights)}"
        known[weight.name] = weights[key].name
    nodes = [*turns, *(_renamed(node, name, known) for node in graph.node)]
    there = {output.name for output in graph.output}
    read = [one for one in outputs if one not in there]
    nodes += [
        helper.make_node("Identity", [one.replace("present.", "past_key_values.", 1)], [f"{name}/{one}"])
        for one in read
    ]
    values = [helper.make_tensor_value_info(f"{name}/{one}", TensorProto.FLOAT, None) for one in outputs]
    return helper.make_graph(nodes, name, [], values)


def _key(weight: TensorProto) -> bytes:
    """What a weight holds, whatever it is called."""
    held = TensorProto()
    held.CopyFrom(weight)
    held.name = ""
    data: bytes = held.SerializeToString(deterministic=True)
    return data


def _turned(weight: TensorProto) -> bytes | None:
    """The key of a matrix with rows and columns exchanged."""
    if len(weight.dims) != 2:
        return None
    return _key(numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(weight).T)))


def _renamed(node: NodeProto, branch: str, known: Mapping[str, str]) -> NodeProto:
    made = NodeProto()
    made.CopyFrom(node)
    made.input[:] = [known.get(x, f"{branch}/{x}") if x else x for x in node.input]
    made.output[:] = [f"{branch}/{x}" if x else x for x in node.output]
    made.name = f"{branch}/{node.name}" if node.name else ""
    return made


def _loose(value: ValueInfoProto) -> ValueInfoProto:
    """An output of either branch: lengths are whatever that one makes."""
    dims = [d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim]
    loose = 1 if value.name == "logits" else 2
    dims[loose] = "tokens" if value.name == "logits" else f"{value.name}_length"
    return helper.make_tensor_value_info(value.name, TensorProto.FLOAT, dims)
