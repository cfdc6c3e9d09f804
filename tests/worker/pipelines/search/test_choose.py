"""Networks measured and chosen in a search job: readings through the database, kept for later jobs, taken up
again."""

import time
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import select

from latency_tables.measurement import Measurement
from service.db.models import Artifact, MeasurementTask, NetworkMeasurement
from service.devices.costs import TAIL
from supernets.errors import InfeasibleBudget
from supernets.search.measured import MOST_READINGS, UNKNOWN, Latency, Reading
from supernets.search.targets import Gauge, Objective, Target, solve_target
from supernets.spaces.lowering import dense_from
from tests.worker.pipelines.search.test_card import FOUND
from tests.worker.pipelines.search.test_targets import SPACE, priced_at, pricing, with_further
from tests.worker.runs import events_of, new_run
from tests.worker.simulated_agent import SimulatedAgent, register
from worker.compute.requests import DeliveredFile
from worker.context import JobRun
from worker.measuring import undisturbed
from worker.pipelines.search.choose import Choosing, Levels
from worker.pipelines.search.exported import ExportedNetwork
from worker.pipelines.search.latency_card import constraints_of, devices_of, latency_of
from worker.pipelines.search.verify import LEAST_UNCERTAINTY, OnFile, Verification, reading_of

SCORE = dense_from(SPACE, lambda op: np.log1p(op.macs) / 1000)
WISH = Objective(SPACE, SCORE, "exact", 5)


class Bench:
    """Solves as a job does; a network's accuracy is its additive score, its file nothing but a name."""

    def solved(self, target):
        return solve_target(target, WISH, np.random.default_rng(0))

    def scored(self, architectures):
        return {a.digest: float(SCORE.price(SPACE.genes(a)[None])[0]) for a in architectures}

    def exported(self, target, solved, most):
        accuracies = self.scored(solved.architectures)
        best = sorted(solved.architectures, key=lambda a: -accuracies[a.digest])[:most]
        return [ExportedNetwork(a, 0.9, accuracies[a.digest], FOUND, file_of(a)) for a in best]


def file_of(architecture):
    return DeliveredFile(architecture.digest, 10, 20, 1, 1, 1e-6, (1, 1, 16, 16))


class Device(Verification):
    """A device that answers at once: latency = level times what is predicted, with noise; after `answers` it
    is silent."""

    def __init__(self, run, level=1.0, noise=0.01, answers=10**6):
        super().__init__(run, SPACE)
        self.level, self.noise, self.answers, self.asked = level, noise, answers, 0
        self.generator, self.kept = np.random.default_rng(0), []

    def readings(self, target, networks, times):
        found = [[[] for _ in target.measured] for _ in networks]
        for i, place in enumerate(target.measured):
            for one, network in zip(found, networks, strict=True):
                for _ in range(times):
                    self.asked += 1
                    if self.asked <= self.answers:
                        ms = (
                            self.level
                            * place.predicted_ms(network.architecture)
                            * np.exp(self.generator.normal(0, self.noise))
                        )
                        one[i].append(reading_of(Measurement(ms, uncertainty=self.noise)))
        return found

    def keep(self, place, network, latency):
        self.kept.append(network.architecture.digest)


@pytest.fixture
def run(context):
    return new_run(context)


def choose(run, device, budget_ms=0.12, levels=None, places=None):
    target = Target(0, SPACE, places or (priced_at(budget_ms, pricing(), measured=True),))
    choosing = Choosing(run, Bench(), Bench(), device, levels or Levels(), target)
    target.aim(choosing.choice.limits_ms())
    return choosing, choosing.chosen(Bench().solved(target))


@pytest.mark.parametrize("level", [0.8, 1.0, 1.3])
def test_the_best_network_that_keeps_the_budget_when_measured_is_chosen(run, context, level):
    device = Device(run, level)
    choosing, chosen = choose(run, device)
    (latency,) = chosen.latencies
    assert 0.95 * 0.12 <= latency.ms <= 0.12, "kept, and used, whatever the table says"
    true_ms = level * choosing.target.places[0].predicted_ms(chosen.architecture)
    assert true_ms <= 0.12
    assert len(chosen.measured_networks) == len(set(device.kept)) >= 3, (
        "all that were measured are kept and on the card"
    )
    kept = [line for line in chosen.measured_networks if line["verdict"] == "kept"]
    assert chosen.validation_accuracy == max(line["accuracy_validation"] for line in kept)
    said = {e["kind"] for e in events_of(context, run)}
    assert "chosen_by_measurement" in said and ("budget_broken" in said) == (level > 1)


