"""New devices from few networks: on made-up devices of one family, on a foreign one, and on the public
measurements."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr, t

from latency_tables.errors import PoorCalibration, TooFewNetworks
from latency_tables.prediction.bound import student_quantile
from latency_tables.prediction.transfer import Prior, choose_networks, transfer
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import dense_from
from tests.latency_tables.dense_cells import (
    cell_count,
    cell_groups,
    cell_index,
    cell_tables,
    cell_uses,
    cell_vector,
    dense_from_cells,
)

SPACE = space_named("digits-mbv3")
DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def device(seed, whim=0.1):
    """A made-up device: rates for matrix and depthwise work, memory and overhead, and its own whims by
    operator."""
    generator = np.random.default_rng(seed)
    rates = np.exp(0.5 * generator.standard_normal(4))
    own = {}

    def latency(op):
        depthwise = (
            op.out_height * op.out_width * op.mid_channels * op.kernel**2 if op.family == "mbconv" else 0
        )
        work = (0.01, (op.macs - depthwise) / 2e7, depthwise / 5e6, op.bytes_moved / 4e7)
        own.setdefault(op, np.exp(whim * generator.standard_normal()))
        return float(np.dot(rates, work)) * own[op]

    return dense_from(SPACE, latency)


@pytest.fixture(scope="module")
def family():
    known = [device(seed) for seed in range(6)]
    genes = SPACE.chain.sample(np.random.default_rng(0), 500)
    prior = Prior.of(cell_tables(known), cell_uses(SPACE.chain, genes), cell_groups(SPACE.chain))
    return prior, genes


def measured(dense, genes, noise=0.01, seed=0):
    return dense.price(genes) * np.exp(noise * np.random.default_rng(seed).standard_normal(len(genes)))


@pytest.mark.parametrize("seed", range(100, 105))
def test_ten_networks_make_a_table(family, seed):
    prior, genes = family
    new = device(seed)
    chosen = genes[choose_networks(prior, cell_uses(SPACE.chain, genes), 10)]
    fit = transfer(prior, cell_uses(SPACE.chain, chosen), measured(new, chosen))
    others = SPACE.chain.sample(np.random.default_rng(seed), 1000)
    predicted = fit.predict(cell_uses(SPACE.chain, others))
    assert spearmanr(predicted, new.price(others)).statistic > 0.97
    assert np.abs(predicted / new.price(others) - 1).mean() < 0.06
    assert fit.helps and fit.networks == 10


def test_the_result_is_an_ordinary_dense_table(family):
    prior, genes = family
    fit = transfer(prior, cell_uses(SPACE.chain, genes[:12]), measured(device(100), genes[:12]))
    dense = dense_from_cells(SPACE.chain, fit.cells_ms, fit.offset_ms, like=device(0))
    assert np.allclose(dense.price(genes), fit.predict(cell_uses(SPACE.chain, genes)))
    assert fit.cell_spread.shape == (cell_count(SPACE.chain),) and (fit.cell_spread >= 0).all()


def test_more_networks_make_it_better_and_cells_surer(family):
    prior, genes = family
    others = SPACE.chain.sample(np.random.default_rng(7), 1000)
    errors, spreads = [], []
    for networks in (6, 20, 80):
        rows = []
        for seed in range(100, 106):
            new = device(seed)
            fit = transfer(prior, cell_uses(SPACE.chain, genes[:networks]), measured(new, genes[:networks]))
            rows.append(np.abs(fit.predict(cell_uses(SPACE.chain, others)) / new.price(others) - 1).mean())
        errors.append(np.mean(rows))
        spreads.append(fit.cell_spread.mean())
    assert errors[0] > errors[1] > errors[2] and spreads[0] > spreads[1] > spreads[2]


def test_chosen_networks_beat_random_ones(family):
    prior, genes = family
    uses = cell_uses(SPACE.chain, genes)
    others = SPACE.chain.sample(np.random.default_rng(7), 1000)
    chosen = choose_networks(prior, uses, 8)
    assert len(set(chosen)) == 8
    designed, random = [], []
    for seed in range(100, 112):
        new = device(seed)
        for index, into in (
            (chosen, designed),
            (np.random.default_rng(seed).choice(500, 8, replace=False), random),
        ):
            fit = transfer(prior, uses[index], measured(new, genes[index]))
            into.append(np.abs(fit.predict(cell_uses(SPACE.chain, others)) / new.price(others) - 1).mean())
    assert np.mean(designed) < np.mean(random)


def test_networks_measured_already_count(family):
    prior, genes = family
    uses = cell_uses(SPACE.chain, genes)
    first = choose_networks(prior, uses, 4)
    more = choose_networks(prior, uses, 4, first=first)
    assert not set(first) & set(more)
    assert set(first) | set(more) == set(choose_networks(prior, uses, 8))


def test_a_wild_measurement_does_little_harm(family):
    prior, genes = family
    new, uses = device(101), cell_uses(SPACE.chain, genes[:20])
    times = measured(new, genes[:20])
    times[3] *= 8
    others = genes[100:]
    error = np.abs(
        transfer(prior, uses, times).predict(cell_uses(SPACE.chain, others)) / new.price(others) - 1
    ).mean()
    assert error < 0.08


def test_bound_holds(family):
    prior, genes = family
    held = []
    for seed in range(100, 130):
        new = device(seed)
        index = np.random.default_rng(seed).choice(500, 20, replace=False)
        fit = transfer(
            prior, cell_uses(SPACE.chain, genes[index]), measured(new, genes[index], noise=0.03, seed=seed)
        )
        others = SPACE.chain.sample(np.random.default_rng(seed), 300)
        upper = fit.margin(0.95) * fit.predict(cell_uses(SPACE.chain, others))
        held.append((measured(new, others, noise=0.03, seed=seed + 1) <= upper).mean())
    assert np.mean(held) > 0.93
    bound = fit.calibration()
    assert bound.networks == 20 and bound.margin(0.95) >= 1 and bound.error == pytest.approx(fit.error)


def test_says_when_the_known_devices_do_not_help(family):
    prior, genes = family
    noise = np.exp(0.5 * np.random.default_rng(0).standard_normal(20))
    fit = transfer(
        prior, cell_uses(SPACE.chain, genes[:20]), 3.0 * noise
    )  # has nothing to do with the networks
    assert not fit.helps
    with pytest.raises(PoorCalibration, match="by blocks"):
        fit.require_help()


def test_refusals(family):
    prior, genes = family
    uses = cell_uses(SPACE.chain, genes[:10])
    with pytest.raises(TooFewNetworks) as caught:
        transfer(prior, uses[:3], np.ones(3))
    assert caught.value.missing == 2
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(PoorCalibration):
            transfer(prior, uses, np.append(np.ones(9), bad))
    with pytest.raises(PoorCalibration, match="no known device"):
        Prior.of(np.zeros((uses.shape[1], 0)), uses)


@pytest.mark.parametrize("degrees", [2, 3, 9, 19, 50])
@pytest.mark.parametrize("probability", [0.6, 0.9, 0.95, 0.99])
def test_student_quantile(degrees, probability):
    assert student_quantile(probability, degrees) == pytest.approx(t.ppf(probability, degrees), rel=2e-3)


class TestCells:
    def test_price_is_the_sum_of_the_used_cells(self):
        dense = device(0)
        genes = SPACE.chain.sample(np.random.default_rng(3), 200)
        assert np.allclose(cell_uses(SPACE.chain, genes) @ cell_vector(dense), dense.price(genes))

    def test_there_and_back(self):
        dense = device(0)
        again = dense_from_cells(SPACE.chain, cell_vector(dense), like=dense)
        genes = SPACE.chain.sample(np.random.default_rng(3), 50)
        assert np.array_equal(again.price(genes), dense.price(genes))

    def test_every_cell_has_a_label_in_every_group(self):
        groups = cell_groups(SPACE.chain)
        assert len(groups) == 3 and all(g.shape == (cell_count(SPACE.chain),) for g in groups)
        assert cell_index(SPACE.chain, SPACE.chain.sample(np.random.default_rng(0), 500)).max() <= cell_count(
            SPACE.chain
        )


@pytest.mark.skipif(not DATA.exists(), reason="the public measurements (../shared/data) are not here")
def test_public_devices_that_were_never_seen():
    """NAS-Bench-201 with HELP's nine source devices: HELP, a meta-learned network, reaches 0.932 with 10
    networks."""
    from benchmarks.latency_files import read
    from benchmarks.new_device import device as score

    data = read([DATA / "nasbench201_latency_ms.csv.gz"])
    sources = ["1080ti_1", "1080ti_32", "1080ti_256", "silver_4114", "silver_4210r", "samsung_a50", "pixel3"]
    sources += ["essential_ph_1", "samsung_s7"]
    for samples, least in ((10, 0.95), (20, 0.96)):
        found = [
            score(data, sources, target, samples, 2, 0)["design"]
            for target in ("gold_6240", "titan_rtx_1", "2080ti_256")
        ]
        assert np.mean([f["spearman"] for f in found]) > least
        assert np.mean([f["coverage"] for f in found]) > 0.9
        assert np.mean([f["fit_ms"] for f in found]) < 500  # 5 ms on an idle core
