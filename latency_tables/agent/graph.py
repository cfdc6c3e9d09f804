"""Look into an ONNX file without opening it in the runtime, and refuse what a measuring task never needs.

A small reader of protobuf's wire format, for the few fields of onnx.proto3 that matter: so the agent needs no
`onnx` package, and nothing from the network reaches the runtime's parser before it was checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from latency_tables.agent.errors import RefusedGraph
from latency_tables.errors import InvalidTextNetwork
from latency_tables.text_network import GRAPHS, files_of, is_archive

MAX_NODES: Final = 20_000
MAX_BYTES: Final = 256 * 2**20
_OPERATORS: Final = (
    "Add AveragePool BatchNormalization Cast Clip Concat Constant ConstantOfShape Conv CumSum "
    "DequantizeLinear "
    "Div Dropout Einsum Equal Erf "
    "Exp Expand Flatten Gather Gelu Gemm GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish Identity "
    "LayerNormalization LeakyRelu Less LogSoftmax MatMul Max MaxPool Min Mul Neg Pad Pow "
    "QuantizeLinear Range Reciprocal ReduceMax "
    "ReduceMean ReduceSum Relu Reshape Resize Shape Sigmoid Slice Softmax Softplus Split Sqrt Squeeze Sub "
    "Tanh Tile "
    "Transpose Unsqueeze Where "
)
OPERATORS: Final = frozenset(_OPERATORS.split())
_FUNCTIONS, _TRAINING, _GRAPH, _OPSETS = 25, 20, 7, 8  # ModelProto
_NODE, _INITIALIZER, _SPARSE, _QUANTIZATION = 1, 5, 15, 14  # GraphProto
_OP_TYPE, _ATTRIBUTE, _DOMAIN, _OVERLOAD = 4, 5, 7, 8  # NodeProto
_TENSOR, _SUBGRAPH, _TENSORS, _SUBGRAPHS, _SPARSE_ONE, _SPARSE_MANY = 5, 6, 10, 11, 22, 23  # AttributeProto
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # TensorProto
_DOMAINS: Final = (b"", b"ai.onnx")

Field = tuple[int, int, memoryview | int]


def check_network(data: bytes) -> int:
    """`check_graph` of a file, or of every graph of a transformer's archive. Raises RefusedGraph."""
    if not is_archive(data):
        return check_graph(data)
    if len(data) > MAX_BYTES:
        raise RefusedGraph(f"the file is larger than {MAX_BYTES} bytes")
    try:
        files = files_of(data)
    except InvalidTextNetwork as error:
        raise RefusedGraph(str(error)) from error
    return sum(check_graph(files[name]) for name in GRAPHS)


def check_graph(data: bytes) -> int:
    """Refuse external data, foreign domains, functions, subgraphs and unknown operators; returns the number
    of nodes.

    Raises RefusedGraph.
    """
    if len(data) > MAX_BYTES:
        raise RefusedGraph(f"the file is larger than {MAX_BYTES} bytes")
    graphs = 0
    nodes = 0
    for number, _, value in _fields(memoryview(data)):
        if number in (_FUNCTIONS, _TRAINING):
            raise RefusedGraph("the file holds functions or training graphs; a measuring task has none")
        if number == _OPSETS:
            _check_domain(_message(value), 1)
        if number == _GRAPH:
            graphs += 1
            nodes += _check_graph_part(_message(value))
    if graphs != 1 or not 1 <= nodes <= MAX_NODES:
        raise RefusedGraph(f"the file is not one ONNX graph of 1 to {MAX_NODES} nodes")
    return nodes


def _check_graph_part(graph: memoryview) -> int:
    nodes = 0
    for number, _, value in _fields(graph):
        if number == _NODE:
            nodes += 1
            _check_node(_message(value))
        elif number == _INITIALIZER:
            _check_tensor(_message(value))
        elif number in (_SPARSE, _QUANTIZATION):
            raise RefusedGraph("sparse or quantization data is not taken")
    return nodes


def _check_node(node: memoryview) -> None:
    operator = memoryview(b"")
    for number, _, value in _fields(node):
        if number == _OP_TYPE:
            operator = _message(value)
        elif number == _ATTRIBUTE:
            _check_attribute(_message(value))
        elif number == _OVERLOAD:
            raise RefusedGraph("calls of functions are not taken")
    _check_domain(node, _DOMAIN)
    if bytes(operator).decode("ascii", "replace") not in OPERATORS:
        raise RefusedGraph("an operator is not on the list of those that may be measured")


def _check_domain(message: memoryview, field: int) -> None:
    if any(
        number == field and bytes(_message(value)) not in _DOMAINS for number, _, value in _fields(message)
    ):
        raise RefusedGraph("only ONNX's own operators are taken, no custom domain")


def _check_attribute(attribute: memoryview) -> None:
    for number, _, value in _fields(attribute):
        if number in (_SUBGRAPH, _SUBGRAPHS, _SPARSE_ONE, _SPARSE_MANY):
            raise RefusedGraph("subgraphs and sparse tensors are not taken")
        if number in (_TENSOR, _TENSORS):
            _check_tensor(_message(value))


def _check_tensor(tensor: memoryview) -> None:
    for number, _, value in _fields(tensor):
        if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0):
            raise RefusedGraph("weights outside the file are not taken")


def _message(value: memoryview | int) -> memoryview:
    if isinstance(value, int):
        raise RefusedGraph("the file is not ONNX")
    return value


def _fields(data: memoryview) -> Iterator[Field]:
    """(field number, wire type, value) of a message. Raises RefusedGraph where it is malformed."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        value: memoryview | int
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = data[at : at + size], at + size
        elif kind == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            raise RefusedGraph("the file is not ONNX")
        if number == 0 or at > len(data):
            raise RefusedGraph("the file is cut off or not ONNX")
        yield number, kind, value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise RefusedGraph("the file is cut off or not ONNX")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
