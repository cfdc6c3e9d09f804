"""Compression passes in a job: kept where they pay, left out with the reason, all of it on the card."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from supernets.delivery.compression.catalog import PASSES
from supernets.search.measured import Latency
from tests.worker.pipelines.search.test_card import FOUND
from tests.worker.pipelines.search.test_targets import SPACE, target
from tests.worker.runs import events_of, new_run
from worker.compute.requests import TriedPass
from worker.compute.torch_child import TorchChild
from worker.pipelines.search.compressing import Compressing, _not_kept
from worker.pipelines.search.deliver import Files
from worker.pipelines.search.exported import ExportedNetwork

NETWORK = SPACE.smallest(8)
GOOD = TriedPass(0.9, ((0.85, 0.9),), 0.85, 0.8, 0.8)


class Device:
    """Answers at once: milliseconds of the files in the order in which they are asked for."""

    def __init__(self, *ms: float) -> None:
        self.ms = list(ms)

    def settled(self, networks: list[Any]) -> list[Any]:
        return [None if not self.ms else (Latency(self.ms.pop(0), 0.005, 1),) for _ in networks]


@pytest.mark.slow
def test_passes_are_tried_written_measured_and_told(context: Any, ready: Any, capsys: Any) -> None:
    run, goal = new_run(context), target(0.05, resolutions=(8,), measured=True)
    with TorchChild(run) as torch_child:
        request = SimpleNamespace(
            passes=("low-rank", "shared-weights"), batch="device", preprocessing="separate"
        )
        job: Any = SimpleNamespace(run=run, ready=ready, torch_child=torch_child, request=request)
        files = Files(job, None, None)  # type: ignore[arg-type]
        plain = files.file(goal, NETWORK, ready.ref)
        network = ExportedNetwork(NETWORK, 0.1, 0.1, FOUND, plain)
        made = Compressing(job, files).of(goal, network, Device(0.03, 0.02, 0.02, 0.0201))  # type: ignore[arg-type]
    assert made.compression is not None
    low, shared = made.compression.passes
    assert low.kept and "1.5 times as fast" in low.reason and made.latencies[0].ms == 0.0201
    assert low.after["macs"] < low.before["macs"] == plain.macs and low.after["parameters"] < plain.parameters
    assert low.before["measured_ms"] == 0.03 and low.detail["layers"] and low.control["test"] >= 0
    assert shared.kept and "for size only" in shared.reason
    assert shared.after["size_bytes"] < 0.6 * shared.before["size_bytes"] == 0.6 * low.after["size_bytes"]
    assert shared.after["deflated_bytes"] < shared.before["deflated_bytes"] and shared.tried.keys() == {
        "8", "6", "5", "4",
    }  # fmt: skip
    assert (
        made.file.size_bytes == shared.after["size_bytes"] and made.file.compression[0]["name"] == "low-rank"
    )
    assert "no latency table" in str(made.compression.remark)
    told = [e for e in events_of(context, run) if e["kind"] == "compressed"]
    assert [(e["pass"], e["kept"]) for e in told] == [("low-rank", True), ("shared-weights", True)]
    assert made.validation_accuracy == shared.after["validation"]


@pytest.mark.parametrize(
    ("name", "tried", "ms", "deflated", "said"),
    [
        ("low-rank", replace(GOOD, taken=None), (1.0, 0.5), (9, 5), "costs more than 1%"),
        ("low-rank", GOOD, None, (9, 5), "start an agent"),
        ("low-rank", GOOD, (0.04, 0.0399), (9, 5), "it does not pay here"),
        ("low-rank", GOOD, (0.06, 0.055), (9, 5), "above the budget"),
        ("low-rank", GOOD, (0.04, 0.03), (5, 9), None),
        ("shared-weights", GOOD, None, (9, 5), None),
        ("shared-weights", GOOD, (0.04, 0.045), (9, 9), "no smaller"),
    ],
)
def test_what_makes_nothing_better_is_left_out(
    name: str, tried: TriedPass, ms: tuple[float, float] | None, deflated: tuple[int, int], said: str | None
) -> None:
    goal = target(0.05, resolutions=(8,), measured=True)
    before, after = (None, None) if ms is None else [(Latency(one, 0.005, 1),) for one in ms]
    found = _not_kept(goal, PASSES[name], tried, before, after, list(deflated))
    assert found is None if said is None else said in str(found)
