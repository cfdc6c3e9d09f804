"""Calibration: the right line, an honest error, a bound that holds, and refusals that say why."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_tables.errors import InvalidTable, PoorCalibration, TooFewNetworks
from latency_tables.prediction.bound import networks_needed
from latency_tables.prediction.calibration import Calibration
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import dense_from


def networks(count, seed=0, noise=0.01, intercept=0.4, slope=0.8, sizes=(160,)):
    generator = np.random.default_rng(seed)
    sums = generator.uniform(3, 12, count)
    resolutions = generator.choice(sizes, count)
    times = (intercept + slope * sums) * np.exp(noise * generator.standard_normal(count))
    return sums, times, resolutions


def test_finds_the_line():
    sums, times, sizes = networks(24)
    fit = Calibration.fit(sums, times, sizes)
    assert np.allclose(fit.predict(sums, sizes), 0.4 + 0.8 * sums, rtol=0.015)
    assert fit.networks == 24 and 0.003 < fit.error < 0.02 and fit.worst >= fit.error


def test_without_networks_it_is_the_identity_and_has_no_bound():
    space = space_named("digits-mbv3")
    dense = dense_from(space, lambda op: op.macs * 1e-6)
    identity = Calibration.fit([], [], [])
    genes = space.chain.sample(np.random.default_rng(0), 20)
    assert np.allclose(identity.apply(dense, space.resolutions).price(genes), dense.price(genes))
    assert identity.bounded(dense, None) == (None, None) and identity.error is None


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 3]))
@settings(max_examples=30, deadline=None)
def test_a_few_wild_measurements_do_not_move_the_line(seed, wild):
    sums, times, sizes = networks(24, seed)
    generator = np.random.default_rng(seed)
    times[generator.choice(24, wild, replace=False)] *= generator.choice([0.001, 0.2, 3.0, 1000.0], wild)
    fit = Calibration.fit(sums, times, sizes)
    assert np.allclose(fit.predict(sums, sizes), 0.4 + 0.8 * sums, rtol=0.04)


def test_resolutions_get_lines_of_their_own_only_where_that_helps():
    generator = np.random.default_rng(1)
    sizes = np.repeat([128, 160, 192, 224], 8)
    sums = generator.uniform(3, 12, 32)
    apart = np.select([sizes == s for s in (128, 160, 192, 224)], [0.7, 0.8, 0.95, 1.1]) * sums
    noise = np.exp(0.01 * generator.standard_normal(32))
    fit = Calibration.fit(sums, apart * noise, sizes)
    assert set(fit.lines) == {128, 160, 192, 224} and fit.error < 0.015
    together = Calibration.fit(sums, 0.8 * sums * noise, sizes)
    assert not together.lines
    assert fit.line(176) == (
        fit.intercept_ms,
        fit.slope,
    )  # a resolution without networks uses the shared line


def test_refuses_a_table_of_another_device():
    generator = np.random.default_rng(2)
    sums, times = generator.uniform(3, 12, 24), generator.uniform(3, 12, 24)
    with pytest.raises(PoorCalibration, match="networks held out"):
        Calibration.fit(sums, times, np.full(24, 160))
    with pytest.raises(PoorCalibration):
        Calibration.fit(sums, 20 - sums * 1.5, np.full(24, 160))
    with pytest.raises(PoorCalibration):
        Calibration.fit([1.0, np.nan], [1.0, 2.0], [160, 160])


@pytest.mark.parametrize(("confidence", "needed"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_how_many_networks_a_bound_needs(confidence, needed):
    assert networks_needed(confidence) == needed
    fit = Calibration.fit(*networks(18))
    assert fit.missing_networks(confidence) == max(0, needed - 18)
    if needed > 18:
        with pytest.raises(TooFewNetworks, match=f"{needed - 18} more") as caught:
            fit.margin(confidence)
        assert caught.value.missing == needed - 18
    else:
        assert fit.margin(confidence) >= 1


def test_the_bound_holds_for_the_share_that_was_asked():
    held = total = 0
    for seed in range(60):
        sums, times, sizes = networks(20 + 100, seed, noise=0.04)
        fit = Calibration.fit(sums[:20], times[:20], sizes[:20])
        upper = fit.margin(0.95) * fit.predict(sums[20:], sizes[20:])
        held += int((times[20:] <= upper).sum())
        total += 100
    assert 0.93 < held / total < 0.98


def test_applies_to_a_dense_table():
    space = space_named("digits-mbv3")
    dense = dense_from(space, lambda op: op.macs * 1e-6)
    genes = space.chain.sample(np.random.default_rng(0), 60)
    sums, sizes = dense.price(genes), np.asarray(space.resolutions)[genes[:, 0]]
    times = (0.05 + sums) * np.where(sizes == 8, 1.3, 0.9)
    fit = Calibration.fit(sums, times * np.exp(0.005 * np.random.default_rng(1).standard_normal(60)), sizes)
    assert fit.lines
    assert np.allclose(fit.apply(dense, space.resolutions).price(genes), fit.predict(sums, sizes))
    upper, _ = fit.bounded(fit.apply(dense, space.resolutions), 0.95)
    assert np.allclose(upper.price(genes), fit.margin(0.95) * fit.predict(sums, sizes))
    with pytest.raises(ValueError, match="every resolution"):
        fit.apply(dense, space.resolutions[:1])


@given(st.integers(0, 40), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_json_round_trip(count, seed):
    fit = Calibration.fit(*networks(count, seed, sizes=(128, 160)))
    assert Calibration.from_json(json.loads(json.dumps(fit.to_json(), allow_nan=False))) == fit


@pytest.mark.parametrize(
    "data", [{}, {"intercept_ms": "x"}, {**Calibration().to_json(), "lines": {"a": [1]}}]
)
def test_refuses_other_json(data):
    with pytest.raises(InvalidTable):
        Calibration.from_json(data)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_one_to_four_networks_give_a_scale(count):
    sums, times, sizes = networks(count, intercept=0.0)
    fit = Calibration.fit(sums, times, sizes)
    assert fit.intercept_ms == 0 and abs(fit.slope - 0.8) < 0.03
    assert (fit.error is None) == (count == 1)
