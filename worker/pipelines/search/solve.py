"""Solving the targets of a search, in the worker or its child, and the accuracies of their candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from latency_tables.errors import BespokeError
from supernets.accuracy.reduced import ReducedRanking
from supernets.accuracy.refinement import Ranking
from supernets.errors import InfeasibleBudget, SearchUnfinished
from supernets.search.catalog import solve
from supernets.search.problem import Problem, SearchResult
from supernets.search.targets import Objective, Solved, Solver, Target, solve_target
from supernets.spaces.architecture import Architecture
from worker.compute.requests import SupernetRef
from worker.pipelines.scoring import Scored, rounded_results, validation_results
from worker.pipelines.search.gates import GRADIENT, Gates
from worker.pipelines.search.job import SearchJob
from worker.pipelines.search.reduced import Reduced

QUICK: Final = ("exact", "random")
TARGET_FAILED: Final = (InfeasibleBudget, SearchUnfinished)  # the other targets of the job go on


class Solving:
    """The solver of one job. gates: what the strategy `gradient` solves with. reduced: what int8 and pruning
    cost."""

    def __init__(self, job: SearchJob, gates: Gates) -> None:
        self.job, self.gates, self.reduced = job, gates, Reduced(job)
        self._results: dict[tuple[str, str], Scored] = {}
        predictor, request = job.predictor, job.request
        self.objective = Objective(
            predictor.space, predictor.dense(), request.strategy, request.candidates, job.refinement
        )

    def all_targets(self, failures: list[tuple[Target, BespokeError]]) -> list[tuple[Target, Solved]]:
        """Every target solved, and all their candidates scored in one go; `failures` gets the others."""
        targets = self.job.targets
        self.job.run.progress("search", 0.0, f"{len(targets)} target(s)", always=True)
        found: list[tuple[Target, Solved]] = []
        for target in targets:
            try:
                found.append((target, self.solved(target)))
            except TARGET_FAILED as error:
                failures.append((target, error))
        optimal = all(solved.result.optimal for _, solved in found)
        self.job.run.event("searched", {"targets": len(found), "optimal": optimal})
        self.scored([a for target, solved in found if not target.reduced for a in solved.architectures])
        if reduced := [a for target, solved in found if target.reduced for a in solved.architectures]:
            self.scored(reduced, reduced=True)
        return found

    def solved(self, target: Target) -> Solved:
        """Raises InfeasibleBudget, SearchUnfinished."""
        # A generator per target and round: the same job gives the same networks, in whatever order it runs.
        generator = np.random.default_rng([self.job.ready.seed, target.index, len(target.ruled_out)])
        objective = self.reduced.objective(self.objective, target) if target.reduced else self.objective
        return solve_target(target, objective, generator, self._solver(target))

    def ranking(self, target: Target) -> Ranking | ReducedRanking:
        """What ranks the networks of a target."""
        return self.reduced.ranking(target) if target.reduced else self.job.ranking

    def scored(
        self,
        architectures: Sequence[Architecture],
        supernet: SupernetRef | None = None,
        *,
        reduced: bool = False,
    ) -> dict[str, float]:
        """Quality on the validation split by digest of the architecture; each is evaluated once for all jobs.
        Of a supernet whose networks are ranked by log-likelihood: the accuracy of networks with it.

        supernet: another one than the job's, as a fine-tuned network is. reduced: of a target whose blocks
        may be in int8 or pruned; those are counted as they would be delivered.
        """

        def report(done: int, total: int) -> None:
            self.job.run.progress("score_candidates", done / total, f"candidate {done} of {total}")

        ref, scale = supernet or self.job.ready.ref, self.job.ready.scale
        results = rounded_results if reduced else validation_results
        found = results(
            self.job.run, self.job.torch_child, ref, architectures, report, likelihoods=scale is not None
        )
        if scale is None:
            return {digest: one.accuracy for digest, one in found.items()}
        self._results |= {(ref.weights_sha256, digest): one for digest, one in found.items()}
        return {digest: scale.quality(one.likelihood) for digest, one in found.items()}

    def counted(
        self, architectures: Sequence[Architecture], supernet: SupernetRef, *, reduced: bool
    ) -> dict[str, float]:
        """`scored`, but for what is shown and not ranked: as it was counted, whatever networks are ranked
        by."""
        found = self.scored(architectures, supernet, reduced=reduced)
        known = {one.digest: self.result(one, supernet) for one in architectures}
        return {digest: found[digest] if one is None else one.accuracy for digest, one in known.items()}

    def result(self, architecture: Architecture, supernet: SupernetRef | None = None) -> Scored | None:
        """What was counted of a network that `scored` has seen, and its log-likelihoods; None where networks
        are ranked by what is counted."""
        return self._results.get(((supernet or self.job.ready.ref).weights_sha256, architecture.digest))

    def _solver(self, target: Target) -> Solver:
        """How this job solves: strategies that take seconds or need torch do it in the child, where
        cancelling stops them."""
        torch_child = self.job.torch_child

        def by_gates(problem: Problem, strategy: str, generator: np.random.Generator) -> SearchResult:
            return self._in_child(lambda: self.gates.solve(torch_child, target, problem))

        def in_child(problem: Problem, strategy: str, generator: np.random.Generator) -> SearchResult:
            seed = int(generator.integers(2**63))
            return self._in_child(lambda: torch_child.solve(problem, strategy, seed))

        if self.objective.strategy == GRADIENT:
            return by_gates
        # Several limits are an integer program, which may take as long as it is given.
        return solve if self.objective.strategy in QUICK and not target.competing else in_child

    def _in_child(self, work: Callable[[], SearchResult]) -> SearchResult:
        """Solve in the child. What it had shown before its time was over is said as a value of the metric."""
        try:
            return work()
        except SearchUnfinished as error:
            if error.best_score is None:
                raise
            # The child knows scores only; what they mean knows the predictor.
            metric = self.job.predictor.metric
            quality = metric.text(float(self.job.predictor.quality_of(np.array(error.best_score))))
            raise SearchUnfinished(
                f"{error}; no network within them is predicted to do better than {quality} {metric.name}",
                error.best_score,
            ) from None
