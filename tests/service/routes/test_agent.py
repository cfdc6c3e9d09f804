"""B8, B9, F5, F6, F10: what a measuring agent may do, and that its posts count once and only for its own
tasks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from service.db.artifacts import register
from service.db.models import AgentSession, Device, Enrolment, MeasurementTask, new_id, now
from service.http.auth import AGENT_SCOPE, PUBLIC
from tests.service.api import CONTEXT, Api, is_problem
from tests.service.http.test_auth import CALLS, path_of

ENVIRONMENT = {"fingerprint": "ab" * 32, "cpu_model": "a board", "cores": 4}


def token_of(api: Api, device: str = "board") -> str:
    answer = api.post(f"/v1/devices/{device}/enrolments")
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def redeem(api: Api, token: str, **changes: Any) -> Any:
    body = {"token": token, "context": CONTEXT, "environment": ENVIRONMENT, **changes}
    return api.post("/v1/agent/enrol", body, key=None)


def enrolled(api: Api, device: str = "board") -> dict[str, Any]:
    answer = redeem(api, token_of(api, device))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def add_tasks(api: Api, count: int = 3, device: str = "board", space: str = "digits-mbv3") -> str:
    """A profile job with tasks, as a worker leaves it; the id of the job."""
    job = api.post(f"/v1/devices/{device}/profiles", {"space": space}).json()["id"]
    with api.services.sessions.begin() as session:
        row = session.scalars(select(Device).where(Device.name == device)).one()
        for position in range(count + 1):
            sha256, size = api.services.store.put(f"network {device} {position}".encode())
            register(session, sha256, size, "onnx_benchmark")
            session.add(
                MeasurementTask(
                    id=new_id("tsk"),
                    tenant_id=row.tenant_id,
                    device_id=row.id,
                    job_id=job,
                    position=position,
                    kind="sentinel" if position == 0 else "operator",
                    operator="an operator",
                    input_shape=[1, 3, 8, 8],
                    sha256=sha256,
                    size_bytes=size,
                    nonce=f"nonce-{position}",
                )
            )
    return str(job)


def plan_of(api: Api, me: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = api.get("/v1/agent/tasks", key=me["agent_key"]).json()
    return found


def answers(plan: dict[str, Any], **changes: Any) -> list[dict[str, Any]]:
    return [
        {
            "task_id": t["id"],
            "nonce": t["nonce"],
            "sha256": t["sha256"],
            "median_ms": 0.5,
            "lower_quartile_ms": 0.4,
            "mad_ms": 0.01,
            "count": 30,
            "flags": [],
            "sentinel_ms": 0.2,
            **changes,
        }
        for t in plan["items"]
    ]


def post(api: Api, me: dict[str, Any], items: list[dict[str, Any]], sequence: int = 1, **changes: Any) -> Any:
    body = {
        "session_id": me["session_id"],
        "sequence": sequence,
        "fingerprint": ENVIRONMENT["fingerprint"],
        "items": items,
        **changes,
    }
    return api.post("/v1/agent/measurements", body, key=me["agent_key"])


@pytest.fixture
def board(both: Api) -> Api:
    both.add_device("board")
    return both


def test_enrol_pull_fetch_post(board: Api) -> None:
    me = enrolled(board)
    assert me["device"] == "board"
    assert board.get("/v1/agent/tasks", key=me["agent_key"]).json()["items"] == []
    add_tasks(board)
    plan = board.get("/v1/agent/tasks?limit=2", key=me["agent_key"]).json()
    assert len(plan["items"]) == 2 and plan["remaining"] == 3
    assert plan["sentinel"] is not None and plan["context"] == CONTEXT
    for item in [*plan["items"], plan["sentinel"]]:
        file = board.get(f"/v1/agent/files/{item['sha256']}", key=me["agent_key"])
        assert len(file.content) == item["size_bytes"]
    assert post(board, me, answers(plan)).json() == {"accepted": 2}
    rest = board.get("/v1/agent/tasks", key=me["agent_key"]).json()
    assert rest["remaining"] == len(rest["items"]) == 1
    assert not {i["id"] for i in rest["items"]} & {i["id"] for i in plan["items"]}
    view = board.get("/v1/devices/board").json()["agent"]
    assert view["present"] and view["state"] == "open" and view["open_tasks"] == 1
    assert board.get("/v1/devices/board").json()["environment"]["cpu_model"] == "a board"


def test_b8_a_token_is_good_once(board: Api) -> None:
    token = token_of(board)
    assert redeem(board, token).status_code == 201
    is_problem(redeem(board, token), 409, code="token_used")


def test_b8_of_many_redemptions_at_once_one_gets_a_session(board: Api) -> None:
    token = token_of(board)
    statuses: list[int] = []
    barrier = threading.Barrier(20)

    def run() -> None:
        barrier.wait()
        statuses.append(redeem(board, token).status_code)

    threads = [threading.Thread(target=run) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201] + [409] * 19
    with board.services.sessions() as session:
        assert len(session.scalars(select(AgentSession)).all()) == 1


def test_b8_an_expired_or_foreign_token(board: Api) -> None:
    token = token_of(board)
    with board.services.sessions.begin() as session:
        session.execute(update(Enrolment).values(expires_at=now() - timedelta(seconds=1)))
    is_problem(redeem(board, token), 401)
    is_problem(redeem(board, "nonsense"), 401)
    is_problem(redeem(board, board.key), 401)


def test_the_context_must_be_the_devices(board: Api) -> None:
    token = token_of(board)
    problem = is_problem(
        redeem(board, token, context={**CONTEXT, "threads": 4, "provider": "x"}), 422, code="context_mismatch"
    )
    assert "provider, threads differ" in problem["detail"]
    assert [(e["pointer"], e["detail"]) for e in problem["errors"]] == [
        ("/context/provider", "the device has CPUExecutionProvider"),
        ("/context/threads", "the device has 1"),
    ]
    is_problem(redeem(board, token, environment={}), 422)
    is_problem(redeem(board, token, environment={"fingerprint": "not hex!!"}), 422)
    assert redeem(board, token).status_code == 201  # a refused attempt does not spend the token


def test_b9_an_agent_may_do_nothing_else(board: Api) -> None:
    me = enrolled(board)
    for method, route in CALLS:
        if route.scope_needed in (PUBLIC, AGENT_SCOPE):
            continue
        body = {} if method in ("POST", "PATCH") else None
        is_problem(
            board.call(method, path_of(route), body, key=me["agent_key"]), 403, code="insufficient_scope"
        )
    is_problem(board.get("/v1/agent/tasks"), 403)  # and the owner's key is no agent's


def test_what_a_newer_agent_tells_of_a_measurement_is_not_looked_at_and_does_not_stop_it(board: Api) -> None:
    me = enrolled(board)
    add_tasks(board)
    plan = plan_of(board, me)
    newer = answers(plan, undisturbed_ms=0.4, p99_ms=0.9, told_by={"version": "9.0"})
    assert post(board, me, newer).json() == {"accepted": len(plan["items"])}
    with board.services.sessions() as session:
        results = [t.result for t in session.scalars(select(MeasurementTask)) if t.result]
    assert results and all(r["undisturbed_ms"] == 0.4 and "p99_ms" not in r for r in results)
    add_tasks(board, 1)
    plan = plan_of(board, me)
    is_problem(post(board, me, answers(plan), 2, told_by="9.0"), 422)
    is_problem(post(board, me, answers(plan, median_ms="0.5"), 2), 422)
    context = {**CONTEXT, "clock": "fixed"}
    is_problem(redeem(board, token_of(board), context=context), 422)  # what latencies are valid in matters


def test_what_a_newer_agent_posts_is_taken_with_the_same_word_twice(board: Api) -> None:
    me = enrolled(board)
    add_tasks(board, 1)
    items = answers(plan_of(board, me), p99_ms=0.9)
    assert [post(board, me, items).status_code for _ in range(2)] == [200, 200], "an answer that got lost"


def test_b9_another_devices_files_and_tasks(board: Api) -> None:
    board.add_device("other")
    me, other = enrolled(board), enrolled(board, "other")
    add_tasks(board, device="other")
    theirs = board.get("/v1/agent/tasks", key=other["agent_key"]).json()
    assert theirs["items"]
    assert board.get("/v1/agent/tasks", key=me["agent_key"]).json()["items"] == []
    is_problem(board.get(f"/v1/agent/files/{theirs['items'][0]['sha256']}", key=me["agent_key"]), 404)
    is_problem(board.get(f"/v1/agent/files/{'0' * 64}", key=me["agent_key"]), 404)
    is_problem(board.get("/v1/agent/files/..%2f..%2fowner.key", key=me["agent_key"]), 404, 422)
    is_problem(post(board, me, answers(theirs)), 422, code="wrong_task")
    is_problem(
        post(board, {**me, "session_id": other["session_id"]}, answers(theirs)), 422, code="wrong_task"
    )


def test_b9_after_revoking(board: Api) -> None:
    me = enrolled(board)
    assert board.get("/v1/agent/tasks", key=me["agent_key"]).status_code == 200
    assert board.call("DELETE", "/v1/devices/board/agent").status_code == 204
    is_problem(board.get("/v1/agent/tasks", key=me["agent_key"]), 401)


def test_a_second_agent_closes_the_first(board: Api) -> None:
    first = enrolled(board)
    add_tasks(board)
    plan = board.get("/v1/agent/tasks", key=first["agent_key"]).json()
    second = enrolled(board)
    is_problem(post(board, first, answers(plan)), 409, code="session_closed")
    assert board.get("/v1/agent/tasks", key=second["agent_key"]).status_code == 200


def test_a_session_ends(make_api: Callable[..., Api]) -> None:
    api = make_api(agent_session_ttl_s=0.2)
    api.add_device("board")
    me = enrolled(api)
    with api.services.sessions.begin() as session:
        session.execute(update(AgentSession).values(expires_at=now() - timedelta(seconds=1)))
    api.services.authenticator.forget()
    is_problem(api.get("/v1/agent/tasks", key=me["agent_key"]), 409, code="session_closed")


def test_f5_the_same_post_again_counts_once(board: Api) -> None:
    me = enrolled(board)
    add_tasks(board)
    plan = board.get("/v1/agent/tasks", key=me["agent_key"]).json()
    first = post(board, me, answers(plan))
    assert first.json() == post(board, me, answers(plan)).json() == {"accepted": 3}
    is_problem(post(board, me, answers(plan, median_ms=0.6)), 409, code="sequence_reused")
    with board.services.sessions() as session:
        results = [t.result["median_ms"] for t in session.scalars(select(MeasurementTask)) if t.result]
    assert results == [0.5] * 3
    is_problem(post(board, me, answers(plan), sequence=2), 422, code="wrong_task")


def test_f5_the_same_post_many_times_at_once(board: Api) -> None:
    me = enrolled(board)
    add_tasks(board)
    plan = board.get("/v1/agent/tasks", key=me["agent_key"]).json()
    found: list[Any] = []
    barrier = threading.Barrier(8)

    def run() -> None:
        barrier.wait()
        found.append(post(board, me, answers(plan)))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    good = [a for a in found if a.status_code == 200]
    assert good and all(a.json() == {"accepted": 3} for a in good)
    assert all(a.status_code in (200, 409, 422) for a in found)
    assert post(board, me, answers(plan)).json() == {"accepted": 3}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"nonce": "another"}, "nonce"),
        ({"sha256": "0" * 64}, "wrong_task"),
        ({"task_id": "tsk_" + "0" * 32}, "wrong_task"),
        ({"median_ms": 0}, "validation"),
        ({"median_ms": -1}, "validation"),
        ({"median_ms": 1e9}, "validation"),
        ({"median_ms": "1"}, "validation"),
        ({"median_ms": True}, "validation"),
        ({"count": 0}, "validation"),
        ({"lower_quartile_ms": 0.7}, "validation"),
        ({"median_ms": 900_000.0, "lower_quartile_ms": 900_000.0, "count": 1000}, "implausible"),
    ],
    ids=str,
)
def test_f6_all_or_nothing(make_api: Callable[..., Api], change: dict[str, Any], code: str) -> None:
    api = make_api()
    api.add_device("board")
    me = enrolled(api)
    add_tasks(api)
    items = answers(api.get("/v1/agent/tasks", key=me["agent_key"]).json())
    items[-1] = {**items[-1], **change}
    is_problem(post(api, me, items), 422, code=code)
    assert api.get("/v1/agent/tasks", key=me["agent_key"]).json()["remaining"] == 3


def test_f10_a_device_that_changes_ends_its_session(board: Api) -> None:
    me = enrolled(board)
    add_tasks(board)
    plan = board.get("/v1/agent/tasks", key=me["agent_key"]).json()
    is_problem(post(board, me, answers(plan), fingerprint="cd" * 32), 409, code="device_changed")
    is_problem(post(board, me, answers(plan)), 409, code="session_closed")
    assert board.get("/v1/devices/board").json()["agent"]["state"] == "device_changed"


def test_tasks_of_a_cancelled_job_are_withdrawn(board: Api) -> None:
    me = enrolled(board)
    job = add_tasks(board)
    assert board.get("/v1/agent/tasks", key=me["agent_key"]).json()["remaining"] == 3
    assert board.post(f"/v1/jobs/{job}/cancel").status_code == 202
    assert board.get("/v1/agent/tasks", key=me["agent_key"]).json()["items"] == []


def test_a_damaged_file_is_not_handed_out(board: Api) -> None:
    me = enrolled(board)
    add_tasks(board)
    sha256 = board.get("/v1/agent/tasks", key=me["agent_key"]).json()["items"][0]["sha256"]
    place = board.services.store.path(sha256)
    place.chmod(0o600)
    place.write_bytes(b"x" + place.read_bytes()[1:])
    is_problem(board.get(f"/v1/agent/files/{sha256}", key=me["agent_key"]), 503, code="artifact_corrupt")


def test_a_post_that_is_too_large(make_api: Callable[..., Api]) -> None:
    api = make_api(max_agent_post_bytes=2048)
    api.add_device("board")
    me = enrolled(api)
    is_problem(post(api, me, [{"flags": ["x" * 100] * 50}]), 413)


def test_nodes_by_provider_are_counted_for_a_session_and_shown_with_the_device(board: Api) -> None:
    add_tasks(board, 3)
    me = enrolled(board)
    items = answers(plan_of(board, me), nodes={"CUDAExecutionProvider": 4, "CPUExecutionProvider": 1})
    assert post(board, me, items[:1], sequence=1).status_code == 200
    assert post(board, me, items[1:], sequence=2).status_code == 200
    assert post(board, me, items[1:], sequence=2).status_code == 200  # the same post again counts nothing
    shown = board.get("/v1/devices/board").json()
    assert shown["nodes_by_provider"] == {"CUDAExecutionProvider": 12, "CPUExecutionProvider": 3}
    again = enrolled(board)
    assert board.get("/v1/devices/board").json()["nodes_by_provider"] == shown["nodes_by_provider"]
    add_tasks(board, 1)
    assert (
        post(board, again, answers(plan_of(board, again), nodes={"CUDAExecutionProvider": 5})).status_code
        == 200
    )
    assert board.get("/v1/devices/board").json()["nodes_by_provider"] == {"CUDAExecutionProvider": 5}


@pytest.mark.parametrize(
    "nodes", [{"": 1}, {"x": -1}, {"x": 1.5}, {"x": "1"}, {f"p{n}": 1 for n in range(17)}, []]
)
def test_nodes_that_cannot_be_are_refused(board: Api, nodes: Any) -> None:
    add_tasks(board, 1)
    me = enrolled(board)
    is_problem(post(board, me, answers(plan_of(board, me), nodes=nodes)), 422, code="validation")
    assert board.get("/v1/devices/board").json()["nodes_by_provider"] is None


def test_an_environment_that_says_nonsense_about_nodes_is_not_shown(board: Api) -> None:
    answer = redeem(board, token_of(board), environment={**ENVIRONMENT, "nodes_by_provider": {"x": "many"}})
    assert answer.status_code == 201
    assert board.get("/v1/devices/board").json()["nodes_by_provider"] is None


def failures(plan: dict[str, Any], **changes: Any) -> list[dict[str, Any]]:
    names = ("nonce", "sha256")
    return [
        {"task_id": t["id"], **{n: t[n] for n in names}, "reason": "no kernel", **changes}
        for t in plan["items"]
    ]


def test_a_network_that_cannot_run_is_not_given_out_again(board: Api) -> None:
    me = enrolled(board)
    add_tasks(board)
    plan = plan_of(board, me)
    told = failures({"items": plan["items"][:1]})
    assert post(board, me, [], failures=told).json() == {"accepted": 1}
    assert post(board, me, [], failures=told).json() == {"accepted": 1}, "the same post again"
    rest = plan_of(board, me)
    assert rest["remaining"] == 2 and plan["items"][0] not in rest["items"]
    is_problem(post(board, me, [], sequence=2, failures=told), 422, code="wrong_task")
    both = {"failures": failures({"items": rest["items"][1:]})}
    assert post(board, me, answers({"items": rest["items"][:1]}), sequence=3, **both).json() == {
        "accepted": 2
    }
    with board.services.sessions() as session:
        tasks = session.scalars(select(MeasurementTask).order_by(MeasurementTask.position)).all()
    assert [(t.state, t.failure) for t in tasks[1:]] == [
        ("failed", "no kernel"), ("done", None), ("failed", "no kernel")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"nonce": "another"}, "nonce"),
        ({"sha256": "0" * 64}, "wrong_task"),
        ({"task_id": "task_" + "0" * 32}, "wrong_task"),
        ({"reason": ""}, "validation"),
        ({"reason": "x" * 501}, "validation"),
        ({"reason": "a\x1b[2J"}, "validation"),
        ({"more": 1}, "validation"),
    ],
)
def test_of_a_post_that_lies_about_a_failure_nothing_is_kept(
    board: Api, changes: dict[str, Any], code: str
) -> None:
    me = enrolled(board)
    add_tasks(board)
    plan = plan_of(board, me)
    some = answers({"items": plan["items"][:1]})
    wrong = failures({"items": plan["items"][1:2]}, **changes)
    is_problem(post(board, me, some, failures=wrong), 422, code=code)
    assert plan_of(board, me)["remaining"] == 3


def test_a_post_says_something_and_nothing_twice(board: Api) -> None:
    me = enrolled(board)
    add_tasks(board)
    plan = plan_of(board, me)
    is_problem(post(board, me, []), 422, code="validation")
    is_problem(post(board, me, answers(plan), failures=failures(plan)), 422, code="validation")
    assert plan_of(board, me)["remaining"] == 3
