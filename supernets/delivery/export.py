"""ONNX files: of delivered networks, of the operators a latency table measures, and of networks to calibrate
it with.

All three come out of the same call to `torch.onnx.export`, so what is timed block by block is what is
delivered. One export costs about a second however small the graph, so many operators go through one export
and its graph is split; a network of known operators is joined from their graphs. Names in a graph follow from
its structure alone: a graph that was split off or joined has the bytes of one exported by itself
(tests/supernets/delivery/test_export.py).
"""

from __future__ import annotations

import hashlib
import logging
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from latency_tables.inputs import InputSpec
from latency_tables.operators import Operator
from supernets.cut_out import PlainNetwork, fold_batch_norm
from supernets.data.preprocessing import Preprocessing
from supernets.delivery.compression.codebooks import with_codebooks
from supernets.delivery.compression.compressed import CompressedNetwork
from supernets.delivery.description import describe
from supernets.delivery.feeding import OnnxFile
from supernets.delivery.format import OPSET, Content, Delivery
from supernets.delivery.int8_graphs import network_graph
from supernets.delivery.onnx_format import TOLERANCES, check_int8
from supernets.delivery.onnx_passes import in_form
from supernets.delivery.operator_graphs import operator_model
from supernets.delivery.parity import Parity, compared, random_input
from supernets.delivery.simulated import QuantisedNetwork
from supernets.errors import ExportFailed
from supernets.layers.block import DrawnOfSeveral, Graph
from supernets.layers.catalog import build_operator
from supernets.spaces.architecture import Architecture
from supernets.spaces.lowering import lower
from supernets.spaces.space import Space

INPUT: Final = "input"
OUTPUT: Final = "output"
_OPERATORS_PER_EXPORT: Final = 64
_PARAMETERS_PER_EXPORT: Final = 32_000_000  # keeps a graph far below protobuf's 2 GB
_VALUES_PER_CHANNEL: Final = 64  # enough for batch-norm statistics that settle an operator

Model = Any  # onnx.ModelProto; the package has no types
Progress = Callable[[int, int], None]


def export_onnx(network: nn.Module, inputs: Sequence[InputSpec], *, batch_size: int | None = 1) -> bytes:
    """The network as an ONNX file: evaluation mode, batch-norm folded, output `output`, float32.

    inputs: of one sample, in the order of the network's arguments; a single one is called `input` in the
    file, several by their names. batch_size: None leaves it open. Raises ExportFailed when the file would not
    stand alone.
    """
    model = _export([fold_batch_norm(network).cpu()], [inputs], batch_size)
    return _finished(_canonical(model, 0, _named(inputs)))


def export_delivered(network: nn.Module, content: Content) -> bytes:
    """The network in the form of a delivery, with the description of its input and outputs in it. Raises
    ExportFailed."""
    named = _named(content.inputs)
    if isinstance(network, QuantisedNetwork):
        check_int8(content.delivery)
        model = int8_graph(network)
    elif isinstance(network, CompressedNetwork):
        model = compressed_graph(network)
    else:
        model = _canonical(_export([fold_batch_norm(network).cpu()], [content.inputs], 1), 0, named)
    formed = _canonical(in_form(model, content.delivery, content.preprocessing), 0, named)
    describe(formed, content.described, content.classes)
    return _finished(formed)


def compressed_graph(network: CompressedNetwork) -> Model:
    """The graph of a network after compression passes, batch 1: several strengths of several passes are
    written before one is kept, so it is drawn and not exported."""
    plain = network.plain
    model = _joined([layer_model(layer, op) for layer, op in zip(plain.layers, plain.operators, strict=True)])
    return with_codebooks(model) if network.codebooks else model


def int8_graph(network: QuantisedNetwork) -> Model:
    """The graph of a network with blocks in int8, float32 in and out, batch 1."""
    layers = network.plain.layers
    float_models = {
        number: layer_model(layers[number], op)
        for number, op in enumerate(network.operators)
        if network.block(number) is None
    }
    return network_graph(network, float_models, OPSET)


def finished_form(model: Model, delivery: Delivery) -> bytes:
    """A graph with one input in the form of a delivery, checked. Raises ExportFailed."""
    return _finished(_canonical(in_form(_canonical(model, 0), delivery), 0))


