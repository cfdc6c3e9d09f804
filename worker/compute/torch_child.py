"""The worker's hands on torch: requests that a child does, which is started when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import cast

from latency_tables.operators import Operator
from service.db.documents import Fields
from supernets.accuracy.predictor import QualityPredictor
from supernets.delivery.catalog import Delivery
from supernets.delivery.compression.catalog import AppliedPass
from supernets.search.problem import Problem, SearchResult
from supernets.spaces.architecture import Architecture, SpaceRef
from worker.compute import requests
from worker.compute.child import POLL_S, Child, silence_limit_s
from worker.compute.codec import CODEC
from worker.compute.requests import AnswerOf, Places, Progress, Request, StoredFile, SupernetRef
from worker.context import Run
from worker.errors import ChildCrashed

Report = Callable[[int, int], None]
Follow = Callable[[Progress], None]


class TorchChild:
    """One child for all requests of a run; use as a context manager. After a crash the next starts another.

    Every method raises the error of the operation, StepFailed where that is none of ours, ChildCrashed, and
    whatever ends the run. Files that an answer names are in the artifact store, not yet in the database.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._child: Child | None = None

    def __enter__(self) -> TorchChild:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def score(
        self,
        supernet: SupernetRef,
        architectures: Sequence[Architecture],
        split: str,
        report: Report | None = None,
    ) -> tuple[float, ...]:
        """Share of right answers of each sub-network. report: (done, of how many)."""

        def follow(progress: Progress) -> None:
            if report is not None:
                report(progress.done, progress.total)

        return self.ask(requests.Score(supernet, tuple(architectures), split), follow).accuracies

    def score_by_likelihood(
        self,
        supernet: SupernetRef,
        architectures: Sequence[Architecture],
        split: str,
        report: Report | None = None,
    ) -> requests.Accuracies:
        """The same with log-likelihoods, where the task has them."""

        def follow(progress: Progress) -> None:
            if report is not None:
                report(progress.done, progress.total)

        return self.ask(requests.Score(supernet, tuple(architectures), split, likelihoods=True), follow)

    def score_rounded(
        self,
        supernet: SupernetRef,
        architectures: Sequence[Architecture],
        split: str,
        report: Report,
        *,
        likelihoods: bool = False,
    ) -> requests.Accuracies:
        """Accuracy of sub-networks as they would be delivered, in int8 or pruned."""

        def follow(progress: Progress) -> None:
            report(progress.done, progress.total)

        return self.ask(
            requests.ScoreRounded(supernet, tuple(architectures), split, likelihoods=likelihoods), follow
        )

    def learn_costs(self, request: requests.LearnCosts, report: Report) -> requests.LearntCosts:
        """What it costs each block of a supernet to be made smaller."""
        return self.ask(request, lambda progress: report(progress.done, progress.total))

    def sensitivity(
        self, supernet: SupernetRef, architecture: Architecture, split: str
    ) -> Mapping[str, float]:
        """What the loss of a network grows by where a block alone is in int8, by name."""
        return self.ask(requests.Sensitivity(supernet, architecture, split)).losses

    def refine(self, predictor: QualityPredictor, seed: int) -> Fields:
        """The predictor as it is stored, with a refinement where one is better."""
        return self.ask(requests.Refine(predictor, seed)).predictor

    def solve(self, problem: Problem, strategy: str, seed: int) -> SearchResult:
        """One of the slower strategies."""
        return self.ask(requests.Solve(problem, strategy, seed))

    def choose(self, problem: Problem, gates: requests.TrainedGates) -> SearchResult:
        """The most probable networks within the limits, after a gate training."""
        return self.ask(requests.ChooseByGates(problem, gates))

    def train_gates(self, request: requests.TrainGates, follow: Follow) -> requests.TrainedGates:
        """Goes on from the checkpoints in the request's folder."""
        return self.ask(request, follow)

    def fine_tune(self, request: requests.FineTune, follow: Follow) -> requests.TunedWeights:
        """Goes on from the checkpoints in the request's folder. Within a limit on memory: in a child that has
        done nothing else, for what others have loaded would count."""
        if request.memory_mb is None:
            return self.ask(request, follow)
        self._close()
        try:
            return self.ask(request, follow)
        finally:
            self._close()

    def train_control(self, request: requests.TrainControl, follow: Follow) -> requests.ControlAccuracy:
        """Goes on from the checkpoints in the request's folder."""
        return self.ask(request, follow)

    def deliver(
        self,
        supernet: SupernetRef,
        architecture: Architecture,
        delivery: Delivery,
        compression: Sequence[AppliedPass] = (),
    ) -> requests.DeliveredFile:
        """A sub-network as an ONNX file, after compression passes."""
        return self.ask(requests.Deliver(supernet, architecture, delivery, tuple(compression)))

    def try_pass(self, request: requests.TryPass, report: Report) -> requests.TriedPass:
        """A compression pass at each of its strengths."""
        return self.ask(request, lambda progress: report(progress.done, progress.total))

    def measure_accuracy(
        self, supernet: SupernetRef, architecture: Architecture, onnx_sha256: str, delivery: Delivery
    ) -> requests.FileAccuracy:
        """What a delivered file does on the test split."""
        return self.ask(requests.MeasureAccuracy(supernet, architecture, onnx_sha256, delivery))

    def measure_robustness(self, request: requests.MeasureRobustness, report: Report) -> requests.Robust:
        """What a delivered file does on pictures that were changed to deceive it."""
        return self.ask(request, lambda progress: report(progress.done, progress.total))

    def operator_files(self, operators: Sequence[Operator], delivery: Delivery) -> Mapping[str, StoredFile]:
        """Micro-benchmarks by the operator's text."""
        return self.ask(requests.ExportOperators(tuple(operators), delivery)).files

    def network_files(
        self,
        space: SpaceRef,
        architectures: Sequence[Architecture],
        operators: Mapping[str, str],
        delivery: Delivery,
    ) -> tuple[StoredFile, ...]:
        """Whole networks with random weights. operators: text -> SHA-256 of the files they are made of."""
        return self.ask(requests.ExportNetworks(space, tuple(architectures), operators, delivery)).files

    def ask(self, request: Request[AnswerOf], follow: Follow = lambda progress: None) -> AnswerOf:
        """What all others do: one request, its reports, its answer."""
        child = self._child or self._start()
        context = self._run.context
        registered = {name: str(path) for name, path in context.settings.datasets.items()}
        places = Places(str(context.store.root), str(context.work_folder("data")), registered)
        name = type(request).__name__
        try:
            child.send({"call": name, "places": CODEC.write(places), "request": CODEC.write(request)})
            for message in child.messages():
                match message.pop("event"):
                    case "answer":
                        return cast(AnswerOf, CODEC.read(request.answer, message["answer"]))
                    case "progress":
                        follow(CODEC.read(Progress, message))
            raise ChildCrashed(name, 0, 0, "it ended without an answer")
        except BaseException:
            # A child that was left in the middle of a request would answer the next one with it.
            self._close()
            raise

    def _start(self) -> Child:
        # Waiting for a place, the job still hears that it is cancelled.
        while not self._run.context.torch_children.acquire(timeout=POLL_S):
            self._run.check()
        settings = self._run.context.settings
        # The child ends before its job could have moved to another worker.
        silence_s = silence_limit_s(settings)
        log = self._run.context.work_folder("logs") / "torch.txt"
        memory_bytes = settings.step_memory_mb << 20
        module = ["worker.compute.child_process", str(silence_s)]
        timeout_s = settings.step_timeout_s
        try:
            self._child = Child(
                "torch child",
                module,
                log=log,
                check=self._run.check,
                tell=self._run.say,
                memory_bytes=memory_bytes,
                timeout_s=timeout_s,
            )
        except BaseException:
            self._run.context.torch_children.release()
            raise
        return self._child

    def _close(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None
            self._run.context.torch_children.release()
