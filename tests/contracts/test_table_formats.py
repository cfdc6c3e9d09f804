"""One contract for every table format that is read and written; strictness of those that come over HTTP."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_tables.errors import ContextMismatch, InvalidTable
from latency_tables.formats import csv_rows, native_json
from latency_tables.formats.catalog import FORMATS, format_named
from latency_tables.measurement import Context, Measurement
from latency_tables.operators import Operator
from latency_tables.table import LatencyTable
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import all_operators

CONTEXT = Context("onnxruntime", "1.31", "CPUExecutionProvider", 1, "float32", 1)
OPERATORS = [*all_operators(space_named("digits-mbv3"), 8), *all_operators(space_named("ofa-mbv3"), 160)]
TEXT = OPERATORS[0].text
WRITABLE = sorted(name for name, form in FORMATS.items() if form.write)

latencies = st.floats(min_value=1e-6, max_value=1e6)


@st.composite
def measurements(draw):
    low, high = sorted((draw(latencies), draw(latencies)))
    return Measurement(
        high,
        draw(st.none() | st.just(low)),
        draw(st.none() | st.floats(min_value=0, max_value=1e3)),
        draw(st.none() | st.integers(1, 10_000)),
    )


tables = st.dictionaries(st.sampled_from(OPERATORS), measurements(), min_size=1, max_size=12).map(
    lambda r: LatencyTable(CONTEXT, r)
)


@pytest.mark.parametrize("name", WRITABLE)
@given(table=tables)
@settings(max_examples=60, deadline=None)
def test_round_trip_and_byte_stability(name, table):
    form = FORMATS[name]
    data = form.write(table)
    again = form.read(data, CONTEXT)
    assert again == table and again.digest == table.digest
    assert form.write(again) == data
    shuffled = LatencyTable(CONTEXT, dict(reversed(table.rows.items())))
    assert form.write(shuffled) == data


@pytest.mark.parametrize("name", sorted(FORMATS))
@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\xff\xfe\x00", b"[" * 100_000, b'"', b"{}", b"a,b\n1,2\n", b"null", b'{"context":1,"rows":1}']
)
def test_rubbish_is_an_invalid_table(name, data):
    with pytest.raises(InvalidTable):
        FORMATS[name].read(data, CONTEXT)


@pytest.mark.parametrize("name", sorted(FORMATS))
@given(data=st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_no_bytes_give_another_error(name, data):
    with pytest.raises(InvalidTable):
        FORMATS[name].read(data, CONTEXT)


def test_unknown_format():
    with pytest.raises(InvalidTable, match="csv"):
        format_named("pickle")


def document(*rows, context=None):
    return json.dumps({"context": context or CONTEXT.as_dict(), "rows": list(rows)}).encode()


ROW = {"operator": TEXT, "median_ms": 1.5}


@pytest.mark.parametrize(
    "row",
    [
        {"operator": TEXT},
        {**ROW, "mean_ms": 1.0},
        {**ROW, "median_ms": "1.5"},
        {**ROW, "median_ms": True},
        {**ROW, "median_ms": None},
        {**ROW, "median_ms": 0},
        {**ROW, "median_ms": -1.0},
        {**ROW, "median_ms": 1e7},
        {**ROW, "median_ms": 10**400},
        {**ROW, "count": 0},
        {**ROW, "count": 1.0},
        {**ROW, "count": 2**31},
        {**ROW, "mad_ms": -0.1},
        {**ROW, "lower_quartile_ms": 2.0},
        {**ROW, "operator": 3},
        {**ROW, "operator": TEXT + " "},
        {**ROW, "operator": "=cmd|' /C calc'!A0"},
        {**ROW, "operator": "\ud800"},
        [],
        None,
    ],
)
def test_json_wrong_rows_are_numbered(row):
    good = {"operator": OPERATORS[1].text, "median_ms": 2}
    with pytest.raises(InvalidTable) as caught:
        native_json.read(document(good, row, good | {"operator": OPERATORS[2].text}))
    assert [number for number, _ in caught.value.rows] == [2]
    assert "row 2" in str(caught.value) and "calc" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '{"context": %s, "rows": [{"operator": "%s", "median_ms": NaN}]}',
        '{"context": %s, "rows": [{"operator": "%s", "median_ms": Infinity}]}',
        '{"context": %s, "rows": [{"operator": "%s", "median_ms": 1e999}]}',
        '{"context": %s, "rows": [{"operator": "%s", "median_ms": 1, "median_ms": 2}]}',
        '{"context": %s, "rows": [{"operator": "%s", "median_ms": 1}], "rows": []}',
        '{"context": %s, "rows": [{"operator": "%s", "median_ms": 1}], "more": 1}',
        '{"context": %s, "rows": {"operator": "%s"}}',
    ],
)
def test_json_strictness(text):
    with pytest.raises(InvalidTable):
        native_json.read(text % (json.dumps(CONTEXT.as_dict()), TEXT))


@pytest.mark.parametrize(
    "change",
    [
        {"threads": 0},
        {"threads": True},
        {"threads": "1"},
        {"runtime": ""},
        {"runtime": "a\nb"},
        {"batch_size": 1.0},
        {"extra": 1},
        {"provider": "x" * 200},
    ],
)
def test_json_wrong_contexts(change):
    with pytest.raises(InvalidTable):
        native_json.read(document(ROW, context=CONTEXT.as_dict() | change))


def test_json_of_another_context():
    other = replace(CONTEXT, threads=2)
    with pytest.raises(ContextMismatch):
        native_json.read(document(ROW), other)
    assert native_json.read(document(ROW)).context == CONTEXT


def test_duplicates_name_both_rows():
    with pytest.raises(InvalidTable) as caught:
        native_json.read(document(ROW, {"operator": OPERATORS[1].text, "median_ms": 1}, ROW))
    assert caught.value.rows == ((3, "the operator of row 1 again"),)


def test_many_wrong_rows_are_cut_short():
    with pytest.raises(InvalidTable, match="^500 row") as caught:
        native_json.read(document(*[{"operator": "x", "median_ms": 1.0}] * 500))
    assert len(caught.value.rows) == 20


@pytest.mark.parametrize("header", ["operator,median_ms", "median_ms,operator", "operator,median_ms,count"])
def test_csv_required_columns_only(header):
    cells = {"operator": TEXT, "median_ms": "1.5", "count": "9"}
    row = ",".join(cells[name] for name in header.split(","))
    table = csv_rows.read(f"{header}\r\n{row}\r\n", CONTEXT)
    assert table.rows[OPERATORS[0]].median_ms == 1.5


@pytest.mark.parametrize(
    "header", ["operator", "operator,median_ms,mean_ms", "operator,median_ms,operator", "Operator,median_ms", ""]
)
def test_csv_wrong_header(header):
    with pytest.raises(InvalidTable, match="first line"):
        csv_rows.read(f"{header}\n{TEXT},1\n", CONTEXT)


@pytest.mark.parametrize(
    "cell", ["", "nan", "inf", "1e999", "-1", "+1", " 1", "1_0", "0x1", "1,5", "\uff11", "=1+1", "true", "0", "1e7"]
)
def test_csv_wrong_numbers(cell):
    with pytest.raises(InvalidTable) as caught:
        csv_rows.read(f"operator,median_ms\n{OPERATORS[1].text},1.0\n{TEXT},{cell}\n", CONTEXT)
    assert [number for number, _ in caught.value.rows] == [2] and "line 3" in str(caught.value)


def test_csv_needs_a_context_and_closed_quotes():
    with pytest.raises(InvalidTable, match="context"):
        csv_rows.read(b"operator,median_ms\n", None)
    with pytest.raises(InvalidTable, match="quotation"):
        csv_rows.read(f'operator,median_ms\n"{TEXT},1\n', CONTEXT)


def test_csv_cells_never_start_a_formula():
    table = LatencyTable(CONTEXT, {op: Measurement(1e-7 * (i + 1), None, 1e-9, 3) for i, op in enumerate(OPERATORS)})
    cells = [cell for line in csv_rows.write(table).decode().splitlines() for cell in line.split(",") if cell]
    assert not any(cell[0] in "=+-@\t\r" for cell in cells)


@pytest.mark.parametrize("name", WRITABLE)
def test_a_hundred_thousand_rows(name):
    generator = np.random.default_rng(0)
    rows = {}
    for i in range(100_000):
        op = Operator("conv", 1 + i % 224, 1 + i % 224, 1 + i // 224, 8, 3, 1, 0, False, False, "relu", 1)
        rows[op] = Measurement(float(generator.uniform(0.01, 5)), None, None, 30)
    table = LatencyTable(CONTEXT, rows)
    data = FORMATS[name].write(table)
    assert FORMATS[name].read(data, CONTEXT).digest == table.digest
