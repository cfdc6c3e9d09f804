"""What the child can do with torch. Arguments and results are small JSON values; bytes go through the
artifact store."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import save

from latency_tables.operators import Operator
from service.artifacts import ArtifactStore
from supernets.accuracy import refinement as accuracy_refinement
from supernets.accuracy.predictor import QualityPredictor
from supernets.cut_out import cut_out, fold_batch_norm
from supernets.data.catalog import load_for
from supernets.delivery.catalog import Delivery
from supernets.delivery.export import (
    INPUT,
    export_delivered,
    export_operators,
    join_networks,
    onnx_session,
    parity,
)
from supernets.delivery.testing import tested
from supernets.errors import ExportFailed
from supernets.network import Supernet
from supernets.search.catalog import solve
from supernets.search.gradient import gate_job
from supernets.search.likely import most_probable
from supernets.search.packing import packed_result, unpacked_problem
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import lower
from supernets.spaces.space import Space
from supernets.tasks.catalog import task_named, task_of
from supernets.tasks.data import Data
from supernets.training.batchnorm import calibration_inputs, recalibrate
from supernets.training.catalog import recipe_to_follow
from supernets.training.evaluation import evaluate
from supernets.training.job import load_supernet
from supernets.training.loop import Progress as TrainingProgress
from supernets.training.tuning import alone, tuned

Progress = Callable[[int, int], None]
PARITY_SAMPLES: Final = 16


def score(
    *,
    progress: Progress,
    places: dict[str, Any],
    supernet: dict[str, Any],
    architectures: Sequence[dict[str, Any]],
    split: str,
) -> dict[str, Any]:
    """Accuracy in [0, 1] of sub-networks on a split, batch-norm recalibrated for each."""
    space, network, dataset = _load(places, supernet)
    wanted = [space.from_json(a) for a in architectures]
    return {"accuracies": [float(a) for a in evaluate(network, wanted, dataset, split, progress=progress)]}


def refine(
    *, progress: Progress, places: dict[str, Any], predictor: dict[str, Any], seed: int
) -> dict[str, Any]:
    """The stored form of an accuracy predictor with its refinement, where one wins on networks held out."""
    fitted = QualityPredictor.from_json(predictor)
    return {"predictor": accuracy_refinement.to_json(fitted, accuracy_refinement.refine(fitted, seed=seed))}


def deliver(
    *,
    progress: Progress,
    places: dict[str, Any],
    supernet: dict[str, Any],
    architecture: dict[str, Any],
    delivery: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The ONNX file of a sub-network: cut out, recalibrated, folded, exported in the form of a delivery,
    checked against torch.

    Raises ExportFailed where the file computes something else than the network.
    """
    space, network, dataset = _load(places, supernet)
    wanted = space.from_json(architecture)
    plain = cut_out(network, wanted)
    recalibrate(plain, calibration_inputs(dataset, wanted.resolution))
    folded = fold_batch_norm(plain)
    form, task = Delivery.from_json(delivery), task_of(dataset)
    preprocessing = task.preprocessing(dataset, wanted.resolution)
    described = task.input_of(dataset, wanted.resolution, form, INPUT)
    onnx = export_delivered(folded, folded.input_shape, form, described, dataset.classes, preprocessing)
    generator = torch.Generator().manual_seed(0)
    agreement = parity(folded, onnx, samples=PARITY_SAMPLES, generator=generator, preprocessing=preprocessing)
    if not agreement.holds:
        raise ExportFailed(
            f"the exported file differs from the network by {agreement.max_abs_error:.3g} in logits up to "
            f"{agreement.max_abs_logit:.3g}; it was not delivered"
        )
    sha256, size_bytes = ArtifactStore(Path(places["store"])).put(onnx)
    return {
        "onnx_sha256": sha256,
        "size_bytes": size_bytes,
        "opset": form.opset,
        "parameters": folded.parameter_count(),
        "macs": sum(op.macs for op in lower(space, wanted)),
        "parity_max_abs_error": agreement.max_abs_error,
        "input_shape": [form.batch_size or 1, *described["shape"][1:]],
        "delivery": form.to_json(),
        "input": described,
        "classes": list(dataset.classes),
    }


def test_accuracy(
    *,
    progress: Progress,
    places: dict[str, Any],
    supernet: dict[str, Any],
    architecture: dict[str, Any],
    onnx_sha256: str,
) -> dict[str, Any]:
    """Accuracy of the delivered file itself on the test split, in ONNX Runtime."""
    space, _, dataset = _load(places, supernet)
    wanted = space.from_json(architecture)
    session = onnx_session(ArtifactStore(Path(places["store"])).read(onnx_sha256))
    found, metric = (
        tested(session, dataset, wanted.resolution, "test", progress),
        task_named(dataset.task).metric,
    )
    return {
        "accuracy": metric.value(found.quality),
        "samples": found.samples,
        "dataset": dataset.name,
        "split": "test",
        "by_class": found.by_class,
    }


def fine_tune(
    *,
    progress: Callable[..., None],
    places: dict[str, Any],
    supernet: dict[str, Any],
    architecture: dict[str, Any],
    recipe: str,
    epochs: int,
    seed: int,
    device: str,
    folder: str,
) -> dict[str, Any]:
    """Weights of one sub-network after training on, as those of a supernet with `alone`; checkpoints in a
    folder meanwhile."""
    space, network, dataset = _load(places, supernet)
    wanted = space.from_json(architecture)

    def report(said: TrainingProgress) -> None:
        told = {"epoch": said.epoch, "epochs": said.epochs, "loss": said.loss, "eta_s": said.eta_s}
        progress(round(said.fraction * 1000), 1000, **told, whole_s=said.eta_s / max(1e-3, 1 - said.fraction))

    own, seconds = tuned(
        network, wanted, dataset, recipe_to_follow(recipe), epochs, seed, Path(folder), device, report
    )
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in own.state_dict().items()}
    sha256, size_bytes = ArtifactStore(Path(places["store"])).put(save(tensors))
    return {"weights_sha256": sha256, "size_bytes": size_bytes, "seconds": seconds}


