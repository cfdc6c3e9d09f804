"""Several tables of one device as one."""

from dataclasses import replace

import pytest

from latency_tables.errors import ContextMismatch, InvalidTable
from latency_tables.measurement import Context, Measurement
from latency_tables.merging import merged
from latency_tables.operators.conv import Conv
from latency_tables.table import LatencyTable

CONTEXT = Context("onnxruntime", "1.31", "CPUExecutionProvider", 1, "float32", 1)


def conv(size):
    return Conv(size, size, 3, 8, 3, 1, 0, False, False, "relu", 1)


def table(**rows):
    return LatencyTable(CONTEXT, {conv(int(name[1:])): Measurement(ms, count=9) for name, ms in rows.items()})


def test_rows_of_all_files_are_there_and_shared_ones_are_their_median():
    whole, notes = merged([table(_1=1.0, _2=2.0), table(_2=2.2, _3=3.0)])
    assert {op.in_height: m.median_ms for op, m in whole.rows.items()} == {
        1: 1.0,
        2: pytest.approx(2.1),
        3: 3.0,
    }
    assert whole.rows[conv(2)].count == 18
    assert notes == ["1 operators are in several files; the median of their latencies is kept"]
    same, nothing = merged([table(_1=1.0), table(_2=2.0)])
    assert len(same.rows) == 2 and nothing == []


def test_files_of_two_devices_are_noticed():
    _, (note,) = merged([table(_1=1.0), table(_1=5.0)])
    assert "1 of them differ by more than 2 times" in note
    with pytest.raises(ContextMismatch):
        merged([table(_1=1.0), LatencyTable(replace(CONTEXT, threads=2), {conv(2): Measurement(1.0)})])
    with pytest.raises(InvalidTable):
        merged([])
