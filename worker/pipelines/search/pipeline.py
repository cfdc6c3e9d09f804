"""A search: for every target the best network that keeps its budget, delivered as an ONNX file and measured.

One job with many targets shares the supernet, the predictor, one child and every score. For each target:
price and solve (ms), score the best few on the supernet, choose, cut out and export. Where an agent is on the
device, the best few are measured and the best that keeps the budget is chosen
(`worker.pipelines.search.choose`); elsewhere the bound decides. The chosen network is fine-tuned where that
was asked for, and measured again, for it is another file.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Final

import numpy as np

from latency_tables.errors import BespokeError
from latency_tables.typed_json import Json
from service.datasets import check_trained_on
from service.db import jobs as job_rows
from service.db import supernets as supernet_rows
from service.db.artifacts import register
from service.db.happenings import tell
from service.db.models import Model
from service.db.session import Session
from service.db.states import ArtifactKind, HappeningKind
from service.devices.pricing import PriceBook
from supernets.accuracy import refinement as accuracy_refinement
from supernets.delivery.catalog import SEPARATE, Delivery, common_delivery
from supernets.delivery.verdict import SUSPECT
from supernets.errors import InfeasibleBudget, SearchUnfinished, TrainingDiverged
from supernets.search.catalog import solve
from supernets.search.limits import SIZE, reachable, unreachable
from supernets.search.measured import Choice
from supernets.search.problem import Problem, SearchResult
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import described
from worker.compute.laboratory import Laboratory
from worker.compute.requests import DeliveredFile, FileAccuracy, SupernetRef
from worker.context import JobRun
from worker.pipelines.scoring import validation_scores
from worker.pipelines.search.card import Delivered, Tuning, card_of
from worker.pipelines.search.choose import Choosing, Levels
from worker.pipelines.search.gates import GRADIENT, Gates
from worker.pipelines.search.targets import (
    Solved,
    Solver,
    Target,
    Wish,
    cross_device,
    load_target,
    solve_target,
)
from worker.pipelines.search.tune import FineTuning
from worker.pipelines.search.verify import OnFile, Verification
from worker.pipelines.train_supernet import ReadySupernet, ensure_supernet
from worker.problems import problem_of
from worker.steps import StepName

ROUNDS: Final = 5
QUICK: Final = ("exact", "random")
TARGET_FAILED: Final = (InfeasibleBudget, SearchUnfinished)  # the other targets of the job go on


def search(run: JobRun) -> dict[str, Any]:
    """The pipeline of a `search` job. Targets without a network are listed with the reason; if all are, the
    job fails."""
    ready = ensure_supernet(run, run.request["supernet_id"])
    run.context.transaction(lambda session: _check_data(session, run, ready))
    job = _Search(run, ready)
    delivered: list[tuple[Target, Delivered]] = []
    failures: list[tuple[Target, BespokeError]] = []
    with Laboratory(run) as job.laboratory:
        for number, (target, found) in enumerate(job.solve_all(failures)):
            run.progress("deliver", number / len(job.targets), target.label, always=True)
            try:
                delivered.append((target, job.deliver(target, found)))
            except TARGET_FAILED as error:
                failures.append((target, error))
    if not delivered:
        raise failures[0][1]
    cards = [card_of(run, ready, target, network, model_id(run, target)) for target, network in delivered]
    for (target, network), card in zip(delivered, cards, strict=True):
        if card["state"] == SUSPECT:
            run.event(
                "suspect", {"model": card["id"], "device": target.device, "reason": card["suspect_reason"]}
            )
        run.at_end(partial(_store, run=run, ready=ready, target=target, delivered=network, card=card))
    return {
        "models": [
            {"id": card["id"], **_named(target), "state": card["state"]}
            for card, (target, _) in zip(cards, delivered, strict=True)
        ],
        "failures": [{**_named(target), "error": problem_of(error)} for target, error in failures],
        "predictor": accuracy_refinement.summary(job.refinement or job.predictor),
        "matrix": cross_device(
            [(card["id"], t, n.architecture) for card, (t, n) in zip(cards, delivered, strict=True)],
            job.targets,
        ),
    }


def _check_data(session: Session, run: JobRun, ready: ReadySupernet) -> None:
    """Raises InvalidDataset, UnknownDataset: as at submission, for the job may have waited for hours.

    Steps that were done before read no data, so that nothing later would find it out.
    """
    row = supernet_rows.by_id(session, ready.id)
    if row is not None:
        check_trained_on(run.context.settings, row)


def _named(target: Target) -> dict[str, Any]:
    return {"device": target.device, "budget_ms": target.budget_ms, "target": target.label}


def model_id(run: JobRun, target: Target) -> str:
    """The same for every attempt at the job, so that a model is never delivered twice."""
    return f"model_{hashlib.sha256(f'{run.job_id}/{target.index}'.encode()).hexdigest()[:32]}"


class _Search:
    """What the targets of one job share."""

    laboratory: Laboratory

    def __init__(self, run: JobRun, ready: ReadySupernet) -> None:
        self.run, self.ready = run, ready
        self.predictor, self.refinement = accuracy_refinement.from_json(ready.predictor)
        strategy, candidates = (
            str(run.request.get("strategy") or "exact"),
            int(run.request.get("candidates") or 1),
        )
        self.wish = Wish(self.predictor.space, self.predictor.dense(), strategy, candidates, self.refinement)
        confidence = run.request.get("confidence")
        items, book = list(enumerate(run.request["targets"])), PriceBook(ignored_session=run.job_id)

        def load(session: Session) -> list[Target]:
            return [
                load_target(session, book, run.tenant_id, ready.space, index, item, confidence)
                for index, item in items
            ]

        self.targets = run.context.transaction(load)
        self.verification, self.levels = Verification(run, ready.space), Levels()
        self._ask_who_is_there()
        self.gates = Gates(run, ready, len(self.targets))
        self.tuning = FineTuning(run, ready, len(self.targets))

    def _ask_who_is_there(self) -> None:
        """Which devices measure candidates; the others' budgets are held against the bound."""
        places = [place for target in self.targets for place in target.places]
        there = {
            device_id: self.verification.possible(device_id) for device_id in {p.device_id for p in places}
        }
        for place in places:
            place.measured = there[place.device_id]
        for target in self.targets:
            for place in target.places:
                if not place.measured:
                    place.hold_by_bound()
                if place.by_prediction:
                    self.run.event(
                        "held_by_prediction", {"device": place.device, "budget_ms": place.budget_ms}
                    )
            target.aim(
                Choice[str](tuple(g.budget for g in target.gauges), (1.0,) * len(target.gauges)).limits_ms()
            )
        if self.run.request.get("verify", True):
            for device in sorted({place.device for place in places if not place.measured}):
                self.run.event("not_verified", {"device": device, "reason": "no agent is running on it"})

    def solve_all(self, failures: list[tuple[Target, BespokeError]]) -> list[tuple[Target, Solved]]:
        """Every target solved, and all their candidates scored in one go."""
        self.run.progress("search", 0.0, f"{len(self.targets)} target(s)", always=True)
        found: list[tuple[Target, Solved]] = []
        for target in self.targets:
            try:
                found.append((target, self.solved(target)))
            except TARGET_FAILED as error:
                failures.append((target, error))
        solved = [solved.result for _, solved in found]
        self.run.event("searched", {"targets": len(found), "optimal": all(r.optimal for r in solved)})
        self.scored([a for _, s in found for a in s.architectures])
        return found

    def deliver(self, target: Target, found: Solved) -> Delivered:
        """Choose, export and measure. Raises InfeasibleBudget, SearchUnfinished."""
        choosing = Choosing(self.run, self, self.verification, self.levels, target)
        chosen = choosing.chosen(found) if target.measured else None
        if chosen is None:
            if target.measured:
                target.hold_by_bound()
                found = self.solved(target)
            chosen = self.exported(target, found, 1)[0]
        if self.tuning.epochs:
            chosen = self._fine_tuned(target, chosen, choosing)
        sha256 = chosen.file.onnx_sha256
        typical = {
            place.device_id: self.verification.typical(place.device_id, sha256) for place in target.places
        }
        return chosen.tested(
            self._test(chosen), {key: one for key, one in typical.items() if one is not None}
        )

    def _fine_tuned(self, target: Target, cut_out: Delivered, choosing: Choosing) -> Delivered:
        """The network fine-tuned and measured; as it was cut out where that diverged, lost accuracy or broke
        the budget."""
        architecture, before, value = cut_out.architecture, cut_out.validation_accuracy, cut_out.metric.value
        told, better = Tuning(self.tuning.epochs, value(before)), cut_out
        try:
            tuned, seconds = self.tuning.trained(self.laboratory, target, architecture)
            accuracy = self.scored([architecture], tuned)[architecture.digest]
            told = replace(told, seconds=seconds, validation=value(accuracy), kept=accuracy >= before)
            if told.kept:
                file = self._file(target, architecture, tuned)
                better = replace(cut_out, file=file, validation_accuracy=accuracy)
                better = self._measured_again(target, cut_out, better, choosing)
                if better is cut_out:
                    told = replace(told, kept=False, failure="its file was measured above the budget")
        except TrainingDiverged as error:
            # Fine-tuning is a wish for more: the network that keeps its budget is there without it.
            told = replace(told, failure=str(error))
        place = {"device": target.device, "budget_ms": target.budget_ms}
        self.run.event("fine_tuned", {**place, **asdict(told)})
        return replace(better, tuning=told)

    def _measured_again(
        self, target: Target, cut_out: Delivered, better: Delivered, choosing: Choosing
    ) -> Delivered:
        """The fine-tuned network with its own latencies; as it was cut out where its file was measured above
        the budget."""
        if not cut_out.latencies:
            return better
        latencies = choosing.settled([OnFile(better.architecture, better.file)])[0]
        if latencies is None:  # the same operators were measured before, with other weights in them
            return better
        broken = any(one.ms > gauge.budget for one, gauge in zip(latencies, target.gauges, strict=True))
        return cut_out if broken else replace(better, latencies=latencies)

    def exported(self, target: Target, solved: Solved, most: int) -> list[Delivered]:
        """The candidates that do best on the supernet as files that keep the size, ties to the faster one; at
        least one.

        Where all are too large, the next solution allows for what files hold besides weights. Raises
        InfeasibleBudget.
        """
        limit, found = target.limits.get(SIZE, math.inf), solved
        for _ in range(ROUNDS):
            kept: list[Delivered] = []
            accuracies = self.scored(list(found.architectures))
            order = _best_first(found, accuracies)
            for position in order[: max(most, 1)]:
                network = self._as_file(
                    target, found, [position, *(i for i in order if i != position)], accuracies
                )
                size_bytes = network.file.size_bytes
                if size_bytes <= limit:
                    kept.append(network)
                    continue
                broken = {"device": target.device, "constraint": SIZE, "limit": limit, "value": size_bytes}
                self.run.event("budget_broken", broken)
                target.outgrown(network.architecture, size_bytes)
            if kept:
                return kept
            found = self.solved(target)
        raise unreachable(SIZE, limit, *reachable(target.space, SIZE, target.bytes_per_value))

    def solved(self, target: Target) -> Solved:
        """Raises InfeasibleBudget, SearchUnfinished."""
        # A generator per target and round: the same job gives the same networks, in whatever order it runs.
        generator = np.random.default_rng([self.ready.seed, target.index, len(target.ruled_out)])
        return solve_target(target, self.wish, generator, self._solver(target))

    def _solver(self, target: Target) -> Solver:
        """How this job solves: strategies that take seconds or need torch do it in the child, where
        cancelling stops them."""
        if self.wish.strategy == GRADIENT:
            return lambda problem, strategy, generator: self._in_child(
                lambda: self.gates.solve(self.laboratory, target, problem)
            )
        return solve if self.wish.strategy in QUICK and not target.competing else self._solve_in_child

    def _solve_in_child(
        self, problem: Problem, strategy: str, generator: np.random.Generator
    ) -> SearchResult:
        seed = int(generator.integers(2**63))
        return self._in_child(lambda: self.laboratory.solve(problem, strategy, seed))

    def _in_child(self, work: Callable[[], SearchResult]) -> SearchResult:
        """Solve in the child. What it had shown before its time was over is said in terms of accuracy."""
        try:
            return work()
        except SearchUnfinished as error:
            if error.best_score is None:
                raise
            # The child knows scores only; what they mean knows the predictor.
            metric = self.predictor.metric
            quality = metric.text(float(self.predictor.quality_of(np.array(error.best_score))))
            raise SearchUnfinished(
                f"{error}; no network within them is predicted to do better than {quality} {metric.name}",
                error.best_score,
            ) from None

    def scored(
        self, architectures: list[Architecture], supernet: SupernetRef | None = None
    ) -> dict[str, float]:
        """Accuracy on the validation split by digest of the architecture; each is evaluated once for all
        jobs."""

        def report(done: int, total: int) -> None:
            self.run.progress("score_candidates", done / total, f"candidate {done} of {total}")

        return validation_scores(self.run, self.laboratory, supernet or self.ready.ref, architectures, report)

    def _file(self, target: Target, architecture: Architecture, supernet: SupernetRef) -> DeliveredFile:
        """A network cut out of a supernet (the job's, or a fine-tuned network) as an ONNX file."""
        form = self._delivery(target)
        inputs = {**supernet.inputs(), "architecture": described(architecture), "delivery": form.to_json()}
        return self.run.step(
            StepName.EXPORT_NETWORK_FILE,
            inputs,
            DeliveredFile,
            lambda: self.laboratory.deliver(supernet, architecture, form),
        )

    def _delivery(self, target: Target) -> Delivery:
        """The form of the target's files: what its devices open, with the options of the search. Raises
        UnservableContext."""
        contexts = [place.context for place in target.places if place.context is not None]
        form = common_delivery(contexts) if contexts else Delivery()
        return form.asked(
            self.run.request.get("batch", "device"), self.run.request.get("preprocessing", SEPARATE)
        )

    def _as_file(
        self, target: Target, solved: Solved, order: list[int], accuracies: dict[str, float]
    ) -> Delivered:
        """The first of `order` as a file; the others are its runners-up."""
        file = self._file(target, solved.architectures[order[0]], self.ready.ref)
        delivered = Delivered.of(target, solved, order, accuracies, file, self.refinement or self.predictor)
        return replace(delivered, search={**delivered.search, **self.gates.summary(target)})

    def _test(self, delivered: Delivered) -> FileAccuracy:
        """Accuracy of the file itself on samples that neither training nor search has seen."""
        supernet, architecture, sha256 = self.ready.ref, delivered.architecture, delivered.file.onnx_sha256
        inputs: dict[str, Json] = {
            "supernet": supernet.inputs(),
            "architecture": described(architecture),
            "onnx_sha256": sha256,
        }
        return self.run.step(
            StepName.TEST_NETWORK_FILE,
            inputs,
            FileAccuracy,
            lambda: self.laboratory.measure_accuracy(supernet, architecture, sha256),
        )


