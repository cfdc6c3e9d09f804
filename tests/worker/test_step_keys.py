"""What a step depends on is hashed as in 0.2: what an installation has done is still known after an upgrade."""

from __future__ import annotations

import gzip
import json
import sqlite3
from types import SimpleNamespace

import pytest

from service.jobs.requests import SearchRequest
from supernets.delivery.catalog import Delivery
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import lower
from tests.recorded.walk import DATABASE
from tests.worker.pipelines.search.test_gates import asked
from tests.worker.pipelines.search.test_targets import target
from worker.compute.codec import CODEC
from worker.compute.requests import DeliveredFile, FileAccuracy, StoredFile, SupernetRef
from worker.pipelines import profile
from worker.pipelines.ready_supernet import ReadySupernet
from worker.pipelines.scoring import Scored, validation_results
from worker.pipelines.search.deliver import Files
from worker.pipelines.search.gates import Gates
from worker.pipelines.search.job import SearchJob
from worker.pipelines.search.tune import FineTuning
from worker.pipelines.train_supernet import ScoredSupernet, TrainedWeights
from worker.steps import StepName, step_digest

SPACE = space_named("digits-mbv3")
NETWORK = SPACE.smallest()
# Digest of each step of the same inputs, without and with a data set's fingerprint; recorded at b7a310d.
RECORDED = {
    "tune": ("52527616abf5edb5ee11cb22f3e8c121", "b686cbc154c5e6c4bebc14b9f31e73d8"),
    "gates": ("cdb970368360031ecf66ea475227a027", "88a6663b4acd014c3e32c440550eb362"),
    "score": ("34b8404a97a9d76f5ee77479fdb1dae7", "fd754256ce05168da48f3625fc371abd"),
    "score tuned": ("b91e500607ab2955aa9105e9eb5eea58", "91db09d61ceead23c91febbfaf028323"),
    "file": ("987712dbb62adfb3f88811c22600cdfc", "d588d8dba621ae05c8362c97312cf127"),
    "test": ("4d18e156de42b1673ca9a347e4977738", "4ce9c6599bc4d86fd19ef3e35a047918"),
    "operator": ("7f94cc0073bd036b4b2e8de5ca97b262", "81d2399986262bad8703119b9809c031"),
    "network": ("65e9dbfa096b8f590a1e57a2c0e0cf95", "243ab57d2994e0e39927f0772da881b0"),
}


class Asked(Exception):
    """A step was asked for."""


class Run:
    """Notes the first step that is asked for."""

    context = SimpleNamespace(settings=SimpleNamespace(training_device="cpu"))

    def step(self, name, inputs, answer, work):
        raise Asked(step_digest(name, inputs)[:32])

    def steps(self, name, inputs, answer, work):
        raise Asked(step_digest(name, inputs[0])[:32])


STEPS = {
    "tune": lambda job, goal: FineTuning(job.run, job.ready, 1, 3).trained(None, goal, NETWORK),
    "gates": lambda job, goal: Gates(job.run, job.ready, 1, 2, 0.9).trained(None, goal, asked(goal)),
    "score": lambda job, goal: validation_results(job.run, None, job.ready.ref, [NETWORK], None),
    "score tuned": lambda job, goal: validation_results(job.run, None, tuned(job.ready.ref), [NETWORK], None),
    "file": lambda job, goal: Files(job, None, None).file(goal, NETWORK, job.ready.ref),
    "test": lambda job, goal: Files(job, None, None).accuracy_of(OLD),
}
OLD = SimpleNamespace(architecture=NETWORK, file=SimpleNamespace(delivery=None, onnx_sha256="cd" * 32))


def tuned(ref: SupernetRef) -> SupernetRef:
    return SupernetRef(ref.space, ref.dataset, ref.weights_sha256, ref.fingerprint, NETWORK)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("fingerprint", [None, "f" * 64], ids=["built in", "registered"])
def test_a_search_knows_the_steps_that_earlier_versions_have_done(name, fingerprint):
    ready = ReadySupernet("sup_1", SPACE, "digits", "trial", 5, "ab" * 32, {}, fingerprint)
    job = SearchJob(Run(), ready, SearchRequest("sup_1", ()), None, None, None, [])
    goal = target(0.05, resolutions=(8, 12), limits={"macs": 10**6})
    goal.left_out = {"resolutions": [8, 12]}
    with pytest.raises(Asked, match=RECORDED[name][fingerprint is not None]):
        STEPS[name](job, goal)


@pytest.mark.parametrize("form", [Delivery(), Delivery(17, 8)], ids=["usual", "older"])
def test_a_profile_knows_the_benchmarks_that_earlier_versions_have_exported(form):
    operator = min(lower(SPACE, NETWORK))
    with pytest.raises(Asked, match=RECORDED["operator"][form != Delivery()]):
        profile.operator_tasks(Run(), [operator], form)
    with pytest.raises(Asked, match=RECORDED["network"][form != Delivery()]):
        profile.network_tasks(Run(), SPACE, [NETWORK], form)


ANSWERS = {
    StepName.TRAIN_SUPERNET: TrainedWeights,
    StepName.SCORE_SUBNETWORKS: ScoredSupernet,
    StepName.SCORE_NETWORK: Scored,
    StepName.EXPORT_NETWORK_FILE: DeliveredFile,
    StepName.TEST_NETWORK_FILE: FileAccuracy,
    StepName.EXPORT_OPERATOR: StoredFile,
    StepName.EXPORT_NETWORK: StoredFile,
}


def test_what_the_recorded_installation_remembers_is_read(tmp_path):
    """Results of steps as 0ecf99f kept them: a step that could not be read would be done again."""
    with gzip.open(DATABASE) as packed:
        (tmp_path / "old.db").write_bytes(packed.read())
    with sqlite3.connect(tmp_path / "old.db") as connection:
        rows = connection.execute("SELECT step, result FROM step_results").fetchall()
    assert {step for step, _ in rows} == set(ANSWERS)
    for step, text in rows:
        kept = json.loads(text)
        found = CODEC.read(ANSWERS[StepName(step)], kept)
        assert CODEC.write(found).items() >= kept.items(), "written again it says the same, and more at most"
