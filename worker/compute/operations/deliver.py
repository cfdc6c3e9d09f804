"""Files: delivered networks and what they do, benchmarks of operators and of whole networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from latency_tables.inputs import InputSpec
from latency_tables.operators import Operator
from service.db.documents import Document
from supernets.delivery import pipeline
from supernets.delivery.catalog import format_named, format_of
from supernets.delivery.compression import trial
from supernets.delivery.compression.compressed import CompressedNetwork
from supernets.delivery.format import Delivery
from supernets.delivery.passes import PLAIN, Source, passed
from supernets.delivery.precision import plan_of
from supernets.delivery.pruning import report_of
from supernets.delivery.robustness import robustness
from supernets.delivery.simulated import QuantisedNetwork
from supernets.spaces.catalog import space_at
from supernets.spaces.lowering import lower
from supernets.tasks.catalog import task_named
from worker.compute.operations.loading import dataset_of, store_of, supernet_of
from worker.compute.requests import (
    ClassRecall,
    Deliver,
    DeliveredFile,
    ExportNetworks,
    ExportOperators,
    FileAccuracy,
    MeasureAccuracy,
    MeasureRobustness,
    NetworkFiles,
    OperatorFiles,
    Places,
    Progress,
    Robust,
    StoredFile,
    TriedPass,
    TryPass,
)


def deliver(places: Places, asked: Deliver, report: Callable[[Progress], None]) -> DeliveredFile:
    """The ONNX file of a sub-network, in the form of a delivery, checked against torch.

    Raises ExportFailed where the file computes something else than the network.
    """
    network, dataset = supernet_of(places, asked.supernet), dataset_of(places, asked.supernet)
    wanted, delivery, store = asked.architecture, asked.delivery, store_of(places)
    space = space_at(asked.supernet.space).holding(wanted)
    operators = lower(space, wanted)
    source = Source(
        network, space.in_float(wanted), dataset, plan_of(operators), compression=asked.compression
    )
    written = format_of(delivery, space).deliver(source, delivery)
    made = written.network.reports if isinstance(written.network, CompressedNetwork) else ()
    sha256, size_bytes = store.put(written.file)
    measured = (None, None) if written.measured is None else store.put(written.measured)
    fed = written.fed or (_fed(written, delivery),)
    return DeliveredFile(
        onnx_sha256=sha256,
        size_bytes=size_bytes,
        opset=delivery.opset,
        parameters=written.parameters,
        macs=sum(op.macs for op in operators)
        + network.macs_beside
        - sum(one.get("macs_saved", 0) for one in made),
        parity_max_abs_error=written.parity.max_abs_error,
        input_shape=fed[0].shape,
        inputs=fed,
        delivery=delivery,
        input=dict(written.described),
        classes=tuple(dataset.classes) if written.labels else None,
        int8=_rounded(written),
        compression=made,
        measured_sha256=measured[0],
        measured_bytes=measured[1],
        pruned=report_of(written.network, lambda: [name for name, _ in network.plan(source.whole)]),
    )


def _fed(written: pipeline.Written, delivery: Delivery) -> InputSpec:
    """The one input of a file, with the batch."""
    shape = (delivery.batch_size or 1, *written.described["shape"][1:])
    return InputSpec(written.described["name"], shape, written.described["dtype"], written.inputs[0].below)


def try_pass(places: Places, asked: TryPass, report: Callable[[Progress], None]) -> TriedPass:
    """Raises InvalidCompression."""
    network, dataset = supernet_of(places, asked.supernet), dataset_of(places, asked.supernet)
    source = Source(network, asked.architecture, dataset, compression=asked.applied)
    found = trial.try_pass(source, asked.name, lambda done, total: report(Progress(done, total)))
    return TriedPass(**vars(found))


def _rounded(written: pipeline.Written) -> Document | None:
    """How a file with blocks in int8 was rounded, and how near it comes to the simulated network."""
    network, agreement = written.network, written.parity.rounded
    if not isinstance(network, QuantisedNetwork) or agreement is None:
        return None
    return {
        "method": network.method,
        "calibration_samples": network.samples,
        "weight_bits": network.rounding.weight_bits,
        "parity": asdict(agreement),
    }


def measure_accuracy(
    places: Places, asked: MeasureAccuracy, report: Callable[[Progress], None]
) -> FileAccuracy:
    """What the delivered file itself does on the test split, in ONNX Runtime, by the task's metric."""
    dataset = dataset_of(places, asked.supernet)
    file = store_of(places).read(asked.onnx_sha256)

    def tell(done: int, total: int) -> None:
        report(Progress(done, total))

    form = format_of(asked.delivery, space_at(asked.supernet.space))
    found = form.tested(file, dataset, asked.architecture.resolution, "test", tell)
    return FileAccuracy(
        task_named(dataset.task).metric.value(found.quality),
        found.samples,
        dataset.name,
        "test",
        tuple(ClassRecall(**one) for one in found.by_class),
        tuple(tuple(int(n) for n in row) for row in found.confusion),
    )


def measure_robustness(
    places: Places, asked: MeasureRobustness, report: Callable[[Progress], None]
) -> Robust:
    """Raises InvalidSearch for data that are no pictures."""
    network, dataset = supernet_of(places, asked.supernet), dataset_of(places, asked.supernet)
    plain = space_at(asked.supernet.space).in_float(asked.architecture)
    attacked = passed(Source(network, plain, dataset, compression=asked.compression), PLAIN).cpu().eval()
    opened = format_named(asked.delivery.format).open(store_of(places).read(asked.onnx_sha256))
    found = robustness(
        opened, attacked, dataset, plain.resolution, lambda done, total: report(Progress(done, total))
    )
    named = ({str(strength): value for strength, value in one.items()} for one in (found.file, found.float32))
    return Robust(found.samples, *named)


def export_operators(
    places: Places, asked: ExportOperators, report: Callable[[Progress], None]
) -> OperatorFiles:
    """Micro-benchmarks, in the form that networks are delivered in."""
    files = format_named(asked.delivery.format).operators(
        asked.operators, asked.delivery, lambda done, total: report(Progress(done, total))
    )
    store = store_of(places)
    return OperatorFiles({op.text: StoredFile(*store.put(data)) for op, data in files.items()})


def export_networks(
    places: Places, asked: ExportNetworks, report: Callable[[Progress], None]
) -> NetworkFiles:
    """Whole networks with random weights, to calibrate with."""
    store = store_of(places)
    blocks = {Operator.parse(text): store.read(sha256) for text, sha256 in asked.operators.items()}
    space = space_at(asked.space).holding(*asked.architectures)
    form = format_of(asked.delivery, space)
    networks = form.networks(space, asked.architectures, blocks, asked.delivery)
    return NetworkFiles(tuple(StoredFile(*store.put(data)) for data in networks))
