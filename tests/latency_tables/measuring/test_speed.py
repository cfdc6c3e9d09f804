"""Groups of one session brought to one speed, on a simulated device; the noise of the sentinel itself changes
nothing."""

import numpy as np
import pytest

from latency_tables.measuring.profiling import Settings, measure
from latency_tables.measuring.speed import Speed, factors, spread
from tests.latency_tables.simulated_device import SimulatedDevice

COPIES = ["sentinel#0", "sentinel#1", "sentinel#2", "sentinel#3"]


def simulated_group(seed, speed, where=0.0):
    """One group on a simulated device. where: spread of the copies of the sentinel by where they lie in
    memory."""
    generator = np.random.default_rng(seed)
    latencies = {
        name: 0.3 * float(np.exp(where * generator.standard_normal())) for name in ("sentinel", *COPIES)
    }
    device = SimulatedDevice({**latencies, "row": 2.0}, seed=seed, noise=0.01, speed=lambda seconds: speed)
    found = measure(
        device.runners(),
        Settings(rounds=16, least_s=0.0),
        device.clock,
        generator,
        "sentinel",
        None,
        copies=COPIES,
    )
    return Speed(found["row"].sentinel_ms, found["row"].sentinel_error), found["row"].measurement


def test_a_group_that_was_slower_is_scaled_to_the_others():
    speeds, rows = zip(*(simulated_group(i, 1.04 if i == 4 else 1.0) for i in range(7)), strict=True)
    scaled = factors(speeds)
    assert [f == 1 for f in scaled] == [True] * 4 + [False] + [True] * 2
    assert rows[4].times(scaled[4]).latency_ms == pytest.approx(2.0, rel=0.02)


def test_where_the_copies_disagree_nothing_is_scaled():
    speeds, _ = zip(*(simulated_group(i, 1.0, where=0.05) for i in range(12)), strict=True)
    assert np.std([s.sentinel_ms for s in speeds]) > 0.003
    assert factors(speeds) == [1.0] * 12


def test_a_session_in_a_spell_is_brought_to_the_fastest_not_to_the_middle():
    speeds = [Speed(1.6, 0.005), Speed(1.0, 0.005)]
    assert factors(speeds) == [pytest.approx(1 / 1.6), 1.0]
    assert factors([Speed(1.6, 0.005)], reference_ms=1.0) == [pytest.approx(1 / 1.6)]


def test_without_copies_nothing_is_known():
    assert Speed.of([1.0, 1.1]).error is None
    assert factors([Speed(1.0), Speed(1.2), Speed(1.0)]) == [1.0, 1.0, 1.0]
    assert factors([]) == [] and factors([Speed(1.0, 0.01)]) == [1.0]


def test_the_spread_of_a_session():
    assert spread([Speed(1.0)]) is None
    assert spread([Speed(1.0), Speed(float(np.exp(0.02)))]) == pytest.approx(0.02 / np.sqrt(2))


def test_a_copy_that_is_slow_by_where_it_lies_does_not_throttle_the_group():
    """The reference of the device is that of all copies."""
    latencies = {"sentinel": 0.36, **dict.fromkeys(COPIES, 0.3), "row": 2.0}
    device = SimulatedDevice(latencies, noise=0.01)
    found = measure(
        device.runners(),
        Settings(least_s=0.0),
        device.clock,
        np.random.default_rng(0),
        "sentinel",
        0.3,
        copies=COPIES,
    )
    assert found["row"].flags == ()
    assert found["row"].sentinel_ms == pytest.approx(0.3, rel=0.02)
