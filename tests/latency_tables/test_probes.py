"""Few-shot registration in terms of operators, as the service calls it."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from latency_tables.errors import MissingLatency, PoorCalibration, TooFewNetworks
from latency_tables.measurement import Context, Measurement
from latency_tables.probes import KnownDevices, operator_groups
from latency_tables.table import LatencyTable
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import all_operators, dense_latency, lower

SPACE = space_named("digits-mbv3")
CONTEXT = Context("onnxruntime", "1.31", "CPUExecutionProvider", 1, "float32", 1)
OPERATORS = sorted({op for r in SPACE.resolutions for op in all_operators(SPACE, r)})


def table(seed, operators=OPERATORS):
    generator = np.random.default_rng(seed)
    rates = np.exp(0.5 * generator.standard_normal(4))
    rows = {}
    for op in operators:
        depthwise = op.out_height * op.out_width * op.mid_channels * op.kernel**2 if op.family == "mbconv" else 0
        ms = np.dot(rates, (0.01, (op.macs - depthwise) / 2e7, depthwise / 5e6, op.bytes_moved / 4e7))
        rows[op] = Measurement(float(ms * np.exp(0.1 * generator.standard_normal())))
    return LatencyTable(CONTEXT, rows)


@pytest.fixture(scope="module")
def known():
    population = [lower(SPACE, a) for a in SPACE.sample(np.random.default_rng(0), 300)]
    return KnownDevices({f"known-{i}": table(i) for i in range(5)}, population), population


def test_probes_make_a_table_that_prices_networks(known):
    devices, population = known
    new = table(100)
    index = devices.choose(population, 12)
    times = [new.median_ms(population[i]) * 0.9 + 0.02 for i in index]
    result = devices.fit(CONTEXT, [population[i] for i in index], times)
    assert result.reason is None and set(result.table.rows) == set(OPERATORS) == set(result.uncertainty_ms)
    genes = SPACE.chain.sample(np.random.default_rng(9), 1000)
    predicted = result.calibration.apply(dense_latency(SPACE, result.table), SPACE.resolutions).price(genes)
    truth = dense_latency(SPACE, new).price(genes) * 0.9 + 0.02
    assert spearmanr(predicted, truth).statistic > 0.96
    assert np.abs(predicted / truth - 1).mean() < 0.08
    assert set(result.shares) == {f"known-{i}" for i in range(5)} and all(-1 <= s <= 1 for s in result.shares.values())
    assert result.calibration.networks == 12 and result.calibration.missing_networks(0.95) == 7


def test_devices_without_a_full_table_are_left_out():
    population = [lower(SPACE, a) for a in SPACE.sample(np.random.default_rng(0), 100)]
    devices = KnownDevices({"whole": table(0), "part": table(1, OPERATORS[:50])}, population)
    assert devices.names == ["whole"] and devices.left_out == ["part"]
    with pytest.raises(PoorCalibration, match="by blocks"):
        KnownDevices({"part": table(1, OPERATORS[:50])}, population)


def test_a_device_of_another_family_is_reported_not_hidden(known):
    devices, population = known
    times = np.exp(0.6 * np.random.default_rng(0).standard_normal(20))
    result = devices.fit(CONTEXT, population[:20], times)
    assert "profile it by blocks" in result.reason


def test_refusals(known):
    devices, population = known
    with pytest.raises(TooFewNetworks):
        devices.fit(CONTEXT, population[:2], [1.0, 2.0])
    foreign = lower(space_named("ofa-mbv3"), space_named("ofa-mbv3").smallest())
    with pytest.raises(MissingLatency):
        devices.uses([foreign])


def test_groups_label_every_operator():
    assert all(len(g) == len(OPERATORS) and 1 < len(set(g.tolist())) < len(OPERATORS) for g in operator_groups(OPERATORS))