def export_operators(
    operators: Iterable[Operator],
    *,
    seed: int = 0,
    batch_size: int = 1,
    progress: Progress | None = None,
    delivery: Delivery | None = None,
) -> dict[Operator, bytes]:
    """One ONNX file per operator with settled random weights: the micro-benchmarks of a latency table.

    The weights depend on the operator and the seed only. batch_size: of the table's context. progress: called
    with (done, all). delivery: the form that networks of that context are delivered in, instead of
    batch_size. Those in int8, and what stands at their boundaries, are rounded as a delivered network is.
    """
    from supernets.delivery.int8_export import is_rounded, rounded_operators  # noqa: PLC0415 - it imports this

    wanted = list(dict.fromkeys(operators))
    form = Delivery(batch_size=batch_size) if delivery is None else delivery
    files = rounded_operators([op for op in wanted if is_rounded(op)], form, seed=seed)
    for chunk in _chunks([op for op in wanted if not is_rounded(op)]):
        models = _operator_models(chunk, seed, batch_size if delivery is None else 1)
        formed = (
            models
            if delivery in (None, Delivery())
            else [_canonical(in_form(model, delivery), 0) for model in models]
        )
        files.update((op, _finished(model)) for op, model in zip(chunk, formed, strict=True))
        if progress is not None:
            progress(len(files), len(wanted))
    return files


def export_network(space: Space, architecture: Architecture, seed: int = 0, *, batch_size: int = 1) -> bytes:
    """A whole network with settled random weights, to measure. See `export_networks` for many."""
    return export_networks(space, [architecture], seed, batch_size=batch_size)[0]


def export_networks(
    space: Space, architectures: Sequence[Architecture], seed: int = 0, *, batch_size: int = 1
) -> list[bytes]:
    """Whole networks with settled random weights, joined from the graphs of their operators: for
    calibration."""
    plans = [lower(space, architecture) for architecture in architectures]
    wanted = list(dict.fromkeys(op for plan in plans for op in plan))
    models: dict[Operator, Model] = {}
    for chunk in _chunks(wanted):
        models.update(
            zip(chunk, _operator_models(chunk, seed, batch_size, space.batch_norm_eps), strict=True)
        )
    return [_finished(_joined([models[op] for op in plan])) for plan in plans]


def join_networks(
    space: Space, architectures: Sequence[Architecture], files: Mapping[Operator, bytes]
) -> list[bytes]:
    """`export_networks` from the files of `export_operators`, without exporting anything again. KeyError when
    one lacks."""
    models = {op: onnx.load_model_from_string(data) for op, data in files.items()}
    return [
        _finished(_joined([models[op] for op in lower(space, architecture)]))
        for architecture in architectures
    ]


def parity(
    network: nn.Module,
    onnx_file: bytes,
    *,
    samples: int = 16,
    generator: torch.Generator | None = None,
    preprocessing: Preprocessing | None = None,
) -> Parity:
    """Torch against ONNX Runtime (one thread) over random inputs; see `supernets.delivery.parity`."""
    opened = OnnxFile(onnx_session(onnx_file))
    tolerance = TOLERANCES[opened.precision]
    return compared(
        network, opened, tolerance, samples=samples, generator=generator, preprocessing=preprocessing
    )


