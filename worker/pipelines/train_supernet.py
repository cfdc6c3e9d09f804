"""The shared training of a supernet: weights, then the predictor that is fitted to scored sub-networks.

It is a workflow of its own (`supernet-DIGEST-N`) that reports to every job that waits for it
(`ready_supernet`) and stops when none is left. Cancelling one job leaves the others their supernet.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from latency_tables.dense import Array, Genes
from latency_tables.errors import BespokeError
from service.db import jobs as job_rows
from service.db import supernets as supernet_rows
from service.db import workers
from service.db.artifacts import register
from service.db.documents import Document, Fields
from service.db.models import Supernet
from service.db.session import Session
from service.db.states import ArtifactKind
from service.db.supernets import initial_weights
from service.db.transitions import add_event
from service.errors import JobConflict
from service.failpoints import failpoint
from service.jobs.requests import TrainingOptions, read
from supernets.accuracy.choice import DRAWN_SHARE, ROUNDS, score_in_rounds
from supernets.accuracy.likelihood import LIKELIHOOD, Scale
from supernets.accuracy.predictor import QualityPredictor
from supernets.data.catalog import DATASETS, task_for
from supernets.data.report import Report, check_dataset
from supernets.errors import InvalidDataset
from supernets.spaces.architecture import SpaceRef
from supernets.spaces.catalog import space_at, space_named
from supernets.training.catalog import recipe_named, recipe_to_follow
from supernets.training.job import DESCRIPTION, WEIGHTS, said_of
from supernets.training.job import Job as TrainingJob
from worker.compute.child import Child, silence_limit_s
from worker.compute.codec import CODEC
from worker.compute.requests import SupernetRef
from worker.compute.torch_child import TorchChild
from worker.context import Run, Standing, WorkerContext
from worker.errors import (
    ChildCrashed,
    JobLost,
    JobQuarantined,
    NobodyWaits,
    WorkerStopping,
)
from worker.pipelines.scoring import VALIDATION, Scored, validation_results
from worker.problems import problem_of
from worker.steps import StepName

# in the step's key: another design, another result
DESIGN: Final = f"{ROUNDS} rounds after {DRAWN_SHARE:g} at random; refined"
CHECKPOINT_S: Final = 5.0  # of the seconds that a worker has to end in (engine.DRAIN_S)
log = logging.getLogger("bespoke.worker")


@dataclass(frozen=True)
class TrainedWeights:
    """What the step that trains leaves. training: epochs, steps and seconds, for the supernet's summary."""

    weights_sha256: str
    training: Document


@dataclass(frozen=True)
class ScoredSupernet:
    """What the step that scores leaves: the fitted predictor as it is stored, and the supernet's summary."""

    predictor: Document
    summary: Document


METRICS: Final = (
    "phase",
    "epoch",
    "epochs",
    "loss",
    "rate",
    "validation",
)  # of what the trainer says, for its curve


class SharedRun(Run):
    """A training on behalf of all jobs that wait for it: they get its progress and its events."""

    def __init__(self, context: WorkerContext, digest: str) -> None:
        super().__init__(context)
        self.digest = digest

    def look(self) -> None:
        if not self.context.transaction(self.waiting):
            raise NobodyWaits

    def waiting(self, session: Session) -> list[str]:
        """Ids of running jobs that want this supernet and were not asked to stop. Raises JobLost if we were
        declared dead."""
        # No attempt guards a shared training. A worker that froze and woke up learns here that another one
        # has it now.
        if workers.is_dead(session, self.context.worker_id):
            raise JobLost
        wanted = [row.id for row in supernet_rows.of_all_tenants(session, self.digest)]
        return job_rows.waiting_for(session, wanted)

    def jobs(self, session: Session) -> Sequence[str]:
        return self.waiting(session)

    def record(self, session: Session, kind: str, data: Fields) -> None:
        for job_id in self.waiting(session):
            add_event(session, job_id, kind, data)

    def record_progress(self, session: Session, standing: Standing) -> None:
        for job_id in self.waiting(session):
            try:
                standing.record(session, job_id)
            except JobConflict:
                continue  # queued, or ended in this very moment


def train_shared(context: WorkerContext, digest: str) -> Fields:
    """The shared workflow. Never raises for a failed training: the jobs that wait read what it returns."""
    run = SharedRun(context, digest)
    try:
        _train_and_score(run)
        return {"trained": True}
    except NobodyWaits:
        return {"stopped": True}
    except JobQuarantined as error:
        return {"error": error.problem, "quarantined": True}
    except (WorkerStopping, JobLost):
        raise
    except Exception as error:
        log.warning("training failed", extra={"digest": digest}, exc_info=not isinstance(error, BespokeError))
        return {"error": problem_of(error)}


