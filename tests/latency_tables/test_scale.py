"""Values in another unit than their column says (YCSB#859, PaddleX#2492, reth#17555)."""

import numpy as np
import pytest

from latency_tables.measurement import Context, Measurement
from latency_tables.scale import BEYOND, PUBLISHED, Earlier, check_networks, check_units, rate
from latency_tables.table import LatencyTable
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import all_operators

CONTEXT = Context("onnxruntime", "1.31", "CPUExecutionProvider", 1, "float32", 1)
OPERATORS = [op for r in (8, 12, 16) for op in all_operators(space_named("digits-mbv3"), r)]


def table(macs_per_ms, factor=1.0, operators=OPERATORS):
    return LatencyTable(
        CONTEXT, {op: Measurement(factor * (0.002 + op.macs / macs_per_ms)) for op in operators}
    )


@pytest.mark.parametrize(("factor", "unit"), [(1e3, "us"), (1e6, "ns"), (1e-3, "s")])
@pytest.mark.parametrize("device", sorted(name for name in PUBLISHED if "batch" not in name))
def test_another_unit_is_found_on_a_device_like_any_published_one(device, factor, unit):
    fast = PUBLISHED[device][1]
    assert check_units(table(fast)) == []
    (finding,) = check_units(table(fast, factor))
    assert finding.severity == "review" and f"--unit {unit}" in finding.message and "times" in finding.message


@pytest.mark.parametrize("factor", [1e3, 1e-3, 1e6, 25.0, 1 / 25.0])
def test_a_table_unlike_the_one_in_use_is_looked_at_and_the_factor_named(factor):
    (finding,) = check_units(table(2e6, factor), Earlier("version 3", table(2e6)))
    assert finding.severity == "review" and "version 3" in finding.message
    assert {1e3: "1,000", 1e-3: "1/1,000", 1e6: "1,000,000", 25.0: "25", 1 / 25.0: "1/25"}[
        factor
    ] in finding.message


def test_a_device_that_became_a_few_times_slower_is_a_warning_and_less_is_nothing():
    (finding,) = check_units(table(2e6, 5.0), Earlier("version 1", table(2e6)))
    assert finding.severity == "warning"
    assert check_units(table(2e6, 1.4), Earlier("version 1", table(2e6))) == []


def test_a_right_table_after_a_wrong_one_is_believed():
    (finding,) = check_units(table(2e6), Earlier("version 1", table(2e6, 1e3)))
    assert finding.severity == "warning" and "like" in finding.message


def test_a_slow_device_is_like_its_own_accepted_table_and_others_of_its_kind_are_too():
    slow = table(2e6, 1e3)
    assert check_units(slow)[0].severity == "review"
    assert check_units(table(2e6, 1.1e3), Earlier("version 1", slow)) == []
    assert check_units(slow, others={"microcontroller": rate(table(2e6, 700.0))}) == []


def test_few_rows_say_nothing():
    assert rate(table(2e6, 1e3, OPERATORS[:5])) is None and check_units(table(2e6, 1e3, OPERATORS[:5])) == []


def test_batches_are_held_against_batches():
    large = LatencyTable(CONTEXT.__class__(**{**CONTEXT.as_dict(), "batch_size": 256}), table(5e8 / 256).rows)
    assert rate(large) > BEYOND * PUBLISHED["Titan RTX"][1] and check_units(large) == []


def test_whole_networks_of_another_scale_are_found():
    sums = np.array([1.0, 2.0, 3.0])
    assert check_networks(sums, 0.5 * sums) == check_networks(sums, 3 * sums) == check_networks([], []) == []
    (finding,) = check_networks(1000 * sums, sums)
    assert finding.severity == "review" and "1/1,000 of" in finding.message and "--unit us" in finding.message
