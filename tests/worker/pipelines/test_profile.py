"""A profile on a device that cannot run everything: it ends, says what, and the table is true as far as it goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from latency_tables.table import LatencyTable
from service.db import tables
from service.db.models import MeasurementTask
from service.devices.covering import no_table
from service.jobs.requests import CheckRequest, ProfileRequest, stored
from supernets.spaces.catalog import space_named
from tests.worker.runs import events_of, new_run
from tests.worker.simulated_agent import SimulatedAgent, register
from worker.context import WorkerContext
from worker.errors import NothingMeasured
from worker.pipelines.check import check
from worker.pipelines.profile import profile
from worker.problems import problem_of

SPACE = space_named("digits-mbv3").at([8])


def unable_to(word: str) -> Callable[[MeasurementTask], bool]:
    return lambda task: task.kind == "operator" and word in (task.operator or "")


def profiled(context: WorkerContext, cannot: Callable[[MeasurementTask], bool]) -> tuple[Any, dict[str, Any]]:
    device_id = register(context, "dev")
    request = ProfileRequest(device_id, "dev", SPACE.name, SPACE.classes, (8,), networks=6)
    run = new_run(context, "profile", stored(request))
    with SimulatedAgent(context, [device_id]) as agent:
        agent.cannot = cannot
        return run, profile(run)


def table_of(context: WorkerContext, table_id: str) -> LatencyTable:
    with context.sessions() as session:
        return tables.load(session, table_id)


def test_what_cannot_be_run_is_said_and_the_rest_is_a_table(context: WorkerContext) -> None:
    run, result = profiled(context, unable_to("kernel=5"))
    unable = {one["operator"] for one in result["cannot_run"]}
    assert unable and all("kernel=5" in name for name in unable)
    assert {one["reason"] for one in result["cannot_run"]} == {"unsupported reorder case"}
    rows = {op.text for op in table_of(context, result["table_id"]).rows}
    assert rows and not rows & unable and result["rows"] == len(rows)
    assert [e["cannot_run"] for e in events_of(context, run) if e["kind"] == "published"] == [
        result["cannot_run"]
    ]
    refused = no_table(SPACE, table_of(context, result["table_id"]))
    assert set(refused.operators) == unable and "--exclude-missing" in str(refused)


def test_a_device_that_runs_everything_is_said_nothing_of(context: WorkerContext) -> None:
    assert "cannot_run" not in profiled(context, lambda task: False)[1]


def test_a_device_that_runs_nothing_ends_its_job_with_why(context: WorkerContext) -> None:
    with pytest.raises(NothingMeasured, match="none of the .* unsupported reorder case") as caught:
        profiled(context, lambda task: task.kind != "sentinel")
    assert problem_of(caught.value)["status"] == 422
    assert problem_of(caught.value)["type"].endswith("nothing_measured")


def test_a_check_leaves_out_what_cannot_be_run_any_more(context: WorkerContext) -> None:
    profiled(context, lambda task: False)
    with context.sessions() as session:
        (device_id,) = {t.device_id for t in session.query(MeasurementTask)}
    request = stored(CheckRequest(device_id, "dev", operators=20))
    with SimulatedAgent(context, [device_id]) as agent:
        agent.cannot = unable_to("kernel=3")
        found = check(new_run(context, "check", request))
        assert 0 < found["operators"] < 20 and found["holds"]
        assert all("kernel=3" in one["operator"] for one in found["cannot_run"])
        agent.cannot = lambda task: task.kind != "sentinel"
        with pytest.raises(NothingMeasured):
            check(new_run(context, "check", request))
