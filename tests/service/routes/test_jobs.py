"""Jobs over HTTP: submit, poll, follow, cancel; Idempotency-Key (C5), quotas (E1), events, models (D1)."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from latency_tables.operators import Operator
from service.db.models import IdempotencyKey, Job, Supernet, now
from service.db.states import JobState
from service.db.transitions import move, record_progress
from supernets.search.limits import LIMITS, MACS, reachable
from tests.service.api import SPACE, Api, is_problem, search_request
from tests.service.http.test_auth import deliver


@pytest.fixture
def ready(both: Api) -> Api:
    both.add_device("phone")
    both.add_table("phone")
    return both


def test_search_is_queued_with_pinned_tables(ready: Api) -> None:
    supernet = ready.add_supernet()
    table = ready.get("/v1/devices/phone").json()["table_id"]
    answer = ready.post("/v1/searches", search_request(supernet, 50.0, candidates=7, verify=False))
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["kind"], job["state"], job["attempts"]) == ("search", "queued", 0)
    assert job["progress"]["fraction"] == 0.0
    with ready.services.sessions() as session:
        row = session.get(Job, job["id"])
        assert row is not None
        device_id = row.request["targets"][0]["device_id"]
        assert row.request == {
            "supernet_id": supernet,
            "targets": [
                {"device": "phone", "device_id": device_id, "table_id": table, "budget": {"latency_ms": 50.0}}
            ],
            "strategy": "exact",
            "confidence": None,
            "candidates": 7,
            "verify": False,
            "measured_candidates": 3,
            "remarks": [],
            "batch": "device",
            "preprocessing": "separate",
        }
    assert ready.get(f"/v1/jobs/{job['id']}").json() == job
    ready.add_table(
        "phone", [{**r, "median_ms": r["median_ms"] * 1.5, "lower_quartile_ms": None} for r in rows()]
    )
    with ready.services.sessions() as session:
        assert session.get(Job, job["id"]).request["targets"][0]["table_id"] == table  # type: ignore[union-attr]


def limited_request(supernet: str, **limits: Any) -> dict[str, Any]:
    return {"supernet": supernet, "targets": [{"device": "phone", "budget": {"latency_ms": 50.0, **limits}}]}


def test_a_budget_of_several_limits_reaches_the_job(ready: Api) -> None:
    limits = {"size_bytes": 10**8, "macs": 10**9, "memory_bytes": 10**8}
    answer = ready.post("/v1/searches", limited_request(ready.add_supernet(), **limits))
    assert answer.status_code == 202
    with ready.services.sessions() as session:
        row = session.get(Job, answer.json()["id"])
        assert row is not None
        assert row.request["targets"][0]["budget"] == {"latency_ms": 50.0, **limits}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_that_nothing_keeps_is_refused_by_name(ready: Api, name: str) -> None:
    supernet = ready.add_supernet()
    low, high = reachable(SPACE, name)
    document = is_problem(
        ready.post("/v1/searches", limited_request(supernet, **{name: int(low) - 1})),
        422,
        code="infeasible_budget",
    )
    assert document["constraint"] == name
    assert document["reachable"] == {"min": low, "max": high}
    assert "reachable_ms" not in document
    assert document["errors"][0]["pointer"] == f"/targets/0/budget/{name}"
    assert ready.get("/v1/jobs").json()["items"] == []
    assert ready.post("/v1/searches", limited_request(supernet, **{name: int(low)})).status_code == 202
    for bad in (0, -1, 1.5, "1", True, 10**16):
        is_problem(ready.post("/v1/searches", limited_request(supernet, **{name: bad})), 422, 400)


def test_limits_that_contradict_each_other_are_refused_at_once(ready: Api) -> None:
    """By a table in which the small operators are the slow ones: what is fast has more multiply-adds than
    allowed."""
    slow_if_small = [
        {**row, "median_ms": 100 / (1000 + Operator.parse(row["operator"]).macs), "lower_quartile_ms": None}
        for row in rows()
    ]
    ready.add_device("odd")
    table = ready.add_table("odd", slow_if_small)
    if table["state"] == "needs_review":  # unlike any known device, and true as it stands
        assert (
            ready.post(f"/v1/devices/odd/tables/{table['id']}/accept", {"note": "made so"}).status_code == 200
        )
    supernet = ready.add_supernet()
    free = is_problem(
        ready.post("/v1/searches", search_request(supernet, 1e-9, "odd")), 422, code="infeasible_budget"
    )["reachable_ms"]
    body = limited_request(supernet, macs=int(reachable(SPACE, MACS)[0]))
    body["targets"][0] = {
        "device": "odd",
        "budget": {**body["targets"][0]["budget"], "latency_ms": free["min"] * 1.01},
    }
    document = is_problem(ready.post("/v1/searches", body), 422, code="infeasible_budget")
    assert "latency_ms" in document["detail"] and "macs" in document["detail"]
    assert document["reachable_ms"]["min"] > free["min"] * 1.01
    body["targets"][0]["budget"]["latency_ms"] = document["reachable_ms"]["min"]
    assert ready.post("/v1/searches", body).status_code == 202, "what the answer says can be reached is taken"


def rows() -> list[dict[str, Any]]:
    from tests.service.api import table_rows

    return table_rows()


def test_gate_epochs_are_for_the_strategy_that_trains(ready: Api) -> None:
    supernet = ready.add_supernet()
    answer = ready.post("/v1/searches", search_request(supernet, 50.0, strategy="gradient", gate_epochs=3))
    assert answer.status_code == 202
    with ready.services.sessions() as session:
        row = session.get(Job, answer.json()["id"])
        assert row is not None and row.request["gate_epochs"] == 3 and row.request["strategy"] == "gradient"
    document = is_problem(
        ready.post("/v1/searches", search_request(supernet, 50.0, gate_epochs=3)), 422, code="validation"
    )
    assert "gradient" in document["detail"]
    for bad in (0, 1001, "3", 1.5):
        is_problem(
            ready.post("/v1/searches", search_request(supernet, 50.0, strategy="gradient", gate_epochs=bad)),
            422,
        )


def test_tune_epochs_are_for_every_strategy_and_nothing_where_left_out(ready: Api) -> None:
    supernet = ready.add_supernet()
    for strategy, more in (("exact", {"tune_epochs": 3}), ("random", {"tune_epochs": 1000}), ("exact", {})):
        answer = ready.post("/v1/searches", search_request(supernet, 50.0, strategy=strategy, **more))
        assert answer.status_code == 202
        with ready.services.sessions() as session:
            row = session.get(Job, answer.json()["id"])
            assert row is not None and row.request.get("tune_epochs") == more.get("tune_epochs")
    for bad in (-1, 1001, "3", 1.5, [5], True):
        document = is_problem(
            ready.post("/v1/searches", search_request(supernet, 50.0, tune_epochs=bad)), 422
        )
        assert document["errors"][0]["pointer"] == "/tune_epochs"


def test_a_limit_on_memory_and_a_part_are_of_a_fine_tuning(ready: Api) -> None:
    supernet = ready.add_supernet()
    asked = search_request(supernet, 50.0, tune_epochs=2, memory_mb=400, train="bias")
    answer = ready.post("/v1/searches", asked)
    assert answer.status_code == 202
    with ready.services.sessions() as session:
        row = session.get(Job, answer.json()["id"])
        assert row is not None and (row.request["memory_mb"], row.request["train"]) == (400, "bias")
    for bad in ({"memory_mb": 400}, {"train": "last"}):
        document = is_problem(ready.post("/v1/searches", search_request(supernet, 50.0, **bad)), 422)
        assert "give tune_epochs too" in document["detail"]
    lite = {"tune_epochs": 2, "train": "lite"}
    with_macs = search_request(supernet, 50.0, **lite)
    with_macs["targets"] = [{"budget": {"macs": 1_000_000}}]
    for bad, said in (
        (search_request(supernet, 50.0, **lite, verify=False), "leave verify"),
        (with_macs, "name a device"),
    ):
        assert said in is_problem(ready.post("/v1/searches", bad), 422)["detail"]
    assert ready.post("/v1/searches", search_request(supernet, 50.0, **lite)).status_code == 202
    for name, value in (("memory_mb", 0), ("memory_mb", 1.5), ("train", "most")):
        document = is_problem(
            ready.post("/v1/searches", search_request(supernet, 50.0, tune_epochs=1, **{name: value})), 422
        )
        assert document["errors"][0]["pointer"] == f"/{name}"


@pytest.mark.parametrize("strategy", ["exact", "gradient"])
def test_a_supernet_without_its_data_set_is_refused_by_name(ready: Api, strategy: str) -> None:
    """Imported with registered accuracies alone: its front can be had, a delivered network cannot."""
    supernet = ready.add_supernet()
    with ready.services.sessions.begin() as session:
        row = session.get(Supernet, supernet)
        assert row is not None
        row.dataset = "imagenet"
    document = is_problem(
        ready.post("/v1/searches", search_request(supernet, 50.0, strategy=strategy)),
        422,
        code="unknown_dataset",
    )
    assert "gradient trains on it" in document["detail"] and "/front" in document["detail"]
    assert ready.get(f"/v1/supernets/{supernet}/front?device=phone").status_code == 200


def test_the_queue_has_the_job(ready: Api) -> None:
    job = ready.post("/v1/searches", search_request(ready.add_supernet(), 50.0)).json()["id"]
    schema = "dbos." if ready.services.engine.dialect.name == "postgresql" else ""
    with ready.services.sessions() as session:
        status = session.execute(
            text(f"SELECT status FROM {schema}workflow_status WHERE workflow_uuid = :id"), {"id": job}
        ).scalar()
    assert status == "ENQUEUED"


def test_a_search_by_space_and_dataset_makes_the_supernet_row(ready: Api) -> None:
    body = {
        "space": SPACE.name,
        "dataset": "digits",
        "recipe": "quick",
        "targets": [{"device": "phone", "budget": {"latency_ms": 50.0}}],
    }
    assert ready.post("/v1/searches", body).status_code == 202
    assert ready.post("/v1/searches", body).status_code == 202
    supernets = ready.get("/v1/supernets").json()["items"]
    assert len(supernets) == 1
    assert supernets[0]["state"] == "waiting"
    is_problem(ready.get(f"/v1/supernets/{supernets[0]['id']}/front?device=phone"), 422, code="not_ready")


def test_a_supernet_is_one_job_however_often_it_is_asked_for(ready: Api) -> None:
    body = {"space": SPACE.name, "dataset": "digits", "recipe": "quick"}
    first, again = ready.post("/v1/supernets", body), ready.post("/v1/supernets", {**body, "seed": 0})
    assert first.status_code == again.status_code == 202
    assert first.json()["id"] == again.json()["id"]
    assert ready.post("/v1/supernets", {**body, "seed": 1}).json()["id"] != first.json()["id"]
    with ready.services.sessions.begin() as session:
        job = first.json()["id"]
        move(session, job, JobState.RUNNING, from_states=(JobState.QUEUED,))
        move(session, job, JobState.FAILED, from_states=(JobState.RUNNING,), error={"title": "x"})
    assert ready.post("/v1/supernets", body).json()["id"] != first.json()["id"]  # a failed one is tried again


def test_a_supernet_that_begins_with_anothers_weights_is_a_supernet_of_its_own(ready: Api) -> None:
    parent = ready.add_supernet(seed=7)
    body = {"space": SPACE.name, "dataset": "digits", "recipe": "quick"}
    alone, first = ready.post("/v1/supernets", body), ready.post("/v1/supernets", {**body, "from": parent})
    again = ready.post("/v1/supernets", {**body, "from": parent})
    assert alone.status_code == first.status_code == again.status_code == 202
    assert first.json()["id"] == again.json()["id"] != alone.json()["id"]
    parents = [one["parent"] for one in ready.get("/v1/supernets").json()["items"]]
    assert sorted(parents, key=str) == [None, None, parent]


def test_a_supernet_that_cannot_be_a_beginning_is_refused(ready: Api) -> None:
    body = {"space": SPACE.name, "dataset": "digits", "recipe": "quick"}
    is_problem(ready.post("/v1/supernets", {**body, "from": "sup_none"}), 422, code="unknown_supernet")
    untrained = ready.add_supernet(trained=False, seed=9)
    is_problem(ready.post("/v1/supernets", {**body, "from": untrained}), 422, code="not_ready")
    other = {"space": "cifar-mbv3", "dataset": "glyphs", "from": ready.add_supernet(seed=7)}
    refused = ready.post("/v1/supernets", other)
    is_problem(refused, 422)
    assert "/from" in refused.text and SPACE.name in refused.text


def test_a_training_within_a_limit_or_shared_otherwise_is_a_supernet_of_its_own(
    ready: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"space": SPACE.name, "dataset": "digits", "recipe": "quick"}
    plain, limited = (
        ready.post("/v1/supernets", body),
        ready.post("/v1/supernets", {**body, "memory_mb": 900}),
    )
    assert limited.status_code == 202 and limited.json()["id"] != plain.json()["id"]
    delayed = {**body, "distributed": {"sync": "delayed", "delay": 4}}
    document = is_problem(ready.post("/v1/supernets", delayed), 422)
    assert document["errors"][0]["pointer"] == "/distributed"
    assert "BESPOKE_TRAINING_PROCESSES" in document["detail"]
    monkeypatch.setitem(ready.services.settings.__dict__, "training_processes", 2)
    assert ready.post("/v1/supernets", delayed).status_code == 202
    with ready.services.sessions() as session:
        options = [row.options for row in session.scalars(select(Supernet)) if row.options]
    assert {"memory_mb": 900} in options and {"distributed": {"sync": "delayed", "delay": 4}} in options
    for bad, why in (
        ({"top": 0.01}, "take the recipe sgd"),
        ({"top": 0.01, "sync": "delayed"}, "leave one out"),
        ({"sync": "seldom"}, "sync"),
        ({"delay": 0}, "delay"),
    ):
        refused = ready.post("/v1/supernets", {**body, "distributed": bad})
        is_problem(refused, 422)
        assert why in refused.text
    is_problem(ready.post("/v1/supernets", {**body, "memory_mb": 0}), 422)


def row_of(api: Api, supernet_id: str) -> Supernet:
    with api.services.sessions() as session:
        return session.get_one(Supernet, supernet_id)


def test_from_takes_the_recipe_transfer_and_options_are_kept(ready: Api) -> None:
    parent = ready.add_supernet(seed=7)
    body = {"space": SPACE.name, "dataset": "digits", "from": parent}
    job = ready.post("/v1/supernets", body)
    assert job.status_code == 202, job.text
    found = ready.get("/v1/supernets").json()["items"][0]
    assert (found["recipe"], found["parent"], found["class_weights"], found["control"]) == (
        "transfer",
        parent,
        None,
        False,
    )
    with_control = ready.post("/v1/supernets", {**body, "control": True})
    assert with_control.json()["id"] == job.json()["id"], (
        "a control is trained by searches: the weights are the same"
    )
    assert ready.get(f"/v1/supernets/{found['id']}").json()["control"] is True
    weighted = ready.post("/v1/supernets", {**body, "class_weights": "auto"})
    assert weighted.json()["id"] != job.json()["id"], "other weights of classes, another supernet"
    newest = ready.get("/v1/supernets").json()["items"][0]
    assert newest["class_weights"] == "auto" and newest["control"] is False


@pytest.mark.parametrize(
    ("further", "pointer"),
    [
        ({"recipe": "transfer"}, "/recipe"),
        ({"class_weights": "some"}, "/class_weights"),
        ({"class_weights": 1}, "/class_weights"),
        ({"control": "yes"}, "/control"),
    ],
    ids=["nothing to transfer", "unknown weights", "weights are no number", "control is no text"],
)
def test_a_transfer_that_cannot_be_is_refused_where_it_is_wrong(
    ready: Api, further: dict[str, Any], pointer: str
) -> None:
    refused = ready.post("/v1/supernets", {"space": SPACE.name, "dataset": "digits", **further})
    assert is_problem(refused, 422)["errors"][0]["pointer"] == pointer


def test_networks_of_a_transferred_supernet_are_fine_tuned_unless_that_is_declined(ready: Api) -> None:
    plain, transferred = ready.add_supernet(), ready.add_supernet(seed=7)
    with ready.services.sessions.begin() as session:
        row = session.get_one(Supernet, transferred)
        row.recipe, row.options = "transfer", {"control": True}

    def asked(supernet: str, **further: object) -> tuple[object, object]:
        answer = ready.post("/v1/searches", {**search_request(supernet, 50.0), **further})
        assert answer.status_code == 202, answer.text
        with ready.services.sessions() as session:
            request = session.get_one(Job, answer.json()["id"]).request
        return request.get("tune_epochs"), request.get("control")

    assert asked(plain) == (None, None) and asked(plain, tune_epochs=0) == (None, None)
    assert asked(transferred) == (5, True)
    assert asked(transferred, tune_epochs=0, control=False) == (None, None)
    assert asked(plain, tune_epochs=2, control=True) == (2, True)
    is_problem(ready.post("/v1/searches", {**search_request(plain, 50.0), "tune_epochs": -1}), 422)


def test_an_imported_supernet_has_no_steps_to_equal_but_is_a_source_without_scores(ready: Api) -> None:
    imported, unscored = ready.add_supernet(), ready.add_supernet(seed=5)
    with ready.services.sessions.begin() as session:
        session.get_one(Supernet, imported).recipe = "imported"
        row = session.get_one(Supernet, unscored)
        row.recipe, row.predictor, row.ready_at = "imported", None, None
    refused = ready.post("/v1/searches", {**search_request(imported, 50.0), "control": True})
    assert is_problem(refused, 422)["errors"][0]["pointer"] == "/control"
    body = {"space": SPACE.name, "dataset": "digits", "from": unscored}
    assert ready.post("/v1/supernets", body).status_code == 202


def test_c5_one_job_for_each_key(ready: Api) -> None:
    request = search_request(ready.add_supernet(), 50.0)
    statuses: list[int] = []
    jobs: set[str] = set()
    barrier = threading.Barrier(12)

    def run() -> None:
        barrier.wait()
        answer = ready.post("/v1/searches", request, headers={"Idempotency-Key": "same"})
        statuses.append(answer.status_code)
        if answer.status_code == 202:
            jobs.add(answer.json()["id"])

    threads = [threading.Thread(target=run) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {202, 409, 503}
    assert len(jobs) == 1
    assert len(ready.get("/v1/jobs").json()["items"]) == 1
    schema = "dbos." if ready.services.engine.dialect.name == "postgresql" else ""
    with ready.services.sessions() as session:
        assert session.execute(text(f"SELECT count(*) FROM {schema}workflow_status")).scalar() == 1


def test_c5_another_request_another_tenant_another_day(ready: Api) -> None:
    supernet = ready.add_supernet()
    headers = {"Idempotency-Key": "k-1"}
    first = ready.post("/v1/searches", search_request(supernet, 50.0), headers=headers).json()["id"]
    is_problem(
        ready.post("/v1/searches", search_request(supernet, 51.0), headers=headers), 422, code="key_reused"
    )
    is_problem(
        ready.post("/v1/supernets", {"space": SPACE.name, "dataset": "digits"}, headers=headers),
        422,
        code="key_reused",
    )
    other = ready.new_tenant()
    ready.add_device("phone", key=other)
    ready.add_table("phone", key=other)
    body = {
        "space": SPACE.name,
        "dataset": "digits",
        "targets": [{"device": "phone", "budget": {"latency_ms": 50.0}}],
    }
    theirs = ready.post("/v1/searches", body, headers=headers, key=other)
    assert theirs.status_code == 202 and theirs.json()["id"] != first
    with ready.services.sessions.begin() as session:
        session.execute(update(IdempotencyKey).values(created_at=now() - timedelta(hours=25)))
    later = ready.post("/v1/searches", search_request(supernet, 50.0), headers=headers)
    assert later.status_code == 202 and later.json()["id"] != first


def test_e1_a_tenant_cannot_fill_the_queue(make_api: Callable[..., Api], database_url: str) -> None:
    api = make_api(database_url, max_active_jobs=3, max_active_jobs_in_all=5)
    body = {"space": SPACE.name, "dataset": "digits"}
    for seed in range(3):
        assert api.post("/v1/supernets", {**body, "seed": seed}).status_code == 202
    answer = api.post("/v1/supernets", {**body, "seed": 3})
    is_problem(answer, 429, code="quota")
    assert int(answer.headers["retry-after"]) > 0
    other = api.new_tenant()
    for seed in range(2):
        assert api.post("/v1/supernets", {**body, "seed": seed}, key=other).status_code == 202
    is_problem(api.post("/v1/supernets", {**body, "seed": 2}, key=other), 429, code="queue_full")
    job = api.get("/v1/jobs").json()["items"][0]["id"]
    api.post(f"/v1/jobs/{job}/cancel")
    assert api.post("/v1/supernets", {**body, "seed": 3}).status_code == 202


def test_the_rate_of_a_key(make_api: Callable[..., Api]) -> None:
    api = make_api(rate_burst=10, rate_per_s=0.01)
    answers = [api.get("/v1/jobs") for _ in range(12)]
    assert [a.status_code for a in answers[:10]] == [200] * 10
    is_problem(answers[-1], 429, code="rate_limited")
    assert int(answers[-1].headers["retry-after"]) > 1
    assert api.get("/healthz", key=None).status_code == 200


def test_cancel(ready: Api) -> None:
    job = ready.post("/v1/searches", search_request(ready.add_supernet(), 50.0)).json()["id"]
    answer = ready.post(f"/v1/jobs/{job}/cancel")
    assert answer.status_code == 202
    assert ready.get(f"/v1/jobs/{job}").json()["state"] == "cancelled"
    problem = is_problem(ready.post(f"/v1/jobs/{job}/cancel"), 409, code="job_ended")
    assert problem["state"] == "cancelled"


def test_cancel_a_running_job_is_asked_for(ready: Api) -> None:
    job = ready.post("/v1/searches", search_request(ready.add_supernet(), 50.0)).json()["id"]
    with ready.services.sessions.begin() as session:
        move(session, job, JobState.RUNNING, from_states=(JobState.QUEUED,))
    answer = ready.post(f"/v1/jobs/{job}/cancel", {})
    assert answer.status_code == 202
    assert answer.json()["state"] == "running" and answer.json()["cancel_asked"]


def test_pages_miss_and_repeat_nothing_while_jobs_come_in(ready: Api) -> None:
    def add(seed: int) -> str:
        body = {"space": SPACE.name, "dataset": "digits", "seed": seed}
        return str(ready.post("/v1/supernets", body).json()["id"])

    made = [add(seed) for seed in range(7)]
    seen: list[str] = []
    cursor = ""
    while True:
        page = ready.get(f"/v1/jobs?limit=2{cursor}").json()
        seen += [job["id"] for job in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&after={page['next']}"
        add(100 + len(seen))
    assert seen == made[::-1]
    assert ready.get("/v1/jobs?kind=search").json()["items"] == []
    assert len(ready.get("/v1/jobs?state=queued&kind=supernet&limit=200").json()["items"]) == 10


def test_e7_lists_use_their_index(ready: Api) -> None:
    if ready.services.engine.dialect.name != "sqlite":
        pytest.skip("the plan of an empty PostgreSQL table says nothing")
    with ready.services.sessions() as session:
        for where, index in (
            ("", "ix_jobs_tenant_created"),
            ("AND state = 'queued'", "ix_jobs_tenant_state"),
        ):
            query = (
                f"EXPLAIN QUERY PLAN SELECT * FROM jobs WHERE tenant_id = 't' {where} ORDER BY "
                "created_at DESC, id DESC LIMIT 50"
            )
            plan = " ".join(str(row) for row in session.execute(text(query)))
            assert index in plan and "TEMP B-TREE" not in plan, plan


def test_events_in_order_and_after(ready: Api) -> None:
    job = ready.post("/v1/searches", search_request(ready.add_supernet(), 50.0)).json()["id"]
    with ready.services.sessions.begin() as session:
        move(session, job, JobState.RUNNING, from_states=(JobState.QUEUED,))
        record_progress(session, job, "search", 0.5, "half", 3.0)
    items = ready.get(f"/v1/jobs/{job}/events").json()["items"]
    assert [(e["sequence"], e["kind"]) for e in items] == [(1, "queued"), (2, "running"), (3, "progress")]
    assert ready.get(f"/v1/jobs/{job}/events?after=2").json()["items"] == items[2:]
    assert ready.get(f"/v1/jobs/{job}").json()["progress"] == {
        "step": "search",
        "fraction": 0.5,
        "message": "half",
        "eta_s": 3.0,
    }


def test_events_as_a_stream_until_the_end(ready: Api) -> None:
    job = ready.post("/v1/searches", search_request(ready.add_supernet(), 50.0)).json()["id"]
    with ready.services.sessions.begin() as session:
        move(session, job, JobState.RUNNING, from_states=(JobState.QUEUED,))

    def finish() -> None:
        with ready.services.sessions.begin() as session:
            move(session, job, JobState.SUCCEEDED, from_states=(JobState.RUNNING,), result={"models": []})

    timer = threading.Timer(0.7, finish)
    timer.start()
    answer = ready.get(f"/v1/jobs/{job}/events", headers={"Accept": "text/event-stream"})
    timer.join()
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = [b for b in answer.text.split("\n\n") if b and not b.startswith(":")]
    data = [json.loads(line[6:]) for b in blocks for line in b.splitlines() if line.startswith("data: ")]
    assert [d["kind"] for d in data] == ["queued", "running", "succeeded"]
    named = [dict(line.split(": ", 1) for line in b.splitlines()) for b in blocks]
    assert [(n["id"], n["event"]) for n in named] == [("1", "queued"), ("2", "running"), ("3", "succeeded")]
    rest = ready.get(f"/v1/jobs/{job}/events", headers={"Accept": "text/event-stream", "Last-Event-ID": "2"})
    assert "event: succeeded" in rest.text and "event: running" not in rest.text
    is_problem(ready.get("/v1/jobs/job_0/events", headers={"Accept": "text/event-stream"}), 404)


@pytest.fixture
def model(api: Api) -> tuple[Api, str]:
    api.add_device("phone")
    table = api.add_table("phone")["id"]
    supernet = api.add_supernet()
    job = api.post("/v1/searches", search_request(supernet, 50.0)).json()["id"]
    return api, deliver(api, job, supernet, table)


DATA = b"the bytes of a network"


def test_d1_hashes_agree(model: tuple[Api, str]) -> None:
    api, model_id = model
    sha256 = hashlib.sha256(DATA).hexdigest()
    assert api.get(f"/v1/models/{model_id}").json() == {"file": {"sha256": sha256}}
    assert [m["id"] for m in api.get("/v1/models").json()["items"]] == [model_id]
    answer = api.get(f"/v1/models/{model_id}/onnx")
    assert answer.content == DATA
    assert answer.headers["etag"] == f'"{sha256}"'
    assert (
        answer.headers["repr-digest"]
        == f"sha-256=:{base64.b64encode(hashlib.sha256(DATA).digest()).decode()}:"
    )
    for tag in (f'"{sha256}"', f'W/"{sha256}"', f'"x", "{sha256}"', "*"):
        cached = api.get(f"/v1/models/{model_id}/onnx", headers={"If-None-Match": tag})
        assert cached.status_code == 304 and cached.content == b""
    assert api.get(f"/v1/models/{model_id}/onnx", headers={"If-None-Match": '"x"'}).status_code == 200


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-3", DATA[:4]),
        ("bytes=4-", DATA[4:]),
        ("bytes=-4", DATA[-4:]),
        ("bytes=0-9999", DATA),
        ("bytes=-9999", DATA),
        (f"bytes={len(DATA) - 1}-", DATA[-1:]),
    ],
)
def test_ranges(model: tuple[Api, str], wanted: str, part: bytes) -> None:
    api, model_id = model
    answer = api.get(f"/v1/models/{model_id}/onnx", headers={"Range": wanted})
    assert answer.status_code == 206
    assert answer.content == part
    first, _, rest = answer.headers["content-range"].removeprefix("bytes ").partition("-")
    assert DATA[int(first) : int(rest.partition("/")[0]) + 1] == part


def test_ranges_that_are_none(model: tuple[Api, str]) -> None:
    """E5: 30,000 ranges at once cost nothing; they get the whole file."""
    api, model_id = model
    for wanted in (
        "bytes=-",
        "bytes=a-b",
        "lines=1-2",
        "bytes=0-1,3-4",
        "bytes=" + ",".join(f"{n}-{n}" for n in range(100)),
    ):
        answer = api.get(f"/v1/models/{model_id}/onnx", headers={"Range": wanted})
        assert answer.status_code == 200 and answer.content == DATA
    for wanted in ("bytes=9999-", "bytes=5-4", f"bytes={len(DATA)}-", "bytes=-0"):
        answer = api.get(f"/v1/models/{model_id}/onnx", headers={"Range": wanted})
        is_problem(answer, 416)
        assert answer.headers["content-range"] == f"bytes */{len(DATA)}"


def test_d1_a_flipped_bit_is_never_served(model: tuple[Api, str]) -> None:
    api, model_id = model
    place = api.services.store.path(hashlib.sha256(DATA).hexdigest())
    place.chmod(0o600)
    for offset in range(len(DATA)):
        place.write_bytes(DATA[:offset] + bytes([DATA[offset] ^ 1]) + DATA[offset + 1 :])
        is_problem(api.get(f"/v1/models/{model_id}/onnx"), 503, code="artifact_corrupt")
    place.write_bytes(DATA[:-1])
    is_problem(
        api.get(f"/v1/models/{model_id}/onnx", headers={"Range": "bytes=0-3"}), 503, code="artifact_corrupt"
    )
    place.unlink()
    is_problem(api.get(f"/v1/models/{model_id}/onnx"), 503, code="artifact_missing")
    assert "bespoke_artifact_corrupt_total" in api.get("/metrics").text


def test_jobs_are_counted_for_metrics(ready: Api) -> None:
    ready.post("/v1/searches", search_request(ready.add_supernet(), 50.0))
    page = ready.get("/metrics").text
    assert 'bespoke_jobs{kind="search",state="queued"} 1.0' in page
    assert 'bespoke_http_requests_total{method="POST",route="/v1/searches",status="202"} 1.0' in page
    with ready.services.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 1


def test_the_front(ready: Api) -> None:
    supernet = ready.add_supernet()
    answer = ready.get(f"/v1/supernets/{supernet}/front?device=phone")
    front = answer.json()
    latencies, accuracies = ([p[k] for p in front["points"]] for k in ("latency_ms", "accuracy"))
    assert front["optimal"] and len(latencies) > 5
    assert latencies == sorted(latencies) and accuracies == sorted(accuracies)
    assert all(p["upper_ms"] is None for p in front["points"])
    assert latencies[0] == pytest.approx(front["reachable_ms"]["min"])
    for point in front["points"]:
        SPACE.from_json(point["architecture"])
    is_problem(ready.get(f"/v1/supernets/{supernet}/front?device=nobody"), 404)
    is_problem(ready.get(f"/v1/supernets/{supernet}/front"), 422)
    view = ready.get(f"/v1/supernets/{supernet}").json()
    assert view["state"] == "ready" and view["predictor"]["rmse"] < 0.01
    assert view["largest"]["accuracy"] > view["smallest"]["accuracy"]


@pytest.mark.parametrize(
    "path", ["/v1/jobs/a%00b", "/v1/jobs/a%00b/events", "/v1/devices/%00", "/v1/models/x%00/card"]
)
def test_an_id_that_no_database_takes_is_not_there(both: Api, path: str) -> None:
    """PostgreSQL refuses NUL in text; polls are read together, so such an id must not even reach the query of
    the others."""
    is_problem(both.get(path), 404)
