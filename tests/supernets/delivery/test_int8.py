"""Networks in int8: rounded steps compute the float32 block, files compute the simulated network, the integer
kernels are the ones that run, and what cannot be rounded is refused."""

from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from latency_tables.agent.graph import check_graph
from latency_tables.operators.mbconv import MBConv
from latency_tables.operators.quantize import Quantize
from supernets.cut_out import PlainNetwork, fold_batch_norm
from supernets.data.catalog import load_digits
from supernets.delivery.catalog import FORMATS
from supernets.delivery.export import (
    export_network,
    finished_form,
    int8_graph,
    layer_model,
    onnx_session,
    random_network,
    settled_operator,
)
from supernets.delivery.feeding import OnnxFile
from supernets.delivery.format import Delivery, Format
from supernets.delivery.int8_export import boundary_file, chosen_network, int8_operators
from supernets.delivery.int8_steps import int8_steps
from supernets.delivery.parity import compared_rounded
from supernets.delivery.passes import PLAIN, ROUNDED, Source, passed
from supernets.delivery.pipeline import deliver
from supernets.delivery.precision import FLOAT32, INT8, METHODS, PrecisionPlan, Rounding
from supernets.delivery.quantising import Samples, quantise
from supernets.delivery.ranges import Range, ranges_of
from supernets.delivery.simulated import Int8Block, QuantisedNetwork
from supernets.errors import InvalidPrecision, UnservableContext
from supernets.network import Supernet
from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import lower
from tests.supernets.delivery.test_operator_graphs import one_of_each

CPU = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
SPACE = SPACES["digits-mbv3"]
SMALLEST = SPACE.smallest()
NAMES = [name for name, _ in Supernet(SPACE).plan(SMALLEST)]
MIXED = PrecisionPlan.of_blocks(NAMES, {"stage1_0": INT8, "stage2_0": INT8, "head_0": INT8})
PLANS = {"int8": PrecisionPlan.uniform(INT8, len(NAMES)), "mixed": MIXED}
every_plan = pytest.mark.parametrize("name", PLANS)


@cache
def source(name: str | None = None) -> Source:
    supernet = Supernet(SPACE, generator=torch.Generator().manual_seed(0)).eval()
    return Source(
        supernet, SMALLEST, load_digits(), None if name is None else PLANS[name], Rounding("minmax")
    )


@cache
def written(name: str):
    return deliver(source(name), Delivery())


def optimised(file: bytes, path) -> Counter:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(path), 3
    onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("grouping", ["family", "activation", "squeeze_excite", "residual"])
