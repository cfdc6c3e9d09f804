"""Files: delivered networks and what they do, benchmarks of operators and of whole networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch

from latency_tables.inputs import InputSpec
from latency_tables.operators import Operator
from supernets.cut_out import cut_out, fold_batch_norm
from supernets.delivery import export
from supernets.delivery.testing import tested
from supernets.errors import ExportFailed
from supernets.spaces.catalog import space_at
from supernets.spaces.lowering import lower
from supernets.tasks.catalog import task_named, task_of
from supernets.training.batchnorm import calibration_batches, recalibrate
from supernets.training.memory import samples_of_space
from worker.compute.operations.loading import dataset_of, store_of, supernet_of
from worker.compute.requests import (
    ClassRecall,
    Deliver,
    DeliveredFile,
    ExportNetworks,
    ExportOperators,
    FileAccuracy,
    MeasureAccuracy,
    NetworkFiles,
    OperatorFiles,
    Places,
    Progress,
    StoredFile,
)

PARITY_SAMPLES: Final = 16


def deliver(places: Places, asked: Deliver, report: Callable[[Progress], None]) -> DeliveredFile:
    """The ONNX file of a sub-network, in the form of a delivery, checked against torch.

    Raises ExportFailed where the file computes something else than the network.
    """
    network, dataset = supernet_of(places, asked.supernet), dataset_of(places, asked.supernet)
    wanted, form = asked.architecture, asked.delivery
    plain = cut_out(network, wanted)
    # Its statistics first: they are the supernet's until then, of all networks at once, and folding is final.
    # In batches as in scoring: they are the statistics that were scored.
    at_once = samples_of_space(network.space, wanted.resolution)
    recalibrate(plain, calibration_batches(dataset, wanted.resolution, at_once=at_once))
    folded, task = fold_batch_norm(plain), task_of(dataset)
    preprocessing = task.preprocessing(dataset, wanted.resolution)
    described = task.input_of(dataset, wanted.resolution, form, export.INPUT)
    onnx = export.export_delivered(folded, folded.inputs, form, described, dataset.classes, preprocessing)
    generator = torch.Generator().manual_seed(0)
    agreement = export.parity(
        folded, onnx, samples=PARITY_SAMPLES, generator=generator, preprocessing=preprocessing
    )
    if not agreement.holds:
        raise ExportFailed(
            f"the exported file differs from the network by {agreement.max_abs_error:.3g} in logits up to "
            f"{agreement.max_abs_logit:.3g}; it was not delivered"
        )
    sha256, size_bytes = store_of(places).put(onnx)
    shape = (form.batch_size or 1, *described["shape"][1:])
    fed = InputSpec(described["name"], shape, described["dtype"], folded.inputs[0].below)
    return DeliveredFile(
        onnx_sha256=sha256,
        size_bytes=size_bytes,
        opset=form.opset,
        parameters=folded.parameter_count(),
        macs=sum(op.macs for op in lower(space_at(asked.supernet.space), wanted)),
        parity_max_abs_error=agreement.max_abs_error,
        input_shape=fed.shape,
        inputs=(fed,),
        delivery=form,
        input=described,
        classes=tuple(dataset.classes),
    )


def measure_accuracy(
    places: Places, asked: MeasureAccuracy, report: Callable[[Progress], None]
) -> FileAccuracy:
    """What the delivered file itself does on the test split, in ONNX Runtime, by the task's metric."""
    dataset = dataset_of(places, asked.supernet)
    session = export.onnx_session(store_of(places).read(asked.onnx_sha256))
    found = tested(
        session,
        dataset,
        asked.architecture.resolution,
        "test",
        lambda done, total: report(Progress(done, total)),
    )
    return FileAccuracy(
        task_named(dataset.task).metric.value(found.quality),
        found.samples,
        dataset.name,
        "test",
        tuple(ClassRecall(**one) for one in found.by_class),
    )


def export_operators(
    places: Places, asked: ExportOperators, report: Callable[[Progress], None]
) -> OperatorFiles:
    """Micro-benchmarks, in the form that networks are delivered in."""
    files = export.export_operators(
        list(asked.operators),
        progress=lambda done, total: report(Progress(done, total)),
        delivery=asked.delivery,
    )
    store = store_of(places)
    return OperatorFiles({op.text: StoredFile(*store.put(data)) for op, data in files.items()})


def export_networks(
    places: Places, asked: ExportNetworks, report: Callable[[Progress], None]
) -> NetworkFiles:
    """Whole networks with random weights, to calibrate with."""
    store = store_of(places)
    blocks = {Operator.parse(text): store.read(sha256) for text, sha256 in asked.operators.items()}
    networks = export.join_networks(space_at(asked.space), list(asked.architectures), blocks)
    return NetworkFiles(tuple(StoredFile(*store.put(data)) for data in networks))
