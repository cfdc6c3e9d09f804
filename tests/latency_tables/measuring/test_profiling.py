"""The protocol on a device whose true latencies are known: neighbours, throttling, both, and clocks that
misbehave."""

import numpy as np
import pytest

from latency_tables.errors import InvalidMeasurement
from latency_tables.measuring.profiling import (
    MonotonicClock,
    Settings,
    measure,
    repeat_error,
    summarise,
    undisturbed_ms,
)
from tests.latency_tables.simulated_device import SimulatedDevice, VirtualClock

TRUE_MS = {f"op{i}": float(v) for i, v in enumerate(np.geomspace(0.05, 8, 12))}
QUICK = {"burst_ms": 2.0, "limit_s": 30.0}  # fewer simulated calls; sessions of seconds all the same


def run(device, seed=0, **options):
    settings = Settings(**{**QUICK, **options})
    return measure(device.runners(), settings, device.clock, np.random.default_rng(seed))


def errors(readings, truth=TRUE_MS):
    return np.array([abs(readings[name].measurement.latency_ms / truth[name] - 1) for name in truth])


def flags(readings):
    return {flag for reading in readings.values() for flag in reading.flags}


def spells(lasting, every, factor=1.6, start=0.0):
    """A neighbour that slows the device down for `lasting` of every `every` seconds."""
    return lambda seconds: factor if (seconds - start) % every < lasting and seconds >= start else 1.0


def test_without_noise_it_is_exact():
    readings = run(SimulatedDevice(TRUE_MS))
    assert errors(readings).max() < 1e-5
    assert all(
        r.measurement.count >= 40 and r.measurement.mad_ms < 1e-5 and r.flags == () for r in readings.values()
    )


@pytest.mark.parametrize("told", [True, False], ids=["seen", "unseen"])
@pytest.mark.parametrize("lasting", [5, 20, 60])
def test_spells_of_neighbours_do_not_move_the_undisturbed_latency_and_are_no_throttling(lasting, told):
    slow = spells(lasting, lasting * 1.3, start=1.5)
    clock = VirtualClock(others=lambda s: int(slow(s) > 1) if told else 0)
    readings = run(SimulatedDevice(TRUE_MS, noise=0.01, speed=slow, clock=clock))
    assert errors(readings).max() < 0.03
    assert "throttled" not in flags(readings)


def crowded(**options):
    """A device on which every call is interrupted: others have the processor for 3 ms, whenever it runs."""
    device = SimulatedDevice(TRUE_MS, noise=0.01, preempted=1.0, clock=VirtualClock(others=lambda s: 3))
    generator = np.random.default_rng(0)
    return measure(device.runners(), Settings(**QUICK), device.clock, generator, **options)


def test_what_a_network_waits_for_the_processor_is_not_its_latency_where_the_calling_thread_computes_it():
    readings = crowded(in_calling_thread=TRUE_MS)
    assert errors(readings).max() < 0.03
    assert "throttled" not in flags(readings)
    # What a user sees now is said beside it: every call of the longest takes 3 ms more.
    longest = readings["op11"].measurement
    assert longest.median_ms == pytest.approx(TRUE_MS["op11"] + 3, rel=0.02)


def test_elapsed_time_is_kept_where_somebody_else_computes_the_network():
    assert errors(crowded()).min() > 0.3, (
        "an accelerator's work is no processor time of the thread that waits"
    )


def test_a_system_that_does_not_tell_processor_time_is_measured_by_elapsed_time():
    class Plain(VirtualClock):
        def own_ns(self):
            return None

    device = SimulatedDevice(TRUE_MS, noise=0.01, clock=Plain())
    readings = measure(
        device.runners(), Settings(**QUICK), device.clock, np.random.default_rng(0), in_calling_thread=TRUE_MS
    )
    assert errors(readings).max() < 0.03