def test_the_steps_of_a_block_compute_it_before_they_are_rounded(grouping):
    for op in one_of_each(grouping):
        module = fold_batch_norm(settled_operator(op))
        x = torch.randn(2, *op.inputs[0].shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            found, wanted = Int8Block(int8_steps(layer_model(module, op)), {}, 8)(x), module(x)
        assert torch.allclose(found, wanted, atol=1e-4), op.text


@every_plan
def test_a_file_computes_the_simulated_network_in_integer_kernels(name, tmp_path):
    made = written(name)
    assert isinstance(made.network, QuantisedNetwork)
    assert (
        made.parity.holds and made.parity.rounded.top1_agreement == 1 and made.parity.rounded.samples == 128
    )
    check_graph(made.file)
    assert not {node.domain for node in onnx.load_from_string(made.file).graph.node} - {""}
    ran = optimised(made.file, tmp_path / "ran.onnx")
    assert ran["HardSwish"] == ran["HardSigmoid"] == (0 if name == "int8" else ran["HardSigmoid"])
    if name == "int8":
        assert not {"Conv", "FusedConv", "Gemm", "Mul", "Add", "DequantizeLinear"} & set(ran), ran
        assert ran["QuantizeLinear"] == 1 and ran["Transpose"] <= 2
    else:
        assert ran["QLinearConv"] and ran["Conv"] + ran["FusedConv"]


def test_a_plan_of_float32_rounds_nothing():
    network = passed(replace(source(), plan=PrecisionPlan.uniform(FLOAT32, len(NAMES))), ROUNDED)
    assert isinstance(network, PlainNetwork)
    wanted, found = passed(source(), PLAIN).state_dict(), network.state_dict()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_int8_takes_a_quarter_of_the_room():
    plain = len(export_network(SPACES["cifar-mbv3"], SPACES["cifar-mbv3"].largest()))
    space = SPACES["cifar-mbv3"]
    rounded = [op.at(INT8) for op in lower(space, space.largest())]
    assert len(chosen_network(rounded, Delivery(), eps=space.batch_norm_eps)) < 0.35 * plain


def test_a_wrong_file_is_found():
    made = written("int8")
    model = onnx.load_from_string(made.file)
    weight = next(t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8 and t.dims)
    values = onnx.numpy_helper.to_array(weight)
    weight.CopyFrom(onnx.numpy_helper.from_array(np.roll(values, 1, axis=0), weight.name))
    data = source("int8").data
    inputs = torch.from_numpy(data.inputs("train", SMALLEST.resolution, np.arange(64)))
    opened = OnnxFile(onnx_session(model.SerializeToString()))
    assert not compared_rounded(made.network, opened, inputs, inputs).holds


def test_weights_of_seven_bits_do_not_saturate_where_products_are_added_in_16():
    """On AVX2 without VNNI two products of 255 and 127 exceed 16 bits; two of 255 and 63 never do."""
    op = MBConv(4, 4, 32, 32, 3, 1, 32, False, False, "none", 32)
    network = PlainNetwork([op])
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, torch.nn.Conv2d):
                part.weight.fill_(0.1)  # every product the largest there is
    network = fold_batch_norm(network.eval())
    x = torch.rand(32, *op.inputs[0].shape, generator=torch.Generator().manual_seed(0)).clamp(min=0.9)
    errors = {}
    for bits in (7, 8):
        how = Rounding("minmax", weight_bits=bits)
        rounded = quantise(network, PrecisionPlan((INT8,)), Samples(x, x), how)
        session = onnx_session(finished_form(int8_graph(rounded), Delivery()))
        found = np.concatenate([session.run(None, {"input": one[None].numpy()})[0] for one in x])
        with torch.no_grad():
            wanted = rounded(x).numpy()
        errors[bits] = np.abs(found - wanted).max() / np.abs(wanted).max()
    assert errors[7] < 0.02
    if "avx2" in CPU and "vnni" not in CPU:
        assert errors[8] > 0.1, "this processor saturates, and the test would not see it"


@pytest.mark.parametrize("grouping", ["family", "activation", "squeeze_excite"])
def test_a_micro_benchmark_holds_what_the_block_is_inside_a_network_in_int8(grouping, tmp_path):
    operators = one_of_each(grouping)
    seen = []
    files = int8_operators(
        operators, Delivery(batch_size=2), progress=lambda done, of: seen.append((done, of))
    )
    assert set(files) == set(operators) and seen[-1] == (len(operators), len(operators))
    for op, file in files.items():
        check_graph(file)
        session = onnx_session(file)
        (given,), (result,) = session.get_inputs(), session.get_outputs()
        assert (given.type, given.shape) == ("tensor(uint8)", [2, *op.inputs[0].shape])
        assert result.shape == [2, *op.output_shape]
        assert result.type == ("tensor(float)" if op.closes else "tensor(uint8)")
        ran = optimised(file, tmp_path / "ran.onnx")
        conversions = {
            "Transpose",
            "QuantizeLinear",
            "DequantizeLinear",
            "Conv",
            "FusedConv",
            "Gemm",
            "Mul",
            "Add",
        }
        assert not conversions & set(ran), (op.text, ran)


def test_boundaries_hold_the_conversion_and_the_turn_of_channels():
    rng, shape = np.random.default_rng(0), (8, 6, 6)
    there = onnx_session(boundary_file("quantize", shape, Delivery()))
    back = onnx_session(boundary_file("dequantize", shape, Delivery()))
    x = rng.uniform(-4, 4, (1, *shape)).astype(np.float32)
    (levels,) = there.run(None, {"input": x})
    assert levels.dtype == np.uint8 and levels.shape == x.shape
    assert np.abs(back.run(None, {"input": levels})[0] - x).max() <= 8 / 255 / 2 + 1e-6
    flat = onnx_session(boundary_file("quantize", (40,), Delivery()))
    assert flat.run(None, {"input": np.zeros((1, 40), np.float32)})[0].shape == (1, 40)
    with pytest.raises(InvalidPrecision, match="quantize"):
        boundary_file("requantize", shape, Delivery())


def test_whole_networks_to_calibrate_with_are_float32_in_and_out():
    chosen = [op.at(p) for op, p in zip(lower(SPACE, SMALLEST), MIXED.precisions, strict=True)]
    session = onnx_session(chosen_network(chosen, Delivery(), eps=SPACE.batch_norm_eps))
    found = session.run(None, {"input": np.ones((1, 1, 8, 8), np.float32)})[0]
    assert found.dtype == np.float32 and found.shape == (1, 10) and np.isfinite(found).all()