def _train_and_score(run: SharedRun) -> None:
    rows = run.context.transaction(lambda session: supernet_rows.of_all_tenants(session, run.digest))
    if not rows:
        raise NobodyWaits
    row = rows[0]
    inputs: Document = {
        "space": row.space,
        "classes": row.classes,
        "dataset": row.dataset,
        "recipe": row.recipe,
        "seed": row.seed,
        **fingerprinted(row.dataset_fingerprint),
    }
    start = run.context.transaction(lambda s: initial_weights(s, row))
    inputs |= row.options or {}
    if start is not None:
        inputs["start"] = start
        run.event("initial_weights", {"supernet": row.parent_id, "weights_sha256": start})
    _report_dataset(run, row)
    trained = run.step(
        StepName.TRAIN_SUPERNET,
        {**inputs, "digest": run.digest},
        TrainedWeights,
        lambda: _train(run, row, start),
    )
    followed = recipe_to_follow(row.recipe, space_at(SpaceRef(row.space, row.classes)))
    networks, likelihoods = followed.scored_networks, followed.scoring == "log_likelihood"
    further = {"scoring": followed.scoring} if likelihoods else {}
    ref = SupernetRef(
        SpaceRef(row.space, row.classes), row.dataset, trained.weights_sha256, row.dataset_fingerprint
    )
    scored = run.step(
        StepName.SCORE_SUBNETWORKS,
        {
            **inputs,
            "weights_sha256": trained.weights_sha256,
            "networks": networks,
            "design": DESIGN,
            **further,
        },
        ScoredSupernet,
        lambda: _score(run, ref, row.seed, networks, likelihoods=likelihoods),
    )
    summary = {**scored.summary, **trained.training, **_expects(run, trained.weights_sha256)}
    made = (trained.weights_sha256, scored.predictor, summary)
    run.write(lambda session: supernet_rows.finish(session, run.digest, *made))
    # Last of all: as long as no row says that it is ready, a crash must find its checkpoints.
    shutil.rmtree(_folder(run), ignore_errors=True)  # checkpoints; the weights are in the store


def _expects(run: SharedRun, weights_sha256: str) -> Document:
    """How inputs are normalised that the weights expect, for people; nothing where the weights do not say."""
    found = said_of(run.context.store.path(weights_sha256))
    return {} if found is None else {"normalisation": asdict(found)}


def fingerprinted(fingerprint: str | None) -> dict[str, str]:
    """What of a data set goes into the keys of steps; nothing for a supernet that is older than fingerprints,
    whose steps stay known."""
    return {} if fingerprint is None else {"fingerprint": fingerprint}


def _report_dataset(run: SharedRun, row: Supernet) -> None:
    """Say what is in a registered data set before anything is trained on it. Raises InvalidDataset for one
    that is refused."""
    settings = run.context.settings
    if row.dataset in DATASETS or row.dataset not in settings.datasets:
        return
    path = settings.datasets[row.dataset]
    inputs = {"dataset": row.dataset, **fingerprinted(row.dataset_fingerprint)}
    report = run.step(StepName.CHECK_DATASET, inputs, Report, lambda: check_dataset(row.dataset, path))
    run.event("dataset", CODEC.write(report))
    if report.refused is not None:
        raise InvalidDataset(report.refused)


def _folder(run: SharedRun) -> Path:
    return run.context.work_folder(f"supernet-{run.digest[:32]}")


def _train(run: SharedRun, row: Supernet, start: str | None) -> TrainedWeights:
    """Train in a child that goes on from its last checkpoint; the result is read from its files, not from its
    words."""
    settings, folder = run.context.settings, _folder(run)
    # Named by the worker: one that froze and woke up must not take away the specification of the next one.
    path = folder / f"spec-{run.context.worker_id}.json"
    path.write_text(json.dumps(CODEC.write(_training_job(run.context, row, start, folder))))
    with Child(
        "training",
        training_module(settings.training_processes, path),
        log=folder / "log.txt",
        tell=run.say,
        check=run.check,
        memory_bytes=settings.step_memory_mb << 20,
        timeout_s=settings.step_timeout_s,
        grace_s=CHECKPOINT_S,
    ) as child:
        for message in child.messages():
            if message.get("event") == "progress":
                _tell(run, message)
    path.unlink()
    return _publish(run, folder)


def _training_job(context: WorkerContext, row: Supernet, start: str | None, folder: Path) -> TrainingJob:
    """What the trainer is told. start: SHA-256 of initial weights, None for random ones."""
    options = read(TrainingOptions, row.options or {})
    recipe = replace(recipe_named(row.recipe, space_named(row.space)), class_weights=options.class_weights)
    return TrainingJob(
        space=row.space,
        dataset=row.dataset,
        out_dir=str(folder),
        recipe=row.recipe if options.class_weights is None else recipe.to_json(),
        seed=row.seed,
        device=context.settings.training_device,
        data_dir=str(context.work_folder("data")),
        registered={name: str(place) for name, place in context.settings.datasets.items()},
        heartbeat_timeout_s=silence_limit_s(context.settings),
        threads=threads_each(context.settings.training_processes),
        fingerprint=row.dataset_fingerprint,
        start=start,
        start_file=None if start is None else str(context.store.path(start)),
        memory_mb=options.memory_mb,
        distributed=options.distributed,
    )


