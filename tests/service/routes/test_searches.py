"""What a search can be asked for: choices left out, several devices together, limits alone; pinned and
refused over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from service.db.models import Device, Job
from service.db.states import JobState
from service.db.transitions import move
from service.devices.price_book import PriceBook
from tests.service.api import CONTEXT, SPACE, Api, is_problem, table_rows


def narrowed(supernet: str, **more: Any) -> dict[str, Any]:
    return {"supernet": supernet, "targets": [{"device": "phone", "budget": {"latency_ms": 50.0}, **more}]}


def stored_target(api: Api, answer: Any) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    with api.services.sessions() as session:
        row = session.get(Job, answer.json()["id"])
        assert row is not None
        target: dict[str, Any] = row.request["targets"][0]
        return target


def test_a_search_leaves_out_what_its_target_excludes(api: Api) -> None:
    api.add_device("phone")
    api.add_table("phone")
    supernet = api.add_supernet()
    exclude = {"kernel": 7, "stage2.expand": [4]}
    target = stored_target(
        api, api.post("/v1/searches", narrowed(supernet, exclude=exclude, resolutions=[8, 12]))
    )
    assert target["exclude"] == {"kernel": [7], "stage2.expand": [4]} and target["resolutions"] == [8, 12]
    for more, text in (
        ({"exclude": {"kernel": 9}}, "kernel: 1, 3, 5, 7"),
        ({"exclude": {"kernels": 7}}, "kernel: 1, 3, 5, 7"),
        ({"exclude": {"stage2.kernel": [3, 5, 7]}}, "stage2 has no other choice"),
        ({"resolutions": [9]}, "8, 12, 16"),
    ):
        document = is_problem(api.post("/v1/searches", narrowed(supernet, **more)), 422)
        assert text in document["detail"], document


def test_choices_without_a_latency_are_left_out_only_where_that_was_asked_for(api: Api) -> None:
    api.add_device("phone")
    kept = [row for row in table_rows() if "kernel=7" not in row["operator"]]
    lacking = len(table_rows()) - len(kept)
    assert lacking
    api.add_table("phone", kept)
    supernet = api.add_supernet()
    refused = is_problem(api.post("/v1/searches", narrowed(supernet)), 422, code="no_table")
    assert "lacks" in refused["detail"] and "more" in refused["detail"], (
        "the first five are named, and how many"
    )
    assert (
        stored_target(api, api.post("/v1/searches", narrowed(supernet, missing="exclude")))["missing"]
        == "exclude"
    )
    with api.services.sessions() as session:
        device = session.scalars(select(Device)).one()
        priced = PriceBook().load(session, device, SPACE, partial=True)
    assert len(priced.lacking) == lacking and all("kernel=7" in text for text in priced.lacking)
    only_stem = [row for row in table_rows() if row["operator"].startswith("conv")]
    api.add_device("empty")
    api.add_table("empty", only_stem)
    body = {
        "supernet": supernet,
        "targets": [{"device": "empty", "budget": {"latency_ms": 50.0}, "missing": "exclude"}],
    }
    is_problem(api.post("/v1/searches", body), 422, code="no_table")


def test_one_network_for_several_devices_is_pinned_to_all_of_them(api: Api) -> None:
    for name in ("phone", "board"):
        api.add_device(name)
        api.add_table(name)
    supernet = api.add_supernet()
    group = [{"device": n, "budget": {"latency_ms": b}} for n, b in (("phone", 50.0), ("board", 40.0))]
    target = stored_target(
        api, api.post("/v1/searches", {"supernet": supernet, "targets": [{"group": group}]})
    )
    assert [m["device"] for m in target["group"]] == ["phone", "board"] and all(
        m["table_id"] for m in target["group"]
    )
    is_problem(api.call("DELETE", "/v1/devices/board"), 409)
    table_id = target["group"][1]["table_id"]
    is_problem(api.call("DELETE", f"/v1/devices/board/tables/{table_id}"), 409)
    group[1]["budget"]["latency_ms"] = 1e-6
    document = is_problem(
        api.post("/v1/searches", {"supernet": supernet, "targets": [{"group": group}]}), 422
    )
    assert document["reachable_ms"]["min"] > 1e-6 and "board" in document["detail"]


@pytest.mark.parametrize(
    ("field", "value"), [("precision", "float16"), ("batch_size", 8)], ids=["precision", "batch"]
)
def test_one_file_cannot_serve_devices_of_different_precision_or_batch(
    api: Api, field: str, value: object
) -> None:
    context = {**CONTEXT, field: value}
    api.add_device("phone")
    api.add_table("phone")
    assert api.post("/v1/devices", {"name": "other", "context": context}).status_code == 201
    body = {"context": context, "rows": table_rows()}
    assert api.post("/v1/devices/other/tables", body).status_code == 201
    supernet = api.add_supernet()
    group = [{"device": name, "budget": {"latency_ms": 500.0}} for name in ("phone", "other")]
    refused = api.post("/v1/searches", {"supernet": supernet, "targets": [{"group": group}]})
    document = is_problem(refused, 422, code="unservable_context")
    assert document["errors"][0]["pointer"] == "/targets/0/group" and str(value) in document["detail"]
    alone = [{"device": name, "budget": {"latency_ms": 500.0}} for name in ("phone", "other")]
    assert api.post("/v1/searches", {"supernet": supernet, "targets": alone}).status_code == 202


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING])
def test_no_device_or_table_of_a_group_is_deleted_under_its_job(api: Api, state: JobState) -> None:
    names, supernet = ("phone", "board", "watch"), api.add_supernet()
    tables = {}
    for name in names:
        api.add_device(name)
        tables[name] = api.add_table(name)["id"]
        api.add_table(name, [{**row, "median_ms": row["median_ms"] * 1.01} for row in table_rows()])
        used = api.get(f"/v1/devices/{name}").json()["table_id"]
        assert used != tables[name]
        tables[name] = used
    group = [{"device": name, "budget": {"latency_ms": 50.0}} for name in names]
    job = api.post("/v1/searches", {"supernet": supernet, "targets": [{"group": group}]}).json()["id"]
    with api.services.sessions.begin() as session:
        if state is JobState.RUNNING:
            move(session, job, JobState.RUNNING, from_states=[JobState.QUEUED])
    for name in names:
        is_problem(api.call("DELETE", f"/v1/devices/{name}"), 409, code="in_use")
        is_problem(api.call("DELETE", f"/v1/devices/{name}/tables/{tables[name]}"), 409, code="in_use")
    with api.services.sessions.begin() as session:
        move(session, job, JobState.CANCELLED, from_states=[state])
    for name in names:
        assert api.call("DELETE", f"/v1/devices/{name}/tables/{tables[name]}").status_code == 204
        assert api.call("DELETE", f"/v1/devices/{name}").status_code == 204


def test_limits_on_size_and_memory_alone_need_no_device_and_no_table(api: Api) -> None:
    supernet = api.add_supernet()
    body = {"supernet": supernet, "targets": [{"budget": {"size_bytes": 400_000, "memory_bytes": 60_000}}]}
    assert stored_target(api, api.post("/v1/searches", body)) == body["targets"][0]
    body["targets"][0]["budget"] = {"memory_bytes": 10}
    document = is_problem(api.post("/v1/searches", body), 422, code="infeasible_budget")
    assert document["constraint"] == "memory_bytes" and document["reachable"]["min"] > 10


@pytest.mark.parametrize(
    "target",
    [
        {},
        {"budget": {}},
        {"budget": {"latency_ms": 5.0}},
        {"device": "phone"},
        {"device": "phone", "budget": {"size_bytes": 400_000}},
        {"group": [{"device": "phone", "budget": {"latency_ms": 5.0}}]},
        {"group": [{"device": "phone", "budget": {"latency_ms": 5.0}}] * 2},
        {
            "group": [
                {"device": "phone", "budget": {"size_bytes": 5}},
                {"device": "board", "budget": {"latency_ms": 5.0}},
            ]
        },
        {"group": [{"device": n, "budget": {"latency_ms": 5.0}} for n in ("a", "b")], "device": "phone"},
        {
            "group": [{"device": n, "budget": {"latency_ms": 5.0}} for n in ("a", "b")],
            "budget": {"latency_ms": 1.0},
        },
        {"device": "phone", "budget": {"latency_ms": 5.0}, "exclude": {}},
        {"device": "phone", "budget": {"latency_ms": 5.0}, "exclude": {"kernel": []}},
        {"device": "phone", "budget": {"latency_ms": 5.0}, "exclude": {"a b": 7}},
        {"device": "phone", "budget": {"latency_ms": 5.0}, "exclude": ["kernel"]},
        {"device": "phone", "budget": {"latency_ms": 5.0}, "resolutions": []},
        {"device": "phone", "budget": {"latency_ms": 5.0}, "resolutions": ["8"]},
        {"device": "phone", "budget": {"latency_ms": 5.0}, "missing": "ignore"},
    ],
    ids=str,
)
def test_targets_that_say_nothing_or_too_much_are_refused(api: Api, target: dict[str, Any]) -> None:
    is_problem(api.post("/v1/searches", {"supernet": "sup_" + "1" * 32, "targets": [target]}), 422)
