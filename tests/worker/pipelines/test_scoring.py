"""Sub-networks are scored in rounds; each is a step, so a worker that ends in the middle costs no score
twice."""

import numpy as np
import pytest

from supernets.accuracy import refinement as accuracy_refinement
from supernets.accuracy.prior import cells
from supernets.spaces.catalog import space_named
from tests.worker.pipelines.test_shared_training import DIGEST, context, new_job  # noqa: F401  a fixture
from worker.compute.requests import SupernetRef
from worker.errors import WorkerStopping
from worker.pipelines import train_supernet
from worker.pipelines.train_supernet import SharedRun

SPACE = space_named("digits-mbv3")
WEIGHTS = np.random.default_rng(0).normal(size=int(SPACE.chain.gene_sizes.sum()))


class Children:
    """Laboratories that score by a formula. last_calls: how many calls each may answer before its worker is
    told to stop."""

    def __init__(self, *last_calls):
        self.left = list(last_calls)
        self.evaluated = []

    def __call__(self, run):
        self.calls = self.left.pop(0) if self.left else None
        return self

    def __enter__(self):
        return self

    def __exit__(self, *reason):
        pass

    def refine(self, predictor, seed):
        return predictor.to_json()

    def score(self, supernet, wanted, split, report):
        if self.calls == 0:
            raise WorkerStopping
        self.calls = None if self.calls is None else self.calls - 1
        for number, architecture in enumerate(wanted, 1):
            self.evaluated.append(architecture.digest)
            report(number, len(wanted))
        features = cells(SPACE.chain, np.array([SPACE.genes(a) for a in wanted]))
        return tuple((0.9 + 0.002 * features @ WEIGHTS).tolist())


@pytest.fixture
def scored(context, monkeypatch):  # noqa: F811
    def score(children, weights):
        monkeypatch.setattr(train_supernet, "TorchChild", children)
        run = SharedRun(context, DIGEST)
        run.progress = lambda step, fraction, message, eta_s=None, **_: said.append((fraction, eta_s))
        return train_supernet._score(run, SupernetRef(SPACE.ref, "digits", weights * 64), 3, 30)

    new_job(context)
    said = []
    score.said = said
    return score


def test_what_was_scored_before_a_stop_is_not_scored_again(scored):
    interrupted, undisturbed = Children(2, 1), Children()
    for _ in range(2):
        with pytest.raises(WorkerStopping):
            scored(interrupted, "e")
    found = scored(interrupted, "e")
    assert (
        len(interrupted.evaluated)
        == len(set(interrupted.evaluated))
        == found.summary["scored_networks"]
        == 30
    )
    whole = scored(undisturbed, "f")
    assert undisturbed.evaluated == interrupted.evaluated, (
        "other weights, the same seed and accuracies: the same choices"
    )
    assert whole.predictor == found.predictor
    predictor, _ = accuracy_refinement.from_json(found.predictor)
    assert predictor.drawn == 20 and predictor.held_out.networks == 20
    assert found.summary["largest"]["accuracy"] == pytest.approx(
        float(0.9 + 0.002 * cells(SPACE.chain, SPACE.genes(SPACE.largest())[None])[0] @ WEIGHTS)
    )


def test_progress_goes_over_all_rounds_with_the_time_that_is_left(scored):
    scored(Children(), "e")
    fractions = [fraction for fraction, _ in scored.said]
    assert fractions == sorted(fractions) and fractions == pytest.approx(np.arange(1, 31) / 30)
    assert scored.said[-1][1] == 0.0 and all(eta_s >= 0 for _, eta_s in scored.said)
