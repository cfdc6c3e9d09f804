"""What a check job measures again, and what it keeps of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from latency_tables.measurement import Measurement
from service.db import devices, measurements
from service.db.models import Device, MeasurementTask, NetworkMeasurement
from supernets.spaces.catalog import space_named
from tests.worker.simulated_agent import CONTEXT
from worker.context import WorkerContext
from worker.pipelines.check import _keep, _networks

SPACE = space_named("cifar-mbv3").with_classes(62)


def tasks_of(networks: list[Any], old_form: bool = False) -> list[MeasurementTask]:
    """The answered tasks of a job, as `network_tasks` asks for them; old_form: as before an architecture said
    its classes."""
    described = [SPACE.to_json(a) for a in networks]
    if old_form:
        described = [{name: value for name, value in d.items() if name != "classes"} for d in described]
    result = {"median_ms": 2.0, "lower_quartile_ms": None, "mad_ms": None, "count": None}
    return [
        MeasurementTask(job_id="job_1", space=SPACE.name, architecture=d, result=result) for d in described
    ]


@pytest.mark.parametrize("old_form", [False, True])
def test_networks_measured_again_are_kept_under_the_classes_they_were_exported_with(
    context: WorkerContext, old_form: bool
) -> None:
    """Ten classes are the default of the space: kept as such, a check would spoil another calibration and
    never reach its own."""
    generator = np.random.default_rng(0)
    with context.sessions.begin() as session:
        device: Device = devices.add(session, "ten_1", "board", "", CONTEXT)
        for architecture in SPACE.sample(generator, 6):
            measurements.add(session, device, SPACE, architecture, Measurement(1.0), "agent", "profile")
        space, networks = _networks(session, device, generator)
        assert space == SPACE and len(networks) == 4
        _keep(session, device, tasks_of(networks, old_form))
    with context.sessions() as session:
        rows = session.scalars(select(NetworkMeasurement).where(NetworkMeasurement.session == "job_1")).all()
        before = session.scalars(
            select(NetworkMeasurement.architecture_digest).where(NetworkMeasurement.session == "profile")
        )
        assert {row.classes for row in rows} == {62}
        assert len(rows) == 4 and {row.architecture_digest for row in rows} <= set(before)


def test_nothing_is_measured_again_where_nothing_was_measured(context: WorkerContext) -> None:
    with context.sessions.begin() as session:
        device = devices.add(session, "ten_1", "board", "", CONTEXT)
        assert _networks(session, device, np.random.default_rng(0)) == (None, [])
        _keep(session, device, [])
        assert measurements.spaces_measured(session, device.id) == []
