"""The protocol on a device whose true latencies are known."""

import numpy as np
import pytest

from latency_tables.errors import InvalidMeasurement
from latency_tables.profiling import MonotonicClock, Settings, measure, summarise
from tests.latency_tables.simulated_device import SimulatedDevice, VirtualClock

TRUE_MS = {f"op{i}": float(v) for i, v in enumerate(np.geomspace(0.02, 8, 24))}


def run(device, seed=0, **options):
    return measure(device.runners(), Settings(**options), device.clock, np.random.default_rng(seed))


def errors(readings, truth=TRUE_MS):
    return np.array([abs(readings[name].measurement.median_ms / truth[name] - 1) for name in truth])


def test_without_noise_it_is_exact():
    readings = run(SimulatedDevice(TRUE_MS))
    assert errors(readings).max() < 1e-5
    assert all(r.measurement.count == 30 and r.measurement.mad_ms < 1e-5 and r.flags == () for r in readings.values())


def test_f1_noise_of_3_percent_is_stable_and_30_percent_is_flagged():
    quiet = run(SimulatedDevice(TRUE_MS, noise=0.03))
    assert errors(quiet).max() < 0.03 and errors(quiet).mean() < 0.01
    assert not any(r.flags for r in quiet.values())
    # one call a sample, so that nothing averages the noise away
    slow = {f"op{i}": 2.0 + i for i in range(6)}
    loud = run(SimulatedDevice(slow, noise=0.3), drift=0.5)
    assert all("unstable" in r.flags and r.measurement.count == 120 for r in loud.values())


def test_unstable_operators_alone_are_measured_again():
    device = SimulatedDevice({"steady": 1.0, "wild": 1.0})
    generator = np.random.default_rng(0)

    def wild():
        device.latencies_ms["wild"] = float(generator.choice([1.0, 2.0]))
        device.run("wild")

    readings = measure({"steady": device.runners()["steady"], "wild": wild}, Settings(), device.clock, np.random.default_rng(0))
    assert readings["steady"].flags == () and readings["steady"].measurement.count == 30
    assert readings["wild"].flags == ("unstable",) and readings["wild"].measurement.count == 120


def test_f3_outliers_and_cold_calls_do_not_count():
    device = SimulatedDevice(TRUE_MS, noise=0.02, outliers=0.03, cold=10)
    slow = {name: v for name, v in TRUE_MS.items() if v > 0.5}
    readings = run(device)
    assert errors(readings, slow).max() < 0.02


def test_f2_a_throttled_spell_is_discarded():
    device = SimulatedDevice(TRUE_MS, noise=0.01, speed=lambda seconds: 1.25 if 0.9 < seconds < 1.5 else 1.0)
    readings = run(device)
    assert errors(readings).max() < 0.03
    assert device.clock.slept_s > 0
    assert not any("throttled" in r.flags for r in readings.values())


def test_f2_a_device_that_stays_slow_is_measured_as_it_is_and_says_so():
    device = SimulatedDevice(TRUE_MS, noise=0.01, speed=lambda seconds: 1.2 if seconds > 0.9 else 1.0)
    readings = run(device)
    assert errors(readings, {name: 1.2 * v for name, v in TRUE_MS.items()}).max() < 0.03
    assert all("throttled" in r.flags for r in readings.values())


def test_f2_no_false_alarm_at_3_percent_noise():
    for seed in range(15):
        device = SimulatedDevice({f"op{i}": 1.0 + i for i in range(12)}, seed=seed, noise=0.03, outliers=0.03)
        run(device, seed)
        assert device.clock.slept_s == 0


def test_f2_a_ramp_to_1_2_is_seen_across_groups():
    """The session's first sentinel reading is the reference for every later group."""
    device = SimulatedDevice(TRUE_MS, noise=0.01, speed=lambda seconds: 1.0 + min(0.2, seconds / 100))
    first = run(device)
    reference = next(iter(first.values())).sentinel_ms
    device.clock.elapsed_ns = 60e9
    later = measure(device.runners(), Settings(), device.clock, np.random.default_rng(1), "op0", reference)
    assert all("throttled" in r.flags for r in later.values())
    assert next(iter(later.values())).sentinel_ms > 1.1 * reference


def test_f10_a_busy_machine_does_not_count():
    """Another process has the processor in every third call; the time it took is seen and the sample taken again."""
    slow = {f"op{i}": 1.0 + i for i in range(6)}
    readings = run(SimulatedDevice(slow, noise=0.01, preempted=0.3))
    assert errors(readings, slow).max() < 0.02
    assert not any(r.flags for r in readings.values())


def test_f10_samples_are_long_against_the_timer():
    device = SimulatedDevice({"tiny": 0.001, "large": 3.0}, clock=VirtualClock(resolution_ns=1e6))  # a 1 ms timer
    readings = run(device, sample_ms=0.1)
    assert abs(readings["tiny"].measurement.median_ms / 0.001 - 1) < 0.15
    assert abs(readings["large"].measurement.median_ms / 3.0 - 1) < 0.05


def test_f10_a_clock_that_goes_back_is_refused():
    device = SimulatedDevice({"a": 1.0})

    def back():
        device.clock.elapsed_ns -= 1e6

    with pytest.raises(InvalidMeasurement, match="monotonic"):
        measure({"a": back}, Settings(), device.clock, np.random.default_rng(0))


def test_every_round_has_its_own_order_and_progress_ends_at_one():
    device = SimulatedDevice(dict.fromkeys("abcdefgh", 1.0))
    order, seen = [], []
    runners = {name: lambda name=name: (order.append(name), device.run(name)) for name in "abcdefgh"}
    measure(runners, Settings(warm_up_calls=0, sentinel_every=100), device.clock, np.random.default_rng(0), progress=seen.append)
    rounds = ["".join(order[-100:][i : i + 10]) for i in range(0, 100, 10)]
    assert len(set(rounds)) > 5
    assert all(r[0] == r[-1] == "a" and sorted(r[1:-1]) == list("abcdefgh") for r in rounds)  # the sentinel frames each
    assert seen == sorted(seen) and seen[-1] == 1.0


def test_nothing_to_measure():
    assert measure({}, Settings(), VirtualClock(), np.random.default_rng(0)) == {}


def test_summary_has_no_mean():
    m = summarise([1.0, 1.0, 1.0, 1.0, 100.0])
    assert (m.median_ms, m.lower_quartile_ms, m.mad_ms, m.count) == (1.0, 1.0, 0.0, 5)


def test_the_real_clock_is_monotonic():
    clock = MonotonicClock()
    times = [clock.now_ns() for _ in range(1000)]
    assert times == sorted(times) and clock.resolution_ns < 1e6