def test_a_later_target_begins_with_what_the_job_has_seen_of_the_device(run):
    levels = Levels()
    choose(run, Device(run, 1.3), levels=levels)
    assert levels.of(Gauge(priced_at(0.1, pricing()))) == pytest.approx(1.3, rel=0.02)
    choosing, _ = choose(run, Device(run, 1.3), 0.1, levels)
    assert not choosing.target.broken_ms, "its first networks keep the budget already"


def test_networks_within_the_noise_are_measured_again_and_the_job_says_so(run, context):
    device = Device(run, noise=0.03)
    _, chosen = choose(run, device)
    again = [e for e in events_of(context, run) if e["kind"] == "measuring_again"]
    assert again and again[0]["reason"] == "too close to the budget to tell"
    assert max(line["readings"] for line in chosen.measured_networks) == MOST_READINGS


def test_nobody_answering_leaves_the_choice_to_the_bound(run):
    _, chosen = choose(run, Device(run, answers=0))
    assert chosen is None


def test_an_agent_that_goes_away_midway_leaves_what_it_has_measured(run):
    _, chosen = choose(run, Device(run, 0.7, answers=3))
    assert chosen is not None and len(chosen.measured_networks) == 3


def test_a_budget_that_even_the_fastest_network_breaks_is_given_up_with_what_can_be_kept(run):
    with pytest.raises(
        InfeasibleBudget, match=r"takes 3 times what its table predicts.*ask for 0\.\d+ ms or more"
    ) as caught:
        choose(run, Device(run, 3.0), 1.2 * pricing().predicted.price(SPACE.genes(SPACE.smallest())[None])[0])
    assert "search again when" not in str(caught.value) and "idle" not in str(caught.value)
    assert caught.value.minimum > 0


def test_one_network_is_measured_on_every_device_of_its_target(run):
    places = tuple(
        priced_at(b, pricing(scale=s), n, measured=True)
        for b, s, n in ((0.2, 1.0, "fast"), (0.3, 2.0, "slow"))
    )
    choosing, chosen = choose(run, Device(run, 1.1), places=places)
    assert len(chosen.latencies) == 2
    assert all(latency.ms <= place.budget_ms for latency, place in zip(chosen.latencies, places, strict=True))
    assert {line["device"] for line in chosen.measured_networks} == {"fast", "slow"}


class Spiky(Device):
    """A device whose p95 is `tail` times what is predicted for it."""

    def __init__(self, run, tail, **options):
        super().__init__(run, **options)
        self.tail = tail

    def readings(self, target, networks, times):
        found = []
        for network, latencies in zip(networks, super().readings(target, networks, times), strict=True):
            tails = []
            for gauge in target.gauges[1:]:
                ms = self.tail * gauge.predicted(network.architecture)
                tails.append(
                    [Reading(ms * np.exp(self.generator.normal(0, 0.02)), 0.05) for _ in range(times)]
                )
            found.append([*latencies, *tails])
        return found


@pytest.mark.parametrize("tail", [0.8, 1.0, 1.25])
def test_a_choice_by_measurement_keeps_the_p95_too(run, context, tail):
    place = with_further(priced_at(0.3, pricing(), measured=True), **{TAIL: 0.13})
    choosing, chosen = choose(run, Spiky(run, tail), places=(place,))
    latency, p95 = chosen.latencies
    assert latency.ms <= 0.3 and 0.9 * 0.13 <= p95.ms <= 0.13, "kept, and used, whatever was predicted"
    told = chosen.measured_networks[0][TAIL]
    assert told["measured"] > 0 and told["predicted"] > 0 and told["verdict"] in ("kept", "unclear", "broken")
    assert len({(line["device"], str(line["architecture"])) for line in chosen.measured_networks}) == len(
        chosen.measured_networks
    )
    broken = [e for e in events_of(context, run) if e["kind"] == "budget_broken"]
    assert any(e.get("constraint") == TAIL for e in broken) == (tail > 1)
    (further,) = devices_of(choosing.target, chosen)[0]["further"]
    assert (further["name"], further["limit"], further["measured"]) == (TAIL, 0.13, p95.ms)
    (_, line) = constraints_of(choosing.target, chosen)[:2]
    assert line == {"name": TAIL, "limit": 0.13, "value": p95.ms, "basis": "measured on the device"}
    assert latency_of(choosing.target, chosen)["verified"]


