"""Tables corrected by whole networks: better where blocks are off by kind, untouched where a line is
enough."""

import numpy as np
import pytest

from latency_tables.errors import PoorCalibration
from latency_tables.measurement import Context, Measurement
from latency_tables.prediction.calibration import Calibration
from latency_tables.prediction.refine import refine
from latency_tables.table import LatencyTable
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import all_operators, dense_from, dense_latency, lower

SPACE = space_named("digits-mbv3")


OPERATORS = sorted({op for r in SPACE.resolutions for op in all_operators(SPACE, r)})
CONTEXT = Context("onnxruntime", "1.31", "CPUExecutionProvider", 1, "float32", 1)


def alone(op):
    return 0.01 + op.macs * 1e-7 + op.bytes_moved * 1e-7


TABLE = LatencyTable(CONTEXT, {op: Measurement(alone(op), 0.99 * alone(op), 0.001, 30) for op in OPERATORS})


def truth(by_kind):
    """What the operators cost inside a network: kernels and stages differ from what they cost alone."""
    factors = {3: 0.8, 5: 1.0, 7: 1.2} if by_kind else {3: 0.9, 5: 0.9, 7: 0.9}
    stages = {16: 1.15, 32: 1.0, 48: 0.85} if by_kind else {}

    def latency(op):
        own = alone(op)
        return (
            own * factors.get(op.kernel, 1.0) * stages.get(op.out_channels, 1.0)
            if op.family == "mbconv"
            else own * 0.9
        )

    return dense_from(SPACE, latency)


def measured(dense, networks, seed, noise=0.01):
    genes = SPACE.chain.sample(np.random.default_rng(seed), networks)
    return genes, dense.price(genes) * np.exp(
        noise * np.random.default_rng(seed + 1).standard_normal(networks)
    )


def fitted(genes, times):
    architectures = [SPACE.architecture(row) for row in genes]
    return refine(
        TABLE, [lower(SPACE, a) for a in architectures], [a.resolution for a in architectures], times
    )


def predicted(found):
    return found.calibration.apply(dense_latency(SPACE, found.table), SPACE.resolutions)


def error(table, dense):
    genes = SPACE.chain.sample(np.random.default_rng(99), 2000)
    return np.abs(table.price(genes) / dense.price(genes) - 1).mean()


@pytest.mark.parametrize("seed", range(5))
def test_blocks_that_are_off_by_kind_are_corrected(seed):
    real = truth(by_kind=True)
    genes, times = measured(real, 24, seed)
    found = fitted(genes, times)
    sizes = np.asarray(SPACE.resolutions)[genes[:, 0]]
    sums = dense_latency(SPACE, TABLE)
    line = Calibration.fit(sums.price(genes), times, sizes).apply(sums, SPACE.resolutions)
    assert found.corrected
    assert error(predicted(found), real) < 0.6 * error(line, real)
    assert found.calibration.networks == 24 and found.calibration.margin(0.95) >= 1


@pytest.mark.parametrize("seed", range(5))
def test_a_line_stays_a_line(seed):
    real = truth(by_kind=False)
    genes, times = measured(real, 24, seed)
    found = fitted(genes, times)
    assert error(predicted(found), real) < 0.02


def test_the_bound_from_the_corrected_table_holds():
    held = []
    for seed in range(30):
        real = truth(by_kind=True)
        genes, times = measured(real, 24, seed, noise=0.03)
        found = fitted(genes, times)
        upper = found.calibration.margin(0.95) * predicted(found).price(
            SPACE.chain.sample(np.random.default_rng(7), 300)
        )
        others, later = measured(real, 300, 7, noise=0.03)
        held.append((later <= upper).mean())
    assert np.mean(held) > 0.93


@pytest.mark.parametrize("networks", [0, 1, 5, 11])
def test_few_networks_give_what_the_calibration_gives(networks):
    genes, times = measured(truth(by_kind=False), networks, 0)
    found = fitted(genes, times)
    assert not found.corrected and found.calibration.networks == networks


def test_refuses_what_neither_explains():
    genes, _ = measured(truth(True), 24, 0)
    with pytest.raises(PoorCalibration):
        fitted(genes, np.exp(np.random.default_rng(0).standard_normal(24)))
