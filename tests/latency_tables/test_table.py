"""A table is immutable, names what it lacks, and is the same table whatever the order of its rows."""

import pytest

from latency_tables.errors import InvalidMeasurement, MissingLatency
from latency_tables.measurement import Context, Measurement
from latency_tables.operators.conv import Conv
from latency_tables.operators.head import Head
from latency_tables.table import LatencyTable

CONTEXT = Context("onnxruntime", "1.31", "CPUExecutionProvider", 1, "float32", 1)
STEM = Conv(8, 8, 1, 16, 3, 1, 0, False, False, "hswish", 1)
HEAD = Head(2, 2, 96, 10, 1, 1, 128, False, False, "hswish", 1)


def test_a_missing_latency_is_an_error_that_names_it():
    table = LatencyTable(CONTEXT, {STEM: Measurement(0.5)})
    assert table.latency_ms([STEM, STEM]) == 1.0
    with pytest.raises(MissingLatency) as caught:
        table.latency_ms([STEM, HEAD, HEAD])
    assert caught.value.operators == (HEAD.text,)


def test_equal_tables_have_equal_digests():
    one = LatencyTable(CONTEXT, {STEM: Measurement(0.5), HEAD: Measurement(0.25)})
    other = LatencyTable(CONTEXT, {HEAD: Measurement(0.25), STEM: Measurement(0.5)})
    assert one.digest == other.digest
    assert one.digest != LatencyTable(CONTEXT, {STEM: Measurement(0.5), HEAD: Measurement(0.26)}).digest
    with pytest.raises(TypeError):
        one.rows[STEM] = Measurement(9.0)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 1e7])
def test_a_number_that_is_no_latency_is_refused(value):
    with pytest.raises(InvalidMeasurement):
        Measurement(value)


def test_measurement_parts_must_agree():
    for wrong in ({"lower_quartile_ms": 2.0}, {"mad_ms": -1.0}, {"count": 0}):
        with pytest.raises(InvalidMeasurement):
            Measurement(1.0, **wrong)
