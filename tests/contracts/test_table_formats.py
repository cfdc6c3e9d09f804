"""One contract for every table format that is read and written; strictness of those that come over HTTP."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_tables.errors import ContextMismatch, InvalidTable
from latency_tables.formats import csv_rows, native_json
from latency_tables.formats.catalog import FORMATS, format_named, recognised
from latency_tables.measurement import Context, Measurement
from latency_tables.operators.conv import Conv
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
        energy_mj=draw(st.none() | st.floats(min_value=1e-6, max_value=1e6)),
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
    "data",
    [
        b"",
        b"\x00",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'"',
        b"{}",
        b"a,b\n1,2\n",
        b"null",
        b'{"context":1,"rows":1}',
    ],
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
    "header",
    [
        "operator",
        "operator,mean_ms",
        "operator,median_ms,operator",
        "operator;latency_ms;count",
        "median_ms",
        "",
    ],
)
def test_csv_wrong_header(header):
    with pytest.raises(InvalidTable, match="first line"):
        csv_rows.read(f"{header}\n{TEXT},1\n", CONTEXT)


def test_a_csv_without_our_columns_says_what_it_saw():
    with pytest.raises(InvalidTable, match="3 columns separated by a semicolon, `mean_ms` among them"):
        csv_rows.read(f"operator;mean_ms;runs\n{TEXT};1;2\n", CONTEXT)
    with pytest.raises(InvalidTable) as caught:
        csv_rows.read(f"operator,secret_column\n{TEXT},1\n", CONTEXT)
    assert "secret" not in str(caught.value), "a message never repeats what was sent"


@pytest.mark.parametrize(
    "cell",
    [
        "",
        "nan",
        "NaN",
        "#N/A",
        "inf",
        "1e999",
        "-1",
        "1_0",
        "0x1",
        "1,5",
        "\uff11",
        "=1+1",
        "true",
        "0",
        "1e7",
        ".",
        "+",
    ],
)
def test_csv_wrong_numbers(cell):
    with pytest.raises(InvalidTable) as caught:
        csv_rows.read(f"operator,median_ms\n{OPERATORS[1].text},1.0\n{TEXT},{cell}\n", CONTEXT)
    assert [number for number, _ in caught.value.rows] == [2] and "line 3" in str(caught.value)


ROWS = {op.text: f"{0.011 + 0.001 * n:.3f}" for n, op in enumerate(OPERATORS[:20])}
PLAIN = "operator,median_ms\n" + "".join(f"{text},{value}\n" for text, value in ROWS.items())


def spelt(
    separator=",",
    value=str,
    end="\n",
    header=("operator", "median_ms"),
    row=lambda text, value: (text, value),
):
    """The plain table as another tool would write it."""
    lines = [separator.join(header), *(separator.join(row(text, value(v))) for text, v in ROWS.items())]
    return end.join(lines) + end


AS_TOOLS_WRITE_IT = {
    "empty lines at the end": PLAIN + "\n\n\n",
    "blank lines between": PLAIN.replace("\n", "\n   \n"),
    "empty rows of a spreadsheet": PLAIN + ",\n,\n",
    "empty cells at the end of each line": spelt(row=lambda t, v: (t, v, "", "")),
    "blanks around cells": spelt(row=lambda t, v: (f" {t} ", f" {v}  ")),
    "no zero before the point": spelt(value=lambda v: v.lstrip("0")),
    "a plus before each number": spelt(value=lambda v: "+" + v),
    "a point at the end": spelt(value=lambda v: f"{float(v) * 1000:.0f}.e-3"),
    "scientific notation": spelt(value=lambda v: f"{float(v):.3E}"),
    "whole counts as floats": spelt(
        header=("operator", "median_ms", "count"), row=lambda t, v: (t, v, "90.0")
    ),
    "an index column of pandas": spelt(header=("", "operator", "median_ms"), row=lambda t, v: ("7", t, v)),
    "columns in another order": spelt(header=("median_ms", "operator"), row=lambda t, v: (v, t)),
    "further columns": spelt(
        header=("device", "operator", "median_ms", "date"), row=lambda t, v: ("pi", t, v, "1.1.")
    ),
    "capital letters in the header": spelt(header=("Operator", "Median_ms")),
    "comment lines": "# board, 3 May\n" + PLAIN.replace("\n", "\n# noisy\n", 3) + '# end, with a "quote"\n',
    "everything quoted": spelt(header=('"operator"', '"median_ms"'), row=lambda t, v: (f'"{t}"', f'"{v}"')),
    "carriage returns": spelt(end="\r\n"),
    "carriage returns alone": spelt(end="\r"),
    "a byte order mark": "\ufeff" + PLAIN,
    "semicolons": spelt(";"),
    "semicolons and decimal commas": spelt(";", value=lambda v: v.replace(".", ",")),
    "quoted, with semicolons and decimal commas": spelt(
        ";", value=lambda v: v.replace(".", ","), row=lambda t, v: (f'"{t}"', f'"{v}"')
    ),
    "the separator named by Excel": "sep=;\r\n" + spelt(";", end="\r\n"),
    "tabs": spelt("\t"),
    "tabs and decimal commas": spelt("\t", value=lambda v: v.replace(".", ",")),
    "bars": spelt("|"),
    "microseconds in the name of the column": spelt(
        header=("operator", "median_us"), value=lambda v: f"{float(v) * 1000:.0f}"
    ),
    "seconds in the name of the column": spelt(
        header=("operator", "median_s"), value=lambda v: f"{float(v) / 1000:.6f}"
    ),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
@pytest.mark.parametrize("name", sorted(AS_TOOLS_WRITE_IT))
def test_a_csv_is_read_as_peoples_tools_write_it(name, encoding):
    comment = (
        "# Größe: 8 px\n" if encoding == "latin-1" and not AS_TOOLS_WRITE_IT[name].startswith("sep") else ""
    )
    notes = []
    table = csv_rows.read(
        (comment + AS_TOOLS_WRITE_IT[name]).encode(encoding, "ignore"), CONTEXT, notes=notes
    )
    assert {op.text: m.median_ms for op, m in table.rows.items()} == pytest.approx(
        {t: float(v) for t, v in ROWS.items()}, rel=1e-12
    )
    assert bool(notes) or encoding.startswith("utf-8"), "what was not plain is said"


def test_what_was_read_otherwise_is_said():
    notes = []
    header, row = ("", "operator", "median_ms", "who"), lambda t, v: ("1", t, v, "me")
    csv_rows.read(
        spelt(";", value=lambda v: v.replace(".", ","), header=header, row=row), CONTEXT, notes=notes
    )
    assert any("a semicolon" in n for n in notes) and any("decimal commas" in n for n in notes)
    assert any("ignored: one without a name, who" in n for n in notes)
    nothing = []
    csv_rows.read(PLAIN, CONTEXT, notes=nothing)
    assert nothing == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{text},0,011", "2 cells are wanted, as in the header, not 3; write decimals with a point"),
        ('{text},"0,011"', "write decimals with a point"),
        ("{text}", "2 cells are wanted"),
        ("{other},0.1", "the operator of row 1 again"),
    ],
)
def test_a_line_that_could_mean_two_things_is_refused_with_its_row(line, says):
    other = OPERATORS[1].text
    text = f"operator,median_ms\n{other},1.0\n\n" + line.format(text=TEXT, other=other) + "\n"
    with pytest.raises(InvalidTable, match=says) as caught:
        csv_rows.read(text, CONTEXT)
    assert [number for number, _ in caught.value.rows] == [3] and "line 4" in str(caught.value), (
        "empty lines are counted"
    )


@pytest.mark.parametrize("cell", ["0", "-1", "nan", "inf", "1e10", "much"])
def test_energies_that_cannot_be_are_refused_with_their_row(cell):
    text = f"operator,median_ms,energy_mj\n{OPERATORS[1].text},1.0,\n{TEXT},1.0,{cell}\n"
    with pytest.raises(InvalidTable) as caught:
        csv_rows.read(text, CONTEXT)
    assert [number for number, _ in caught.value.rows] == [2] and "energy_mj" in str(caught.value)


def test_a_table_without_energies_keeps_its_bytes_and_its_digest():
    plain = LatencyTable(CONTEXT, {OPERATORS[0]: Measurement(1.0, 0.9, 0.1, 3)})
    with_energy = LatencyTable(CONTEXT, {OPERATORS[0]: Measurement(1.0, 0.9, 0.1, 3, energy_mj=2.5)})
    assert b"energy" not in csv_rows.write(plain) + native_json.write(plain)
    assert plain.digest != with_energy.digest
    assert csv_rows.read(csv_rows.write(with_energy), CONTEXT).rows[OPERATORS[0]].energy_mj == 2.5


def test_thousands_are_not_taken_for_decimals():
    with pytest.raises(InvalidTable, match="point"):
        csv_rows.read(f"operator;median_ms\n{TEXT};1.234,5\n", CONTEXT)


@pytest.mark.parametrize(("unit", "factor"), [("us", 1e3), ("ns", 1e6), ("s", 1e-3)])
def test_a_unit_that_is_said_is_read_in_every_form(unit, factor):
    wanted = {OPERATORS[1].text: 0.25, TEXT: 1.5}
    rows = [
        {"operator": t, "median_ms": v * factor, "mad_ms": 0.01 * factor, "count": 9}
        for t, v in wanted.items()
    ]
    found = [native_json.read(document(*rows), unit=unit)]
    lines = [f"{r['operator']},{r['median_ms']!r},{r['mad_ms']!r},{r['count']}" for r in rows]
    found.append(csv_rows.read("operator,median_ms,mad_ms,count\n" + "\n".join(lines), CONTEXT, unit))
    for table in found:
        assert {op.text: m.median_ms for op, m in table.rows.items()} == pytest.approx(wanted)
        assert {(round(m.mad_ms, 9), m.count) for m in table.rows.values()} == {(0.01, 9)}


def test_a_unit_that_is_said_and_another_in_the_header_are_refused():
    with pytest.raises(InvalidTable, match="unit"):
        csv_rows.read(f"operator,median_us\n{TEXT},1\n", CONTEXT, "s")
    with pytest.raises(InvalidTable, match="unit"):
        csv_rows.read(f"operator,median_us,mad_s\n{TEXT},1,1\n", CONTEXT)


@pytest.mark.parametrize("name", WRITABLE)
def test_what_we_write_is_recognised(name):
    table = LatencyTable(CONTEXT, {OPERATORS[0]: Measurement(1.0)})
    assert recognised(FORMATS[name].write(table)) is FORMATS[name]


def test_other_forms_are_recognised_by_what_is_in_them():
    ofa = (
        b'{"expanded_conv-input:8x8x16-output:8x8x16-expand:64-kernel:3-stride:1-idskip:1-se:0-hs:1": '
        b'{"mean": 1.0}}'
    )
    proxyless = (
        b"expanded_conv-input:8x8x16-output:8x8x16-expand:3-kernel:3-stride:1-idskip:1:\n  mean: 1.0\n"
    )
    assert recognised(ofa) is FORMATS["once-for-all"] and recognised(proxyless) is FORMATS["proxylessnas"]
    assert recognised(spelt(";").encode("utf-16")) is FORMATS["csv"]
    for other in (b"", b"\x00\x01", b"PK\x03\x04", b"import os\n", b"a,b\n1,2\n"):
        assert recognised(other) is None


def test_a_foreign_table_in_our_json_route_says_how_to_convert_it():
    data = (
        b'{"expanded_conv-input:8x8x16-output:8x8x16-expand:64-kernel:3-stride:1-idskip:1-se:0-hs:1": '
        b'{"mean": 1.0}}'
    )
    with pytest.raises(InvalidTable, match="tables convert"):
        native_json.read(data, CONTEXT)


def test_csv_needs_a_context_and_closed_quotes():
    with pytest.raises(InvalidTable, match="context"):
        csv_rows.read(b"operator,median_ms\n", None)
    with pytest.raises(InvalidTable, match="quotation"):
        csv_rows.read(f'operator,median_ms\n"{TEXT},1\n', CONTEXT)


def test_csv_cells_never_start_a_formula():
    table = LatencyTable(
        CONTEXT, {op: Measurement(1e-7 * (i + 1), None, 1e-9, 3) for i, op in enumerate(OPERATORS)}
    )
    cells = [cell for line in csv_rows.write(table).decode().splitlines() for cell in line.split(",") if cell]
    assert not any(cell[0] in "=+-@\t\r" for cell in cells)


@pytest.mark.parametrize("rows", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", WRITABLE)
def test_many_rows(name, rows):
    generator = np.random.default_rng(0)
    table = LatencyTable(
        CONTEXT,
        {
            Conv(1 + i % 224, 1 + i % 224, 1 + i // 224, 8, 3, 1, 0, False, False, "relu", 1): Measurement(
                float(generator.uniform(0.01, 5)), None, None, 30
            )
            for i in range(rows)
        },
    )
    assert FORMATS[name].read(FORMATS[name].write(table), CONTEXT).digest == table.digest