def test_a_p95_that_the_device_always_breaks_is_given_up_with_what_can_be_kept(run):
    place = with_further(priced_at(10.0, pricing(), measured=True), **{TAIL: 0.06})
    with pytest.raises(InfeasibleBudget, match=rf"none kept 0.06 ms of {TAIL}") as caught:
        choose(run, Spiky(run, 9.0), places=(place,))
    assert caught.value.constraint == TAIL and caught.value.minimum > 0.06


def test_an_agent_that_tells_no_p95_leaves_the_choice_to_the_bound_and_is_said(context, run):
    device_id = register(context, "dev")
    sha256, _ = context.store.put(b"a network")
    place = with_further(
        replace(priced_at(0.3, pricing(), measured=True), device_id=device_id), **{TAIL: 0.13}
    )
    one = OnFile(SPACE.smallest(8), DeliveredFile(sha256, 9, 20, 1, 1, 1e-6, (1, 1, 8, 8)))
    with SimulatedAgent(context, [device_id]) as agent:
        agent.told = {"p95_ms": None}
        (readings,) = Verification(run, SPACE).readings(Target(0, SPACE, (place,)), [one], 1)
    assert len(readings[0]) == 1 and readings[1] == []
    assert any("p95_ms" in e.get("reason", "") for e in events_of(context, run))


def test_an_agent_that_cannot_run_the_network_is_not_waited_for_and_is_said(context, run):
    device_id = register(context, "dev")
    sha256, _ = context.store.put(b"a network")
    place = replace(priced_at(0.3, pricing(), measured=True), device_id=device_id)
    one = OnFile(SPACE.smallest(8), DeliveredFile(sha256, 9, 20, 1, 1, 1e-6, (1, 1, 8, 8)))
    started = time.monotonic()
    with SimulatedAgent(context, [device_id]) as agent:
        agent.cannot = lambda task: True
        (readings,) = Verification(run, SPACE).readings(Target(0, SPACE, (place,)), [one], 2)
    assert readings == [[]]
    assert time.monotonic() - started < 0.5 * run.context.settings.verify_timeout_s
    assert any("unsupported reorder" in e.get("reason", "") for e in events_of(context, run))


def test_readings_go_through_tasks_and_a_job_taken_up_again_reads_them(context, run):
    device_id = register(context, "dev")
    network = SPACE.smallest(8)
    sha256, _ = context.store.put(b"a network")
    file = DeliveredFile(sha256, 9, 20, 1, 1, 1e-6, (1, 1, 8, 8))
    place = replace(priced_at(0.12, pricing(), measured=True), device_id=device_id)
    goal, one = Target(0, SPACE, (place,)), OnFile(network, file)
    absent = Verification(run, SPACE)
    assert not absent.possible(device_id), "no agent, and nothing was asked for"
    with SimulatedAgent(context, [device_id]):
        measured = Verification(run, SPACE)
        assert measured.possible(device_id)
        first = measured.readings(goal, [one], 1)[0][0] + measured.readings(goal, [one], 2)[0][0]
    assert len(first) == 3 and {r.uncertainty for r in first} == {UNKNOWN}, "this agent does not tell its own"
    measured.keep(place, one, Latency.of(first))
    measured.keep(place, one, Latency.of(first))
    with context.sessions() as session:
        tasks = session.scalars(select(MeasurementTask)).all()
        (kept,) = session.scalars(select(NetworkMeasurement)).all()
        assert session.get(Artifact, sha256).kind == "onnx_model"
    assert [t.kind for t in tasks] == ["verify"] * 3
    assert kept.latency_ms == sorted(r.ms for r in first)[1] and (kept.source, kept.session) == (
        "verify",
        run.job_id,
    )

    taken_up = Verification(JobRun(context, run.job_id, 1), SPACE)
    assert taken_up.possible(device_id), "the agent was there when the job began"
    again = taken_up.readings(goal, [one], 1)[0][0] + taken_up.readings(goal, [one], 2)[0][0]
    assert again == first, "nothing is measured twice"
    other = Target(1, SPACE, (place,))
    assert taken_up.readings(other, [one], 3)[0][0] == first, (
        "nor for another target that chooses the same network"
    )


