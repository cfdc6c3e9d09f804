"""The heat map of a device's table asks the space for its blocks: every family of operators is in it."""

from __future__ import annotations

import pytest

from latency_tables.measurement import Context, Measurement
from latency_tables.table import LatencyTable
from service.cli.device_pictures import _heat_map
from service.cli.pictures import new_figure
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import all_operators

CONTEXT = Context("onnxruntime", "1.23.0", "CPUExecutionProvider", 1, "float32", 1)


def drawn(space_name, sizes, wanted=lambda operator: True):
    """(texts on the axes, rows, columns, values in microseconds) of the map of a table of these sizes."""
    space = space_named(space_name)
    operators = {op for size in sizes for op in all_operators(space, size) if wanted(op)}
    table = LatencyTable(CONTEXT, {op: Measurement(median_ms=1e-6 * (1 + op.macs)) for op in operators})
    _, axes = new_figure(5, 4, 1)
    _heat_map(axes[0], table, space)
    values = axes[0].images[0].get_array() if axes[0].images else None
    labels = [[one.get_text() for one in of] for of in (axes[0].get_yticklabels(), axes[0].get_xticklabels())]
    return axes[0].get_title(loc="left") + "".join(t.get_text() for t in axes[0].texts), *labels, values


@pytest.mark.parametrize("name", ["digits-mbv3", "ofa-resnet50"])
def test_every_block_has_a_row_whatever_its_family(name):
    space = space_named(name)
    sizes = space.resolutions[:2]
    title, rows, columns, values = drawn(name, sizes)
    assert f"{name} at {sizes[-1]}" in title
    assert len(rows) == sum(len(stage.choices) for stage in space.stages)
    assert rows[-1].startswith("head 1: ")
    assert values.shape == (len(rows), len(columns)) and values.max() > 10 * values.min() > 0


def test_what_the_table_lacks_is_no_row_and_no_number():
    _, whole, columns, _ = drawn("digits-mbv3", [8])
    _, rows, _, values = drawn("digits-mbv3", [8], lambda op: op.family == "mbconv" and op.kernel != 7)
    assert len(rows) < len(whole) and not any(row.startswith("head") for row in rows)
    sevens = [i for i, column in enumerate(columns) if column.startswith("7x7")]
    assert sevens and values.mask[:, sevens].all() and not values.mask[:, 1].any()


def test_a_table_of_another_space_is_said_to_hold_no_blocks():
    text, _, _, values = drawn("digits-mbv3", [], lambda op: True)
    assert "no blocks of digits-mbv3" in text and values is None
