"""What the agent does not open (B10): read without the onnx package, refused before any runtime sees it."""

from contextlib import suppress

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from latency_tables.agent.errors import RefusedGraph
from latency_tables.agent.graph import OPERATORS, check_graph
from tests.latency_tables.agent.networks import convolution, model

SHAPE = (1, 3, 8, 8)


def node(operator="Relu", **attributes):
    return helper.make_node(operator, ["x"], ["y"], **attributes)


def test_takes_an_ordinary_network():
    assert check_graph(convolution()) == 2


def test_every_operator_of_the_list_is_known_to_onnx():
    assert {schema.name for schema in onnx.defs.get_all_schemas()} >= OPERATORS


def external():
    loaded = onnx.load_from_string(convolution())
    tensor = loaded.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    return loaded


def external_in_attribute():
    tensor = external().graph.initializer[0]
    return model([helper.make_node("Constant", [], ["c"], value=tensor), node()], [], SHAPE, SHAPE)


def with_subgraph():
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["z"])], "b", [], [helper.make_tensor_value_info("z", 1, SHAPE)]
    )
    return model(
        [helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)], [], SHAPE, SHAPE
    )


def with_function():
    function = helper.make_function("mine", "F", ["x"], ["y"], [node()], [helper.make_opsetid("", 20)])
    return model([node()], [], SHAPE, SHAPE, functions=[function])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"not onnx at all",
        external().SerializeToString(),
        external_in_attribute(),
        with_subgraph(),
        with_function(),
        model(
            [node("Relu", domain="com.microsoft")], [], SHAPE, SHAPE, opsets=(("", 20), ("com.microsoft", 1))
        ),
        model([node("FusedConv", domain="com.microsoft")], [], SHAPE, SHAPE),
        model([node("PyOp")], [], SHAPE, SHAPE),
        model([node("Loop")], [], SHAPE, SHAPE),
        model([], [], SHAPE, SHAPE),
        convolution() + convolution(),  # protobuf would merge the two graphs
        convolution()[:-7],
    ],
)
def test_refuses(data):
    with pytest.raises(RefusedGraph):
        check_graph(data)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_files_are_refused_or_taken_but_never_break_the_reader(data):
    original = bytearray(convolution())
    for _ in range(data.draw(st.integers(1, 6))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    with suppress(RefusedGraph):
        assert check_graph(bytes(original)) >= 1


@given(st.binary(max_size=300))
@settings(max_examples=150, deadline=None)
def test_no_bytes_break_the_reader(data):
    with suppress(RefusedGraph):
        check_graph(data)
