"""Poisoned, scaled, replayed and drifting tables on a simulated device."""

import numpy as np
import pytest

from latency_tables import trust
from latency_tables.kinds import work
from latency_tables.measurement import Context, Measurement
from latency_tables.measuring.profiling import Settings, measure
from latency_tables.measuring.speed import Speed
from latency_tables.table import LatencyTable
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import all_operators, dense_latency
from tests.latency_tables.simulated_device import SimulatedDevice

CONTEXT = Context("onnxruntime", "1.31", "CPUExecutionProvider", 1, "float32", 1)
SPACES = {"ofa-mbv3": (160,), "digits-mbv3": (8, 12, 16)}


def truth(space, seed=0):
    """Latencies of a made-up processor: overhead, matrix and depthwise rates, memory, and 15 % of its own
    whims."""
    generator = np.random.default_rng(seed)
    operators = sorted({op for r in SPACES[space] for op in all_operators(space_named(space), r)})
    found = {}
    for op in operators:
        dense, depthwise, moved = work(op)
        found[op] = (0.004 + dense / 2.5e7 + depthwise / 4e6 + moved / 4e7) * float(
            np.exp(0.15 * generator.standard_normal())
        )
    return found


def measured(
    values,
    seed=0,
    noise=0.02,
    settings=Settings(rounds=8, least_s=0.0, limit_s=0.1, burst_ms=0.0),
    factor=1.0,
):  # noqa: B008
    """The table that the protocol gives on the simulated device."""
    device = SimulatedDevice({op.text: ms * factor for op, ms in values.items()}, seed=seed, noise=noise)
    readings = measure(device.runners(), settings, device.clock, np.random.default_rng(seed))
    return LatencyTable(CONTEXT, {op: readings[op.text].measurement for op in values})


@pytest.fixture(scope="module", params=sorted(SPACES))
def honest(request):
    return measured(truth(request.param))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("space", sorted(SPACES))
def test_an_honest_table_passes(space, seed):
    values = truth(space, seed)
    generator = np.random.default_rng(seed)
    rows = {
        op: Measurement(ms * float(np.exp(0.02 * generator.standard_normal())), None, 1e-4, 30)
        for op, ms in values.items()
    }
    findings = trust.review_table(LatencyTable(CONTEXT, rows))
    assert not trust.needs_review(findings), findings


def poison(table, operators, factor):
    rows = dict(table.rows)
    for op in operators:
        m = rows[op]
        rows[op] = m.times(factor)
    return LatencyTable(table.context, rows)


def caught(table, operators):
    named = {f.operator for f in trust.review_table(table) if f.severity == "review"}
    return sum(op.text in named for op in operators) / len(operators)