def test_a_session_that_begins_in_a_spell_goes_on_until_the_neighbour_has_left():
    slow = spells(20, 1e9)
    readings = run(
        SimulatedDevice(
            TRUE_MS, noise=0.01, speed=slow, clock=VirtualClock(others=lambda s: int(slow(s) > 1))
        )
    )
    assert errors(readings).max() < 0.03


def test_typical_latencies_stand_beside_the_undisturbed_one():
    slow = spells(2, 4)
    readings = run(
        SimulatedDevice(
            TRUE_MS, noise=0.01, speed=slow, clock=VirtualClock(others=lambda s: int(slow(s) > 1))
        )
    )
    for name, true in TRUE_MS.items():
        m = readings[name].measurement
        assert m.p90_ms == pytest.approx(1.6 * true, rel=0.05) and m.p95_ms >= m.p90_ms


def test_a_spell_of_a_whole_session_takes_the_session_to_its_limit_and_earlier_sessions_tell_it():
    clock = VirtualClock(others=lambda s: 1)
    device = SimulatedDevice(TRUE_MS, noise=0.01, speed=lambda s: 1.6, clock=clock)
    readings = measure(
        device.runners(), Settings(**QUICK), clock, np.random.default_rng(0), "op11", TRUE_MS["op11"]
    )
    assert 29 < clock.elapsed_ns / 1e9 < 45
    assert "throttled" not in flags(readings)
    assert readings["op0"].sentinel_ms / TRUE_MS["op11"] == pytest.approx(
        1.6, rel=0.03
    )  # what the service corrects by


def test_a_device_that_slows_down_for_good_is_measured_as_it_stays_and_says_so():
    device = SimulatedDevice(TRUE_MS, noise=0.01, speed=lambda s: 1.25 if s > 2 else 1.0)
    readings = run(device)
    assert errors(readings, {name: 1.25 * v for name, v in TRUE_MS.items()}).max() < 0.03
    assert all("throttled" in r.flags for r in readings.values())


def test_a_device_that_slows_down_beside_neighbours_that_come_and_go_is_told_from_them():
    slow = spells(6, 10, start=1.5)
    clock = VirtualClock(others=lambda s: int(slow(s) > 1))
    device = SimulatedDevice(
        TRUE_MS, noise=0.01, speed=lambda s: slow(s) * (1.25 if s > 3 else 1.0), clock=clock
    )
    readings = run(device, rounds=120)
    assert errors(readings, {name: 1.25 * v for name, v in TRUE_MS.items()}).max() < 0.03
    assert all("throttled" in r.flags for r in readings.values())


def test_no_false_alarm_of_throttling_at_3_percent_noise():
    for seed in range(10):
        device = SimulatedDevice({f"op{i}": 1.0 + i for i in range(12)}, seed=seed, noise=0.03, outliers=0.03)
        assert "throttled" not in flags(run(device, seed))


def test_noise_widens_the_uncertainty_and_rows_that_never_settle_are_flagged():
    quiet, loud = (
        run(SimulatedDevice(TRUE_MS, noise=0.01)),
        SimulatedDevice({f"op{i}": 2.0 + i for i in range(6)}, noise=0.5),
    )
    noisy = run(loud)
    assert max(r.measurement.uncertainty for r in quiet.values()) < 0.02
    assert max(r.measurement.uncertainty for r in noisy.values()) > 0.02
    assert 29 < loud.clock.elapsed_ns / 1e9 < 45  # it went to the limit, and ended


def test_outliers_cold_calls_and_processes_that_cut_in_do_not_count():
    device = SimulatedDevice(TRUE_MS, noise=0.01, outliers=0.03, cold=10, preempted=0.1)
    assert errors(run(device)).max() < 0.03


def test_a_quiet_device_is_done_when_its_rows_have_settled():
    device = SimulatedDevice(TRUE_MS, noise=0.01)
    run(device, rounds=40)
    assert device.clock.elapsed_ns / 1e9 < 10


