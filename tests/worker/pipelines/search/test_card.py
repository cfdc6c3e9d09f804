"""The card says whether a network does what was predicted of it, also one for no device in particular."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from latency_tables.measurement import Context
from supernets.search.targets import Target
from supernets.spaces.catalog import space_named
from worker.compute.requests import ClassRecall, DeliveredFile, FileAccuracy
from worker.pipelines.ready_supernet import ReadySupernet
from worker.pipelines.search.card import card_of
from worker.pipelines.search.exported import ExportedNetwork, Found

SPACE = space_named("digits-mbv3")
READY = ReadySupernet("sup_1", SPACE, "digits", "trial", 0, "a" * 64, {})
FILE = DeliveredFile("b" * 64, 1, 20, 1, 1, 1e-6, (1, 1, 12, 12))
FOUND = Found("exact", True, 0.0, {"rmse": 0.01})
NETWORK = ExportedNetwork(SPACE.largest(12), 0.98, 0.97, FOUND, FILE)


def card(accuracy, samples=360, by_class=(), places=()):
    test = FileAccuracy(accuracy, samples, "digits", "test", tuple(ClassRecall(**one) for one in by_class))
    target = Target(0, SPACE, places, {"size_bytes": 10**9})
    job = SimpleNamespace(
        run=SimpleNamespace(job_id="job_1"), ready=READY, request=SimpleNamespace(origin=None)
    )
    return card_of(job, target, replace(NETWORK, test=test), "mod_1").document


@pytest.mark.parametrize(("accuracy", "state"), [(0.96, "good"), (0.5, "suspect"), (0.0, "suspect")])
def test_a_network_far_below_its_prediction_is_suspect_on_its_card(accuracy, state):
    found = card(accuracy)
    assert found["state"] == state
    assert (found["suspect_reason"] is None) == (state == "good")
    assert state == "good" or f"{accuracy:.2%}" in found["suspect_reason"]


def test_the_card_has_the_mean_recall_and_names_rare_classes():
    by_class = [
        {"name": "common", "samples": 350, "recall": 1.0},
        {"name": "rare", "samples": 10, "recall": 0.5},
    ]
    accuracy = card(0.97, by_class=by_class)["accuracy"]
    assert (
        accuracy["balanced"] == 0.75
        and accuracy["by_class"] == by_class
        and "rare (10)" in accuracy["warnings"][0]
    )


def test_a_card_without_a_device_has_no_context_and_no_remark():
    found = card(0.96)
    assert found["context"] is None and found["file"]["remarks"] == [] and found["snippet"] is None


@pytest.mark.parametrize(("runtime", "told"), [("onnxruntime", 0), ("tflite", 1)])
def test_the_card_says_where_it_is_not_known_what_the_runtime_opens(monkeypatch, runtime, told):
    context = Context(runtime, "2.19", "cpu", 1, "float32", 1)
    for part in ("constraints_of", "latency_of", "devices_of"):
        monkeypatch.setattr(f"worker.pipelines.search.card.{part}", lambda *_: None)
    place = SimpleNamespace(
        context=context, device="board", budget_ms=1.0, pricing=SimpleNamespace(table_facts={})
    )
    found = card(0.96, places=(place,))
    assert found["context"]["runtime"] == runtime and len(found["file"]["remarks"]) == told