def test_f9_one_entry_near_zero_is_caught(honest):
    operators = list(honest.rows)
    for op in operators[:: max(1, len(operators) // 40)]:
        assert caught(poison(honest, [op], 1e-3), [op]) == 1


@pytest.mark.parametrize(
    ("share", "factor", "least"), [(0.05, 1e-3, 1.0), (0.05, 0.1, 0.85), (0.3, 0.1, 0.75)]
)
def test_f9_many_poisoned_entries_are_caught(honest, share, factor, least):
    operators = list(honest.rows)
    chosen = [
        operators[i]
        for i in np.random.default_rng(0).choice(len(operators), int(share * len(operators)), replace=False)
    ]
    poisoned = poison(honest, chosen, factor)
    assert trust.needs_review(trust.review_table(poisoned)), (
        "the table is kept back, whichever rows are named"
    )
    assert caught(poisoned, chosen) >= least
    innocent = [op for op in operators if op not in set(chosen)]
    assert caught(poisoned, innocent) <= 0.05


def channels(op):
    return op.mid_channels or op.out_channels


ODD_DEVICES = {
    "squeeze-excite leaves the accelerator": lambda op, ms: ms + 0.6 * op.squeeze_excite,
    "squeeze-excite takes ten times as long": lambda op, ms: ms * (10 if op.squeeze_excite else 1),
    "kernel 7 has no fast path": lambda op, ms: ms * (12 if op.kernel == 7 else 1),
    "kernel 3 has a fast path of its own": lambda op, ms: ms * (0.15 if op.kernel == 3 else 1),
    "hswish runs on the processor": lambda op, ms: ms + 0.4 * (op.activation == "hswish"),
    "twice as slow from 32 channels on": lambda op, ms: ms * (1.9 if channels(op) >= 32 else 1),
    "five times as fast at multiples of 32 channels": lambda op, ms: (
        ms * (0.2 if channels(op) % 32 == 0 else 1)
    ),
    "channels are computed by 64": lambda op, ms: ms * (-(-channels(op) // 64) * 64) / channels(op),
    "few channels are slower than many": lambda op, ms: ms * (6 if channels(op) < 64 else 1),
    "large images do not fit its memory": lambda op, ms: ms * (4 if op.in_height >= 40 else 1),
    "strides are slow": lambda op, ms: ms * (7 if op.stride == 2 else 1),
    "the head runs elsewhere": lambda op, ms: ms + 5.0 * (op.family == "head"),
    "a call costs more than any work": lambda op, ms: 1.0 + 0.05 * ms,
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("space", sorted(SPACES))
@pytest.mark.parametrize("name", sorted(ODD_DEVICES))
def test_a_true_table_of_an_odd_device_may_be_used(name, space, seed):
    """Rows are compared inside their kind: what a whole kind shares is information, not a reason to block the
    table."""
    generator = np.random.default_rng(seed)
    whims = np.exp(0.02 * generator.standard_normal(10_000))
    rows = {
        op: Measurement(ODD_DEVICES[name](op, ms) * w)
        for (op, ms), w in zip(truth(space, seed).items(), whims)
    }
    findings = trust.review_table(LatencyTable(CONTEXT, rows))
    assert not trust.needs_review(findings), [f for f in findings if f.severity == "review"]


@pytest.mark.parametrize("name", ["squeeze-excite leaves the accelerator", "kernel 7 has no fast path"])
def test_an_odd_kind_is_named_once_and_a_wrong_row_of_it_is_still_found(name):
    values = truth("digits-mbv3")
    rows = {op: Measurement(ODD_DEVICES[name](op, ms)) for op, ms in values.items()}
    kinds = [f.message for f in trust.review_table(LatencyTable(CONTEXT, rows)) if f.kind == "odd_kind"]
    assert 1 <= len(kinds) <= 6 and any("squeeze-excite" in m or "kernel 7" in m for m in kinds)
    for op in list(rows)[::12]:
        wrong = dict(rows) | {op: Measurement(rows[op].median_ms * 1e-2)}
        assert op.text in {
            f.operator for f in trust.review_table(LatencyTable(CONTEXT, wrong)) if f.severity == "review"
        }


def test_the_npu_of_the_public_case_may_be_used_with_its_squeeze_excite_named():
    """A table of 0.02 ms + work, and 0.6 ms more for every block with squeeze-excite (coremltools#657,
    tpu#556)."""
    rows = {}
    for resolution in (8, 12, 16):
        for op in all_operators(space_named("digits-mbv3"), resolution):
            rows[op] = Measurement(round(0.02 + op.macs / 5e7 + 0.6 * op.squeeze_excite, 6))
    findings = trust.review_table(LatencyTable(CONTEXT, rows))
    assert findings and not trust.needs_review(findings)
    assert any("with squeeze-excite" in f.message and "0.6" in f.message for f in findings)


def test_f7_identical_repeats_and_identical_rows(honest):
    copied = {op: Measurement(0.1234567, None, 0.001, 30) for op in honest.rows}
    assert "identical_rows" in {f.kind for f in trust.repeated(LatencyTable(CONTEXT, copied))}
    still = {op: Measurement(m.median_ms, m.median_ms, 0.0, 30) for op, m in honest.rows.items()}
    assert "no_spread" in {f.kind for f in trust.repeated(LatencyTable(CONTEXT, still))}
    rounded = {op: Measurement(max(0.001, round(m.median_ms, 3))) for op, m in honest.rows.items()}
    assert trust.repeated(LatencyTable(CONTEXT, rounded)) == []  # few digits may agree by chance


def test_f7_not_monotone(honest):
    ordered = sorted(honest.rows, key=lambda op: (trust._without(op, "kernel"), op.kernel))
    pair = next(
        (a, b)
        for a, b in zip(ordered, ordered[1:])
        if trust._without(a, "kernel") == trust._without(b, "kernel")
    )
    rows = dict(honest.rows) | {pair[1]: Measurement(0.4 * honest.rows[pair[0]].median_ms)}
    assert pair[1].text in {f.operator for f in trust.not_monotone(LatencyTable(CONTEXT, rows))}


def networks(table, values, space, count, seed):
    chosen = space.chain.sample(np.random.default_rng(seed), count)
    real = dense_latency(
        space, LatencyTable(CONTEXT, {op: Measurement(ms) for op, ms in values.items()})
    ).price(chosen)
    noise = np.exp(0.02 * np.random.default_rng(seed + 1).standard_normal(count))
    return dense_latency(space, table).price(chosen), 0.85 * real * noise


@pytest.mark.parametrize(("factor", "share"), [(1000, 1.0), (0.5, 1.0), (0.001, 1.0), (1.0, 0.0)])
def test_f8_wrong_units_and_half_tables_are_caught_by_8_networks(factor, share):
    space, values = space_named("digits-mbv3"), truth("digits-mbv3")
    table = measured(values, factor=factor)
    hits = sum(bool(trust.check_scale(*networks(table, values, space, 8, seed))) for seed in range(20))
    assert hits == 20 * share


def test_f8_a_known_ratio_makes_the_gate_narrow():
    space, values = space_named("digits-mbv3"), truth("digits-mbv3")
    for factor, wrong in ((0.7, True), (1.0, False), (1.1, False), (1.5, True)):
        found = [
            trust.check_scale(*networks(measured(values, factor=factor), values, space, 8, s), expected=0.85)
            for s in range(10)
        ]
        assert all(bool(f) == wrong for f in found)
    assert trust.check_scale([], []) == []


def test_f2_sentinel_through_the_session():
    def found(*readings_ms, error=None):
        return [f.severity for f in trust.check_speeds([Speed(v, error) for v in readings_ms])]

    assert found(1.0) == [] and found(1.0, 1.03, 0.99) == []
    assert found(1.0, 1.1) == ["warning"]
    assert found(1.0, 1.4) == ["warning"], "noise widens bounds, and no table is unusable for it"
    assert found(1.0, 1.1, error=0.02) == [], "within what copies of the sentinel differ by"


def test_f2_load_through_the_session():
    assert trust.check_load([]) == trust.check_load([0.3, 1.9]) == []
    (finding,) = trust.check_load([0.3, 2.5, 6.0])
    assert finding.severity == "warning" and "2 of 3" in finding.message and "6.0" in finding.message


def test_f11_replication(honest):
    values = {op: m.median_ms for op, m in honest.rows.items()}
    again = measured(values, seed=5)
    same = trust.replication(honest, again)
    assert same.holds and same.change < 0.03 and same.kendall_tau > 0.95 and same.operators == len(values)
    slower = trust.replication(honest, measured(values, seed=5, factor=1.1))
    assert not slower.holds and slower.change == pytest.approx(0.1, abs=0.03)
    other = trust.replication(
        honest, LatencyTable(CONTEXT, dict(zip(honest.rows, reversed(list(honest.rows.values())))))
    )
    assert not other.holds
    assert not trust.replication(honest, LatencyTable(CONTEXT, {})).holds


def test_drift_says_what_to_measure_again(honest):
    operators = list(honest.rows)[:12]
    now = {op: honest.rows[op] for op in operators}
    assert trust.drift(honest, now).holds and trust.drift(honest, now).moved == ()
    one = now | {operators[3]: Measurement(2 * honest.rows[operators[3]].median_ms)}
    assert trust.drift(honest, one).holds
    everything = {op: Measurement(1.2 * m.median_ms) for op, m in now.items()}
    found = trust.drift(honest, everything)
    assert not found.holds and set(found.moved) == set(honest.rows)
    assert not trust.drift(honest, {}).holds


def test_flags_are_warnings(honest):
    op = next(iter(honest.rows))
    findings = trust.review_table(honest, flags={op: ["unstable"]})
    assert [f.as_dict()["kind"] for f in findings if f.operator == op.text] == ["unstable"]
    assert not trust.needs_review(findings)


def test_kendall_tau_agrees_with_scipy():
    from scipy.stats import kendalltau

    generator = np.random.default_rng(0)
    for _ in range(20):
        a, b = generator.integers(0, 9, 40), generator.integers(0, 9, 40)
        assert trust.kendall_tau(a, b) == pytest.approx(kendalltau(a, b).statistic)
    assert trust.kendall_tau(range(10_000), range(10_000)) == 1.0
