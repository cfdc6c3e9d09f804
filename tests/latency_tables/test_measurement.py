"""Measurements: the order of their statistics, scaling, forms; tables of earlier versions keep their
bytes."""

import pytest

from latency_tables.errors import InvalidMeasurement
from latency_tables.formats import csv_rows, native_json
from latency_tables.measurement import Context, Measurement
from latency_tables.operators import Operator
from latency_tables.table import LatencyTable

CONTEXT = Context("onnxruntime", "1.31", "CPUExecutionProvider", 1, "float32", 1)
FULL = Measurement(0.131, 0.115, 0.004, 40, undisturbed_ms=0.112, p90_ms=0.24, p95_ms=0.31, uncertainty=0.012)
OLD = Measurement(0.131, 0.115, 0.004, 40)
STEM = Operator.parse("conv/in=2x2x48/out=96/kernel=1/stride=1/mid=0/residual=0/se=0/act=hswish/groups=1")


def test_the_undisturbed_latency_is_used_and_the_median_where_it_is_not_known():
    assert FULL.latency_ms == 0.112
    assert OLD.latency_ms == 0.131
    assert LatencyTable(CONTEXT, {STEM: FULL}).latency_ms([STEM, STEM]) == pytest.approx(0.224)


def test_everything_in_milliseconds_is_scaled_and_nothing_else():
    twice = FULL.times(2)
    assert (twice.undisturbed_ms, twice.median_ms, twice.p90_ms, twice.p95_ms) == (0.224, 0.262, 0.48, 0.62)
    assert (twice.count, twice.uncertainty) == (40, 0.012)


@pytest.mark.parametrize(
    "numbers",
    [
        {"undisturbed_ms": 0.2},
        {"p90_ms": 0.05},
        {"p90_ms": 0.3, "p95_ms": 0.2},
        {"undisturbed_ms": 0.0},
        {"uncertainty": -0.1},
        {"p95_ms": float("inf")},
    ],
)
def test_numbers_that_contradict_each_other_are_refused(numbers):
    with pytest.raises(InvalidMeasurement):
        Measurement(0.131, **numbers)


@pytest.mark.parametrize("form", [native_json, csv_rows])
def test_both_forms_give_every_number_back(form):
    table = LatencyTable(CONTEXT, {STEM: FULL})
    assert form.read(form.write(table), CONTEXT) == table


def test_a_table_of_an_earlier_version_keeps_its_bytes_and_its_digest():
    table = LatencyTable(CONTEXT, {STEM: OLD})
    assert csv_rows.write(table).splitlines()[0] == b"operator,median_ms,lower_quartile_ms,mad_ms,count"
    assert b"undisturbed" not in native_json.write(table)
    assert LatencyTable(CONTEXT, {STEM: FULL}).digest != table.digest


def test_json_of_a_measurement_is_read_back():
    assert Measurement.from_json(FULL.to_json()) == FULL
    assert Measurement.from_json({"median_ms": 1.5, "task_id": "t"}) == Measurement(1.5)