def _best_first(solved: Solved, accuracies: dict[str, float]) -> list[int]:
    """Positions of the candidates, the most accurate first; ties go to the faster one."""

    def rank(i: int) -> tuple[float, float]:
        costs = solved.candidates[i].costs
        return -accuracies[solved.architectures[i].digest], costs[0] if costs else 0.0

    return sorted(range(len(solved.architectures)), key=rank)


def _register(session: Session, file: DeliveredFile) -> None:
    register(session, file.onnx_sha256, file.size_bytes, ArtifactKind.ONNX_MODEL)


def _store(
    session: Session,
    *,
    run: JobRun,
    ready: ReadySupernet,
    target: Target,
    delivered: Delivered,
    card: dict[str, Any],
) -> None:
    """The model's row, in the job's last transaction."""
    _register(session, delivered.file)
    job_rows.add_model(
        session,
        Model(
            id=card["id"],
            tenant_id=run.tenant_id,
            job_id=run.job_id,
            device_id=target.places[0].device_id if target.places else None,
            supernet_id=ready.id,
            table_id=target.places[0].table_id if target.places else None,
            budget_ms=target.budget_ms,
            onnx_sha256=delivered.file.onnx_sha256,
            card=card,
        ),
    )
    tell(
        session,
        run.tenant_id,
        HappeningKind.MODEL,
        card["id"],
        {"device": target.device, "job_id": run.job_id},
    )
