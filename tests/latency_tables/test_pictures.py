"""Pictures are PNG files of some size, and say what is missing."""

import subprocess
import sys

import numpy as np
import pytest

from latency_tables import pictures
from latency_tables.errors import InvalidTable
from latency_tables.measurement import Context, Measurement
from latency_tables.table import LatencyTable
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import all_operators

CONTEXT = Context("onnxruntime", "1.31", "CPUExecutionProvider", 1, "float32", 1)


def table(factor=1.0, space="digits-mbv3"):
    found = space_named(space)
    operators = {op for r in found.resolutions for op in all_operators(found, r)}
    return LatencyTable(CONTEXT, {op: Measurement(factor * (0.01 + op.macs * 1e-8)) for op in operators})


def is_png(data):
    return data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) > 8000


def test_predicted_against_measured():
    x = np.linspace(1, 5, 24)
    assert is_png(pictures.predicted_against_measured(x, x * 1.01, "board", upper_ms=x * 1.05))
    with pytest.raises(InvalidTable, match="bespoke profile"):
        pictures.predicted_against_measured([], [], "board")


def test_heat_map():
    assert is_png(pictures.heat_map(table(), "board"))
    heads = {op: m for op, m in table().rows.items() if op.family == "head"}
    with pytest.raises(InvalidTable, match="no blocks"):
        pictures.heat_map(LatencyTable(CONTEXT, heads), "board")


def test_side_by_side():
    assert is_png(pictures.side_by_side({"a": table(), "b": table(2.0)}, "two boards"))
    with pytest.raises(InvalidTable, match="in common"):
        pictures.side_by_side({"a": table(), "b": LatencyTable(CONTEXT, {})}, "two boards")
    with pytest.raises(InvalidTable, match="two"):
        pictures.side_by_side({"a": table()}, "one board")


def test_matplotlib_is_not_loaded_until_a_picture_is_drawn():
    code = "import sys, latency_tables.pictures; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
