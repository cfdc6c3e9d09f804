"""D5: the delivered network is the one on its card, and what the card says can be worked out again from what
is stored."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save

from service.db import supernets as supernet_rows
from service.db.artifacts import register
from service.db.models import now
from service.db.states import JobState
from supernets.accuracy.predictor import QualityPredictor
from supernets.cut_out import cut_out, fold_batch_norm
from supernets.data.catalog import load_dataset
from supernets.delivery.export import export_onnx, parity
from supernets.network import Supernet
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import SPACES, space_named
from supernets.spaces.lowering import lower
from supernets.spaces.space import Space
from supernets.training.batchnorm import calibration_batches, recalibrate
from supernets.training.job import load_supernet
from supernets.training.memory import samples_of_space
from tests.reliability.machinery.lab import Lab
from tests.service.api import Api, open_api, search_request, table_rows

SMALL = ("digits-mbv3", "cifar-mbv3")
BY_SIZE = [pytest.param(name, marks=[] if name in SMALL else pytest.mark.slow) for name in SPACES]
PARITY = 1e-4


@pytest.mark.parametrize("name", BY_SIZE)
def test_d05_exported_network_is_the_network_and_nothing_more(name: str) -> None:
    space = space_named(name)
    architecture = space.largest(min(space.resolutions))
    network = cut_out(_network(space).eval(), architecture).eval()
    shape = (8, *space.input_shape(architecture.resolution))
    # as for every delivered network
    recalibrate(network, [torch.randn(shape, generator=torch.Generator().manual_seed(0))])
    plain = fold_batch_norm(network)
    data = export_onnx(plain, plain.inputs)
    _is_plain(data)
    assert parity(plain, data, samples=16).holds
    assert _weights(data) == plain.parameter_count()
    assert _macs(data) == sum(op.macs for op in lower(space, architecture))


def test_d05_latency_of_every_offered_network_is_the_sum_over_the_named_table(shared_api: Api) -> None:
    shared_api.add_device("phone")
    table = shared_api.add_table("phone")["id"]
    supernet = shared_api.add_supernet(seed=5)
    front = shared_api.get(f"/v1/supernets/{supernet}/front?device=phone").json()
    space = space_named("digits-mbv3")
    assert front["table_id"] == table
    assert len(front["points"]) > 10
    price = _price_list(shared_api, table)
    for point in front["points"]:
        again_ms = price(space, space.from_json(point["architecture"]))
        assert math.isclose(point["latency_ms"], again_ms, rel_tol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dataset"), [("digits-mbv3", "digits"), ("cifar-mbv3", "glyphs")])
def test_d05_card_is_true_of_the_file_and_of_the_table(
    make_lab: Callable[..., Lab], name: str, dataset: str
) -> None:
    """A search by the real worker over weights that were never trained. Then a later table must not change
    what was promised."""
    lab = make_lab()
    data = load_dataset(dataset)
    space = space_named(name).with_classes(len(data.classes))
    with open_api(lab.settings) as api:
        supernet = _untrained(lab, api, space, dataset)
        api.add_device("phone")
        table = api.add_table("phone", table_rows(space))
        middle_ms = _price_list(api, table["id"])(space, space.largest(space.resolutions[0])) * 0.7
        job = api.post("/v1/searches", search_request(supernet, middle_ms, candidates=2)).json()["id"]
        later = api.add_table(
            "phone", [{**row, "median_ms": row["median_ms"] * 1.5} for row in table_rows(space)]
        )
        lab.worker("worker", OMP_NUM_THREADS="1")
        assert lab.wait([job], 500) == {job: JobState.SUCCEEDED}, lab.job(job).error
        (made,) = api.get(f"/v1/jobs/{job}").json()["result"]["models"]
        card = api.get(f"/v1/models/{made['id']}").json()
        file = api.get(f"/v1/models/{made['id']}/onnx").content

        architecture = space.from_json(card["architecture"])
        assert card["latency"]["table_id"] == table["id"] != later["id"]
        again_ms = _price_list(api, card["latency"]["table_id"])(space, architecture)
        assert math.isclose(card["latency"]["predicted_ms"], again_ms, rel_tol=1e-9)
        assert again_ms <= middle_ms
        assert _price_list(api, later["id"])(space, architecture) > 1.4 * again_ms

    _is_plain(file)
    assert len(file) == card["file"]["size_bytes"]
    assert _weights(file) == card["file"]["parameters"]
    assert _macs(file) == card["file"]["macs"]
    weights = lab.store.read(card["provenance"]["weights_sha256"])
    plain = cut_out(load_supernet(weights, space), architecture)
    at_once = samples_of_space(space, architecture.resolution)
    recalibrate(plain, calibration_batches(data, architecture.resolution, at_once=at_once))
    wanted = fold_batch_norm(plain)
    inputs = torch.from_numpy(data.inputs("test", architecture.resolution)[:16])
    session = onnxruntime.InferenceSession(file)
    given = session.get_inputs()[0].name
    with torch.no_grad():
        for image in inputs:
            (found,) = session.run(None, {given: image[None].numpy()})
            assert np.abs(found - wanted(image[None]).numpy()).max() <= PARITY


def _untrained(lab: Lab, api: Api, space: Space, dataset: str) -> str:
    """A supernet of random weights with a predictor of made-up accuracies: what a file is does not depend on
    how good it is."""
    sha256, size_bytes = lab.store.put(
        save({key: value.contiguous() for key, value in _network(space).state_dict().items()})
    )
    genes = space.chain.sample(np.random.default_rng(0), 60)
    tenant_id = api.tenant_id
    predictor = QualityPredictor.fit(space, genes, 0.5 + genes.sum(axis=1) / genes.sum(), folds=2)
    with lab.sessions.begin() as session:
        register(session, sha256, size_bytes, "supernet")
        spec: dict[str, Any] = {
            "space": space.name,
            "dataset": dataset,
            "recipe": "quick",
            "seed": 5,
            "classes": space.classes,
        }
        row = supernet_rows.find_or_add(session, tenant_id, "5" * 64, **spec)
        row.weights_sha256, row.predictor, row.summary, row.ready_at = sha256, predictor.to_json(), {}, now()
        return row.id


def _price_list(api: Api, table_id: str) -> Callable[[Space, Architecture], float]:
    """ms of a network: the plain sum over the rows of a table, as anybody can do it who has both."""
    rows = api.get(f"/v1/devices/phone/tables/{table_id}").json()["rows"]
    median_ms = {row["operator"]: row["median_ms"] for row in rows}
    return lambda space, architecture: sum(median_ms[op.text] for op in lower(space, architecture))


def _network(space: Space) -> Supernet:
    """Random weights and biases: no two tensors are equal, so none is stored once for two."""
    generator = torch.Generator().manual_seed(5)
    made = Supernet(space, generator=generator)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return made


def _is_plain(data: bytes) -> None:
    """Checked in full; no external data, no foreign domain, no functions."""
    onnx.checker.check_model(data, full_check=True)
    loaded = onnx.load_from_string(data)
    assert {entry.domain for entry in loaded.opset_import} <= {"", "ai.onnx"}
    assert {node.domain for node in loaded.graph.node} <= {"", "ai.onnx"}
    assert not loaded.functions
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in loaded.graph.initializer)


def _weights(data: bytes) -> int:
    """Learnt numbers in the file; the integers are shapes and axes."""
    tensors = onnx.load_from_string(data).graph.initializer
    return sum(math.prod(t.dims) for t in tensors if t.data_type == onnx.TensorProto.FLOAT and t.dims)


def _macs(data: bytes) -> int:
    """Multiply-adds of convolutions and matrix products, counted on the graph."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(data), data_prop=True)
    graph = model.graph
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in [*graph.value_info, *graph.output]
    }
    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            total += math.prod(shapes[node.output[0]]) * math.prod(weights[node.input[1]][1:])
        elif node.op_type in ("Gemm", "MatMul"):
            total += math.prod(weights[node.input[1]])
    return total