def onnx_session(onnx_file: bytes) -> Any:
    """ONNX Runtime on one CPU thread, the way networks are checked and timed here."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(onnx_file, options, providers=["CPUExecutionProvider"])


def settled_operator(op: Operator, seed: int = 0, eps: float = 1e-5) -> nn.Module:
    """The operator with random weights fit for timing: outputs of about unit size, so neither denormals nor
    infinities.

    No bias is zero, because the exporter drops biases that are and a trained network has none.
    """
    # Not `hash`, which differs from process to process: equal operators must give equal files everywhere.
    digest = hashlib.sha256(f"{seed}/{op.text}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    module = build_operator(op, eps=eps, generator=generator)
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1, generator=generator)
        for norm in norms:
            norm.momentum = None  # the statistics of this one batch, not a moving average
        if norms:
            samples = -(-_VALUES_PER_CHANNEL // math.prod(op.output_shape[1:]))
            module.train()(*(random_input(spec.of_batch(samples), generator) for spec in op.inputs))
    return module.eval()


def timed_operator(op: Operator, seed: int = 0, eps: float = 1e-5) -> nn.Module:
    """What is measured of an operator: itself, or a chain of copies with weights of their own."""
    if op.copies == 1:
        return settled_operator(op, seed, eps)
    # Seeds far from each other's: the copies of one table must not be the operators of another.
    return Chained([settled_operator(op, seed + (copy << 16), eps) for copy in range(op.copies)]).eval()


class Chained(nn.Module, DrawnOfSeveral):
    """Copies of an operator one after the other; each has inputs of its own beside the first."""

    def __init__(self, copies: Sequence[nn.Module]) -> None:
        super().__init__()
        self.copies = nn.ModuleList(copies)

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        each = len(others) // len(self.copies)
        for number, copy in enumerate(self.copies):
            x = copy(x, *others[number * each : (number + 1) * each])
        return x

    def draw_from(self, graph: Graph, inputs: Sequence[str]) -> str:
        x, others = inputs[0], inputs[1:]
        each = len(others) // len(self.copies)
        for number, copy in enumerate(self.copies):
            if not isinstance(copy, DrawnOfSeveral):
                raise KeyError(type(copy))
            x = copy.draw_from(graph, [x, *others[number * each : (number + 1) * each]])
        return x


def _chunks(operators: Sequence[Operator]) -> Iterator[list[Operator]]:
    """Portions that go through one export each."""
    chunk: list[Operator] = []
    parameters = 0
    for op in operators:
        if chunk and (
            len(chunk) == _OPERATORS_PER_EXPORT or parameters + op.parameters > _PARAMETERS_PER_EXPORT
        ):
            yield chunk
            chunk, parameters = [], 0
        chunk.append(op)
        parameters += op.parameters
    if chunk:
        yield chunk


def _operator_models(
    operators: Sequence[Operator], seed: int, batch_size: int, eps: float = 1e-5
) -> list[Model]:
    """Drawn directly where the family draws its layer: the same bytes as by way of `_export`, in a thirtieth
    of the time."""
    found = []
    for op in operators:
        module = fold_batch_norm(timed_operator(op, seed, eps))
        found.append(layer_model(module, op, batch_size))
    return found


def layer_model(module: nn.Module, op: Operator, batch_size: int = 1) -> Model:
    """The graph of one layer of a network, batch-norm folded: drawn where its family draws it, else
    exported."""
    # A chain of copies is fed with more than one operator is.
    specs = op.timed if isinstance(module, Chained) else op.inputs
    given = [spec.of_batch(batch_size) for spec in specs]
    try:
        return operator_model(module, given, (batch_size, *op.output_shape), OPSET, op.stored)
    except KeyError:
        return _canonical(_export([module], [specs], batch_size), 0, _named(specs))


def _named(inputs: Sequence[InputSpec]) -> dict[int, str]:
    """Place of each input in the graph -> its name in a file."""
    return {0: INPUT} if len(inputs) == 1 else {i: spec.name for i, spec in enumerate(inputs)}


class _SideBySide(nn.Module):
    """Independent modules, some inputs and one output each."""

    def __init__(self, modules: Iterable[nn.Module], inputs: Sequence[int]) -> None:
        super().__init__()
        self.parts, self.inputs = nn.ModuleList(modules), tuple(inputs)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        left = iter(inputs)
        return tuple(
            part(*(next(left) for _ in range(n))) for part, n in zip(self.parts, self.inputs, strict=True)
        )


def _export(
    modules: Sequence[nn.Module], inputs: Sequence[Sequence[InputSpec]], batch_size: int | None
) -> Model:
    """One graph of all modules, the inputs of the first one first, with output i for module i."""
    flat = [spec.of_batch(2 if batch_size is None else batch_size) for specs in inputs for spec in specs]
    dynamic = None if batch_size is not None else (tuple({0: torch.export.Dim("batch")} for _ in flat),)
    examples = tuple(torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in flat)
    with _quiet():
        program = torch.onnx.export(
            _SideBySide(modules, [len(specs) for specs in inputs]).eval(),
            examples,
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=dynamic,
            verbose=False,
            external_data=False,
        )
    if program is None:
        raise ExportFailed("torch returned no ONNX program; check the versions in constraints.txt")
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports missing optional packages and deprecations inside torch: nothing a user can act
    on."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _canonical(model: Model, index: int, taken: Mapping[int, str] | None = None) -> Model:
    """The part of the graph between these inputs (place -> new name; None: input `index`) and output `index`,
    its names made from its structure, nothing else kept."""
    given = {index: INPUT} if taken is None else taken
    graph = model.graph
    nodes = _needed(graph, graph.output[index].name)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    names = {graph.input[place].name: name for place, name in given.items()}
    made, weights = [], []
    for number, node in enumerate(nodes):
        label = f"{node.op_type}_{number}"
        inputs = []
        for position, name in enumerate(node.input):
            if name in constants:
                # A copy per use: the exporter shares equal small constants, which would tie a graph to its
                # neighbours.
                tensor = onnx.TensorProto()
                tensor.CopyFrom(constants[name])
                tensor.name = f"{label}.{('input', 'weight', 'bias')[position] if position < 3 else position}"
                weights.append(tensor)
                inputs.append(tensor.name)
            else:
                inputs.append(names[name] if name else "")
        outputs = [f"{label}.out{place or ''}" for place in range(len(node.output))]
        names.update(zip(node.output, outputs, strict=True))
        made.append(_node(node, label, inputs, outputs))
    last = names[graph.output[index].name]
    made[-1].output[:] = [OUTPUT if name == last else name for name in made[-1].output]
    values = [_value(graph.input[place], name) for place, name in given.items()]
    return _model(model, made, values, _value(graph.output[index], OUTPUT), weights)


def _needed(graph: Any, output: str) -> list[Any]:
    """Nodes that this output depends on, in the order of the graph."""
    wanted, kept = {output}, []
    # Nodes are in topological order, so one pass backwards sees every consumer before its producer.
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def _node(node: Any, name: str, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    made = onnx.NodeProto(op_type=node.op_type, domain=node.domain, name=name)
    made.input.extend(inputs)
    made.output.extend(outputs)
    # The exporter's order differs between versions; the SHA-256 of a file must not.
    made.attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
    return made


def _value(value: Any, name: str) -> Any:
    made = onnx.ValueInfoProto(name=name)
    made.type.CopyFrom(value.type)
    return made


def _model(
    source: Model, nodes: Sequence[Any], given: Sequence[Any], result: Any, weights: Sequence[Any]
) -> Model:
    graph = onnx.GraphProto(name="network")
    graph.node.extend(nodes)
    graph.input.extend(given)
    graph.output.append(result)
    graph.initializer.extend(weights)
    model = onnx.ModelProto(ir_version=source.ir_version, producer_name=source.producer_name)
    model.producer_version = source.producer_version
    model.opset_import.extend(source.opset_import)
    model.functions.extend(source.functions)
    model.graph.CopyFrom(graph)
    return model


def _joined(models: Sequence[Model]) -> Model:
    """The graphs one after the other, as one graph with the names it would have been exported with."""
    nodes, weights = [], []
    before = INPUT
    for number, model in enumerate(models):
        names = {INPUT: before, OUTPUT: f"{number}/{OUTPUT}", "": ""}
        for tensor in model.graph.initializer:
            copied = onnx.TensorProto()
            copied.CopyFrom(tensor)
            copied.name = f"{number}/{tensor.name}"
            weights.append(copied)
        for node in model.graph.node:
            inputs = [names.get(name, f"{number}/{name}") for name in node.input]
            outputs = [names.get(name, f"{number}/{name}") for name in node.output]
            nodes.append(_node(node, f"{number}/{node.name}", inputs, outputs))
        before = names[OUTPUT]
    first, last = models[0].graph, models[-1].graph
    given = [_value(first.input[0], INPUT)]
    joined = _model(models[0], nodes, given, _value(last.output[0], before), weights)
    return _canonical(joined, 0)


def _finished(model: Model) -> bytes:
    """Checked bytes. Raises ExportFailed for a graph that needs more than standard ONNX in one file."""
    foreign = sorted(
        {node.domain for node in model.graph.node} | {entry.domain for entry in model.opset_import}
    )
    if foreign != [""] or model.functions:
        raise ExportFailed(
            f"the graph uses more than standard operators (domains {foreign}); build it from known operators"
        )
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ExportFailed("the weights do not fit one file; choose a smaller network")
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def random_network(space: Space, architecture: Architecture, seed: int = 0) -> PlainNetwork:
    """The torch form of `export_network`: the same settled operators in a row."""
    network = PlainNetwork(lower(space, architecture), eps=space.batch_norm_eps)
    for number, op in enumerate(network.operators):
        network.layers[number] = settled_operator(op, seed, space.batch_norm_eps)
    return network.eval()
