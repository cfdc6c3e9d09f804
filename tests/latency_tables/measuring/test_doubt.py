"""What is measured once more, and what several sessions say of one thing together."""

from dataclasses import fields

import numpy as np
import pytest

from latency_tables.measurement import Measurement
from latency_tables.measuring.doubt import DISTURBED, DOUBTFUL_ERROR, UNSETTLED, combined, unsettled


def session(undisturbed_ms, busy=1.0, **more):
    """A session's measurement; busy: how far its typical latency lies above the undisturbed one."""
    statistics = {"median_ms": 1.1, "p90_ms": 1.5, "p95_ms": 1.8}
    told = {name: undisturbed_ms * (1 + busy * (factor - 1)) for name, factor in statistics.items()}
    return Measurement(**{"undisturbed_ms": undisturbed_ms, "count": 30, "uncertainty": 0.01, **told, **more})


def test_a_single_session_is_what_it_is():
    alone = session(1.0)
    assert combined([alone]) is alone


def test_the_fastest_session_tells_the_latency_and_the_second_fastest_how_sure_that_is():
    slow, fast, middle = session(1.6), session(1.0), session(1.03)
    found = combined([slow, fast, middle])
    assert found.undisturbed_ms == found.latency_ms == 1.0
    assert found.uncertainty == pytest.approx(0.03), (
        "two quiet sessions agree, whatever the third one was like"
    )
    assert combined([slow, fast]).uncertainty == pytest.approx(0.6), "and one alone may have been lucky"
    assert found.count == 90


def test_typical_and_rare_latencies_are_what_all_sessions_say():
    quiet, busy, busier = session(1.0, busy=0.5), session(1.01, busy=3.0), session(1.02, busy=5.0)
    found = combined([quiet, busy, busier])
    assert (found.median_ms, found.p90_ms, found.p95_ms) == (busy.median_ms, busy.p90_ms, busy.p95_ms)
    assert found.lower_quartile_ms <= found.median_ms


def test_what_a_session_did_not_tell_is_not_made_up():
    plain = Measurement(1.2, 1.1, 0.1, 10)
    found = combined([plain, Measurement(1.3)])
    assert (
        found.latency_ms == 1.2
        and found.p95_ms is None
        and found.undisturbed_ms is None
        and found.count == 10
    )
    assert combined([Measurement(1.2), Measurement(1.3)]).count is None
    energetic = combined([session(1.0, energy_mj=0.5), session(1.1, energy_mj=0.7)])
    assert energetic.energy_mj == 0.5, "energy is of the session whose latency is kept"


@pytest.mark.parametrize("seed", range(20))
def test_statistics_keep_their_order_whatever_the_sessions_were_like(seed):
    generator = np.random.default_rng(seed)
    sessions = []
    for _ in range(int(generator.integers(2, 5))):
        least = float(generator.uniform(0.5, 2.0))
        above = np.cumsum(generator.exponential(0.3, 3)) + least
        sessions.append(
            Measurement(
                undisturbed_ms=least,
                median_ms=above[0],
                lower_quartile_ms=float(generator.uniform(least, above[0])),
                p90_ms=above[1],
                p95_ms=above[2],
            )
        )
    found = combined(sessions)  # a Measurement refuses statistics that are out of order
    assert found.latency_ms == min(s.latency_ms for s in sessions)
    assert {f.name for f in fields(found) if getattr(found, f.name) is None} == {
        "mad_ms",
        "count",
        "energy_mj",
    }


def test_only_what_did_not_settle_is_asked_for_again():
    measured = {
        "settled": session(1.0, uncertainty=UNSETTLED),
        "not settled": session(1.0, uncertainty=UNSETTLED + 1e-9),
        "not told": session(1.0, uncertainty=None),
    }
    assert unsettled(measured) == ["not settled"]
    assert unsettled({}) == []


def test_the_limits_leave_room_for_what_devices_do_when_nothing_is_wrong():
    assert 0.02 < UNSETTLED < 0.1, "above how rows of a quiet device repeat, below what would move a budget"
    assert 0.9 < DISTURBED < 1.0 and 0.04 < DOUBTFUL_ERROR < 0.15
