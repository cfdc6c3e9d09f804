"""A search: for every target the best network that keeps its budget, delivered as an ONNX file and measured.

One job with many targets shares the supernet, the predictor, one child and every score. For each target:
price and solve (`solve`), score the best few on the supernet, choose, cut out and export (`deliver`). Where
an agent is on the device, the best few are measured and the best that keeps the budget is chosen (`choose`,
`verify`); elsewhere the bound decides. The chosen network is fine-tuned where that was asked for (`tune`) and
measured again, for it is another file. `card` says all that is known of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from functools import partial

from latency_tables.errors import BespokeError
from service.datasets import check_trained_on
from service.db import jobs as job_rows
from service.db import supernets as supernet_rows
from service.db.artifacts import register
from service.db.documents import Document
from service.db.happenings import tell
from service.db.models import Model
from service.db.session import Session
from service.db.states import ArtifactKind, HappeningKind
from service.jobs.requests import SearchRequest, read
from supernets.accuracy import refinement
from supernets.delivery.verdict import SUSPECT
from supernets.errors import TrainingDiverged
from supernets.search.targets import Solved, Target, cross_device
from worker.compute.torch_child import TorchChild
from worker.context import JobRun
from worker.pipelines.ready_supernet import ReadySupernet, ensure_supernet
from worker.pipelines.search.beside import Beside
from worker.pipelines.search.card import Card, card_of
from worker.pipelines.search.choose import Choosing, Levels
from worker.pipelines.search.compressing import Compressing
from worker.pipelines.search.control import ControlTraining
from worker.pipelines.search.deliver import Files
from worker.pipelines.search.exported import ExportedNetwork
from worker.pipelines.search.gates import Gates
from worker.pipelines.search.job import SearchJob, begin
from worker.pipelines.search.precisions import PrecisionReport
from worker.pipelines.search.pruned import PruningReport
from worker.pipelines.search.solve import TARGET_FAILED, Solving
from worker.pipelines.search.tune import FineTuning
from worker.pipelines.search.verify import Verification
from worker.problems import problem_of


def search(run: JobRun) -> Document:
    """The pipeline of a `search` job. Targets without a network are listed with the reason; if all are, the
    job fails."""
    request = read(SearchRequest, run.request)
    ready = ensure_supernet(run, request.supernet_id).generating(request.generation)
    run.context.transaction(lambda session: _check_data(session, run, ready))
    failures: list[tuple[Target, BespokeError]] = []
    with TorchChild(run) as torch_child:
        job = begin(run, ready, request, torch_child)
        delivered = _Networks(job).deliver_all(failures)
    if not delivered:
        # One reason is enough: with no network at all the job failed, and its document has room for one.
        raise failures[0][1]
    cards = [(card_of(job, target, network, model_id(run, target)), target) for target, network in delivered]
    for (card, target), (_, network) in zip(cards, delivered, strict=True):
        if card.state == SUSPECT:
            said = {"model": card.id, "device": target.device, "reason": card.suspect_reason}
            run.event("suspect", said)
        # With the job's own last write: the models of a job that failed at the end would be nobody's.
        run.at_end(partial(_store, run=run, ready=ready, target=target, delivered=network, card=card))
    networks = [
        (card.id, target, n.architecture) for (card, target), (_, n) in zip(cards, delivered, strict=True)
    ]
    return {
        "models": [{"id": card.id, **_named(target), "state": card.state} for card, target in cards],
        "failures": [{**_named(target), "error": problem_of(error)} for target, error in failures],
        "predictor": refinement.summary(job.ranking),
        "matrix": cross_device(networks, job.targets),
    }


def _check_data(session: Session, run: JobRun, ready: ReadySupernet) -> None:
    """Raises InvalidDataset, UnknownDataset: as at submission, for the job may have waited for hours.

    Steps that were done before read no data, so that nothing later would find it out.
    """
    row = supernet_rows.by_id(session, ready.id)
    if row is not None:
        check_trained_on(run.context.settings, row)


def _named(target: Target) -> Document:
    return {"device": target.device, "budget_ms": target.budget_ms, "target": target.label}


def model_id(run: JobRun, target: Target) -> str:
    """The same for every attempt at the job, so that a model is never delivered twice."""
    return f"model_{hashlib.sha256(f'{run.job_id}/{target.index}'.encode()).hexdigest()[:32]}"


class _Networks:
    """The networks of one job, target by target."""

    def __init__(self, job: SearchJob) -> None:
        request, count = job.request, len(job.targets)
        gates = Gates(job.run, job.ready, count, request.gate_epochs, request.confidence)
        self.job, self.levels = job, Levels()
        self.solving = Solving(job, gates)
        self.files = Files(job, self.solving, gates)
        self.tuning = FineTuning(
            job.run,
            job.ready,
            count,
            request.tune_epochs or 0,
            request.memory_mb,
            request.train or "all",
            bool(request.defensive),
        )
        self.compressing = Compressing(job, self.files)
        self.controls = ControlTraining(job.run, job.ready, count, request.tune_epochs or 0)
        self.verification = Verification(job.run, job.ready.space, request.verify)
        self.verification.look_for_agents(job.targets)
        beside = Beside(self.solving, self.files, self.verification)
        self.precisions, self.prunings = PrecisionReport(self.solving, beside), PruningReport(beside)

    def deliver_all(
        self, failures: list[tuple[Target, BespokeError]]
    ) -> list[tuple[Target, ExportedNetwork]]:
        """A network for every target; `failures` gets those that have none, with the reason."""
        delivered: list[tuple[Target, ExportedNetwork]] = []
        for number, (target, found) in enumerate(self.solving.all_targets(failures)):
            self.job.run.progress("deliver", number / len(self.job.targets), target.label, always=True)
            try:
                delivered.append((target, self.deliver(target, found)))
            except TARGET_FAILED as error:
                failures.append((target, error))
        return delivered

    def deliver(self, target: Target, found: Solved) -> ExportedNetwork:
        """Choose, export and measure. Raises InfeasibleBudget, SearchUnfinished."""
        most = self.job.request.measured_candidates
        choosing = Choosing(
            self.job.run, self.solving, self.files, self.verification, self.levels, target, most
        )
        chosen = choosing.chosen(found) if target.measured else None
        if chosen is None:
            if target.measured:  # but nobody answered: what was solved for predictions has to keep the bound
                target.hold_by_bound()
                found = self.solving.solved(target)
            chosen = self.files.exported(target, found, 1)[0]
        if self.tuning.epochs:
            chosen = self.tuning.better(target, chosen, self.solving, self.files, choosing)
        if self.job.request.passes:
            chosen = self.compressing.of(target, chosen, choosing)
        sha256 = chosen.file.to_measure[0]
        typical = {p.device_id: self.verification.typical(p.device_id, sha256) for p in target.places}
        known = {device_id: one for device_id, one in typical.items() if one is not None}
        tested = chosen.tested(self.files.accuracy_of(chosen), known)
        if target.rounded:
            tested = replace(tested, precision=self.precisions.of(target, tested))
        if self.job.request.robustness:
            tested = replace(tested, robustness=self.files.robustness_of(tested))
        if target.space.pruned:
            tested = replace(tested, pruning=self.prunings.of(target, tested))
        return self._with_control(target, tested) if self.job.request.control else tested

    def _with_control(self, target: Target, network: ExportedNetwork) -> ExportedNetwork:
        try:
            control = self.controls.of(self.job.torch_child, target, network)
        except TrainingDiverged as error:
            # The network is there without it: the control is what was asked for beside it.
            self.job.run.event("control_failed", {"device": target.device, "reason": str(error)})
            return network
        if control is not None:
            self.job.run.event("control", {"device": target.device, **asdict(control)})
        return replace(network, control=control)


def _store(
    session: Session,
    *,
    run: JobRun,
    ready: ReadySupernet,
    target: Target,
    delivered: ExportedNetwork,
    card: Card,
) -> None:
    """The model's row, in the job's last transaction."""
    file, place = delivered.file, target.places[0] if target.places else None
    register(session, file.onnx_sha256, file.size_bytes, ArtifactKind.ONNX_MODEL)
    job_rows.add_model(
        session,
        Model(
            id=card.id,
            tenant_id=run.tenant_id,
            job_id=run.job_id,
            device_id=None if place is None else place.device_id,
            supernet_id=ready.id,
            table_id=None if place is None else place.table_id,
            budget_ms=target.budget_ms,
            onnx_sha256=file.onnx_sha256,
            card=card.document,
        ),
    )
    said = {"device": target.device, "job_id": run.job_id}
    tell(session, run.tenant_id, HappeningKind.MODEL, card.id, said)
