"""A search: for every target the best network that keeps its budget, delivered as an ONNX file and measured.

One job with many targets shares the supernet, the predictor, one child and every score. For each target: price and
solve (ms), score the best few on the supernet, choose, cut out and export, measure. A network that breaks its budget
when measured is ruled out, the limit is tightened by what was seen, and the target is solved again. One that keeps it
is trained on where that was asked for, and measured again, for it is another file.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from latency_tables.errors import BespokeError, ContradictingConstraints, InfeasibleBudget, SearchUnfinished, TrainingDiverged
from latency_tables.measurement import Measurement
from service.artifacts import register
from service.db.models import MeasurementTask, Model, NetworkMeasurement
from service.pricing import PriceBook
from supernets import accuracy_refinement
from supernets.search.budgets import SIZE, reachable, unreachable
from supernets.search.catalog import solve
from supernets.search.problem import Problem, SearchResult
from supernets.spaces.architecture import Architecture
from worker.context import JobRun
from worker.gates import GRADIENT, Gates
from worker.laboratory import Laboratory
from worker.measuring import Wanted, agent_is_present, ask, wait_for_one
from worker.model_card import Delivered, card_of
from worker.packing import packed_problem, unpacked_result
from worker.pipelines.train_supernet import ReadySupernet, ensure_supernet
from worker.problems import problem_of
from worker.scoring import validation_scores
from worker.steps import StepFailed
from worker.targets import Solved, Solver, Target, Wish, cross_device, load_target, solve_target
from worker.tuning import FineTuning

ROUNDS: Final = 5
QUICK: Final = ("exact", "random")
TARGET_FAILED: Final = (InfeasibleBudget, SearchUnfinished)  # the other targets of the job go on


def search(run: JobRun) -> dict[str, Any]:
    """The pipeline of a `search` job. Targets without a network are listed with the reason; if all are, the job fails."""
    ready = ensure_supernet(run, run.request["supernet_id"])
    job = _Search(run, ready)
    delivered: list[tuple[Target, Delivered]] = []
    failures: list[tuple[Target, BespokeError]] = []
    with Laboratory(run) as job.laboratory:
        for number, (target, found) in enumerate(job.solve_all(failures)):
            run.progress("deliver", number / len(job.targets), f"{target.device} within {target.budget_ms:g} ms", always=True)
            try:
                delivered.append((target, job.deliver(target, found)))
            except TARGET_FAILED as error:
                failures.append((target, error))
    if not delivered:
        raise failures[0][1]
    cards = [card_of(run, ready, target, network, model_id(run, target)) for target, network in delivered]
    for (target, network), card in zip(delivered, cards, strict=True):
        run.at_end(partial(_store, run=run, ready=ready, target=target, delivered=network, card=card))
    return {
        "models": [{"id": card["id"], "device": card["device"], "budget_ms": card["budget_ms"]} for card in cards],
        "failures": [{"device": t.device, "budget_ms": t.budget_ms, "error": problem_of(e)} for t, e in failures],
        "predictor": accuracy_refinement.summary(job.refinement or job.predictor),
        "matrix": cross_device(
            [(card["id"], t, n.architecture) for card, (t, n) in zip(cards, delivered, strict=True)], job.targets
        ),
    }


def model_id(run: JobRun, target: Target) -> str:
    """The same for every attempt at the job, so that a model is never delivered twice."""
    return f"model_{hashlib.sha256(f'{run.job_id}/{target.index}'.encode()).hexdigest()[:32]}"


class _Search:
    """What the targets of one job share."""

    laboratory: Laboratory

    def __init__(self, run: JobRun, ready: ReadySupernet) -> None:
        self.run, self.ready = run, ready
        self.predictor, self.refinement = accuracy_refinement.from_json(ready.predictor)
        strategy, candidates = str(run.request.get("strategy") or "exact"), int(run.request.get("candidates") or 1)
        self.wish = Wish(self.predictor.space, self.predictor.dense(), strategy, candidates, self.refinement)
        confidence = run.request.get("confidence")
        items, book = list(enumerate(run.request["targets"])), PriceBook(ignored_session=run.job_id)

        def load(session: Session) -> list[Target]:
            return [load_target(session, book, run.tenant_id, ready.space, index, item, confidence) for index, item in items]

        self.targets = run.context.transaction(load)
        self.loaded = {
            "space": ready.space.name,
            "classes": ready.space.classes,
            "dataset": ready.dataset,
            "weights_sha256": ready.weights_sha256,
        }
        self.gates = Gates(run, ready, self.loaded, len(self.targets))
        self.tuning = FineTuning(run, ready, self.loaded, len(self.targets))

    def solve_all(self, failures: list[tuple[Target, BespokeError]]) -> list[tuple[Target, Solved]]:
        """Every target solved, and all their candidates scored in one go."""
        self.run.progress("search", 0.0, f"{len(self.targets)} target(s)", always=True)
        found: list[tuple[Target, Solved]] = []
        for target in self.targets:
            try:
                found.append((target, self._solve(target)))
            except TARGET_FAILED as error:
                failures.append((target, error))
        solved = [solved.result for _, solved in found]
        self.run.event("searched", {"targets": len(found), "optimal": all(r.optimal for r in solved)})
        self._score([a for _, s in found for a in s.architectures])
        return found

    def deliver(self, target: Target, solved: Solved) -> Delivered:
        """Choose, export and measure, round after round until the budget is kept. Raises InfeasibleBudget, SearchUnfinished."""
        solved = self._allowing_for_others(target, solved)
        for _ in range(ROUNDS):
            delivered, solved = self._export_within_size(target, solved)
            measured_ms = self._measure(target, delivered)
            if self.tuning.epochs and (measured_ms is None or measured_ms <= target.budget_ms):
                delivered, measured_ms = self._fine_tuned(target, delivered, measured_ms)
            if measured_ms is None or measured_ms <= target.budget_ms:
                return delivered.with_measurement(measured_ms, self._test(delivered))
            self.run.event("budget_broken", {"device": target.device, "budget_ms": target.budget_ms, "measured_ms": measured_ms})
            target.tighten(delivered.architecture, measured_ms)
            solved = self._solve(target)
        raise target.slower_than_its_table()

    def _fine_tuned(self, target: Target, cut_out: Delivered, measured_ms: float | None) -> tuple[Delivered, float | None]:
        """The network trained on and measured; as it was cut out where that diverged or made it worse on the validation split."""
        architecture, before = cut_out.architecture, cut_out.validation_accuracy
        said: dict[str, Any] = {"epochs": self.tuning.epochs, "seconds": None, "validation_before": before}
        said |= {"validation": None, "kept": False, "failure": None}
        try:
            loaded, said["seconds"] = self.tuning.trained(self.laboratory, target, architecture)
            accuracy = self._score([architecture], loaded)[architecture.digest]
            said |= {"validation": accuracy, "kept": accuracy >= before}
        except StepFailed as error:
            if error.kind != TrainingDiverged.__name__:
                raise
            said["failure"] = str(error)
        self.run.event("fine_tuned", {"device": target.device, "budget_ms": target.budget_ms, **said})
        if not said["kept"]:
            return replace(cut_out, tuning=said), measured_ms
        better = replace(cut_out, file=self._file(architecture, loaded), validation_accuracy=accuracy, tuning=said)
        return better, None if measured_ms is None else self._measure(target, better)

    def _allowing_for_others(self, target: Target, solved: Solved) -> Solved:
        """Solved again where a network of another target of this job was slower on the device than its bound said."""
        slower = max(t.broken_by for t in self.targets if t.device_id == target.device_id)
        limit_ms, allowed_ms = target.limit_ms, target.budget_ms / slower
        if all(candidate.costs[0] <= allowed_ms for candidate in solved.candidates):
            return solved
        target.limit_ms = min(limit_ms, allowed_ms)
        try:
            return self._solve(target)
        except (InfeasibleBudget, SearchUnfinished):  # then its own measurement decides
            target.limit_ms = limit_ms
            return solved

    def _export_within_size(self, target: Target, solved: Solved) -> tuple[Delivered, Solved]:
        """The chosen network as a file that keeps the size; where one is too large, the next solution allows for that."""
        limit = target.limits.get(SIZE, math.inf)
        for _ in range(ROUNDS):
            delivered = self._export(target, solved)
            size_bytes = int(delivered.file["size_bytes"])
            if size_bytes <= limit:
                return delivered, solved
            self.run.event("budget_broken", {"device": target.device, "constraint": SIZE, "limit": limit, "value": size_bytes})
            target.outgrown(delivered.architecture, size_bytes)
            solved = self._solve(target)
        raise unreachable(SIZE, limit, *reachable(target.pricing.space, SIZE))

    def _solve(self, target: Target) -> Solved:
        # A generator per target and round: the same job gives the same networks, in whatever order it runs.
        generator = np.random.default_rng([self.ready.seed, target.index, len(target.ruled_out)])
        return solve_target(target, self.wish, generator, self._solver(target))

    def _solver(self, target: Target) -> Solver:
        """How this job solves: strategies that take seconds or need torch do it in the child, where cancelling stops them."""
        if self.wish.strategy == GRADIENT:
            return lambda problem, strategy, generator: self._of_target(
                lambda: self.gates.solve(self.laboratory, target, problem)
            )
        return solve if self.wish.strategy in QUICK and not target.limits else self._solve_in_child

    def _solve_in_child(self, problem: Problem, strategy: str, generator: np.random.Generator) -> SearchResult:
        seed = int(generator.integers(2**63))
        asked = {"problem": packed_problem(problem), "strategy": strategy, "seed": seed}
        return self._of_target(lambda: unpacked_result(self.laboratory.call("solve", asked)))

    def _of_target(self, work: Callable[[], SearchResult]) -> SearchResult:
        """Work in the child whose errors about the limits are this target's alone."""
        try:
            return work()
        except StepFailed as error:
            if error.kind == SearchUnfinished.__name__:
                raise self._unfinished(error) from None
            if error.kind not in (InfeasibleBudget.__name__, ContradictingConstraints.__name__):
                raise
            low, high, name = (error.detail.get(key) for key in ("minimum", "maximum", "constraint"))
            reach = (-math.inf, math.inf) if low is None or high is None else (float(low), float(high))
            raise InfeasibleBudget(str(error), *reach, str(name)) from None

    def _unfinished(self, error: StepFailed) -> SearchUnfinished:
        best = error.detail.get("best_score")
        if best is None:
            return SearchUnfinished(str(error))
        accuracy = float(self.predictor.accuracy_of(np.array(best)))
        return SearchUnfinished(f"{error}; no network within them is predicted to be right more often than {accuracy:.2%}", best)

    def _score(self, architectures: list[Architecture], supernet: dict[str, Any] | None = None) -> dict[str, float]:
        """Accuracy on the validation split by digest of the architecture; each is evaluated once for all jobs."""

        def report(done: int, total: int) -> None:
            self.run.progress("score_candidates", done / total, f"candidate {done} of {total}")

        return validation_scores(self.run, self.laboratory, self.ready.space, supernet or self.loaded, architectures, report)

    def _file(self, architecture: Architecture, supernet: dict[str, Any]) -> dict[str, Any]:
        """A network cut out of a supernet (that of the job, or one trained on alone) as an ONNX file in the store."""
        asked = {"supernet": supernet, "architecture": self.ready.space.to_json(architecture)}
        inputs = {**supernet, "architecture": asked["architecture"]}
        return self.run.step("export_network_file", inputs, lambda: self.laboratory.call("deliver", asked))

    def _export(self, target: Target, solved: Solved) -> Delivered:
        """The candidate that does best on the supernet, as a file; ties go to the faster one."""
        accuracies = self._score(list(solved.architectures))
        order = sorted(
            range(len(solved.architectures)),
            key=lambda i: (-accuracies[solved.architectures[i].digest], solved.candidates[i].costs[0]),
        )
        file = self._file(solved.architectures[order[0]], self.loaded)
        delivered = Delivered.of(target, solved, order, accuracies, file, self.refinement or self.predictor)
        return replace(delivered, search={**delivered.search, **self.gates.summary(target)})

    def _test(self, delivered: Delivered) -> dict[str, Any]:
        """Accuracy of the file itself on samples that neither training nor search has seen."""
        described = self.ready.space.to_json(delivered.architecture)
        asked = {"supernet": self.loaded, "architecture": described, "onnx_sha256": delivered.file["onnx_sha256"]}
        return self.run.step("test_network_file", asked, lambda: self.laboratory.call("test_accuracy", asked))

    def _measure(self, target: Target, delivered: Delivered) -> float | None:
        """Latency on the undisturbed device in ms, None when nobody is there to measure."""
        run, file = self.run, delivered.file
        if not run.request.get("verify", True):
            return None
        earlier = run.context.transaction(lambda s: _task_of(s, run.job_id, target.device_id, file["onnx_sha256"]))
        if earlier is None:
            if not agent_is_present(run, target.device_id):
                run.event("not_verified", {"device": target.device, "reason": "no agent is running on it"})
                return None
            described = self.ready.space.to_json(delivered.architecture)
            run.write(lambda s: _register(s, file))
            shape = tuple(file["input_shape"])
            wanted = Wanted(
                "verify", file["onnx_sha256"], file["size_bytes"], shape, space=self.ready.space.name, architecture=described
            )
            earlier = ask(run, target.device_id, [wanted])[0]
        run.progress("verify", 0.0, f"measuring on {target.device}", always=True)
        answer = wait_for_one(run, earlier, run.context.settings.verify_timeout_s)
        if answer is None:
            run.event("not_verified", {"device": target.device, "reason": "its agent did not answer in time"})
            return None
        run.write(lambda s: _keep_measurement(s, run, self.ready, target, delivered, answer))
        return Measurement.from_json(answer).latency_ms