def test_an_agent_that_has_left_is_waited_for_once_and_not_for_each_network(context, run):
    device_id = register(context, "dev")
    with SimulatedAgent(context, [device_id]):
        verification = Verification(run, SPACE)
        assert verification.possible(device_id)
    hurried = replace(context, settings=context.settings.model_copy(update={"verify_timeout_s": 1.0}))
    verification.run = JobRun(hurried, run.job_id, run.attempt)
    sha256, _ = context.store.put(b"a network")
    place = replace(priced_at(0.12, pricing(), measured=True), device_id=device_id)
    networks = [OnFile(SPACE.smallest(8), DeliveredFile(sha256, 9, 20, 1, 1, 1e-6, (1, 1, 8, 8)))] * 4
    begun = time.monotonic()
    assert verification.readings(Target(0, SPACE, (place,)), networks, 2) == [[[]]] * 4
    assert time.monotonic() - begun < 4, "once a second, not eight times"
    with context.sessions() as session:
        assert {t.state for t in session.scalars(select(MeasurementTask))} == {"dropped"}, "nobody waits now"
    reasons = [e["reason"] for e in events_of(context, run) if e["kind"] == "not_verified"]
    assert set(reasons) == {"its agent did not answer in time"}


@pytest.mark.parametrize(("told", "used"), [(None, UNKNOWN), (0.0, LEAST_UNCERTAINTY), (0.03, 0.03)])
def test_a_reading_is_as_sure_as_its_agent_says_but_not_surer_than_devices_repeat(told, used):
    reading = reading_of(Measurement(0.2, undisturbed_ms=0.1, uncertainty=told))
    assert (reading.ms, reading.uncertainty) == (0.1, used)


SLOW = {
    "median_ms": 0.2,
    "undisturbed_ms": 0.16,
    "p95_ms": 0.3,
    "sentinel_ms": 0.016,
    "sentinel_error": 0.004,
}


@pytest.mark.parametrize(
    ("told", "factor"),
    [
        pytest.param({"reference_ms": 0.010}, 1 / 1.6, id="a neighbour stayed for the whole session"),
        pytest.param({"reference_ms": 0.0159}, 1.0, id="within the noise of the sentinel"),
        pytest.param({"reference_ms": None}, 1.0, id="an agent that tells no reference"),
        pytest.param({"reference_ms": 0.010, "sentinel_error": None}, 1.0, id="one copy of the sentinel"),
        pytest.param({"reference_ms": 0.010, "flags": ["throttled"]}, 1.0, id="slowed down for good"),
    ],
)
def test_a_reading_of_a_slow_session_is_brought_to_the_fastest_sentinel_ever_seen(told, factor):
    answer, applied = undisturbed({**SLOW, "uncertainty": 0.003, **told})
    assert applied == pytest.approx(factor) and answer.latency_ms == pytest.approx(0.16 * factor)
    reading = reading_of(answer)
    assert (reading.uncertainty > LEAST_UNCERTAINTY) == (factor < 1), (
        "what it was brought by has an error too"
    )


def test_a_delivered_network_is_not_found_slow_because_its_session_was(context, run):
    device_id = register(context, "dev")
    sha256, _ = context.store.put(b"a network")
    place = replace(priced_at(0.3, pricing(), measured=True), device_id=device_id)
    one = OnFile(SPACE.smallest(8), DeliveredFile(sha256, 9, 20, 1, 1, 1e-6, (1, 1, 8, 8)))
    with SimulatedAgent(context, [device_id]) as agent:
        agent.told = {"sentinel_ms": 0.016, "sentinel_error": 0.003, "reference_ms": 0.01}
        ((slow,),) = Verification(run, SPACE).readings(Target(0, SPACE, (place,)), [one], 1)
        agent.told = {}
        other = Verification(new_run(context), SPACE)
        ((quiet,),) = other.readings(Target(0, SPACE, (place,)), [one], 1)
    assert slow[0].ms == pytest.approx(quiet[0].ms / 1.6, rel=0.1)
    (said,) = [e for e in events_of(context, run) if e["kind"] == "slow_session"]
    assert said["device"] == "dev" and said["factor"] == pytest.approx(1 / 1.6, abs=1e-3)


def test_verification_that_was_not_asked_for_is_not_done(run):
    assert not Verification(run, SPACE, wanted=False).possible("dev_1")
