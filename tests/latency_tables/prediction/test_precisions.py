"""Factors of precisions: what was built in is found again."""

from __future__ import annotations

import numpy as np
import pytest

from latency_tables.measurement import Context, Measurement
from latency_tables.prediction.precisions import BOUNDARY, LEAST_FACTOR, PrecisionFactors, class_of
from latency_tables.prediction.refine import refine
from latency_tables.table import LatencyTable
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import all_operators, lower

SPACE = space_named("digits-mbv3").at([12]).with_precisions(("float32", "int8"))
CONTEXT = Context("onnxruntime", "1", "CPUExecutionProvider", 1, "float32", 1)
TABLE = LatencyTable(
    CONTEXT, {op: Measurement(0.001 + (op.macs + op.bytes_moved) / 1e7) for op in all_operators(SPACE, 12)}
)
TRUE = {"float32": 1.1, "int8": 0.9, BOUNDARY: 3.0}


def networks(seed: int, count: int) -> list[list]:
    return [lower(SPACE, a) for a in SPACE.sample(np.random.default_rng(seed), count)]


def milliseconds(network: list) -> float:
    return 0.02 + sum(TRUE[class_of(op)] * TABLE.rows[op].latency_ms for op in network)


def test_factors_and_intercept_are_found_again():
    probes = networks(0, 40)
    found = PrecisionFactors.fit(TABLE, probes, [milliseconds(n) for n in probes])
    others = networks(1, 20)
    truth = np.array([milliseconds(n) for n in others])
    assert np.abs(found.predict(TABLE, others) / truth - 1).max() < 0.01
    assert found.factors[BOUNDARY] == pytest.approx(3.0, rel=0.2)
    plain = np.array([TABLE.latency_ms(n) for n in others])
    assert np.abs(plain / truth - 1).mean() > 0.1  # without them the sums are far off


def test_what_a_row_alone_takes_for_the_call_is_taken_off():
    """Else small networks, of as many rows, are predicted too slow and large ones too quick."""
    call_ms, space = 0.9 * min(m.latency_ms for m in TABLE.rows.values()), SPACE

    def takes(network: list) -> float:
        return 0.004 + sum(TRUE[class_of(op)] * (TABLE.rows[op].latency_ms - call_ms) for op in network)

    probes, others = networks(0, 24), networks(1, 20)
    found = PrecisionFactors.fit(TABLE, probes, [takes(n) for n in probes])
    assert found.overhead_ms == pytest.approx(call_ms, rel=0.25)
    extremes = [lower(space, space.smallest()), lower(space, space.largest()), *others]
    truth = np.array([takes(n) for n in extremes])
    assert np.abs(found.predict(TABLE, extremes) / truth - 1).max() < 0.02


@pytest.mark.parametrize("free", list(TRUE))
def test_no_class_is_free_whatever_the_networks_say(free: str):
    """As they do where some of them were disturbed: a row of 0 ms is no latency, and no table could hold it."""
    probes = networks(0, 40)
    said = [sum(TABLE.rows[op].latency_ms for op in n if class_of(op) != free) + 0.02 for n in probes]
    found = PrecisionFactors.fit(TABLE, probes, said)
    assert found.factors[free] == pytest.approx(LEAST_FACTOR, abs=0.05)
    assert min(m.latency_ms for m in found.applied(TABLE).rows.values()) > 0


def test_a_class_that_no_probe_has_counts_as_measured():
    floats = [[op for op in n if class_of(op) == "float32"] for n in networks(2, 12)]
    found = PrecisionFactors.fit(TABLE, floats, [milliseconds(n) for n in floats])
    assert set(found.factors) == {"float32"}
    (op,) = [op for op in TABLE.rows if op.precision == "int8"][:1]
    assert found.applied(TABLE).rows[op] == TABLE.rows[op]


def test_tables_of_several_precisions_are_refined_by_them():
    probes = networks(5, 24)
    times = [milliseconds(n) for n in probes]
    found = refine(TABLE, probes, [12] * len(probes), times)
    assert found.corrected and found.calibration.error is not None and found.calibration.error < 0.03
    others = networks(6, 10)
    predicted = found.calibration.predict([found.table.latency_ms(n) for n in others], [12] * len(others))
    assert np.abs(predicted / [milliseconds(n) for n in others] - 1).mean() < 0.03


def test_too_few_networks_are_refused():
    few = networks(3, 3)
    with pytest.raises(ValueError, match="4 whole networks"):
        PrecisionFactors.fit(TABLE, few, [1.0] * 3)
