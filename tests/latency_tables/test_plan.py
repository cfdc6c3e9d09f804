"""Plans: only what is lacking, spread over what matters."""

import numpy as np
import pytest

from latency_tables.measurement import Context, Measurement
from latency_tables.plan import calibration_networks, check_operators, missing_operators
from latency_tables.table import LatencyTable
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import all_operators, dense_from

SPACE = space_named("digits-mbv3")
DENSE = dense_from(SPACE, lambda op: op.macs * 1e-6)
CONTEXT = Context("onnxruntime", "1.31", "CPUExecutionProvider", 1, "float32", 1)


def table_of(operators):
    return LatencyTable(CONTEXT, {op: Measurement(0.01 + op.macs * 1e-8, None, None, 30) for op in operators})


def test_only_what_the_table_lacks():
    needed = all_operators(SPACE, 8)
    assert missing_operators(needed + needed[:5], None) == sorted(needed)
    assert missing_operators(needed, table_of(needed[10:])) == sorted(needed[:10])
    assert missing_operators(needed, table_of(needed)) == []


def test_networks_are_distinct_balanced_and_spread():
    genes = calibration_networks(DENSE, np.random.default_rng(0), 24)
    assert len(np.unique(genes, axis=0)) == 24 and (SPACE.chain.canonical(genes) == genes).all()
    assert np.bincount(genes[:, 0]).tolist() == [8, 8, 8]
    for resolution in range(3):
        mine = DENSE.price(genes[genes[:, 0] == resolution])
        others = SPACE.chain.sample(np.random.default_rng(1), 4000)
        others[:, 0] = resolution
        prices = np.sort(DENSE.price(others))
        ranks = np.sort(np.searchsorted(prices, mine) / len(prices))
        assert ranks[0] < 0.2 and ranks[-1] > 0.8 and np.diff(ranks).max() < 0.35


@pytest.mark.parametrize("networks", [0, 1, 2, 7, 50])
def test_any_number_of_networks(networks):
    assert len(calibration_networks(DENSE, np.random.default_rng(0), networks)) == networks


def test_chosen_resolutions_and_nothing_twice():
    first = calibration_networks(DENSE, np.random.default_rng(0), 12, resolutions=[1])
    assert set(first[:, 0]) == {1}
    second = calibration_networks(DENSE, np.random.default_rng(0), 12, resolutions=[1], known=first)
    assert len(np.unique(np.vstack([first, second]), axis=0)) == 24


def test_networks_look_like_random_ones_on_average():
    """Equally likely strata: the mean price is that of random networks, so a conformal bound carries over."""
    means = [DENSE.price(calibration_networks(DENSE, np.random.default_rng(s), 24)).mean() for s in range(20)]
    assert (
        abs(np.mean(means) / DENSE.price(SPACE.chain.sample(np.random.default_rng(99), 20_000)).mean() - 1)
        < 0.02
    )


def test_check_operators_cover_fast_and_slow():
    table = table_of(all_operators(SPACE, 16))
    chosen = check_operators(table, np.random.default_rng(0), 8)
    assert len(set(chosen)) == 8
    ordered = sorted(m.median_ms for m in table.rows.values())
    ranks = sorted(ordered.index(table.rows[op].median_ms) / len(ordered) for op in chosen)
    assert ranks[0] < 0.15 and ranks[-1] > 0.8
    assert len(check_operators(table_of(all_operators(SPACE, 16)[:3]), np.random.default_rng(0))) == 3