def operator_files(
    *,
    progress: Progress,
    places: dict[str, Any],
    operators: Sequence[str],
    delivery: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Micro-benchmarks of operators in the form of a delivery: {operator text: [sha256, size in bytes]}."""
    store = ArtifactStore(Path(places["store"]))
    wanted = [Operator.parse(text) for text in operators]
    files = export_operators(wanted, progress=progress, delivery=Delivery.from_json(delivery))
    return {"files": {op.text: store.put(data) for op, data in files.items()}}


def network_files(
    *,
    progress: Progress,
    places: dict[str, Any],
    space: str,
    classes: int,
    architectures: Sequence[dict[str, Any]],
    operators: dict[str, str],
) -> dict[str, Any]:
    """Whole networks with random weights, to calibrate with: [[sha256, size in bytes], …]. operators: text ->
    sha256."""
    store = ArtifactStore(Path(places["store"]))
    sized = space_named(space).with_classes(classes)
    files = {Operator.parse(text): store.read(sha256) for text, sha256 in operators.items()}
    return {
        "files": [
            store.put(data)
            for data in join_networks(sized, [sized.from_json(a) for a in architectures], files)
        ]
    }


def search(
    *, progress: Progress, places: dict[str, Any], problem: dict[str, Any], strategy: str, seed: int
) -> dict[str, Any]:
    """Solve a search problem with one of the slower strategies."""
    return packed_result(solve(unpacked_problem(problem), strategy, np.random.default_rng(seed)))


def train_gates(
    *,
    progress: Callable[..., None],
    places: dict[str, Any],
    supernet: dict[str, Any],
    problem: dict[str, Any],
    resolutions: Sequence[int],
    recipe: str,
    epochs: int | None,
    seed: int,
    device: str,
    folder: str,
    inputs: str,
) -> dict[str, Any]:
    """Log-probabilities of every value of every gene, trained with the weights; checkpoints in a folder until
    they are done."""
    space, network, dataset = _load(places, supernet)
    followed = recipe_to_follow(recipe)

    def report(said: gate_job.GateProgress) -> None:
        told = {**asdict(said.step), "epochs": said.epochs, "eta_s": said.eta_s, "whole_s": said.whole_s}
        progress(said.done, said.total, **told)

    training = gate_job.train_gates(
        unpacked_problem(problem),
        network,
        space.at(resolutions),
        dataset,
        followed,
        gate_job.gate_settings(followed, gate_job.steps_per_epoch(dataset, followed), epochs),
        seed=seed,
        folder=Path(folder),
        inputs=inputs,
        device=device,
        report=report,
    )
    logs, sizes = training.search.choices.logs(), training.space.chain.gene_sizes
    return {
        "log_probabilities": [row[:size].tolist() for row, size in zip(logs, sizes, strict=True)],
        "warmup_epochs": training.settings.warmup_epochs,
        "epochs": training.settings.epochs,
        "weight_steps": training.steps,
        "history": [asdict(step) for step in training.history],
    }


def choose(
    *, progress: Progress, places: dict[str, Any], problem: dict[str, Any], gates: dict[str, Any]
) -> dict[str, Any]:
    """The most probable networks within the limits of a problem, after `train_gates`."""
    asked, rows = unpacked_problem(problem), gates["log_probabilities"]
    logs = np.full((len(rows), max(map(len, rows))), -np.inf)
    for row, values in zip(logs, rows, strict=True):
        row[: len(values)] = values
    return packed_result(most_probable(asked, logs, gates["weight_steps"]))


OPERATIONS: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "score": score,
    "refine": refine,
    "solve": search,
    "train_gates": train_gates,
    "choose": choose,
    "fine_tune": fine_tune,
    "deliver": deliver,
    "test_accuracy": test_accuracy,
    "operator_files": operator_files,
    "network_files": network_files,
}


def _load(places: dict[str, Any], supernet: dict[str, Any]) -> tuple[Space, Supernet, Data]:
    """Space, weights and data set of a supernet, `{"space", "classes", "dataset", "weights_sha256"}`.

    `alone` beside them is the architecture of a network that was trained on: then the weights are its own.
    """
    space, network = _network(places["store"], json.dumps(supernet, sort_keys=True))
    registered = tuple(sorted(places["registered"].items()))
    named = (supernet["space"], supernet["dataset"], supernet.get("fingerprint"))
    return space, network, _dataset(*named, places["data_dir"], registered)


@lru_cache(maxsize=2)  # a supernet, and the network that was trained on from it
def _network(store: str, supernet: str) -> tuple[Space, Supernet]:
    asked = json.loads(supernet)
    sized = space_named(asked["space"]).with_classes(asked["classes"])
    own = alone(sized, sized.from_json(asked["alone"])) if "alone" in asked else sized
    return sized, load_supernet(ArtifactStore(Path(store)).read(asked["weights_sha256"]), own)


@lru_cache(maxsize=1)
def _dataset(
    space: str, name: str, fingerprint: str | None, data_dir: str, registered: tuple[tuple[str, str], ...]
) -> Data:
    return load_for(space_named(space), name, Path(data_dir), dict(registered), fingerprint=fingerprint)
