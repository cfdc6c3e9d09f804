"""Every strategy through the real worker, for several devices and budgets in one job; what a job trains
survives its worker."""

import json
import re
import signal
from collections import Counter

import pytest
from safetensors.torch import save

from latency_tables.measurement import Measurement
from latency_tables.table import LatencyTable
from service.cli.matrix import matrix_of, save_matrix
from service.db import tables
from service.db.models import Device, StepResult
from supernets.network import Supernet
from supernets.search.catalog import STRATEGIES
from supernets.search.exact import strategy as exact
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import all_operators, dense_latency
from supernets.training.tuning import alone
from tests.end_to_end.test_search_job import card_of, search
from tests.worker.installation import Installation, eventually
from tests.worker.simulated_agent import SimulatedAgent, register
from worker.steps import step_digest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SPACE = space_named("digits-mbv3").at((8, 12))
LAWS = {"phone": lambda op: 0.002 + op.macs / 2e6, "board": lambda op: 0.03 + op.macs / 4e7}  # ms


@pytest.fixture
def installation(tmp_path, migrated_sqlite):
    with Installation(tmp_path, migrated_sqlite) as made:
        yield made


def targets_of(installation):
    """(device, id, table, budget) of two devices with two budgets each."""
    found = []
    operators = {op for r in SPACE.resolutions for op in all_operators(SPACE, r)}
    for name, law in LAWS.items():
        device_id = register(installation, name)
        with installation.sessions.begin() as session:
            device = session.get(Device, device_id)
            table = LatencyTable(tables.context_of(device), {op: Measurement(law(op)) for op in operators})
            table_id = tables.publish(session, device, table, source="test").id
        least, most = exact.bounds(dense_latency(SPACE, table))
        found += [(name, device_id, table_id, least + share * (most - least)) for share in (0.1, 0.4)]
    return found


def check(installation, job, targets, strategy, folder):
    assert job.state == "succeeded", job.error
    assert [(m["device"], m["budget_ms"]) for m in job.result["models"]] == [(t[0], t[3]) for t in targets]
    assert job.result["failures"] == []
    for entry in job.result["models"]:
        card = card_of(installation, entry["id"])
        assert card["search"]["strategy"] == strategy and card["search"]["optimal"] == (strategy == "exact")
        assert card["latency"]["predicted_ms"] <= entry["budget_ms"] and card["accuracy"]["samples"] == 360
        assert ("gates" in card["search"]) == (strategy == "gradient")
    matrix = matrix_of(job.result)
    assert matrix["devices"] == list(LAWS) and len(matrix["networks"]) == len(targets)
    for name in ("matrix.json", "matrix.png"):
        save_matrix(matrix, folder / name)
    assert json.loads((folder / "matrix.json").read_text()) == matrix
    assert (folder / "matrix.png").read_bytes().startswith(b"\x89PNG")


def killed_when(installation, worker, said, reached):
    """Kill the worker when its progress has reached something and start another; how much was said before."""
    assert eventually(lambda: any(reached(message) for message in said()), 900), installation.log[-2000:]
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert eventually(lambda: not installation.children(), 15), "the child outlived its worker"
    before = len(said())
    installation.start_worker()
    return before


def test_several_devices_and_budgets_in_one_job(installation, tmp_path):
    supernet_id, targets = installation.supernet("trial"), targets_of(installation)
    installation.start_worker()
    for strategy in sorted(set(STRATEGIES) - {"gradient"}):
        job = search(installation, supernet_id, targets, strategy=strategy, candidates=2, verify=False)
        check(installation, job, targets, strategy, tmp_path)


def test_gradient_trains_for_each_target_and_survives_its_worker(installation, tmp_path):
    supernet_id, targets = installation.supernet("trial"), targets_of(installation)
    worker = installation.start_worker()
    wished = {
        "supernet_id": supernet_id,
        "strategy": "gradient",
        "candidates": 2,
        "verify": False,
        "gate_epochs": 2,
    }
    wished["targets"] = [
        {"device": d, "device_id": i, "table_id": t, "budget": {"latency_ms": b}} for d, i, t, b in targets
    ]
    job_id = installation.submit("search", wished)

    def said():
        return [e["message"] for e in installation.events(job_id, "progress") if e["step"] == "train_gates"]

    before = killed_when(installation, worker, said, lambda m: "target 2 of 4" in m and "search epoch 1" in m)
    job = installation.wait(job_id, 900)
    check(installation, job, targets, "gradient", tmp_path)
    assert job.attempts == 2
    again = said()[before:]
    assert not any("target 1 of 4" in message for message in again), "a finished target is not trained again"
    assert not any("target 2 of 4" in message and "warm-up epoch 1" in message for message in again), (
        "it goes on in the middle"
    )
    assert all(re.match(r"target \d of 4, (phone|board) within [\d.]+ ms: ", message) for message in again)
    done = Counter(e["step"] for e in installation.events(job_id, "step_done"))
    assert done["train_gates"] == 4

    same = search(
        installation, supernet_id, targets, strategy="gradient", candidates=2, verify=False, gate_epochs=2
    )
    assert all(e["step"] != "train_gates" for e in installation.events(same.id, "step_done")), (
        "nothing is trained twice"
    )
    models = [card_of(installation, m["id"])["architecture"] for m in same.result["models"]]
    assert models == [card_of(installation, m["id"])["architecture"] for m in job.result["models"]]


