"""F4: a device session that dies after every operator k in turn ends with one complete table; none is
published before.

The agent's loop, the service and the profile job are the real ones, in one process; only the latencies are
made up.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

import worker.measuring
from latency_tables.agent.client import Client
from latency_tables.agent.loop import Agent, Options
from latency_tables.agent.runtimes.probe import found
from latency_tables.agent.runtimes.setup import Setup
from latency_tables.agent.state import StateFolder
from latency_tables.inputs import InputSpec
from latency_tables.measurement import Measurement
from latency_tables.measuring.profiling import Reading
from latency_tables.operators import Operator
from service.db.models import AgentPost, Job, MeasurementTask
from service.db.states import JobState
from service.db.tasks import Wanted
from service.db.transitions import move
from service.jobs.queue import JobQueue
from service.settings import Settings
from supernets.spaces.lowering import all_operators
from tests.latency_tables.agent.networks import convolution
from tests.service.api import SPACE, Api, is_problem, open_api
from worker.context import JobRun, WorkerContext
from worker.errors import JobCancelled
from worker.measuring import ask
from worker.pipelines.profile import profile

SERVER = "http://127.0.0.1:8000"
RESOLUTION = 8
INPUTS = (InputSpec("x", (1, 3, 8, 8)),)
OPERATORS = sorted(all_operators(SPACE, RESOLUTION))
GRAPH = convolution()


class Killed(BaseException):
    """kill -9, as far as Python can tell."""


def latency_ms(operator: Operator) -> float:
    return 0.002 + operator.macs * 1e-7


def reading(operator: Operator) -> Reading:
    t = latency_ms(operator)
    return Reading(Measurement(t, t * 0.97, t * 0.02, 15), 0.01)


class Line(httpx.BaseTransport):
    """The way to the service. With `deadly` = k the agent dies after the service took post k and before it is
    told so."""

    def __init__(self, api: Api, deadly: int | None) -> None:
        self._inner, self._deadly, self._posts = api.client, deadly, 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        # Message by message: where Starlette finds httpx2 its test client is one of that, not of the agent's httpx.
        told = self._inner.request(
            request.method, str(request.url), content=request.read(), headers=dict(request.headers)
        )
        headers = {
            k: v for k, v in told.headers.items() if k != "content-encoding"
        }  # the content is unpacked
        answer = httpx.Response(told.status_code, headers=headers, content=told.content)
        self._posts += request.url.path.endswith("/measurements")
        if self._posts == self._deadly:
            raise Killed
        return answer


class Device:
    """A device with a running profile job, and the lives of its agent."""

    def __init__(self, api: Api, name: str, folder: Path) -> None:
        self.api, self.name, self.folder = api, name, folder
        body = {"name": name, "description": "", "context": found(Setup()).context.as_dict()}
        assert api.post("/v1/devices", body).status_code == 201
        wish = {"space": SPACE.name, "dataset": "digits", "resolutions": [RESOLUTION], "networks": 0}
        self.job_id = str(api.post(f"/v1/devices/{name}/profiles", wish).json()["id"])

    def order(self, run: JobRun) -> dict[str, Operator]:
        """Tasks for every operator, as the profile job writes them when it has exported; all share one small
        file."""
        sha256, size_bytes = self.api.services.store.put(GRAPH)
        wanted = [Wanted("operator", sha256, size_bytes, INPUTS, op.text) for op in OPERATORS]
        sentinel = Wanted("sentinel", sha256, size_bytes, INPUTS, OPERATORS[0].text)
        ids = ask(run, run.request["device_id"], [sentinel, *wanted])
        return dict(zip(ids[1:], OPERATORS, strict=True))

    def live(
        self,
        tasks: dict[str, Operator],
        measured: list[str],
        die_after: int | None = None,
        deadly: int | None = None,
    ) -> None:
        """One life of the agent, operator by operator; it dies while it measures the next after `die_after`
        of them."""

        def measure(job, progress):
            (task,) = set(job.networks) - {"sentinel"}
            if len(measured) == die_after:
                raise Killed
            measured.append(task)
            return {task: reading(tasks[task]), "sentinel": reading(OPERATORS[0])}

        token = self.api.post(f"/v1/devices/{self.name}/enrolments").json()["token"]
        client = Client(SERVER, transport=Line(self.api, deadly), patience_s=0)
        agent = Agent(client, StateFolder(self.folder), Options(group=1), measure=measure)
        agent.start(SERVER, token)  # the token counts in the first life only
        agent.run(once=True)

    def nothing_published(self) -> None:
        assert self.api.get(f"/v1/devices/{self.name}").json()["tables"] == []
        assert self.api.get(f"/v1/jobs/{self.job_id}").json()["state"] == "running"


@pytest.fixture
def api(tmp_path: Path, migrated_sqlite: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setattr(worker.measuring, "POLL_S", 0.05)
    with open_api(
        Settings(
            data_dir=tmp_path / "data", database_url=migrated_sqlite, log_level="error", rate_burst=10**6
        )
    ) as made:
        yield made


@pytest.fixture
def workplace(api: Api) -> Iterator[WorkerContext]:
    queue = JobQueue(api.settings.resolved_database_url)
    yield WorkerContext(api.settings, "one", api.services.sessions, api.services.store, queue._client)
    queue.close()


def begun(workplace: WorkerContext, job_id: str) -> JobRun:
    """The job as a worker has it that took it."""
    values = {"attempts": 1, "worker_id": "one"}
    workplace.transaction(
        lambda s: move(s, job_id, JobState.RUNNING, from_states=(JobState.QUEUED,), values=values)
    )
    return JobRun(workplace, job_id, 1)


@contextmanager
def profiling(run: JobRun) -> Iterator[Future[dict[str, Any]]]:
    """The profile job beside the lives of its agent."""
    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(profile, run)
        except BaseException:
            run.context.stopping.set()  # else the job would wait for its agent, and the pool for the job
            raise


def killed_after(k: int, api: Api, workplace: WorkerContext, folder: Path, *, untold: bool) -> None:
    device = Device(api, f"board-{k}{'-untold' if untold else ''}", folder)
    run = begun(workplace, device.job_id)
    tasks = device.order(run)
    with profiling(run) as job:
        first: list[str] = []
        with pytest.raises(Killed):
            device.live(tasks, first, deadly=k) if untold else device.live(tasks, first, die_after=k)
        if k < len(tasks):
            device.nothing_published()
        second: list[str] = []
        device.live(tasks, second)
        result = job.result(60)
    assert len(first) == k and sorted(first + second) == sorted(tasks), "each operator was measured once"
    assert result["rows"] == len(OPERATORS) and result["state"] == "ready"
    (table,) = api.get(f"/v1/devices/{device.name}").json()["tables"]
    rows = api.get(f"/v1/devices/{device.name}/tables/{table['id']}").json()["rows"]
    assert {r["operator"]: r["median_ms"] for r in rows} == {
        op.text: pytest.approx(latency_ms(op)) for op in OPERATORS
    }
    with api.services.sessions() as session:
        answered = select(MeasurementTask.session_id).where(MeasurementTask.job_id == device.job_id)
        (session_id,) = set(session.scalars(answered)) - {None}
        posts = session.scalars(select(AgentPost).where(AgentPost.session_id == session_id)).all()
        assert sum(p.answer["accepted"] for p in posts) == len(OPERATORS)
        job_row = session.get(Job, device.job_id)
        assert job_row is not None and job_row.attempts == 1


@pytest.mark.parametrize("k", [1, 2, len(OPERATORS) // 2, len(OPERATORS) - 1])
def test_f4_killed_after_some_operators(api: Api, workplace: WorkerContext, tmp_path: Path, k: int) -> None:
    """The short form."""
    killed_after(k, api, workplace, tmp_path / "agent", untold=k % 2 == 0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("untold", [False, True])
def test_f4_killed_after_every_operator_in_turn(
    api: Api, workplace: WorkerContext, tmp_path: Path, untold: bool
) -> None:
    for k in range(1 if untold else 0, len(OPERATORS) + untold):
        killed_after(k, api, workplace, tmp_path / f"agent-{k}", untold=untold)


def test_f4_an_agent_that_never_comes_back_leaves_no_table(
    api: Api, workplace: WorkerContext, tmp_path: Path
) -> None:
    device = Device(api, "board", tmp_path / "agent")
    run = begun(workplace, device.job_id)
    tasks = device.order(run)
    with profiling(run) as job:
        with pytest.raises(Killed):
            device.live(tasks, [], die_after=len(tasks) - 1)
        device.nothing_published()
        assert api.post(f"/v1/jobs/{device.job_id}/cancel").status_code in (200, 202)
        assert isinstance(job.exception(60), JobCancelled)
    assert api.get("/v1/devices/board").json()["tables"] == []
    supernet = api.add_supernet()
    is_problem(api.get(f"/v1/supernets/{supernet}/front?device=board"), 409, 422)
