"""Targets whose blocks may be in int8: what that costs each block of the supernet, learnt once for all jobs,
and what the card says of a network's precisions."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property

from supernets.accuracy.precision import MOST_ROUNDED, PrecisionPredictor, RoundedRanking
from supernets.delivery.precision import USUAL
from supernets.search.targets import Objective
from supernets.spaces.space import Space
from worker.compute.requests import LearnPrecision, LearntPrecision
from worker.pipelines.search.job import SearchJob
from worker.steps import StepName


@dataclass(frozen=True)
class Rounded:
    """Of one job."""

    job: SearchJob

    def objective(self, objective: Objective, space: Space) -> Objective:
        """The same over networks whose blocks may be in int8: what a block loses is a part of the score.

        What refines the float32 predictor knows no precisions, so it takes no part; the best few are scored
        rounded before one is chosen.
        """
        return replace(objective, space=space, score=self.predictor.dense(space), refinement=None)

    def ranking(self, space: Space) -> RoundedRanking:
        """What ranks networks of the space."""
        return RoundedRanking(self.predictor, space)

    @cached_property
    def predictor(self) -> PrecisionPredictor:
        """Raises InvalidPrecision where the data set is too small to calibrate with."""
        job, ready = self.job, self.job.ready
        known = json.dumps(ready.predictor, sort_keys=True, separators=(",", ":"))
        inputs = {
            **ready.ref.inputs(),
            "predictor": hashlib.sha256(known.encode()).hexdigest(),
            "networks": MOST_ROUNDED,
            "seed": ready.seed,
            "rounding": USUAL.to_json(),
        }

        def report(done: int, total: int) -> None:
            job.run.progress("learn_precision", done / total, f"rounded network {done} of {total}")

        asked = LearnPrecision(ready.ref, job.predictor, MOST_ROUNDED, ready.seed)
        found = job.run.step(
            StepName.LEARN_PRECISION,
            inputs,
            LearntPrecision,
            lambda: job.torch_child.learn_precision(asked, report),
        )
        return PrecisionPredictor.from_json(job.predictor, found.learnt)