def test_operators_and_networks_that_a_search_chose_come_out_of_the_format():
    plain = lower(SPACE, SMALLEST)
    chosen = [op.at(INT8) if number in MIXED.int8 else op for number, op in enumerate(plain)]
    boundary = Quantize.of(plain[1].inputs[0].shape)
    files = FORMATS["onnx"].operators([*chosen, boundary], Delivery())
    assert set(files) == {*chosen, boundary}
    assert onnx_session(files[chosen[1]]).get_inputs()[0].type == "tensor(uint8)"
    assert onnx_session(files[boundary]).get_outputs()[0].type == "tensor(uint8)"
    mixed = [chosen[0], boundary, *chosen[1:]]
    whole = chosen_network(mixed, Delivery(), eps=SPACE.batch_norm_eps)
    assert whole == chosen_network(chosen, Delivery(), eps=SPACE.batch_norm_eps)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_a_range_inside_the_values_with_an_exact_zero(method):
    values = np.random.default_rng(0).standard_normal(400_000).astype(np.float32)
    values[0] = 20.0
    found = ranges_of(values, (method,))[method]
    assert values.min() <= found.low <= 0 <= found.high <= 20
    assert found.low == 0 or abs(found.zero_point * found.scale + found.low) <= found.scale
    assert (found.high == 20) == (method == "minmax"), "one value out of 400,000 is not worth half the levels"


def test_a_range_of_nothing_and_values_that_are_not_numbers():
    assert Range(0.0, 0.0).scale > 0 and Range(3.0, 5.0).low == 0 and Range(-3.0, -1.0).zero_point == 255
    with pytest.raises(FloatingPointError):
        ranges_of(np.array([0.0, np.inf], np.float32), ("minmax",))


def test_what_cannot_be_rounded_is_refused_with_the_reason():
    network = fold_batch_norm(random_network(SPACE, SMALLEST))
    few = torch.zeros(2, *network.inputs[0].shape)
    with pytest.raises(InvalidPrecision, match="2 precisions"):
        quantise(network, PrecisionPlan((INT8, INT8)), Samples(few, few), Rounding())
    wrong = torch.full_like(few, float("nan"))
    with pytest.raises(InvalidPrecision, match="not finite"):
        quantise(network, PLANS["int8"], Samples(wrong, wrong), Rounding("minmax"))
    with pytest.raises(InvalidPrecision, match="no block 'stage9_0'"):
        PrecisionPlan.of_blocks(NAMES, {"stage9_0": INT8})
    with pytest.raises(InvalidPrecision, match="int4"):
        PrecisionPlan(("int4",))
    with pytest.raises(InvalidPrecision, match="16 calibration samples are too few"):
        Rounding(samples=16)
    with pytest.raises(InvalidPrecision, match="minmax, percentile"):
        Rounding("guess")
    for form, said in ((Delivery(12, 7), "opset 12"), (Delivery(precision="float16"), "float16")):
        with pytest.raises(UnservableContext, match=said):
            deliver(source("mixed"), form)


def test_too_few_training_samples_are_refused():
    digits = source().data
    small = replace(
        digits, train=replace(digits.train, images=digits.train.images[:20], labels=digits.train.labels[:20])
    )
    with pytest.raises(InvalidPrecision, match="20 training samples"):
        deliver(replace(source("int8"), data=small), Delivery())


def test_an_operator_without_an_int8_form_is_named():
    op = lower(SPACE, SMALLEST)[0]
    model = layer_model(fold_batch_norm(settled_operator(op)), op)
    model.graph.node[0].op_type = "Gelu"
    with pytest.raises(InvalidPrecision, match="Gelu"):
        int8_steps(model)


def test_a_format_without_int8_is_not_given_a_plan(monkeypatch):
    monkeypatch.setattr(type(FORMATS["onnx"]), "passes", Format.passes)
    with pytest.raises(InvalidPrecision, match="no blocks in int8"):
        deliver(source("mixed"), Delivery())


def test_a_plan_is_read_back_and_says_what_it_is():
    assert PrecisionPlan.from_json(MIXED.to_json()) == MIXED and MIXED.name == "mixed"
    assert PLANS["int8"].name == INT8 and len(MIXED.int8) == 3
    assert MIXED.at(0, INT8).precisions[0] == INT8
    assert PrecisionPlan.of_blocks(["a", "", "b"], {"a": INT8}).precisions == (INT8, INT8, FLOAT32)
