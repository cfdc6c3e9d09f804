"""The agent against the service's side of the protocol: cut off, killed, deceived, and always one complete
set of answers."""

import hashlib
import json
import os
import stat
from dataclasses import replace

import httpx
import numpy as np
import pytest

from latency_tables.agent import environment
from latency_tables.agent.client import Client
from latency_tables.agent.errors import (
    AgentError,
    BusyDevice,
    DeviceChanged,
    HostileServer,
    MeasuringFailed,
    Refused,
    RefusedGraph,
    SessionClosed,
    Unreachable,
    UnusableRuntime,
)
from latency_tables.agent.loop import ALONE_TRIES, RETRY_S, Agent, Options
from latency_tables.agent.protocol import FIRST_FIELDS, File, Task
from latency_tables.agent.runner import measure_in_child
from latency_tables.agent.runtimes.probe import Found
from latency_tables.agent.runtimes.setup import Setup
from latency_tables.agent.state import StateFolder
from latency_tables.measuring.profiling import Settings, measure
from latency_tables.measuring.speed import MOST_LOAD
from tests.latency_tables.agent.fake_service import FakeService, problem
from tests.latency_tables.agent.networks import convolution, hard_sigmoid_in_double
from tests.latency_tables.simulated_device import SimulatedDevice

SERVER = "http://service.example"
FILES = [convolution(channels=4 + i, seed=i) for i in range(7)]


class Killed(BaseException):
    """kill -9, as far as Python can tell."""


def simulated(job, progress):
    """Latency of a file is its size in microseconds; measured by the real protocol on a virtual clock."""
    device = SimulatedDevice(
        {name: n.path.stat().st_size / 1000 for name, n in job.networks.items()}, noise=0.01
    )
    return measure(
        device.runners(),
        Settings(rounds=8, least_s=0.0),
        device.clock,
        np.random.default_rng(job.seed),
        job.sentinel,
        job.reference_ms,
        progress,
    )


class Life:
    """One life of an agent process on a state folder that outlives it."""

    def __init__(
        self, service, path, measure=simulated, group=2, see=environment.environment, patience_s=None
    ):
        self.reports, self.slept = [], []
        self.client = Client(
            SERVER, patience_s=patience_s, transport=service.transport, sleep=self.slept.append
        )
        self.folder = StateFolder(path)
        self.agent = Agent(
            self.client,
            self.folder,
            Options(group=group),
            self.reports.append,
            measure,
            see,
            sleep=self.slept.append,
        )

    def run(self, token=None):
        self.agent.start(SERVER, token)
        return self.agent.run(once=True)


def complete(service):
    truth = {t["id"]: t["size_bytes"] / 1000 for t in service.tasks.values()}
    assert set(service.answers) == set(truth)
    assert all(abs(service.answers[i]["median_ms"] / truth[i] - 1) < 0.05 for i in truth)
    numbers = sorted(sequence for _, sequence in service.posts)
    assert numbers == sorted(set(numbers))
    return True


def test_a_whole_session(tmp_path):
    service = FakeService(FILES)
    life = Life(service, tmp_path)
    assert life.run("token-1") == len(FILES)
    assert complete(service) and len(service.posts) == 4
    body = service.enrolled[0]
    assert body["context"]["threads"] == 1 and body["environment"]["versions"]["onnxruntime"]
    assert all(
        post["fingerprint"] == environment.fingerprint(body["environment"]) for post in service.posts.values()
    )
    assert all(item["sentinel_ms"] > 0 and item["count"] >= 10 for item in service.answers.values())
    assert any("s left" in line for line in life.reports)


def test_state_is_private_and_files_do_not_pile_up(tmp_path):
    service = FakeService(FILES)
    Life(service, tmp_path / "state").run("token-1")
    assert stat.S_IMODE(os.stat(tmp_path / "state").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(tmp_path / "state" / "state.json").st_mode) == 0o600
    assert list((tmp_path / "state" / "files").iterdir()) == []


def die_at(n):
    calls = iter(range(n + 1))

    def fault(request):
        if next(calls, None) == n:
            raise Killed

    return fault


