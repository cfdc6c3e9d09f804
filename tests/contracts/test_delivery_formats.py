"""Every form of file that some runtime version is delivered: it opens, computes the network, and says how it
is fed."""

import numpy as np
import onnx
import pytest
import torch

from latency_tables.measurement import Context
from latency_tables.operators.bottleneck import Bottleneck
from supernets.data.catalog import load_digits
from supernets.delivery.catalog import Delivery, common_delivery, delivery_of
from supernets.delivery.description import described_input, description_of, preprocessing_of
from supernets.delivery.export import (
    INPUT,
    export_delivered,
    export_operators,
    join_networks,
    onnx_session,
    parity,
    random_network,
)
from supernets.delivery.format import Content
from supernets.delivery.onnx_format import READERS
from supernets.delivery.onnx_passes import in_form
from supernets.errors import ExportFailed, InvalidPreprocessing, UnservableContext
from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import lower
from tests.supernets.delivery.test_operator_graphs import one_of_each

SPACE = SPACES["digits-mbv3"]
LARGEST = SPACE.largest(12)
BASE = Context("onnxruntime", "1.31", "CPUExecutionProvider", 1, "float32", 1)
FORMS = sorted(
    {
        (opset, ir)
        for reader in READERS.values()
        for _, opset, ir in reader.since
        if opset in (12, 13, 17, 19, 20)
    }
)
DELIVERIES = [
    *(Delivery(opset, ir) for opset, ir in FORMS),
    Delivery(11, 7),
    Delivery(batch_size=8),
    Delivery(batch_size=None),
    Delivery(precision="float16"),
    Delivery(preprocessing="embedded"),
    Delivery(12, 7, "float16", 8, "embedded"),
    Delivery(batch_size=None, preprocessing="embedded"),
]


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.mark.parametrize("delivery", DELIVERIES, ids=str)
def test_a_file_in_that_form_computes_the_network_and_says_how_it_is_fed(delivery, digits):
    network, preprocessing = random_network(SPACE, LARGEST), digits.preprocessing(12)
    described = described_input(INPUT, preprocessing, delivery)
    file = export_delivered(
        network, Content(network.inputs, delivery, described, digits.class_names, preprocessing)
    )
    generator = torch.Generator().manual_seed(0)
    assert parity(network, file, samples=2, generator=generator, preprocessing=preprocessing).holds
    model = onnx.load_from_string(file)
    assert model.opset_import[0].version == delivery.opset and model.ir_version == delivery.ir_version
    session = onnx_session(file)
    given = session.get_inputs()[0]
    said, classes = description_of(session.get_modelmeta().custom_metadata_map)
    assert [size if isinstance(size, int) else None for size in given.shape] == said["shape"]
    assert (
        given.type
        == {"float32": "tensor(float)", "float16": "tensor(float16)", "uint8": "tensor(uint8)"}[said["dtype"]]
    )
    assert said["name"] == given.name and classes == list(digits.class_names)
    assert preprocessing_of(said) == preprocessing


def test_operators_have_the_form_of_the_networks_they_price():
    form = Delivery(13, 7, "float16", 8)
    joined = join_networks(SPACE, [LARGEST], export_operators(lower(SPACE, LARGEST), delivery=form))[0]
    model, given = onnx.load_from_string(joined), onnx_session(joined).get_inputs()[0]
    assert given.shape == [8, 1, 12, 12] and given.type == "tensor(float16)"
    assert model.opset_import[0].version == 13 and model.ir_version == 7


@pytest.mark.parametrize("opset", [11, 13, 17, 19])
def test_every_family_and_activation_computes_the_same_in_the_words_of_an_older_opset(opset):
    some = list(dict.fromkeys([*one_of_each("family"), *one_of_each("activation")]))
    here, there = export_operators(some), export_operators(some, delivery=Delivery(opset, 7))
    generator = np.random.default_rng(opset)
    for op in some:
        x = generator.standard_normal((1, op.in_channels, op.in_height, op.in_width)).astype(np.float32)
        wanted, found = (onnx_session(files[op]).run(None, {"input": x})[0] for files in (here, there))
        assert np.allclose(found, wanted, atol=1e-5), op.text
        assert onnx.load_from_string(there[op]).opset_import[0].version == opset


def test_a_shortcut_of_an_odd_size_divides_by_the_pixels_that_are_there_in_every_runtime():
    """ONNX Runtime 1.15 to 1.20 counted cells beyond the edge where padding counts, though there was none."""
    op = Bottleneck(5, 5, 8, 16, 3, 2, 4, True, False, "relu", 1)
    model = onnx.load_from_string(export_operators([op])[op])
    (pool,) = [node for node in model.graph.node if node.op_type == "AveragePool"]
    said = {attribute.name: attribute.i for attribute in pool.attribute}
    assert said["ceil_mode"] == 1 and said["count_include_pad"] == 0


@pytest.mark.parametrize(
    ("version", "opset", "ir_version"),
    [
        ("1.16.3", 19, 9),
        ("1.16", 19, 9),
        ("1.17.0", 20, 9),
        ("1.31.1", 20, 10),
        ("1.15.1", 18, 8),
        ("1.7", 13, 7),
        ("1.3", 12, 6),
    ],
)
def test_opset_and_ir_are_those_that_the_runtime_version_opens(version, opset, ir_version):
    found = delivery_of(Context("onnxruntime", version, "CPUExecutionProvider", 1, "float32", 8))
    assert (found.opset, found.ir_version, found.batch_size) == (opset, ir_version, 8)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"runtime": "tflite", "precision": "int8"}, "int8"),
        ({"precision": "int8"}, "int8"),
        ({"runtime_version": "0.4"}, "1.3"),
        ({"runtime_version": "latest"}, "no version"),
    ],
)
def test_what_no_file_can_serve_is_refused_with_the_reason(changed, said):
    with pytest.raises(UnservableContext, match=said):
        delivery_of(Context(**{**BASE.as_dict(), **changed}))


def test_one_file_for_several_devices_opens_on_the_oldest_and_is_refused_where_they_cannot_share_one():
    old = Context(**{**BASE.as_dict(), "runtime_version": "1.16"})
    assert common_delivery([BASE, old]) == Delivery(19, 9)
    with pytest.raises(UnservableContext, match="batch"):
        common_delivery([BASE, Context(**{**BASE.as_dict(), "batch_size": 8})])


def test_an_operator_of_unknown_past_and_weights_beyond_float16_are_refused():
    model = onnx.load_from_string(export_operators(lower(SPACE, LARGEST)[:1]).popitem()[1])
    foreign = onnx.ModelProto()
    foreign.CopyFrom(model)
    foreign.graph.node[0].op_type = "Gelu"
    with pytest.raises(ExportFailed, match="Gelu"):
        in_form(foreign, Delivery(17, 8))
    weight = model.graph.initializer[0]
    weight.CopyFrom(onnx.numpy_helper.from_array(np.full(tuple(weight.dims), 1e6, np.float32), weight.name))
    with pytest.raises(ExportFailed, match="float16"):
        in_form(model, Delivery(precision="float16"))


def test_a_file_that_tells_nothing_is_said_to():
    with pytest.raises(InvalidPreprocessing, match="does not say"):
        description_of({})
