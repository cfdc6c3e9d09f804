"""Every strategy through the real worker, for several devices and budgets in one job; gate training survives its worker."""

import json
import re
import signal
from collections import Counter

import pytest

from latency_tables.measurement import Measurement
from latency_tables.table import LatencyTable
from service.cli.matrix import matrix_of, save_matrix
from service.db import tables
from service.db.models import Device
from supernets.search import exact
from supernets.search.catalog import STRATEGIES
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import all_operators, dense_latency
from tests.end_to_end.test_search_job import card_of, search
from tests.worker.installation import Installation, eventually
from tests.worker.simulated_agent import register

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
            table_id = tables.publish(session, device, table, source="test")
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


def test_several_devices_and_budgets_in_one_job(installation, tmp_path):
    supernet_id, targets = installation.supernet("trial"), targets_of(installation)
    installation.start_worker()
    for strategy in sorted(set(STRATEGIES) - {"gradient"}):
        job = search(installation, supernet_id, targets, strategy=strategy, candidates=2, verify=False)
        check(installation, job, targets, strategy, tmp_path)


def test_gradient_trains_for_each_target_and_survives_its_worker(installation, tmp_path):
    supernet_id, targets = installation.supernet("trial"), targets_of(installation)
    worker = installation.start_worker()
    wished = {"supernet_id": supernet_id, "strategy": "gradient", "candidates": 2, "verify": False, "gate_epochs": 2}
    wished["targets"] = [{"device": d, "device_id": i, "table_id": t, "budget": {"latency_ms": b}} for d, i, t, b in targets]
    job_id = installation.submit("search", wished)

    def said():
        return [e["message"] for e in installation.events(job_id, "progress") if e["step"] == "train_gates"]

    assert eventually(lambda: any("target 2 of 4" in m and "search epoch 1" in m for m in said()), 900), installation.log[-2000:]
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert eventually(lambda: not installation.children(), 15), "the child outlived its worker"
    before = len(said())
    installation.start_worker()
    job = installation.wait(job_id, 900)
    check(installation, job, targets, "gradient", tmp_path)
    assert job.attempts == 2
    again = said()[before:]
    assert not any("target 1 of 4" in message for message in again), "a finished target is not trained again"
    assert not any("target 2 of 4" in message and "warm-up epoch 1" in message for message in again), "it goes on in the middle"
    assert all(re.match(r"target \d of 4, (phone|board) within [\d.]+ ms: ", message) for message in again)
    done = Counter(e["step"] for e in installation.events(job_id, "step_done"))
    assert done["train_gates"] == 4

    same = search(installation, supernet_id, targets, strategy="gradient", candidates=2, verify=False, gate_epochs=2)
    assert all(e["step"] != "train_gates" for e in installation.events(same.id, "step_done")), "nothing is trained twice"
    models = [card_of(installation, m["id"])["architecture"] for m in same.result["models"]]
    assert models == [card_of(installation, m["id"])["architecture"] for m in job.result["models"]]