def _tell(run: SharedRun, said: Mapping[str, Any]) -> None:
    """A report of the trainer to all jobs that wait; its numbers become the curve of the training."""
    text, eta_s, fraction = str(said.get("message", "")), said.get("eta_s"), float(said.get("fraction", 0))
    metrics = {key: said.get(key) for key in METRICS}
    run.progress("train_supernet", fraction, text, eta_s, always=True, metrics=metrics)
    failpoint("training.progress")


def training_module(processes: int, spec: Path) -> list[str]:
    """What `python -m` runs: the trainer, or torchrun with that many of it.

    No restarts: torchrun recovers a lost rank seldom and hangs at times; the whole step goes on from its
    checkpoint.
    """
    if processes == 1:
        return ["supernets.training", str(spec)]
    many = ["--standalone", "--max-restarts", "0", "--nproc-per-node", str(processes)]
    return ["torch.distributed.run", *many, "-m", "supernets.training", str(spec)]


def threads_each(processes: int) -> int | None:
    """Threads of each of several processes, since torchrun would give them one; None leaves it to torch or
    OMP_NUM_THREADS."""
    if processes == 1 or "OMP_NUM_THREADS" in os.environ:
        return None
    return max(1, len(os.sched_getaffinity(0)) // processes)


def _publish(run: SharedRun, folder: Path) -> TrainedWeights:
    """Store the weights under their hash, checked against what the trainer wrote beside them."""
    try:
        description = json.loads((folder / DESCRIPTION).read_bytes())
        sha256, size_bytes = run.context.store.put(folder / WEIGHTS)
    except (FileNotFoundError, ValueError) as error:
        raise ChildCrashed("training", 0, 0, "it ended without a supernet") from error
    # What the trainer printed is not believed, what it wrote is: its files are checked against each other.
    if sha256 != description["sha256"]:
        raise ChildCrashed("training", 0, 0, "its weights changed after it ended")
    failpoint("training.stored")
    run.write(lambda session: _register(session, sha256, size_bytes))
    kept = ("epochs", "steps", "train_seconds", "memory")
    return TrainedWeights(sha256, {key: description[key] for key in kept if key in description})


def _register(session: Session, sha256: str, size_bytes: int) -> None:
    register(session, sha256, size_bytes, ArtifactKind.SUPERNET)


def _score(
    run: SharedRun, supernet: SupernetRef, seed: int, networks: int, *, likelihoods: bool = False
) -> ScoredSupernet:
    """Evaluate sub-networks on the validation split, in rounds, and fit the accuracy predictor.

    likelihoods: by log-likelihood where the task has one, as the accuracy of networks with it.
    """
    space = space_at(supernet.space)
    measured: dict[str, Scored] = {}
    metric = task_for(supernet.dataset, run.context.settings.datasets).metric
    started, fresh = time.monotonic(), 0  # how many were evaluated since then, and not remembered
    with TorchChild(run) as torch_child:

        def evaluate(genes: Genes) -> Array:
            known, total = len(measured) + len(genes), max(networks, len(measured) + len(genes))

            def report(done: int, of: int) -> None:
                nonlocal fresh
                fresh += 1
                ready = known - of + done
                eta_s = (time.monotonic() - started) / fresh * (total - ready)
                run.progress("score_subnetworks", ready / total, f"sub-network {ready} of {total}", eta_s)

            architectures = [space.architecture(row) for row in genes]
            measured.update(
                validation_results(run, torch_child, supernet, architectures, report, likelihoods=likelihoods)
            )
            found = [measured[a.digest] for a in architectures]
            return np.array([one.likelihood if one.likelihoods else one.accuracy for one in found])

        generator = np.random.default_rng(seed)
        predictor = score_in_rounds(
            space, networks, generator, evaluate, seed=seed, metric=LIKELIHOOD if likelihoods else metric
        )
        scale: Scale | None = None
        if likelihoods:
            found = [measured[space.architecture(row).digest] for row in predictor.genes]
            scale, values = _as_accuracies(found)
            drawn = predictor.drawn
            predictor = QualityPredictor.fit(
                space, predictor.genes, values, drawn=drawn, seed=seed, metric=metric
            )
        fitted = torch_child.refine(predictor, seed)
    summary: Document = {
        name: {"accuracy": metric.value(measured[a.digest].accuracy), "architecture": space.to_json(a)}
        for name, a in (("largest", space.largest()), ("smallest", space.smallest()))
    }
    summary |= {"split": VALIDATION, "scored_networks": len(measured)}
    if scale is not None:
        summary["scale"] = asdict(scale)  # of log-likelihoods: what later scores are read by
    return ScoredSupernet(dict(fitted), summary)


def _as_accuracies(found: Sequence[Scored]) -> tuple[Scale | None, Array]:
    """(how log-likelihoods are read as accuracies, the networks' values); None where they are no better than
    what was counted."""
    counted = np.array([one.accuracy for one in found])
    if not all(one.likelihoods for one in found):
        return None, counted
    scale = Scale.fit(counted, [one.likelihood for one in found])
    return scale, counted if scale is None else np.array([scale.quality(one.likelihood) for one in found])
