"""A machine that sleeps in mid-session is noticed, by clocks of which one goes on and one stands still."""

import time

from latency_tables.measuring.suspension import Suspensions, asleep_ns


def test_this_machine_is_awake_while_it_computes():
    watch = Suspensions()
    end = time.monotonic() + 0.05
    while time.monotonic() < end:
        assert watch.since_last_s() == 0.0
    assert asleep_ns() is None or abs(asleep_ns() - asleep_ns()) < 1e8


def test_a_suspension_is_told_once_with_its_length():
    readings = iter([5_000_000_000, 5_000_000_300, 3_605_000_000_000, 3_605_000_000_100])
    watch = Suspensions(lambda: next(readings))
    assert watch.since_last_s() == 0.0
    assert round(watch.since_last_s(), 1) == 3600.0
    assert watch.since_last_s() == 0.0


def test_a_system_that_does_not_tell_never_was_asleep():
    watch = Suspensions(lambda: None)
    assert watch.since_last_s() == 0.0