def test_fine_tuning_survives_its_worker_is_measured_and_makes_nothing_worse(installation):
    supernet_id, targets = installation.supernet("trial"), targets_of(installation)[:2]
    worker = installation.start_worker()
    (plain,) = search(installation, supernet_id, targets[:1], candidates=1, verify=False).result["models"]
    as_cut_out = card_of(installation, plain["id"])
    assert as_cut_out["tuning"] is None

    wished = {
        "supernet_id": supernet_id,
        "strategy": "exact",
        "candidates": 1,
        "verify": True,
        "tune_epochs": 12,
    }
    wished["targets"] = [
        {"device": d, "device_id": i, "table_id": t, "budget": {"latency_ms": b}} for d, i, t, b in targets
    ]
    with SimulatedAgent(installation, [t[1] for t in targets]) as agent:
        job_id = installation.submit("search", wished)

        def said():
            return [e["message"] for e in installation.events(job_id, "progress") if e["step"] == "fine_tune"]

        before = killed_when(
            installation, worker, said, lambda m: "target 1 of 2" in m and "epoch 3 of 12" in m
        )
        job = installation.wait(job_id, 900)
    assert job.state == "succeeded" and job.attempts == 2, job.error
    again = said()[before:]
    assert not any("target 1 of 2" in m and re.search("epoch [12] of", m) for m in again), again
    assert all(re.match(r"target \d of 2, phone within [\d.]+ ms: ", m) for m in again)
    cards = [card_of(installation, m["id"]) for m in job.result["models"]]
    for card in cards:
        tuning = card["tuning"]
        assert (
            tuning["epochs"] == 12 and tuning["kept"] and tuning["validation"] > tuning["validation_before"]
        )
        assert card["accuracy"]["validation"] == tuning["validation"] and card["latency"]["verified"]
    assert agent.answered.count("verify") == 4, (
        "the file that is delivered is the one that was measured, not its forerunner"
    )
    first = cards[0]
    assert (
        first["architecture"] == as_cut_out["architecture"]
        and first["file"]["sha256"] != as_cut_out["file"]["sha256"]
    )
    assert first["tuning"]["validation_before"] == as_cut_out["accuracy"]["validation"]
    assert first["accuracy"]["measured"] > as_cut_out["accuracy"]["measured"], (
        "a supernet of four epochs leaves much to learn"
    )
    told = [e["kept"] for e in installation.events(job_id, "fine_tuned")]
    assert told == [True, True]
    assert max(Counter(e["digest"] for e in installation.events(job_id, "step_done")).values()) == 1, (
        "nothing is done twice"
    )

    # What was measured since corrects the table, so another network may be the best.
    (plain,) = search(installation, supernet_id, targets[:1], candidates=1, verify=False).result["models"]
    as_cut_out = card_of(installation, plain["id"])
    spoil(installation, supernet_id, as_cut_out, epochs=5)
    (kept,) = search(
        installation, supernet_id, targets[:1], candidates=1, verify=False, tune_epochs=5
    ).result["models"]
    card = card_of(installation, kept["id"])
    assert not card["tuning"]["kept"] and card["tuning"]["validation"] < card["tuning"]["validation_before"]
    assert (
        card["file"]["sha256"] == as_cut_out["file"]["sha256"] and card["accuracy"] == as_cut_out["accuracy"]
    )


def spoil(installation, supernet_id, card, epochs):
    """Remember a fine-tuning of that network that has unlearned everything: random weights."""
    space = space_named("digits-mbv3")
    weights, size_bytes = installation.store.put(
        save(Supernet(alone(space, space.from_json(card["architecture"]))).state_dict())
    )
    inputs = {
        "space": space.name, "classes": 10, "dataset": "digits", "weights_sha256": card["provenance"]["weights_sha256"],
        "architecture": card["architecture"], "recipe": "trial", "seed": 0, "epochs": epochs,
    }  # fmt: skip
    result = {"weights_sha256": weights, "size_bytes": size_bytes, "seconds": 1.0}
    with installation.sessions.begin() as session:
        session.add(StepResult(digest=step_digest("fine_tune", inputs), step="fine_tune", result=result))