def test_f4_killed_at_every_request_in_turn_still_one_complete_table(tmp_path):
    """Every request of a session is once the place where the agent dies, before or after the service has
    acted on it."""
    total = len(_requests(tmp_path))
    for n in range(1, total):
        for after in (False, True):
            service = FakeService(FILES)
            strike = die_at(n)

            def fault(request, service=service, strike=strike, after=after):
                if after:
                    answer = service.route(request)
                    strike(request)
                    return answer
                return strike(request)

            service.fault = fault
            path = tmp_path / f"{n}-{after}"
            with pytest.raises(Killed):
                Life(service, path).run("token-1")
            service.fault = lambda request: None
            Life(service, path).run()
            assert complete(service)


def _requests(tmp_path):
    service = FakeService(FILES)
    Life(service, tmp_path / "dry").run("token-1")
    return service.received


@pytest.mark.parametrize("k", range(4))
def test_f4_killed_while_it_measures_group_k_resumes_at_the_first_unmeasured(tmp_path, k):
    service, calls = FakeService(FILES), []

    def dying(job, progress):
        calls.append(job)
        if len(calls) == k + 1:
            raise Killed
        return simulated(job, progress)

    with pytest.raises(Killed):
        Life(service, tmp_path, dying).run("token-1")
    assert len(service.answers) == 2 * k
    measured = []
    Life(
        service,
        tmp_path,
        lambda job, p: measured.extend(set(job.networks) - {"sentinel"}) or simulated(job, p),
    ).run()
    assert complete(service)
    assert sorted(measured) == [f"task-{i}" for i in range(2 * k, 7)]


def test_a_board_whose_clock_is_decades_behind_measures_like_any_other(tmp_path, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 946_684_800.0)
    monkeypatch.setattr("time.time_ns", lambda: 946_684_800 * 10**9)
    service = FakeService(FILES)
    assert Life(service, tmp_path).run("token-1") == len(FILES)
    assert complete(service)
    Life(service, tmp_path).run()  # and resumes, though by its clock the session ends in a far future


def test_survives_a_service_that_is_away(tmp_path):
    service = FakeService(FILES)
    generator = np.random.default_rng(0)

    def flaky(request):
        luck = generator.random()
        if luck < 0.3:
            raise httpx.ConnectError("refused")
        if luck < 0.4:
            service.route(request) if "measurements" in str(request.url) else None
            raise httpx.ReadTimeout("lost answer")
        return problem(503, "draining") if luck < 0.5 else None

    service.fault = flaky
    life = Life(service, tmp_path)
    life.run("token-1")
    assert complete(service)
    assert (
        life.slept and all(0 < pause <= 30 for pause in life.slept) and len(set(life.slept)) > 3
    )  # jittered


def test_patience_can_be_limited(tmp_path):
    service = FakeService(FILES, fault=lambda request: problem(503, "draining"))
    with pytest.raises(Unreachable):
        Life(service, tmp_path, patience_s=5).run("token-1")


def test_the_token_is_needed_once_and_only_once(tmp_path):
    service = FakeService(FILES)
    with pytest.raises(AgentError, match="--token"):
        Life(service, tmp_path / "a").run()
    Life(service, tmp_path / "a").run("token-1")
    with pytest.raises(Refused):
        Life(service, tmp_path / "b").run("token-1")


def test_state_of_another_service_or_rubbish_is_not_used(tmp_path):
    Life(FakeService(FILES), tmp_path).run("token-1")
    agent = Life(FakeService(FILES), tmp_path).agent
    with pytest.raises(AgentError, match="--state-dir"):
        agent.start("http://other.example", None)
    (tmp_path / "state.json").write_text('{"server": 1}')
    with pytest.raises(AgentError, match="enrol again"):
        agent.start(SERVER, None)


def test_one_agent_a_folder(tmp_path):
    with (
        StateFolder(tmp_path).held(),
        pytest.raises(AgentError, match="another agent"),
        StateFolder(tmp_path).held(),
    ):
        pass


def test_f5_a_closed_session_ends_and_is_forgotten(tmp_path):
    service = FakeService(FILES)
    life = Life(service, tmp_path)
    life.agent.start(SERVER, "token-1")
    service.closed = True
    with pytest.raises(SessionClosed):
        life.agent.run(once=True)
    assert life.folder.load() is None


def test_f5_results_of_reissued_tasks_are_dropped_and_measured_again(tmp_path):
    service = FakeService(FILES)

    def reissue(job, progress):
        if not service.answers and len(service.posts) == 0:
            for task in service.tasks.values():
                task["nonce"] = (
                    task["nonce"].replace("nonce", "again") if "again" not in task["nonce"] else task["nonce"]
                )
        return simulated(job, progress)

    Life(service, tmp_path, reissue).run("token-1")
    assert complete(service)
    assert all(item["nonce"].startswith("again") for item in service.answers.values())


