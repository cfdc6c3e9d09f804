"""The bound from session to session, on simulated devices whose speed differs from one session to the
next."""

from functools import cache

import numpy as np
import pytest

from latency_tables.prediction.bound import Sessions, conformal, student
from latency_tables.prediction.calibration import Calibration

NOISE = 0.015  # of a network within its session
TRIES = 60


def simulated_session(generator, drift, networks):
    """(sums, measured) in one session of a simulated device, all its networks slower or faster together."""
    sums = generator.uniform(3, 12, networks)
    return sums, 0.8 * sums * np.exp(
        drift * generator.standard_normal() + NOISE * generator.standard_normal(networks)
    )


@cache
def simulated_profile(seed, drift):
    """A fit to twenty networks of one session, and the generator of what follows."""
    generator = np.random.default_rng(seed)
    sums, times = simulated_session(generator, drift, 20)
    return Calibration.fit(sums, times, np.full(20, 160)), generator.integers(2**32)


def coverage(drift, verified, sentinel):
    """(share below the bound in further sessions, the same by one session's ratios, mean growth of the
    margin).

    verified: sessions of two networks each that are known besides the profile's; sentinel: spread seen while
    profiling.
    """
    held, alone, growth = [], [], []
    for seed in range(TRIES):
        fit, later_seed = simulated_profile(seed, drift)
        generator = np.random.default_rng(later_seed)
        logs, labels = [*np.log(fit.ratios)], ["profile"] * 20
        for number in range(verified):
            known, measured = simulated_session(generator, drift, 2)
            logs += [*np.log(measured / fit.predict(known, np.full(2, 160)))]
            labels += [f"verified{number}"] * 2
        across = fit.across(np.array(logs), labels, sentinel)
        later = [simulated_session(generator, drift, 10) for _ in range(5)]
        ratios = np.concatenate(
            [measured / fit.predict(known, np.full(10, 160)) for known, measured in later]
        )
        held.append((ratios <= across.margin(0.95)).mean())
        alone.append((ratios <= fit.margin(0.95)).mean())
        growth.append(across.margin(0.95) / fit.margin(0.95))
    return np.mean(held), np.mean(alone), np.mean(growth)


@pytest.mark.parametrize(
    ("verified", "sentinel"),
    [(0, 0.03), (2, 0.03), (2, 0.02), (5, None), (10, 0.03), (10, 0.005), (20, None)],
)
def test_where_sessions_differ_the_bound_holds_and_that_of_one_session_does_not(verified, sentinel):
    held, alone, _ = coverage(0.03, verified, sentinel)
    assert alone < 0.8
    assert held >= 0.9


@pytest.mark.parametrize(("verified", "sentinel"), [(0, 0.0), (0, None), (0, 0.003), (5, None), (10, 0.003)])
def test_where_sessions_do_not_differ_the_margin_hardly_grows(verified, sentinel):
    held, _, growth = coverage(0.0, verified, sentinel)
    assert held >= 0.93
    assert growth < 1.01


def test_the_spread_between_sessions_is_found():
    generator = np.random.default_rng(0)
    effects = 0.04 * generator.standard_normal(200)
    labels = [f"s{i}" for i in range(200) for _ in range(4)]
    logs = np.repeat(effects, 4) + 0.02 * generator.standard_normal(800)
    found = Sessions.of(logs, labels)
    assert found.count == 200 and found.spread == pytest.approx(0.04, rel=0.15)
    assert found.share == pytest.approx(1 / 200) and found.degrees == 199
    assert Sessions.of(logs - np.repeat(effects, 4), labels).spread < 0.006


def test_one_wild_measurement_does_not_make_a_session():
    generator = np.random.default_rng(1)
    logs, labels = 0.01 * generator.standard_normal(40), [f"s{i % 4}" for i in range(40)]
    logs[3] = 2.0  # 7 times as long
    assert Sessions.of(logs, labels).spread < 0.01


def test_sessions_of_single_networks_count_as_differing():
    """Where every session is one network, nobody can tell the session from the network: all of it is allowed
    for."""
    found = Sessions.of(np.array([-0.03, 0.0, 0.03]), ["a", "b", "c"])
    assert found.spread == pytest.approx(0.03)


def test_without_networks_and_with_one_session_nothing_is_known():
    assert Sessions.of(np.empty(0), []) == Sessions()
    assert Sessions.of(np.array([0.01, -0.01]), ["a", "a"]).reach(0.95) == 0
    assert Sessions.of(np.array([0.01, -0.01]), ["a", "a"], assumed=0.02).reach(0.95) > 0.02


@pytest.mark.parametrize(
    "values", [(1, -0.1, 1, 1.0), (1, float("nan"), 1, 1.0), (1, 0.1, 0, 1.0), (1, 0.1, 1, 1.5)]
)
def test_a_spread_that_is_none_is_refused(values):
    with pytest.raises(ValueError, match="spread"):
        Sessions(*values)


def test_a_transferred_table_has_students_bound():
    logs = np.array([-0.02, 0.01, 0.03, -0.01, 0.02, 0.0])
    few = Calibration(networks=6, ratios=tuple(np.exp(logs)), transferred=True)
    assert few.margin(0.95) == pytest.approx(np.exp(student(logs, 0.95)))
    assert (
        few.missing_networks(0.95) == 0
        and Calibration(networks=6, ratios=few.ratios).missing_networks(0.95) == 13
    )
    many = np.tile(logs, 4)
    assert student(many, 0.95) >= conformal(many, 0.95)
    assert Calibration.from_json(few.to_json()) == few
