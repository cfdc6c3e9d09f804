"""What is said of a network that int8 ruins, before anybody has it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save

from supernets.data.catalog import load_digits
from supernets.delivery.verdict import COLLAPSE, SUSPECT, collapsed
from supernets.network import Supernet
from supernets.search.targets import Target
from supernets.spaces.catalog import space_named
from supernets.spaces.mixes import in_precisions
from supernets.tasks.metric import ACCURACY, Metric
from supernets.training.start import fit_last_layer
from supernets.training.tuning import specialised
from tests.worker.pipelines.search.test_card import FILE, FOUND
from tests.worker.pipelines.search.test_targets import priced_at, pricing
from tests.worker.runs import events_of, new_run
from worker.compute.operations import rounded as operations
from worker.compute.requests import FileAccuracy, Places, ScoreRounded, Sensitivity, SupernetRef
from worker.pipelines.scoring import rounded_results
from worker.pipelines.search.beside import Beside, _predicted
from worker.pipelines.search.card import card_of
from worker.pipelines.search.exported import ExportedNetwork, Precisions
from worker.pipelines.search.precisions import PrecisionReport, _at_fault

SPACE = space_named("digits-mbv3")
NETWORK = SPACE.smallest(8)
INT8 = SPACE.with_precisions(("int8",))


def test_a_fall_by_more_than_a_tenth_of_the_range_is_a_collapse() -> None:
    assert collapsed(ACCURACY, 0.97, 0.97 - COLLAPSE + 0.001) is None
    said = collapsed(ACCURACY, 0.97, 0.41)
    assert said is not None and "97" in said and "41" in said
    assert collapsed(ACCURACY, 0.41, 0.97) is None
    assert collapsed(Metric("perplexity", False, 1.0, None), -20.0, -90.0) is None, (
        "nobody knows what much is"
    )


def test_the_blocks_at_fault_are_named_with_what_to_leave_out() -> None:
    blocks = {"stem_0": "float32", "stage1_0": "int8", "stage1_1": "int8", "stage2_0": "int8"}
    found = Precisions("int8", blocks, None, {})
    said = _at_fault(found, {"stem_0": 9.0, "stage1_0": 0.5, "stage1_1": 2.25, "stage2_0": 0.01})
    assert said.index("stage1_1 (loss + 2.25)") < said.index("stage1_0") < said.index("stage2_0")
    assert "stem_0" not in said and "--exclude stage1.precision=int8" in said


@pytest.mark.parametrize("blocks", [{}, {"stem_0": "float32"}])
def test_without_blocks_in_int8_nothing_is_at_fault(blocks: dict[str, str]) -> None:
    assert "lose most alone" in _at_fault(Precisions("mixed", blocks, None, {}), {"stem_0": 1.0})


def ruined() -> Supernet:
    """A network that reads digits by its last layer alone, and a channel of one block that no later one looks
    at: of 256 levels over its values none is left for the others'."""
    network = specialised(Supernet(SPACE, generator=torch.Generator().manual_seed(0)), NETWORK)
    fit_last_layer(network, load_digits(), given=False)
    block: Any = network.block("stage2_0")
    with torch.no_grad():
        block.expand.norm.bias[0] = 3e5
        block.depthwise.conv.weight[0] = 0
    return network


class InProcess:
    """What a child does, without one."""

    def __init__(self, places: Places) -> None:
        self.places = places

    def score_rounded(
        self, supernet: SupernetRef, networks: Any, split: str, report: Any, *, likelihoods: bool
    ) -> Any:
        asked = ScoreRounded(supernet, tuple(networks), split, likelihoods=likelihoods)
        return operations.score_in_int8(self.places, asked, lambda progress: None)

    def sensitivity(self, supernet: SupernetRef, network: Any, split: str) -> Any:
        asked = Sensitivity(supernet, network, split)
        return operations.sensitivity(self.places, asked, lambda progress: None).losses


def test_a_network_that_int8_ruins_is_told_before_delivery_with_the_block_at_fault(
    context: Any, ready: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "USUAL", replace(operations.USUAL, method="minmax", samples=64))
    sha256, _ = context.store.put(save(ruined().state_dict()))
    weights = SupernetRef(SPACE.ref, "digits", sha256, alone=NETWORK)
    run, places = new_run(context), Places(str(context.store.root), str(context.work_folder("data")), {})
    job: Any = SimpleNamespace(
        run=run, ready=ready, torch_child=InProcess(places), request=SimpleNamespace(origin=None)
    )
    solving: Any = SimpleNamespace(
        job=job,
        counted=lambda networks, ref, *, reduced: {
            digest: one.accuracy
            for digest, one in rounded_results(
                run, job.torch_child, ref, networks, lambda done, of: None
            ).items()
        },
    )
    files: Any = SimpleNamespace(
        file=lambda *_: FILE, test_of=lambda *_: FileAccuracy(0.8, 360, "digits", "test")
    )
    goal = Target(0, INT8, (), {"size_bytes": 10**9})
    chosen = in_precisions(INT8, NETWORK, lambda: "int8")
    network = ExportedNetwork(chosen, 0.8, 0.8, FOUND, FILE, weights=weights)
    beside_it = Beside(solving, files, None)  # type: ignore[arg-type]
    told = PrecisionReport(solving, beside_it).of(goal, network)
    beside = told.beside
    assert beside["float32"].validation > 0.7 > 0.3 > beside["delivered"].validation
    assert told.collapse is not None and "stage2_0 (loss + " in told.collapse
    assert told.collapse.index("stage2_0") < told.collapse.index("--exclude stage2.precision=int8")
    (said,) = [e for e in events_of(context, run) if e["kind"] == "int8_collapsed"]
    assert said["reason"] == told.collapse
    card = card_of(job, goal, replace(network, precision=told), "mod_1")
    assert card.state == SUSPECT and card.suspect_reason == told.collapse


def test_float32_is_predicted_beside_a_network_that_is_wanted_in_int8_alone() -> None:
    place = priced_at(1.0, replace(pricing(), space=INT8))
    assert _predicted(place, NETWORK) is None
    place.in_float = pricing()
    assert _predicted(place, NETWORK) == pytest.approx(priced_at(1.0, pricing()).predicted_ms(NETWORK))