def test_f6_tasks_withdrawn_while_they_were_measured_do_not_end_the_agent(tmp_path):
    service = FakeService(FILES)
    original = service.post

    def withdraw(body):
        if not service.answers and len(service.tasks) == 7:
            for task in ("task-0", "task-5"):
                del service.tasks[task]
        if any(item["task_id"] not in service.tasks for item in body["items"]):
            return problem(409, "wrong_task")
        return original(body)

    service.post = withdraw
    Life(service, tmp_path).run("token-1")
    assert complete(service) and len(service.answers) == 5


def strict_about(known):
    """A service that refuses results with other fields than these, as services of that time do."""

    def fault(request):
        if request.url.path != "/v1/agent/measurements":
            return None
        unknown = {name for item in json.loads(request.content)["items"] for name in item} - set(known)
        if not unknown:
            return None
        answer = problem(
            422, "validation", "1 thing(s) are wrong; first, /items/0: a field that is not known"
        )
        errors = [
            {"pointer": "/items/0", "code": "unknown_field", "detail": "a field that is not known here"}
        ]
        return httpx.Response(422, json={**answer.json(), "errors": errors})

    return fault


def test_a_service_that_is_older_than_the_agent_gets_what_it_knows(tmp_path):
    service = FakeService(FILES, fault=strict_about(FIRST_FIELDS))
    life = Life(service, tmp_path)
    life.run("token-1")
    assert complete(service)
    assert all(set(item) == set(FIRST_FIELDS) for item in service.answers.values())
    assert sum("older than the agent" in line for line in life.reports) == 1, "said once, not at every post"
    refused = [r for r in service.received if r == "POST /v1/agent/measurements"]
    assert len(refused) == len(service.posts) + 1, "only the first post was tried in the new form"


def test_a_service_that_does_not_even_know_the_first_fields_is_refused_with_its_words(tmp_path):
    service = FakeService(FILES, fault=strict_about(("task_id",)))
    with pytest.raises(Refused, match="a field that is not known"):
        Life(service, tmp_path).run("token-1")


def test_what_a_newer_service_tells_besides_does_not_stop_the_agent(tmp_path):
    service = FakeService(FILES)
    route = service.route

    def newer(request):
        answer = route(request)
        if answer.headers.get("content-type") != "application/json":
            return answer
        body = answer.json()
        for item in [body, *body.get("items", []), *filter(None, [body.get("sentinel")])]:
            item["told_by_a_later_version"] = {"priority": 3}
        return httpx.Response(answer.status_code, json=body)

    service.route = newer
    Life(service, tmp_path).run("token-1")
    assert complete(service)


def test_f10_a_changed_device_is_refused(tmp_path):
    service = FakeService(FILES)
    governor = ["performance"]

    def see(threads):
        return {**environment.environment(threads), "governor": governor[0]}

    def change(job, progress):
        governor[0] = "powersave"
        return simulated(job, progress)

    with pytest.raises(DeviceChanged):
        Life(service, tmp_path, change, see=see).run("token-1")
    assert not service.answers
    with pytest.raises(DeviceChanged):
        Life(service, tmp_path, see=see).run()
    governor[0] = "performance"
    Life(service, tmp_path, see=see).run()
    assert complete(service)


def test_f10_load_is_recorded_and_above_a_limit_the_token_is_not_spent(tmp_path):
    service, load = FakeService(FILES), [9.0]

    def see(threads):
        return {**environment.environment(threads), "load": load[0]}

    agent = Agent(
        Life(service, tmp_path).client,
        StateFolder(tmp_path),
        Options(most_load=MOST_LOAD),
        measure=simulated,
        see=see,
    )
    with pytest.raises(BusyDevice, match="9.0 runnable"):
        agent.start(SERVER, "token-1")
    assert not service.received
    load[0] = 0.5
    agent.start(SERVER, "token-1")
    assert service.enrolled[0]["environment"]["load"] == 0.5
    load[0] = 9.0
    with pytest.raises(BusyDevice):  # a restart begins to measure too
        agent.start(SERVER, None)
    load[0] = None  # a system that does not tell
    agent.start(SERVER, None)
    assert agent.run(once=True) == len(FILES) and complete(service)


