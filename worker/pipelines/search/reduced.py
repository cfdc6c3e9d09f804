"""Targets whose blocks may be in int8 or pruned: what that costs each block of the supernet, learnt once for
all jobs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from service.db.documents import Document
from supernets.accuracy.precision import MOST_ROUNDED, PrecisionPredictor
from supernets.accuracy.predictor import for_space
from supernets.accuracy.pruning import MOST_PRUNED, REFIT_SAMPLES, PruningPredictor
from supernets.accuracy.reduced import ReducedRanking, Reduction, reduced_score
from supernets.delivery.precision import USUAL
from supernets.search.targets import Objective, Target
from worker.compute.requests import LearnCosts, LearnPrecision, LearnPruning, LearntCosts, StoredPredictor
from worker.compute.torch_child import Report
from worker.pipelines.search.job import SearchJob
from worker.steps import StepName


@dataclass(frozen=True)
class Reduced:
    """Of one job."""

    job: SearchJob

    def objective(self, objective: Objective, target: Target) -> Objective:
        """The same over networks whose blocks may be less: what a block loses is a part of the score."""
        ranking = self.ranking(target)
        score = reduced_score(self.job.predictor, [*ranking.reductions.values()], target.space)
        refined = None if self.job.refinement is None else ranking
        return replace(objective, space=target.space, score=score, refinement=refined)

    def ranking(self, target: Target) -> ReducedRanking:
        """What ranks networks of the target."""
        return ReducedRanking(self.job.ranking, self._of(target), target.space)

    def _of(self, target: Target) -> dict[str, Reduction]:
        found: dict[str, Reduction] = {}
        if target.rounded:
            found["rounded"] = self.precision
        if target.space.pruned:
            found["pruned"] = self.pruning
        return found

    @cached_property
    def precision(self) -> PrecisionPredictor:
        """Raises InvalidPrecision where the data set is too small to calibrate with."""
        further: Document = {"rounding": USUAL.to_json()}
        found = self._learnt(StepName.LEARN_PRECISION, LearnPrecision, MOST_ROUNDED, further, "rounded")
        return PrecisionPredictor.from_json(self.job.ranking, found)

    @cached_property
    def pruning(self) -> PruningPredictor:
        """Raises InvalidPruning where the data set is too small to refit with."""
        further: Document = {"refit_samples": REFIT_SAMPLES}
        found = self._learnt(StepName.LEARN_PRUNING, LearnPruning, MOST_PRUNED, further, "pruned")
        return PruningPredictor.from_json(self.job.ranking, found)

    def _learnt(
        self, step: StepName, kind: type[LearnCosts], networks: int, further: Document, how: str
    ) -> Document:
        """further: what the step's result depends on beside supernet, predictor, seed and `networks`."""
        job, ready = self.job, self.job.ready
        inputs = {**self._inputs(networks), **further}
        stored = StoredPredictor(dict(for_space(ready.predictor, ready.space)))
        asked = kind(ready.ref, stored, networks, ready.seed, ready.scale)
        report = self._report(step, how)
        return job.run.step(
            step, inputs, LearntCosts, lambda: job.torch_child.learn_costs(asked, report)
        ).learnt

    def _inputs(self, networks: int) -> Document:
        ready = self.job.ready
        known = json.dumps(ready.predictor, sort_keys=True, separators=(",", ":"))
        return {
            **ready.ref.inputs(),
            "predictor": hashlib.sha256(known.encode()).hexdigest(),
            "networks": networks,
            "seed": ready.seed,
            # Where answers are counted and scores add up nothing is said: steps of before stay known by their
            # keys.
            **({} if ready.scale is None else {"scale": asdict(ready.scale)}),
            **({} if self.job.refinement is None else {"ranking": self.job.refinement.name}),
        }

    def _report(self, step: str, how: str) -> Report:
        def report(done: int, total: int) -> None:
            self.job.run.progress(step, done / total, f"{how} network {done} of {total}")

        return report
