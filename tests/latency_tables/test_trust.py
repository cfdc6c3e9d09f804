"""Poisoned, scaled, replayed and drifting tables (groups F7 to F11 of the threat list) on a simulated device."""

import numpy as np
import pytest

from latency_tables import trust
from latency_tables.measurement import Context, Measurement
from latency_tables.profiling import Settings, measure
from latency_tables.speed import Speed
from latency_tables.table import LatencyTable
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import all_operators, dense_latency
from tests.latency_tables.simulated_device import SimulatedDevice

CONTEXT = Context("onnxruntime", "1.31", "CPUExecutionProvider", 1, "float32", 1)
SPACES = {"ofa-mbv3": (160,), "digits-mbv3": (8, 12, 16)}


def truth(space, seed=0):
    """Latencies of a made-up processor: overhead, matrix and depthwise rates, memory, and 15 % of its own whims."""
    generator = np.random.default_rng(seed)
    operators = sorted({op for r in SPACES[space] for op in all_operators(space_named(space), r)})
    found = {}
    for op in operators:
        _, dense, depthwise, moved = trust._work(op)
        found[op] = (0.004 + dense / 2.5e7 + depthwise / 4e6 + moved / 4e7) * float(np.exp(0.15 * generator.standard_normal()))
    return found


def measured(values, seed=0, noise=0.02, settings=Settings(rounds=4, warm_up_calls=1, sample_ms=0.0), factor=1.0):  # noqa: B008
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
    rows = {op: Measurement(ms * float(np.exp(0.02 * generator.standard_normal())), None, 1e-4, 30) for op, ms in values.items()}
    findings = trust.review_table(LatencyTable(CONTEXT, rows))
    assert not trust.needs_review(findings), findings


def poison(table, operators, factor):
    rows = dict(table.rows)
    for op in operators:
        m = rows[op]
        rows[op] = Measurement(m.median_ms * factor, m.lower_quartile_ms * factor, m.mad_ms * factor, m.count)
    return LatencyTable(table.context, rows)


def caught(table, operators):
    named = {f.operator for f in trust.review_table(table) if f.severity == "review"}
    return sum(op.text in named for op in operators) / len(operators)


def test_f9_one_entry_near_zero_is_caught(honest):
    operators = list(honest.rows)
    for op in operators[:: max(1, len(operators) // 40)]:
        assert caught(poison(honest, [op], 1e-3), [op]) == 1


@pytest.mark.parametrize(("share", "factor", "least"), [(0.05, 1e-3, 1.0), (0.05, 0.1, 0.9), (0.3, 0.1, 0.9)])
def test_f9_many_poisoned_entries_are_caught(honest, share, factor, least):
    operators = list(honest.rows)
    chosen = [operators[i] for i in np.random.default_rng(0).choice(len(operators), int(share * len(operators)), replace=False)]
    poisoned = poison(honest, chosen, factor)
    assert caught(poisoned, chosen) >= least
    innocent = [op for op in operators if op not in set(chosen)]
    assert caught(poisoned, innocent) <= 0.05


def test_f7_faster_than_physics(honest):
    op = next(iter(honest.rows))
    impossible = trust.Peak().floor_ms(op) / 2
    table = LatencyTable(CONTEXT, {op: Measurement(impossible)})
    (finding,) = trust.below_floor(table, trust.Peak())
    assert finding.severity == "review" and finding.operator == op.text
    assert trust.below_floor(honest, trust.Peak()) == []
    assert len(trust.below_floor(honest, trust.Peak(macs_per_ms=1.0))) > 0.9 * len(honest.rows)


def test_f7_identical_repeats_and_identical_rows(honest):
    copied = {op: Measurement(0.1234567, None, 0.001, 30) for op in honest.rows}
    assert "identical_rows" in {f.kind for f in trust.repeated(LatencyTable(CONTEXT, copied))}
    still = {op: Measurement(m.median_ms, m.median_ms, 0.0, 30) for op, m in honest.rows.items()}
    assert "no_spread" in {f.kind for f in trust.repeated(LatencyTable(CONTEXT, still))}
    rounded = {op: Measurement(max(0.001, round(m.median_ms, 3))) for op, m in honest.rows.items()}
    assert trust.repeated(LatencyTable(CONTEXT, rounded)) == []  # few digits may agree by chance


def test_f7_not_monotone(honest):
    ordered = sorted(honest.rows, key=lambda op: (trust._without(op, "kernel"), op.kernel))
    pair = next((a, b) for a, b in zip(ordered, ordered[1:]) if trust._without(a, "kernel") == trust._without(b, "kernel"))
    rows = dict(honest.rows) | {pair[1]: Measurement(0.4 * honest.rows[pair[0]].median_ms)}
    assert pair[1].text in {f.operator for f in trust.not_monotone(LatencyTable(CONTEXT, rows))}


def networks(table, values, space, count, seed):
    chosen = space.chain.sample(np.random.default_rng(seed), count)
    real = dense_latency(space, LatencyTable(CONTEXT, {op: Measurement(ms) for op, ms in values.items()})).price(chosen)
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
            trust.check_scale(*networks(measured(values, factor=factor), values, space, 8, s), expected=0.85) for s in range(10)
        ]
        assert all(bool(f) == wrong for f in found)
    assert trust.check_scale([], []) == []


def test_f9_verified_within_ten_percent_only():
    assert trust.verified(10.0, 10.9) and trust.verified(10.0, 9.1)
    assert not trust.verified(10.0, 11.1) and not trust.verified(10.0, 5.0)


def test_f10_longer_than_the_session():
    rows = [Measurement(100.0, 90.0, 1.0, 30)] * 10
    assert trust.check_durations(rows, wall_s=5.0) and not trust.check_durations(rows, wall_s=60.0)


def test_f2_sentinel_through_the_session():
    def found(*readings_ms, error=None):
        return [f.severity for f in trust.check_speeds([Speed(v, error) for v in readings_ms])]

    assert found(1.0) == [] and found(1.0, 1.03, 0.99) == []
    assert found(1.0, 1.1) == ["warning"] and found(1.0, 1.4) == ["review"]
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
    other = trust.replication(honest, LatencyTable(CONTEXT, dict(zip(honest.rows, reversed(list(honest.rows.values()))))))
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