def test_load_may_change_the_fingerprint_may_not():
    seen = environment.environment(1)
    assert environment.fingerprint(seen) == environment.fingerprint({**seen, "load": 9.0, "memory_mib": 1})
    assert environment.fingerprint(seen) != environment.fingerprint({**seen, "threads": 2})


def test_a_network_that_cannot_run_is_found_by_halving_and_the_others_are_answered(tmp_path):
    service = FakeService(FILES)

    def failing(job, progress):
        if "task-3" in job.networks:
            raise MeasuringFailed("out of memory")
        return simulated(job, progress)

    life = Life(service, tmp_path, failing, group=128)
    with pytest.raises(MeasuringFailed, match="1 network.*out of memory"):
        life.run("token-1")
    assert sorted(service.answers) == [f"task-{i}" for i in range(7) if i != 3]
    assert service.failures == {"task-3": "out of memory"}
    assert life.slept.count(RETRY_S) == ALONE_TRIES - 1, "a neighbour may have had the memory"


def test_a_network_that_failed_beside_a_neighbour_is_measured_when_tried_again(tmp_path):
    service, failed = FakeService(FILES), []

    def failing_once(job, progress):
        if "task-3" in job.networks and len(failed) < 4:  # in 7, in 4, in 2, and once alone
            failed.append(len(job.networks))
            raise MeasuringFailed("out of memory")
        return simulated(job, progress)

    Life(service, tmp_path, failing_once, group=128).run("token-1")
    assert complete(service) and not service.failures and len(failed) == 4
    assert service.answers["task-3"]["sentinel_ms"] > 0


def test_where_the_sentinel_cannot_run_networks_are_measured_without(tmp_path):
    service = FakeService(FILES)

    def failing(job, progress):
        if job.sentinel is not None:
            raise MeasuringFailed("unsupported reorder")
        return simulated(job, progress)

    life = Life(service, tmp_path, failing, group=128)
    life.run("token-1")
    assert complete(service) and not service.failures
    assert all(item["sentinel_ms"] is None for item in service.answers.values())
    assert sum("going on without" in line for line in life.reports) == 1


def test_the_runtime_itself_says_what_it_has_no_kernel_for(tmp_path):
    service = FakeService([FILES[0], hard_sigmoid_in_double(), FILES[1]], shape=(1, 3, 8, 8))
    with pytest.raises(MeasuringFailed, match="1 network"):
        Life(service, tmp_path, measure_in_child, group=128).run("token-1")
    assert sorted(service.answers) == ["task-0", "task-2"]
    assert "HardSigmoid" in service.failures["task-1"] and "\n" not in service.failures["task-1"]


@pytest.mark.parametrize("known", [None, FIRST_FIELDS])
@pytest.mark.parametrize("at_fault", ["task-0", "task-6"])
def test_an_older_service_is_told_nothing_of_networks_that_cannot_run(tmp_path, known, at_fault):
    """The first as well as the last: the service is known to be older by then, or is not yet."""

    def fault(request):
        if request.url.path != "/v1/agent/measurements":
            return None
        body = json.loads(request.content)
        if "failures" in body:
            told = {"pointer": "/failures", "code": "unknown_field", "detail": "a field that is not known"}
            return httpx.Response(422, json={**problem(422, "validation").json(), "errors": [told]})
        if not body["items"]:
            return problem(422, "validation")
        return strict_about(known)(request) if known else None

    def failing(job, progress):
        if at_fault in job.networks:
            raise MeasuringFailed("out of memory")
        return simulated(job, progress)

    service = FakeService(FILES, fault=fault)
    with pytest.raises(MeasuringFailed, match="1 network"):
        Life(service, tmp_path, failing).run("token-1")
    assert sorted(service.answers) == [f"task-{i}" for i in range(7) if f"task-{i}" != at_fault]
    if known is None:
        assert all(item["undisturbed_ms"] for item in service.answers.values()), "all else as before"


def test_it_stays_alive_while_it_measures(tmp_path):
    service = FakeService(FILES[:1])
    ticks = iter(range(0, 10_000, 6))
    life = Life(service, tmp_path)
    life.agent._now = lambda: next(ticks)
    life.run("token-1")
    assert service.heartbeats > 5


def test_operators_and_networks_are_measured_together_beside_the_sentinel(tmp_path):
    service = FakeService(
        FILES, kinds=["operator", "network", "operator", "network", "operator", "verify", "verify"]
    )
    groups = []
    life = Life(
        service,
        tmp_path,
        lambda job, p: groups.append((len(job.networks), job.sentinel)) or simulated(job, p),
        group=100,
    )
    life.run("token-1")
    assert groups == [(8, "sentinel")]
    for answer in service.answers.values():
        assert answer["reference_ms"] == pytest.approx(
            answer["sentinel_ms"]
        )  # the first session knows no faster one
        assert answer["measuring_s"] >= 0 and answer["transfer_s"] >= 0