def test_slow_networks_have_their_rounds_beyond_the_limit_and_no_more():
    device = SimulatedDevice({f"net{i}": 300.0 + i for i in range(4)}, noise=0.3)
    readings = run(device, limit_s=10.0, most_s=60.0)
    assert all(r.measurement.count >= 20 for r in readings.values())
    assert device.clock.elapsed_ns / 1e9 < 80


def test_samples_are_long_against_the_timer():
    device = SimulatedDevice(
        {"tiny": 0.001, "large": 3.0}, clock=VirtualClock(resolution_ns=1e6)
    )  # a 1 ms timer
    readings = run(device, burst_ms=0.1)
    assert abs(readings["tiny"].measurement.latency_ms / 0.001 - 1) < 0.15
    assert abs(readings["large"].measurement.latency_ms / 3.0 - 1) < 0.05


def test_a_clock_that_jumps_forward_costs_no_measurement():
    """A device that slept in the middle of a session: one sample is wild, the session ends, what was measured
    stands."""
    device = SimulatedDevice(TRUE_MS, noise=0.01)
    runners = device.runners()
    asleep = iter([3600e9])

    def sleeps():
        device.run("op3")
        if device.clock.elapsed_ns > 1e9:
            device.clock.elapsed_ns += next(asleep, 0.0)

    readings = measure({**runners, "op3": sleeps}, Settings(**QUICK), device.clock, np.random.default_rng(0))
    assert errors(readings).max() < 0.03
    assert "throttled" not in flags(readings)


def test_a_clock_that_goes_back_once_costs_a_sample_and_again_and_again_is_refused():
    device = SimulatedDevice({"a": 1.0})
    jumps = iter([-5e6])

    def back_once():
        device.run("a")
        if device.calls["a"] == 100:
            device.clock.elapsed_ns += next(jumps, 0.0)

    once = measure({"a": back_once}, Settings(), device.clock, np.random.default_rng(0))
    assert once["a"].measurement.latency_ms == pytest.approx(1.0)

    def back():
        device.clock.elapsed_ns -= 1e6

    with pytest.raises(InvalidMeasurement, match="monotonic"):
        measure({"a": back}, Settings(), device.clock, np.random.default_rng(0))


def test_every_round_visits_everything_in_an_order_of_its_own_and_progress_ends_at_one():
    device = SimulatedDevice(dict.fromkeys("abcdefgh", 1.0))
    order, seen = [], []
    runners = {name: lambda name=name: (order.append(name), device.run(name)) for name in "abcdefgh"}
    settings = Settings(warm_up_calls=0, burst_ms=0.1, burst_calls=1, least_s=0.0)
    measure(runners, settings, device.clock, np.random.default_rng(0), progress=seen.append)
    visits = order[3 * 8 :][
        ::2
    ]  # three calls of each to find how many make a sample; then an untimed and a timed one
    rounds = ["".join(visits[i : i + 8]) for i in range(0, len(visits), 8)]
    assert all(sorted(r) == list("abcdefgh") for r in rounds) and len(set(rounds)) > 20
    assert seen == sorted(seen) and seen[-1] == 1.0


def test_nothing_to_measure():
    assert measure({}, Settings(), VirtualClock(), np.random.default_rng(0)) == {}


def test_one_wild_sample_at_either_end_moves_neither_statistic():
    samples = [0.2, *[1.0] * 50, 100.0]
    m = summarise(samples)
    assert (m.undisturbed_ms, m.median_ms, m.lower_quartile_ms, m.mad_ms, m.count) == (1.0, 1.0, 1.0, 0.0, 52)
    assert undisturbed_ms([3.0]) == 3.0 and repeat_error([1.0, 1.0]) == 1.0  # too few to say


def test_the_real_clock_is_monotonic_and_sees_others():
    clock = MonotonicClock()
    times = [clock.now_ns() for _ in range(1000)]
    assert times == sorted(times) and clock.resolution_ns < 1e6
    assert clock.others() is None or clock.others() >= -1
