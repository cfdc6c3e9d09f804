"""Networks of a search measured on their devices: tasks for the device's agent, and what it answered.

The n-th reading of a file on a device is the job's n-th task for it, so a job that is taken up again reads
what was measured before, and two targets that choose one network share its readings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from latency_tables.inputs import InputSpec
from latency_tables.measurement import Measurement
from service.db import measurements as measurement_rows
from service.db import tasks as task_rows
from service.db.artifacts import register
from service.db.documents import Document
from service.db.session import Session
from service.db.states import ArtifactKind, TaskKind
from service.db.tasks import Wanted
from supernets.search.measured import UNKNOWN, Choice, Latency, Reading
from supernets.search.targets import Gauge, OnDevice, Target
from supernets.spaces.architecture import Architecture
from supernets.spaces.space import Space
from worker.compute.requests import DeliveredFile
from worker.context import JobRun
from worker.measuring import agent_is_present, ask, undisturbed, wait_for

LEAST_UNCERTAINTY: Final = 0.005
"""Two halves of a measurement may agree by chance; between sessions no device repeats better than this."""


TAIL_UNCERTAINTY: Final = 0.05
"""Of a p95: agents tell how well the undisturbed latency repeats, and a tail repeats less well."""


@dataclass(frozen=True)
class OnFile:
    """A network as a file."""

    architecture: Architecture
    file: DeliveredFile


def inputs_of(file: DeliveredFile) -> tuple[InputSpec, ...]:
    """What a delivered file is fed with; steps of earlier versions remembered a shape alone."""
    return file.inputs or (InputSpec("input", file.input_shape),)


@dataclass
class Verification:
    """The measurements of one job. space: of its supernet; wanted: whether candidates are to be measured."""

    run: JobRun
    space: Space
    wanted: bool = True
    _used: Counter[tuple[int, str, str]] = field(default_factory=Counter)
    _answers: dict[tuple[str, str], list[Measurement]] = field(default_factory=dict)

    def possible(self, device_id: str) -> bool:
        """Whether candidates are measured on that device: it was asked for, and an agent is there or was when
        this job began."""
        if not self.wanted:
            return False
        if self.run.context.transaction(
            lambda session: bool(task_rows.verifying(session, self.run.job_id, device_id))
        ):
            return True
        return agent_is_present(self.run, device_id)

    def look_for_agents(self, targets: Sequence[Target]) -> None:
        """Note which devices measure candidates; the others' budgets are held against the bound."""
        places = [place for target in targets for place in target.places]
        # Asked once a device, so that two targets never disagree about it.
        there = {device_id: self.possible(device_id) for device_id in {p.device_id for p in places}}
        for place in places:
            place.measured = there[place.device_id]
            if not place.measured:
                place.hold_by_bound()
            if place.by_prediction:
                said = {"device": place.device, "budget_ms": place.budget_ms}
                self.run.event("held_by_prediction", said)
        for target in targets:
            budgets = tuple(gauge.budget for gauge in target.gauges)
            target.aim(Choice[str](budgets, (1.0,) * len(budgets)).limits_ms())
        for device in sorted({place.device for place in places if not place.measured}) if self.wanted else ():
            self.run.event("not_verified", {"device": device, "reason": "no agent is running on it"})

    def readings(self, target: Target, networks: Sequence[OnFile], times: int) -> list[list[list[Reading]]]:
        """Further readings of each network by each gauge of the target; fewer where an agent does not
        answer."""
        found: list[list[list[Reading]]] = [[] for _ in networks]
        for place in target.measured:
            gauges = [gauge for gauge in target.gauges if gauge.place is place]
            for one, answers in zip(found, self._on(target.index, place, networks, times), strict=True):
                one.extend(
                    [r for answer in answers if (r := reading_by(gauge, answer)) is not None]
                    for gauge in gauges
                )
                if answers and not all(one[-len(gauges) :]):
                    reason = "its agent tells no p95_ms, so that limit cannot be measured: update the agent"
                    self.run.event("not_verified", {"device": place.device, "reason": reason})
        return found

    def typical(self, device_id: str, sha256: str) -> Measurement | None:
        """The median of a file's measurements on a device, by their latency; None where it was not
        measured."""
        # A measurement that was made, not a mean of several: its percentiles belong together.
        answers = sorted(self._answers.get((device_id, sha256), []), key=lambda m: m.latency_ms)
        return answers[(len(answers) - 1) // 2] if answers else None

    def _on(
        self, index: int, place: OnDevice, networks: Sequence[OnFile], times: int
    ) -> list[list[Measurement]]:
        asked = [self._asked(index, place, network, times) for network in networks]
        self.run.progress(
            "verify", 0.0, f"measuring {len(networks)} network(s) on {place.device}", always=True
        )
        results = iter(
            wait_for(
                self.run,
                [task for tasks in asked for task in tasks],
                self.run.context.settings.verify_timeout_s,
            )
        )
        found = []
        for network, tasks in zip(networks, asked, strict=True):
            waited = [next(results) for _ in tasks]
            # As the rows of the table were: else a network is called slow because its session was.
            found_fast = [undisturbed(answer) for answer in waited if answer is not None]
            answers = [measurement for measurement, _ in found_fast]
            if found_fast and (factor := min(f for _, f in found_fast)) < 1:
                self.run.event("slow_session", {"device": place.device, "factor": round(factor, 3)})
            if len(answers) < len(tasks):
                failed = self.run.context.transaction(partial(task_rows.failures_of, task_ids=tasks))
                reason = next(
                    (f"it cannot run the network: {why}" for why in failed.values()),
                    "its agent did not answer in time",
                )
                self.run.event("not_verified", {"device": place.device, "reason": reason})
            key = (place.device_id, network.file.to_measure[0])
            self._answers.setdefault(key, []).extend(answers)
            found.append(answers)
        return found

    def _asked(self, index: int, place: OnDevice, network: OnFile, times: int) -> list[str]:
        """The next tasks of a file on a device, written where an earlier attempt or another target did
        not."""
        sha256, size_bytes = network.file.to_measure
        key = (index, place.device_id, sha256)
        # Counted by target: two that choose one network share its readings instead of asking twice as many.
        first = self._used[key]
        self._used[key] += times
        known = self.run.context.transaction(
            lambda session: task_rows.verifying(session, self.run.job_id, place.device_id, sha256)
        )
        known = known[first : first + times]
        # An earlier attempt of this job asked for them already, and may have the answers.
        if len(known) == times:
            return known
        self.run.write(lambda session: register(session, sha256, size_bytes, ArtifactKind.ONNX_MODEL))
        wanted = Wanted(
            TaskKind.VERIFY,
            sha256,
            size_bytes,
            inputs_of(network.file),
            space=self.space.name,
            architecture=self.space.to_json(network.architecture),
        )
        return known + ask(self.run, place.device_id, [wanted] * (times - len(known)))

    def keep(self, place: OnDevice, network: OnFile, latency: Latency) -> None:
        """A measured network is a whole network of the device: the calibrations of later jobs know it. Once
        for each job."""
        measurement = self.typical(place.device_id, network.file.to_measure[0])
        if measurement is not None:
            self.run.write(lambda session: self._write(session, place, network, measurement, latency))

    def _write(
        self, session: Session, place: OnDevice, network: OnFile, measurement: Measurement, latency: Latency
    ) -> None:
        run = self.run
        measurement_rows.keep_once(
            session, run.tenant_id, place.device_id, run.job_id, self.space, network.architecture, measurement
        )
        said: Document = {
            "device": place.device,
            "measured_ms": latency.ms,
            "readings": latency.readings,
            "uncertainty": latency.uncertainty,
            "budget_ms": place.budget_ms,
        }
        run.record(session, "measured", said)


def reading_by(gauge: Gauge, answer: Measurement) -> Reading | None:
    """What an answer says of one limit; None where its agent does not tell."""
    if gauge.further is None:
        return reading_of(answer)
    value = gauge.read(answer)
    return None if value is None else Reading(value, max(TAIL_UNCERTAINTY, answer.uncertainty or UNKNOWN))


def reading_of(answer: Measurement) -> Reading:
    """What an answer says about the undisturbed device, with its own uncertainty where the agent tells
    one."""
    told = UNKNOWN if answer.uncertainty is None else max(answer.uncertainty, LEAST_UNCERTAINTY)
    return Reading(answer.latency_ms, told)