def test_a_job_without_a_sentinel_is_watched_by_the_one_that_is_known(tmp_path):
    """A delivered network is verified beside the profile's sentinel, and its fastest reading is what
    undisturbed means."""
    service, jobs = FakeService(FILES, kinds=["operator"] * 6 + ["verify"]), []
    held = service.tasks.pop("task-6")
    life = Life(service, tmp_path, lambda job, p: jobs.append(job) or simulated(job, p), group=100)
    plan = life.client.plan

    def later(limit):
        found = plan(limit)
        if not found.tasks and held["id"] not in service.tasks:
            service.tasks[held["id"]] = held
            return replace(plan(limit), sentinel=None)
        return replace(found, sentinel=None) if held["id"] in service.tasks else found

    life.client.plan = later
    life.run("token-1")
    assert [job.sentinel for job in jobs] == ["sentinel", "sentinel"]
    assert jobs[0].reference_ms is None and jobs[1].reference_ms == service.answers["task-0"]["sentinel_ms"]


@pytest.mark.parametrize(("memory_mib", "together"), [(8, 1), (16, 3), (10**6, 5)])
def test_a_session_holds_what_fits_into_an_eighth_of_the_memory(tmp_path, memory_mib, together):
    life = Life(
        FakeService(FILES),
        tmp_path,
        group=5,
        see=lambda threads: {**environment.environment(threads), "memory_mib": memory_mib},
    )
    tasks = [Task(f"t{i}", "operator", File("0" * 64, 600_000), "n", None, (1,)) for i in range(7)]
    assert len(life.agent._next_group(tasks)) == together


HOSTILE = {
    "redirect": (lambda r: httpx.Response(302, headers={"location": "http://evil.example/"}), HostileServer),
    "not json": (lambda r: httpx.Response(200, content=b"<html>"), HostileServer),
    "deep json": (lambda r: httpx.Response(200, content=b"[" * 200_000), HostileServer),
    "huge json": (lambda r: httpx.Response(200, content=iter([b" " * 2**20] * 16)), HostileServer),
    "zip bomb": (
        lambda r: httpx.Response(200, content=gzip_bomb(), headers={"content-encoding": "gzip"}),
        HostileServer,
    ),
    "bad gzip": (
        lambda r: httpx.Response(200, content=b"xx", headers={"content-encoding": "gzip"}),
        HostileServer,
    ),
    "wrong key": (lambda r: problem(401, "unauthenticated"), Refused),
    "list": (lambda r: httpx.Response(200, json=[]), HostileServer),
}


def gzip_bomb():
    import gzip

    return gzip.compress(b" " * 2**25)


@pytest.mark.parametrize("name", sorted(HOSTILE))
@pytest.mark.parametrize("path", ["/v1/agent/enrol", "/v1/agent/tasks", "/v1/agent/measurements"])
def test_b10_hostile_answers(tmp_path, name, path):
    answer, error = HOSTILE[name]
    service = FakeService(FILES)
    service.fault = lambda request: answer(request) if request.url.path == path else None
    with pytest.raises(error):
        Life(service, tmp_path).run("token-1")
    assert all("evil" not in line for line in service.received)


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "../../etc/passwd"},
        {"sha256": "A" * 64},
        {"size_bytes": 10 * 2**30},
        {"size_bytes": 0},
        {"size_bytes": True},
        {"id": "a/b"},
        {"id": 3},
        {"kind": "shell"},
        {"nonce": ""},
        {"input_shape": []},
        {"input_shape": [65536, 65536]},
        {"input_shape": [1.0]},
        {"input_shape": [-1]},
        {"inputs": []},
        {"inputs": "x"},
        {"inputs": [{"name": "x", "shape": [1], "dtype": "object"}]},
        {"inputs": [{"name": "x", "shape": [1, 0], "dtype": "int64"}]},
        {"inputs": [{"name": "x", "shape": [1], "dtype": "int64", "below": 0}]},
        {"inputs": [{"name": "x", "shape": [65536, 2048], "dtype": "int64"}]},
        {"inputs": [{"name": "x", "shape": [1], "dtype": "int64"}] * 17},
        {"operator": 3},
    ],
)
def test_b10_hostile_tasks(tmp_path, change):
    service = FakeService(FILES)
    service.tasks["task-2"].update(change)
    with pytest.raises(HostileServer):
        Life(service, tmp_path).run("token-1")
    assert not service.answers


