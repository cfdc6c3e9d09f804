"""Compression passes: what they do to weights, what a file holds of it, how a strength is found, what is
refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from supernets.data.catalog import load_digits
from supernets.delivery import pipeline
from supernets.delivery.catalog import FORMATS
from supernets.delivery.compression import compressed, trial
from supernets.delivery.compression.bits import mixed_bits
from supernets.delivery.compression.catalog import PASSES, AppliedPass, ordered
from supernets.delivery.compression.codebooks import k_means, shared_weights, with_codebooks
from supernets.delivery.compression.compressed import APPLY, CompressedNetwork, Fitting
from supernets.delivery.compression.low_rank import Split, low_rank
from supernets.delivery.export import onnx_session
from supernets.delivery.format import Delivery
from supernets.delivery.onnx_passes import in_form
from supernets.delivery.passes import PLAIN, Source, passed
from supernets.delivery.precision import PrecisionPlan
from supernets.errors import InvalidCompression
from supernets.network import Supernet
from supernets.spaces.catalog import SPACES

SPACE = SPACES["digits-mbv3"]
SMALLEST = SPACE.smallest(8)


@pytest.fixture(scope="module")
def source() -> Source:
    return Source(Supernet(SPACE, generator=torch.Generator().manual_seed(0)).eval(), SMALLEST, load_digits())


def narrow(rank: int) -> tuple[nn.Module, Tensor]:
    """(two layers whose first gives outputs of that rank on these inputs, the inputs): the weights are of full
    rank, the inputs are not."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Conv2d(32, 48, 1), nn.ReLU(), nn.Conv2d(48, 32, 1, bias=False)).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.3, generator=generator)
    basis = torch.randn(32, rank, generator=generator)
    x = torch.einsum("cr,brhw->bchw", basis, torch.randn(40, rank, 4, 4, generator=generator)) + 1.5
    return network, x


def test_a_layer_whose_outputs_vary_in_few_directions_is_split_without_loss() -> None:
    network, x = narrow(8)
    split, said = low_rank(network, x, 0.6)
    assert [line["layer"] for line in said["layers"]][0] == "0" and isinstance(split[0], Split)
    assert said["layers"][0]["rank"] == 8 and said["layers"][0]["variance_kept"] > 0.9999
    with torch.no_grad():
        assert torch.allclose(split[0](x), network[0](x), atol=1e-4), "the mean too, through the bias"
        plain, _ = low_rank(network, x, 0.6, control=True)
        assert not torch.allclose(plain[0](x), network[0](x), atol=0.5), "weights alone do not see the inputs"
    assert said["macs_saved"] >= 16 * (32 * 48 - 8 * (32 + 48))


@pytest.mark.parametrize("share", [0.9, 0.6])
def test_about_the_share_of_multiply_adds_is_left(share: float) -> None:
    network, x = narrow(32)
    _, said = low_rank(network, x, share)
    assert abs(said["share_of_macs"] - share) < 0.15 and said["share_of_macs"] >= 0.4


def test_weights_share_few_values_and_those_that_count_are_nearest() -> None:
    generator = np.random.default_rng(0)
    values, weights = generator.normal(size=4000), generator.uniform(0.1, 2, 4000)
    weights[values > 2] = 50

    def error(book: Any) -> float:
        nearest = np.abs(values[:, None] - book).min(axis=1)
        return float((weights * nearest**2).sum())

    found = k_means(values, 16, weights)
    assert (np.diff(found) >= 0).all()
    assert error(found) < error(k_means(values, 16, np.ones(4000))) < error(np.linspace(-4, 4, 16)) * 2
    network, x = narrow(32)
    losses = [lambda n: n(x).square().mean()]
    shared, said = shared_weights(network, 4, losses)
    assert all(len(shared[i].weight.unique()) <= 16 for i in (0, 2)) and said["layers_shared"] == 2
    assert said["weights"] == 2 * 32 * 48 and said["weights_left"] == 48 and said["codebook_bytes"] == 128
    assert torch.equal(shared[0].bias, network[0].bias), "biases stay"


def test_layers_that_count_more_get_more_bits() -> None:
    network, x = narrow(32)
    losses = [lambda n: (n[0](x) * 1e-3).square().mean() + (n[2](network[0](x))).square().mean()]
    rounded, said = mixed_bits(network, 4, losses)
    bits = {line["layer"]: line["bits"] for line in said["layers"]}
    assert bits["2"] > bits["0"] and said["mean_bits"] <= 4
    assert said["simulated_bytes"] == (bits["0"] + bits["2"]) * 32 * 48 // 8
    assert len(rounded[2].weight.unique()) <= 2 ** bits["2"]
    _, same = mixed_bits(network, 4, [], control=True)
    assert {line["bits"] for line in same["layers"]} == {4}


