"""Tables of once-for-all, ProxylessNAS and HAT: what each writes into `expand`, safe reading, exact lines,
round trips."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_tables.errors import InvalidTable
from latency_tables.formats import csv_rows, hat_csv, once_for_all, proxylessnas
from latency_tables.measurement import Context
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import all_operators, covered_resolutions

CONTEXT = Context("tflite", "2.3", "CPU", 1, "float32", 1)
DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "hat"


def key_of(op, ratio):
    shape = f"input:{op.in_height}x{op.in_width}x{op.in_channels}-output:{op.out_height}x{op.out_width}x{op.out_channels}"
    if op.family == "conv":
        return f"{'Conv' if op.kernel == 3 else 'Conv_1'}-{shape}"
    expand = round(op.mid_channels / op.in_channels) if ratio else op.mid_channels
    text = f"expanded_conv-{shape}-expand:{expand}-kernel:{op.kernel}-stride:{op.stride}-idskip:{int(op.residual)}"
    return text if ratio else text + f"-se:{int(op.squeeze_excite)}-hs:{int(op.activation == 'hswish')}"


def rows_of(space, resolution, ratio):
    """(key, mean in ms) of every row of the published form."""
    found = []
    for i, op in enumerate(all_operators(space_named(space), resolution)):
        if op.family != "head":
            found.append((key_of(op, ratio), 0.1 + i))
            continue
        h, c, mid = op.in_height, op.in_channels, op.mid_channels
        found.append((f"AvgPool2D-input:{h}x{h}x{c}-output:1x1x{c}", 0.25))
        if mid:
            found.append((f"Conv_2-input:1x1x{c}-output:1x1x{mid}", 0.5))
        found.append((f"Logits-input:1x1x{mid or c}-output:{op.out_channels}", 0.125))
    return found


def yaml_of(rows, spread="std"):
    return "".join(f"{key}:\n  count: 99\n  mean: {mean!r}\n  {spread}: 0.01\n" for key, mean in rows)


def test_once_for_all_covers_its_space_with_mid_channels():
    rows = rows_of("ofa-mbv3", 160, ratio=False)
    table = once_for_all.read(yaml_of(rows).encode(), CONTEXT)
    assert covered_resolutions(space_named("ofa-mbv3"), table) == (160,)
    head = next(op for op in table.rows if op.family == "head")
    assert table.rows[head].median_ms == 0.875 and table.rows[head].count == 99
    assert {op.mid_channels for op in table.rows if op.family == "mbconv"} >= {408 // 408 * 72, 480, 960}


def test_proxylessnas_covers_its_space_with_ratios():
    rows = rows_of("proxyless", 224, ratio=True)
    table = proxylessnas.read(yaml_of(rows, "var").encode(), CONTEXT)
    assert covered_resolutions(space_named("proxyless"), table) == (224,)
    assert all(
        op.mid_channels in (op.in_channels, 3 * op.in_channels, 6 * op.in_channels)
        for op in table.rows
        if op.family == "mbconv"
    )


def test_json_of_the_same_form():
    import json

    rows = rows_of("ofa-mbv3", 160, ratio=False)
    as_json = json.dumps({key: {"count": 99, "mean": mean, "std": 0.01} for key, mean in rows}, indent=1)
    assert once_for_all.read(as_json, CONTEXT).digest == once_for_all.read(yaml_of(rows), CONTEXT).digest


def test_the_classic_mistake_is_refused_both_ways():
    ofa, proxyless = (
        yaml_of(rows_of("ofa-mbv3", 160, ratio=False)),
        yaml_of(rows_of("proxyless", 224, ratio=True), "var"),
    )
    with pytest.raises(InvalidTable, match="ProxylessNAS"):
        once_for_all.read(proxyless, CONTEXT)
    with pytest.raises(InvalidTable, match="once-for-all"):
        proxylessnas.read(ofa, CONTEXT)


@pytest.mark.parametrize("reader", [once_for_all.read, proxylessnas.read])
@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['true']",
        "a: !!python/name:os.system",
        "a: &x {mean: 1}\nb: *x",
        "[" * 100_000,
        "{" * 100_000,
        "a: " * 50_000,
        "- 1",
        "a: 1",
        "a: {mean: {b: 1}}",
        "a: {mean: 1}\n---\nb: {mean: 1}",
        "{}",
        "? [a, b]\n: {mean: 1}",
        "\x00",
    ],
)
def test_hostile_yaml(reader, text):
    with pytest.raises(InvalidTable):
        reader(text, CONTEXT)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("expanded_conv-input:1x1x1-output:1x1x1-expand:1:\n  mean: 1", "idskip"),
        ("Unknown-input:1x1x1-output:1x1x1:\n  mean: 1", "not a key"),
        ("Conv_1-input:9x9x8-output:4x4x8:\n  mean: 1", "stride"),
        ("Conv_1-input:5x5x160-output:5x5x961:\n  mean: nan", "numbers"),
        ("Conv_1-input:5x5x160-output:5x5x961:\n  mean: 1e999", "finite"),
        ("Conv_1-input:5x5x160-output:5x5x961:\n  mean: -1", "numbers"),
        ("Conv_1-input:5x5x160-output:5x5x961:\n  mean: 0", "finite"),
        ("Conv_1-input:5x5x160-output:5x5x961:\n  mean: 1\n  mean: 2", "once"),
        ("Conv_1-input:5x5x160-output:5x5x961:\n  mean: 1\n  count: 1.5", "count"),
        ("Conv_1-input:5x5x160-output:5x5x961:\n  mean: 1\n  more: 1", "once"),
        ("Conv_1-input:5x5x160-output:5x5x960:\n  mean: 1", "again"),
    ],
)
def test_wrong_rows_name_their_line(row, reason):
    good = yaml_of(rows_of("ofa-mbv3", 160, ratio=False))
    with pytest.raises(InvalidTable, match=reason) as caught:
        once_for_all.read(good + row + "\n", CONTEXT)
    assert [line for line, _ in caught.value.rows] == [good.count("\n") + 1]


def test_a_head_that_lacks_a_part_is_refused():
    rows = [row for row in rows_of("ofa-mbv3", 160, ratio=False) if not row[0].startswith("Conv_2")]
    with pytest.raises(InvalidTable, match="head needs"):
        once_for_all.read(yaml_of(rows), CONTEXT)


def test_a_context_is_needed():
    for reader in (once_for_all.read, proxylessnas.read):
        with pytest.raises(InvalidTable, match="context"):
            reader(yaml_of(rows_of("ofa-mbv3", 160, ratio=False)), None)


@given(st.lists(st.floats(min_value=1e-6, max_value=1e5), min_size=94, max_size=94))
@settings(max_examples=20, deadline=None)
def test_converted_tables_survive_our_own_csv(means):
    rows = [(key, mean) for (key, _), mean in zip(rows_of("ofa-mbv3", 160, ratio=False), means)]
    table = once_for_all.read(yaml_of(rows), CONTEXT)
    assert csv_rows.read(csv_rows.write(table), CONTEXT) == table


PROBES = st.builds(
    hat_csv.TransformerProbe,
    st.tuples(*[st.floats(min_value=0, max_value=4096)] * 10),
    st.floats(min_value=1e-3, max_value=1e6),
    st.floats(min_value=1e-3, max_value=1e6),
)


@given(st.lists(PROBES, max_size=10))
@settings(max_examples=60, deadline=None)
def test_hat_round_trip(probes):
    data = hat_csv.write(probes)
    assert hat_csv.read(data) == probes and hat_csv.write(hat_csv.read(data)) == data


HEADER = ",".join((*hat_csv.FEATURES, *hat_csv.LATENCIES))
GOOD = "640,6,1194.6,4.6,640,3,1877.3,4.0,5.3,2.0,9.9,236.7,0.1,12.7"


@pytest.mark.parametrize(
    "row",
    [
        "",
        "1,2",
        GOOD.replace("9.9", "nan"),
        GOOD.replace("9.9", "=1"),
        GOOD.replace("9.9", "0"),
        GOOD.replace("9.9", "1e999"),
    ],
)
def test_hat_wrong_rows_are_numbered(row):
    with pytest.raises(InvalidTable) as caught:
        hat_csv.read(f"{HEADER}\n{GOOD}\n{row}\n")
    assert [number for number, _ in caught.value.rows] == [2] and "line 3" in str(caught.value)
    assert hat_csv.read(f"{HEADER}\n{GOOD}\n")[0].latency_ms == pytest.approx(246.6)


@pytest.mark.parametrize("text", [b"", b"a,b\n", b"\xff", f'{HEADER}\n"'.encode()])
def test_hat_rubbish(text):
    with pytest.raises(InvalidTable):
        hat_csv.read(text)


def quadratic_features(probes):
    """The 66 terms up to degree two, scaled: what a ridge predicts transformers' latency from."""
    x = np.array([p.features for p in probes])
    x = np.hstack([np.ones((len(x), 1)), x / np.array([640, 6, 2048, 6, 640, 6, 2048, 6, 6, 2])])
    first, second = np.triu_indices(x.shape[1])
    return x[:, first] * x[:, second]


@pytest.mark.skipif(not DATA.exists(), reason="the public measurements (../shared/data) are not here")
def test_hat_files_as_published():
    for path in sorted(DATA.glob("*.csv.gz")):
        probes = hat_csv.read(gzip.decompress(path.read_bytes()))
        terms, times = quadratic_features(probes), np.array([p.latency_ms for p in probes])
        train, test = slice(0, 1800), slice(1800, None)
        gram = terms[train].T @ terms[train] + 1e-6 * np.eye(66)
        predicted = terms[test] @ np.linalg.solve(gram, terms[train].T @ times[train])
        assert len(probes) == 2000 and np.abs(predicted / times[test] - 1).mean() < 0.08