def test_b10_endless_list_of_tasks(tmp_path):
    service = FakeService(FILES)
    items = [{**service.tasks["task-0"], "id": f"t{i}"} for i in range(3000)]
    body = {"session_id": "session-1", "sentinel": None, "items": items, "remaining": 3000, "poll_s": 1}
    service.fault = lambda r: httpx.Response(200, json=body) if r.url.path == "/v1/agent/tasks" else None
    with pytest.raises(HostileServer):
        Life(service, tmp_path).run("token-1")


@pytest.mark.parametrize("content", [b"tampered", FILES[1][:-1], FILES[1] + b"\x00" * 2**22])
def test_b10_a_tampered_file_is_never_opened(tmp_path, content):
    service, opened = FakeService(FILES), []
    sha = hashlib.sha256(FILES[1]).hexdigest()
    service.files[sha] = content
    with pytest.raises(HostileServer):
        Life(service, tmp_path, lambda job, p: opened.append(job)).run("token-1")
    assert not opened and not service.answers


def test_b10_a_graph_off_the_list_is_never_opened(tmp_path):
    bad = convolution().replace(b"Relu", b"Loop")
    service, opened = FakeService([*FILES[:1], bad]), []
    with pytest.raises(RefusedGraph):
        Life(service, tmp_path, lambda job, p: opened.append(job)).run("token-1")
    assert not opened


def test_a_file_damaged_on_disk_is_fetched_again(tmp_path):
    service = FakeService(FILES[:2])
    life = Life(service, tmp_path)
    for sha in service.files:
        life.folder.keep_file(sha, b"half a fi")
    life.run("token-1")
    assert complete(service)


def test_real_networks_in_a_real_child(tmp_path):
    from latency_tables.agent.runner import measure_in_child

    service = FakeService(FILES[:3])
    options = Options(settings=Settings(rounds=4, least_rounds=4, limit_s=0.5, least_s=0.0))
    client = Client(SERVER, transport=service.transport)
    agent = Agent(client, StateFolder(tmp_path), options, measure=measure_in_child)
    agent.start(SERVER, "token-1")
    assert agent.run(once=True) == 3
    assert all(0 < item["lower_quartile_ms"] <= item["median_ms"] for item in service.answers.values())
    json.dumps(service.posts[("session-1", 0)], allow_nan=False)


def test_an_agent_started_with_other_options_than_it_was_enrolled_with_ends_and_names_the_fields(tmp_path):
    service = FakeService(FILES)
    first = Life(service, tmp_path)
    first.agent.start(SERVER, "token-1")
    other = Agent(first.client, first.folder, Options(setup=Setup(precision="float16")), find=pretended)
    other.start(SERVER, None)
    with pytest.raises(DeviceChanged, match="precision: float32 there, float16 here"):
        other.run(once=True)
    assert service.answers == {}


def test_a_runtime_that_cannot_be_used_does_not_spend_the_token(tmp_path):
    service = FakeService(FILES)
    life = Life(service, tmp_path)
    agent = Agent(life.client, life.folder, Options(setup=Setup(provider="CUDAExecutionProvider")))
    with pytest.raises(UnusableRuntime, match="it offers"):
        agent.start(SERVER, "token-1")
    assert service.enrolled == []


def test_networks_are_measured_in_what_the_runtime_chose(tmp_path):
    jobs = []

    def seen(job, progress):
        jobs.append(job)
        return simulated(job, progress)

    service = FakeService(FILES)
    life = Life(service, tmp_path)
    agent = Agent(life.client, life.folder, Options(setup=Setup("openvino", "AUTO")), measure=seen)
    agent.start(SERVER, "token-1")
    assert service.enrolled[0]["context"]["provider"] == "CPU"
    assert service.enrolled[0]["environment"]["nodes_by_provider"]["CPU"] >= 1
    agent.run(once=True)
    assert {(job.setup.runtime, job.setup.provider) for job in jobs} == {("openvino", "CPU")}


def pretended(setup):
    """What a device would find that can do anything."""
    return Found(setup.context("1.0", setup.provider or "CPUExecutionProvider"), {"CPUExecutionProvider": 2})