@pytest.mark.parametrize(
    "delivery", [Delivery(), Delivery(opset=11, ir_version=6), Delivery(precision="float16")]
)
def test_a_codebook_in_a_file_computes_the_same(delivery: Delivery) -> None:
    generator = np.random.default_rng(0)
    weight = generator.choice(np.float32([-1, -0.5, 0.25, 1]), size=(64, 32)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["input", "w"], ["output"])],
        "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 32])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    small = in_form(with_codebooks(model), delivery)
    onnx.checker.check_model(small, full_check=True)
    x = generator.normal(size=(1, 64)).astype(np.float16 if delivery.precision == "float16" else np.float32)
    plain = in_form(model, delivery)
    found, wanted = (
        onnx_session(one.SerializeToString()).run(None, {"input": x})[0] for one in (small, plain)
    )
    assert np.array_equal(found, wanted)
    if delivery.precision == "float32":
        assert len(small.SerializeToString()) < 0.4 * len(model.SerializeToString())


def test_every_pass_of_the_catalog_does_something_and_says_what() -> None:
    assert APPLY.keys() == PASSES.keys()
    for one in PASSES.values():
        assert one.does and one.fitted_on and one.control and one.strength_is and len(one.strengths) > 1
        assert one.gains in ("latency", "size")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("prune-all",), "there are low-rank, shared-weights"),
        (("mixed-bits", "shared-weights"), "few values: ask for one"),
        (("low-rank", "low-rank"), "named once"),
    ],
)
def test_passes_that_cannot_be_are_refused(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(InvalidCompression, match=said):
        ordered(names)


def test_passes_are_applied_in_the_catalogs_order() -> None:
    assert ordered(("shared-weights", "low-rank")) == ("low-rank", "shared-weights")


def test_int8_few_samples_and_formats_without_passes_are_refused(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(source, compression=(AppliedPass("low-rank", 0.7),))
    operators = len(source.supernet.plan(SMALLEST))
    with pytest.raises(InvalidCompression, match="float32"):
        passed(replace(asked, plan=PrecisionPlan.uniform("int8", operators)), PLAIN)
    monkeypatch.setattr(compressed, "FEWEST_SAMPLES", 10**6)
    with pytest.raises(InvalidCompression, match="training samples, too few"):
        passed(asked, PLAIN)
    monkeypatch.setattr(type(FORMATS["onnx"]), "passes", lambda self: PLAIN[:3])
    with pytest.raises(InvalidCompression, match="have no compression passes"):
        pipeline.deliver(asked, Delivery())


def test_a_file_holds_the_network_after_its_passes(source: Source) -> None:
    both = (AppliedPass("low-rank", 0.7), AppliedPass("shared-weights", 5))
    plain = passed(source, PLAIN)
    made = pipeline.deliver(replace(source, compression=both), Delivery())
    assert made.parity.holds and isinstance(made.network, CompressedNetwork)
    split, shared = made.network.reports
    assert split["macs_saved"] > 0 and split["samples"] >= 32 and shared["bits"] == 5
    blocks = {line["layer"].split(".")[0] for line in split["layers"]}
    assert blocks <= {name for name, _ in source.supernet.plan(SMALLEST)}, "layers are named by their blocks"
    assert made.parameters < sum(p.numel() for p in plain.parameters())
    operators = {node.op_type for node in onnx.load_from_string(made.file).graph.node}
    assert "Gather" in operators and len(made.file) < 2 * made.parameters


def test_the_strongest_that_costs_at_most_a_point_is_taken(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {None: 0.90, 8: 0.905, 6: 0.893, 5: 0.885, 4: 0.6, "control": 0.5}
    asked: list[Source] = []

    def value(network: Any, source: Source, split: str) -> float:
        last = asked[-1].compression[-1] if asked[-1].compression else None
        return values[None if last is None else "control" if last.control else last.strength]

    monkeypatch.setattr(trial, "passed", lambda source, passes: asked.append(source))
    monkeypatch.setattr(trial, "quality_of", value)
    found = trial.try_pass(source, "shared-weights")
    assert found.taken == 6 and found.before == 0.9 and dict(found.validation)[4] == 0.6
    assert found.control_test == 0.5 and asked[-1].compression == (AppliedPass("shared-weights", 6, True),)
    values[8] = values[6] = 0.5
    assert trial.try_pass(source, "shared-weights").taken is None


def test_a_pass_is_counted_as_it_would_be_delivered(source: Source) -> None:
    small = replace(source, data=load_digits())
    plain = passed(small, PLAIN)
    assert 0 <= trial.quality_of(plain, small, "validation") <= 1
    fitting = Fitting.of(plain.operators, small.data, SMALLEST.resolution)
    assert len(fitting.losses()) == 64 and fitting.losses()[0](plain).requires_grad
