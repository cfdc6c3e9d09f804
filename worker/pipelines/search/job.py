"""What all parts of one search job share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.db.session import Session
from service.devices.price_book import PriceBook
from service.jobs.requests import SearchRequest
from supernets.accuracy import refinement
from supernets.accuracy.predictor import QualityPredictor, for_space
from supernets.accuracy.refinement import Ranking, Refinement
from supernets.search.targets import Target
from worker.compute.torch_child import TorchChild
from worker.context import JobRun
from worker.pipelines.ready_supernet import ReadySupernet
from worker.pipelines.search.targets import load_target


@dataclass(frozen=True)
class SearchJob:
    """A search with its targets priced. refinement: of the predictor, where one ranks better."""

    run: JobRun
    ready: ReadySupernet
    request: SearchRequest
    torch_child: TorchChild
    predictor: QualityPredictor
    refinement: Refinement | None
    targets: Sequence[Target]

    @property
    def ranking(self) -> Ranking:
        """What ranks networks."""
        return self.refinement or self.predictor


def begin(run: JobRun, ready: ReadySupernet, request: SearchRequest, torch_child: TorchChild) -> SearchJob:
    """Price every target by the tables it is pinned to. Raises NoTable, PoorCalibration, TooFewNetworks."""
    # Networks that this job has measured count for nothing: taken up again, it must solve the same once more.
    book = PriceBook(ignored_session=run.job_id)

    def load(session: Session) -> list[Target]:
        return [
            load_target(session, book, run.tenant_id, ready.space, index, wanted, request.confidence)
            for index, wanted in enumerate(request.targets)
        ]

    targets = run.context.transaction(load)
    # Read once for all targets: it holds every scored network.
    predictor, refined = refinement.from_json(for_space(ready.predictor, ready.space))
    return SearchJob(run, ready, request, torch_child, predictor, refined, targets)
