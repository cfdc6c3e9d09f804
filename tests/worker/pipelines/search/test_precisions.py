"""What is said of a network that int8 ruins, before anybody has it."""

from __future__ import annotations

import pytest

from supernets.delivery.verdict import COLLAPSE, collapsed
from supernets.tasks.metric import ACCURACY, Metric
from worker.pipelines.search.exported import Precisions
from worker.pipelines.search.precisions import _at_fault


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
