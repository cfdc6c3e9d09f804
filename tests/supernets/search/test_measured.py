"""Choice by measurement: readings combined, networks near the budget measured again, the best that keeps it
delivered."""

import math

import numpy as np
import pytest

from supernets.search.measured import (
    MOST_READINGS,
    ROUNDS,
    SURE,
    Choice,
    Latency,
    Measured,
    Reading,
    Verdict,
    settle,
)


def network(key, predicted_ms, ms, quality, uncertainty=0.005):
    return Measured(key, (predicted_ms,), quality, (Latency(ms, uncertainty, 1),))


def alone(found=(), level=1.0):
    return Choice((1.0,), (level,), list(found))


@pytest.mark.parametrize("ms", [0.0, -1.0, math.nan, math.inf])
def test_a_reading_is_a_latency(ms):
    with pytest.raises(ValueError, match="above 0 ms"):
        Reading(ms)
    with pytest.raises(ValueError, match="not negative"):
        Reading(1.0, -0.1)


def test_readings_together_are_surer_than_one_and_no_surer_than_their_own_spread():
    alike = Latency.of([Reading(1.0, 0.02)] * 4)
    assert alike.ms == pytest.approx(1.0) and alike.uncertainty == pytest.approx(0.01)
    apart = Latency.of([Reading(ms, 0.001) for ms in (1.0, 1.1, 1.2)])
    assert apart.uncertainty > 0.04, "what each claims is less than how far they lie apart"
    assert Latency.of([Reading(1.0, 0.01), Reading(2.0, 0.1)]).ms < 1.02, "the surer one counts for more"
    assert Latency.of([Reading(1.0, 0.0)]).verdict(1.0001) is Verdict.KEPT


def test_networks_near_the_budget_are_measured_again_and_the_others_are_not():
    asked = []

    def measure(indices, times):
        asked.append((list(indices), times))
        return [[[Reading((0.8, 1.001, 1.5)[i], 0.02)] * times] for i in indices]

    found = settle(3, measure, (1.0,))
    assert [a for a, _ in asked] == [[0, 1, 2], [1], [1]]
    assert [one.readings for (one,) in found] == [1, MOST_READINGS, 1]
    assert [one.verdict(1.0) for (one,) in found] == [Verdict.KEPT, Verdict.UNCLEAR, Verdict.BROKEN]


def test_nobody_answering_is_no_latency():
    assert settle(2, lambda indices, times: [[[]] for _ in indices], (1.0,)) == [None, None]


def test_the_best_of_those_that_keep_the_budget_is_chosen():
    choice = alone(
        [network("a", 0.99, 0.97, 0.90), network("b", 0.99, 0.98, 0.95), network("c", 0.99, 1.2, 0.99)]
    )
    assert choice.best().key == "b" and choice.chosen().key == "b" and choice.enough()


def test_a_network_that_likely_keeps_it_is_taken_only_where_the_sure_ones_leave_much_unused():
    likely = network("likely", 0.99, 1.0 - 1.5 * 0.005, 0.99)
    full = alone([network("sure", 0.97, 0.96, 0.9), likely])
    assert full.chosen().key == "sure"
    loose = alone([network("sure", 0.97, 0.7, 0.9), likely])
    assert not loose.enough() and loose.chosen().key == "likely"
    close = alone([network("close", 0.99, 0.999, 0.9), network("over", 0.99, 1.001, 0.99)])
    assert close.best() is None and close.chosen().key == "close"
    assert alone([network("over", 0.99, 1.001, 0.99)]).chosen() is None


def test_the_next_networks_are_held_against_what_the_measured_ones_took():
    first = alone()
    assert first.limits_ms()[0] == pytest.approx(math.exp(-SURE * 0.02 / math.sqrt(MOST_READINGS)))
    assert alone(level=1.25).limits_ms()[0] == pytest.approx(first.limits_ms()[0] / 1.25)
    seen = alone([network(i, 0.5, 0.5 * ratio, 0.9) for i, ratio in enumerate((1.4, 1.25, 1.2))])
    assert seen.limits_ms()[0] == pytest.approx(math.exp(-SURE * 0.005) / 1.25)


def test_one_network_for_several_devices_keeps_every_budget():
    def both(key, fast_ms, slow_ms, quality):
        return Measured(key, (1.0, 2.0), quality, (Latency(fast_ms, 0.005, 1), Latency(slow_ms, 0.005, 1)))

    choice = Choice(
        (1.0, 2.0),
        (1.0, 1.0),
        [both("a", 0.9, 1.95, 0.9), both("b", 0.97, 2.1, 0.99), both("c", 1.02, 1.2, 0.98)],
    )
    assert choice.best().key == "a" and choice.enough(), "it uses nearly all of what the slow one allows"
    assert choice.limits_ms() == pytest.approx(
        [math.exp(-SURE * 0.005) / 0.97, 2 * math.exp(-SURE * 0.005) / (1.95 / 2)]
    )
    asked = []

    def measure(indices, times):
        asked.append(list(indices))
        return [[[Reading((0.999, 0.5)[i])] * times, [Reading((3.0, 2.001)[i])] * times] for i in indices]

    settle(2, measure, (1.0, 2.0))
    assert asked == [[0, 1], [1], [1]], (
        "a network that surely breaks one budget is not measured again for the other"
    )


@pytest.mark.parametrize(("bias", "spread"), [(1.0, 0.01), (1.25, 0.04), (0.8, 0.04), (1.0, 0.1)])
def test_on_a_device_that_its_table_misses_budgets_are_kept_and_used(bias, spread):
    """What `benchmarks.budget --measured-candidates 3` does on recorded devices, on made-up ones."""
    generator = np.random.default_rng(0)
    predicted = np.sort(generator.uniform(0.3, 3.0, 4000))
    true = bias * predicted * np.exp(generator.normal(0, spread, len(predicted)))
    used = []
    for budget in np.linspace(0.6, 1.6, 250):
        choice, left = Choice((budget,), (1.0,)), predicted.copy()
        for _ in range(ROUNDS):
            picked = np.flatnonzero(left <= choice.limits_ms()[0])[-3:]

            def measure(indices, times, picked=picked):
                noisy = true[picked[indices], None] * np.exp(generator.normal(0, 0.02, (len(indices), times)))
                return [[[Reading(ms) for ms in row]] for row in noisy]

            found = settle(len(picked), measure, (budget,))
            choice.found += [
                Measured(i, (predicted[i],), one[0].ms, one) for i, one in zip(picked, found, strict=True)
            ]
            left[picked] = np.inf
            if choice.enough():
                break
        used.append(true[choice.chosen().key] / budget)
    assert np.mean(np.array(used) > 1) <= 0.02 and np.mean(used) >= 0.95
