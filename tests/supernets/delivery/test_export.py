"""ONNX files: they compute what torch computes, and operators alone have the graph they have inside a
network."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
import torch

from latency_tables.operators import Operator
from supernets.cut_out import cut_out, fold_batch_norm
from supernets.delivery.export import (
    INPUT,
    OPSET,
    OUTPUT,
    Parity,
    export_network,
    export_networks,
    export_onnx,
    export_operators,
    join_networks,
    onnx_session,
    parity,
    random_network,
    settled_operator,
)
from supernets.delivery.export import _finished as finished
from supernets.errors import ExportFailed
from supernets.network import Supernet
from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import lower
from tests.supernets.test_cut_out import OPERATORS, shake_batch_norm

DIGITS = SPACES["digits-mbv3"]


def described(model: onnx.ModelProto) -> list[tuple[str, dict[str, object]]]:
    """Operator type and attributes of every node."""
    return [
        (n.op_type, {a.name: onnx.helper.get_attribute_value(a) for a in n.attribute})
        for n in model.graph.node
    ]


@pytest.fixture(scope="module")
def together() -> dict[Operator, bytes]:
    return export_operators(OPERATORS)


@pytest.mark.parametrize("op", OPERATORS[1::2] + OPERATORS[2:3], ids=lambda op: op.text)
def test_operator_split_off_has_the_bytes_of_one_exported_alone(
    op: Operator, together: dict[Operator, bytes]
) -> None:
    alone = export_onnx(settled_operator(op), op.inputs)
    assert described(onnx.load_from_string(together[op])) == described(onnx.load_from_string(alone))
    assert together[op] == alone


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.text)
def test_exported_operator_computes_the_operator(op: Operator, together: dict[Operator, bytes]) -> None:
    assert (
        parity(
            settled_operator(op), together[op], samples=4, generator=torch.Generator().manual_seed(0)
        ).max_abs_error
        < 1e-4
    )


def test_weights_of_an_operator_depend_on_it_and_the_seed_only(together: dict[Operator, bytes]) -> None:
    op = OPERATORS[2]
    assert export_operators([op])[op] == together[op]
    assert export_operators([op], seed=1)[op] != together[op]


def test_joined_network_has_the_bytes_of_an_exported_one() -> None:
    architectures = DIGITS.sample(np.random.default_rng(0), 2)
    for architecture, joined in zip(architectures, export_networks(DIGITS, architectures), strict=True):
        network = random_network(DIGITS, architecture)
        exported = export_onnx(network, DIGITS.inputs_at(architecture.resolution))
        assert described(onnx.load_from_string(joined)) == described(onnx.load_from_string(exported))
        assert joined == exported


def test_network_joined_from_files_of_operators_is_the_exported_one() -> None:
    small = DIGITS.at([8])
    architecture = small.smallest()
    files = export_operators(lower(small, architecture))
    assert join_networks(small, [architecture], files) == export_networks(small, [architecture])
    with pytest.raises(KeyError):
        join_networks(small, [small.largest()], files)


def test_delivered_network_has_the_nodes_of_its_operators_one_after_the_other() -> None:
    generator = torch.Generator().manual_seed(0)
    supernet = Supernet(DIGITS, generator=generator).eval()
    for parameter in supernet.parameters():  # a trained network has no zero bias
        parameter.data += 0.01 * torch.randn(parameter.shape, generator=generator)
    architecture = DIGITS.largest(8)
    delivered = onnx.load_from_string(export_onnx(cut_out(supernet, architecture), DIGITS.inputs_at(8)))
    operators = lower(DIGITS, architecture)
    files = export_operators(operators)
    assert described(delivered) == [
        node for op in operators for node in described(onnx.load_from_string(files[op]))
    ]


def test_delivered_network_agrees_with_torch_and_stands_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    supernet = Supernet(DIGITS, generator=generator).eval()
    shake_batch_norm(supernet, generator)
    network = cut_out(supernet, DIGITS.largest(16))
    file = export_onnx(network, network.inputs)
    assert parity(network, file, generator=generator).max_abs_error < 1e-4
    model = onnx.load_from_string(file)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert [value.name for value in model.graph.input] == [INPUT]
    assert [value.name for value in model.graph.output] == [OUTPUT]
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert sum(
        int(np.prod(t.dims)) for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT
    ) == sum(p.numel() for p in fold_batch_norm(network).parameters())
    assert b"/" + b"supernets" not in file  # no path of the exporting machine


def test_parity_sees_a_wrong_file() -> None:
    first, second = (random_network(DIGITS, DIGITS.smallest(8), seed) for seed in (0, 1))
    found = parity(first, export_onnx(second, DIGITS.inputs_at(8)), samples=2)
    assert found.max_abs_error > 1e-2
    assert not found.holds


@pytest.mark.parametrize(
    ("error", "logit", "holds"), [(9e-5, 0.1, True), (2e-4, 0.1, False), (2e-4, 5, True), (6e-4, 5, False)]
)
def test_parity_is_a_share_of_large_logits(error: float, logit: float, holds: bool) -> None:
    assert Parity(error, logit, tolerance=1e-4).holds is holds
    assert not Parity(float("inf"), logit, tolerance=1e-4).holds


def test_batch_can_be_left_open() -> None:
    network = random_network(DIGITS, DIGITS.smallest(8))
    session = onnx_session(export_onnx(network, DIGITS.inputs_at(8), batch_size=None))
    x = torch.randn(5, 1, 8, 8)
    (found,) = session.run(None, {INPUT: x.numpy()})
    np.testing.assert_allclose(found, network(x).detach().numpy(), atol=1e-4)


def test_random_networks_neither_vanish_nor_explode() -> None:
    for architecture in (DIGITS.largest(16), DIGITS.smallest(8)):
        session = onnx_session(export_network(DIGITS, architecture))
        x = (
            np.random.default_rng(0)
            .standard_normal((1, 1, architecture.resolution, architecture.resolution))
            .astype(np.float32)
        )
        (logits,) = session.run(None, {INPUT: x})
        assert 1e-3 < np.abs(logits).max() < 1e3


def test_timing_meets_no_denormal_numbers() -> None:
    space = SPACES["ofa-mbv3"]
    network = random_network(space, space.largest(128))
    met = []

    def look(_module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> None:
        size = output.abs()
        met.append(
            bool(((size > 0) & (size < torch.finfo(torch.float32).tiny)).any())
            or not bool(torch.isfinite(size).all())
        )

    for part in network.modules():
        part.register_forward_hook(look)
    with torch.no_grad():
        network(torch.randn(1, *network.inputs[0].shape, generator=torch.Generator().manual_seed(0)))
    assert met and not any(met)


def test_export_is_quiet_and_shows_progress(capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[int, int]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_operators(OPERATORS[:1], progress=lambda done, total: seen.append((done, total)))
    assert capfd.readouterr() == ("", "")
    assert seen == [(1, 1)]


def test_graph_with_foreign_operators_is_refused() -> None:
    model = onnx.load_from_string(
        export_onnx(random_network(DIGITS, DIGITS.smallest(8)), DIGITS.inputs_at(8))
    )
    model.graph.node[0].domain = "com.example"
    with pytest.raises(ExportFailed, match="standard operators"):
        finished(model)


def test_the_same_seed_gives_the_same_file_whatever_the_number_of_threads() -> None:
    files, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            supernet = Supernet(DIGITS, generator=torch.Generator().manual_seed(3))
            network = fold_batch_norm(cut_out(supernet.eval(), DIGITS.smallest(8)))
            files.append(export_onnx(network, DIGITS.inputs_at(8)))
    finally:
        torch.set_num_threads(threads)
    assert files[0] == files[1]
