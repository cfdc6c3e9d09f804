"""What a search job trains: the gates of one target, one network alone. Both go on from their checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from safetensors.torch import save

from supernets.delivery.passes import Source, supernet_of_pruned
from supernets.search.gradient import gate_job
from supernets.spaces.catalog import space_at
from supernets.tasks.catalog import task_named, task_of
from supernets.training.catalog import recipe_to_follow
from supernets.training.control import from_scratch
from supernets.training.job import header_for
from supernets.training.loop import Progress as TrainingProgress
from supernets.training.recipe import DEFENSIVE, Recipe
from supernets.training.tuning import tuned
from worker.compute.operations.loading import dataset_of, store_of, supernet_of
from worker.compute.requests import (
    ControlAccuracy,
    EpochOfGates,
    FineTune,
    Places,
    Progress,
    TrainControl,
    TrainedGates,
    TrainGates,
    TrainingReport,
    TunedWeights,
)

_PARTS = 1000  # a fine-tuning tells its fraction, a report counts


def _recipe(asked: FineTune | TrainControl) -> Recipe:
    found = recipe_to_follow(asked.recipe, space_at(asked.supernet.space))
    beta = DEFENSIVE if isinstance(asked, FineTune) and asked.defensive else 0.0
    return replace(found, class_weights=asked.class_weights, orthogonality=beta)


def fine_tune(places: Places, asked: FineTune, report: Callable[[Progress], None]) -> TunedWeights:
    """Weights of one sub-network trained alone. Raises TrainingDiverged, InvalidCheckpoint,
    MemoryLimitTooLow, InvalidPruning."""
    network, dataset = supernet_of(places, asked.supernet), dataset_of(places, asked.supernet)

    def tell(said: TrainingProgress) -> None:
        whole_s = said.eta_s / max(1e-3, 1 - said.fraction)
        training = TrainingReport(said.epoch, said.epochs, said.loss, said.eta_s, whole_s)
        report(Progress(round(said.fraction * _PARTS), _PARTS, training))

    own, seconds, used = tuned(
        supernet_of_pruned(Source(network, asked.architecture, dataset)),
        asked.architecture,
        dataset,
        _recipe(asked),
        asked.epochs,
        asked.seed,
        Path(asked.folder),
        asked.device,
        tell,
        memory_mb=asked.memory_mb,
        train=asked.train,
    )
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in own.state_dict().items()}
    header = {**(header_for(dataset) or {}), **own.form.header()}
    return TunedWeights(*store_of(places).put(save(tensors, header or None)), seconds, used.to_json())


def train_control(places: Places, asked: TrainControl, report: Callable[[Progress], None]) -> ControlAccuracy:
    """A network from random weights, tested as the delivered one is. Raises TrainingDiverged,
    InvalidCheckpoint."""
    dataset = dataset_of(places, asked.supernet, expected=False)

    def tell(said: TrainingProgress) -> None:
        whole_s = said.eta_s / max(1e-3, 1 - said.fraction)
        training = TrainingReport(said.epoch, said.epochs, said.loss, said.eta_s, whole_s)
        report(Progress(round(said.fraction * _PARTS), _PARTS, training))

    own, steps = from_scratch(
        space_at(asked.supernet.space),
        asked.architecture,
        dataset,
        _recipe(asked),
        asked.steps,
        asked.seed,
        Path(asked.folder),
        asked.device,
        tell,
    )
    task = task_of(dataset)
    tester, samples = task.tester(own, dataset)
    quality = float(tester.qualities([asked.architecture])[0])
    return ControlAccuracy(task_named(dataset.task).metric.value(quality), samples, steps)


def train_gates(places: Places, asked: TrainGates, report: Callable[[Progress], None]) -> TrainedGates:
    """Probabilities of all choices. Raises InfeasibleBudget, TrainingDiverged, InvalidCheckpoint."""
    network, dataset = supernet_of(places, asked.supernet), dataset_of(places, asked.supernet)
    recipe = recipe_to_follow(asked.recipe, space_at(asked.supernet.space))

    def tell(said: gate_job.GateProgress) -> None:
        training = TrainingReport(
            **asdict(said.step), epochs=said.epochs, eta_s=said.eta_s, whole_s=said.whole_s
        )
        report(Progress(said.done, said.total, training))

    training = gate_job.train_gates(
        asked.problem,
        network,
        space_at(asked.supernet.space).at(asked.resolutions),
        dataset,
        recipe,
        gate_job.gate_settings(recipe, gate_job.steps_per_epoch(dataset, recipe), asked.epochs),
        seed=asked.seed,
        folder=Path(asked.folder),
        inputs=asked.inputs,
        device=asked.device,
        report=tell,
    )
    logs, sizes = training.search.choices.logs(), training.space.chain.gene_sizes
    return TrainedGates(
        tuple(tuple(row[:size].tolist()) for row, size in zip(logs, sizes, strict=True)),
        training.settings.warmup_epochs,
        training.settings.epochs,
        training.steps,
        tuple(EpochOfGates(**asdict(step)) for step in training.history),
    )