def _task_of(session: Session, job_id: str, device_id: str, sha256: str) -> str | None:
    """The task that an earlier attempt at the job wrote for this file."""
    query = select(MeasurementTask.id).where(
        MeasurementTask.job_id == job_id,
        MeasurementTask.device_id == device_id,
        MeasurementTask.sha256 == sha256,
        MeasurementTask.state != "dropped",
    )
    return session.scalar(query.limit(1))


def _register(session: Session, file: dict[str, Any]) -> None:
    register(session, file["onnx_sha256"], file["size_bytes"], "onnx_model")


def _keep_measurement(
    session: Session, run: JobRun, ready: ReadySupernet, target: Target, delivered: Delivered, answer: dict[str, Any]
) -> None:
    """A delivered network is a whole network measured: the next calibration knows it. Once per task."""
    architecture, measured = ready.space.to_json(delivered.architecture), Measurement.from_json(answer)
    row_id = f"net_{hashlib.sha256(f'{run.job_id}/{target.device_id}/{delivered.architecture.digest}'.encode()).hexdigest()[:32]}"
    session.merge(
        NetworkMeasurement(
            id=row_id,
            tenant_id=run.tenant_id,
            device_id=target.device_id,
            space=ready.space.name,
            classes=ready.space.classes,
            architecture=architecture,
            architecture_digest=delivered.architecture.digest,
            **measured.to_json(),
            source="verify",
            session=run.job_id,
        )
    )
    run.record(session, "measured", {"device": target.device, "measured_ms": measured.latency_ms})


def _store(
    session: Session, *, run: JobRun, ready: ReadySupernet, target: Target, delivered: Delivered, card: dict[str, Any]
) -> None:
    """The model's row, in the job's last transaction."""
    _register(session, delivered.file)
    session.add(
        Model(
            id=card["id"],
            tenant_id=run.tenant_id,
            job_id=run.job_id,
            device_id=target.device_id,
            supernet_id=ready.id,
            table_id=target.table_id,
            budget_ms=target.budget_ms,
            onnx_sha256=delivered.file["onnx_sha256"],
            card=card,
        )
    )
