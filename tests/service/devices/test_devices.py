"""Devices and their latency tables, on both databases."""

from __future__ import annotations

import json
import threading

import pytest

from service.db.models import Model, Table, TableRow, new_id, now
from service.jobs.queue import JobQueue
from tests.service.api import CONTEXT, SPACE, Api, is_problem, search_request, table_rows


def test_register_look_list(both: Api) -> None:
    answer = both.add_device("phone")
    assert answer.headers["location"] == "/v1/devices/phone"
    view = both.get("/v1/devices/phone").json()
    assert view["context"] == CONTEXT
    assert view["tables"] == [] and view["coverage"] == [] and view["calibration"] == []
    assert view["created_at"].endswith("Z")
    both.add_device("board")
    assert [d["name"] for d in both.get("/v1/devices").json()["items"]] == ["board", "phone"]


def test_the_same_name_again(both: Api) -> None:
    both.add_device("phone")
    answer = both.post("/v1/devices", {"name": "phone", "context": {**CONTEXT, "threads": 4}})
    is_problem(answer, 409, code="already_exists")
    assert both.get("/v1/devices/phone").json()["context"]["threads"] == 1


def test_lists_come_in_pages(api: Api) -> None:
    for name in ("a", "b", "c", "d", "e"):
        api.add_device(name)
    seen, after = [], ""
    while True:
        page = api.get(f"/v1/devices?limit=2{after}").json()
        seen += [d["name"] for d in page["items"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert seen == ["a", "b", "c", "d", "e"]


def test_a_table_whole_and_back(both: Api) -> None:
    both.add_device("phone")
    created = both.add_table("phone")
    rows = table_rows()
    assert created["rows"] == len(rows)
    assert created["coverage"] == [
        {
            "space": SPACE.name,
            "classes": 10,
            "resolutions": list(SPACE.resolutions),
            "of": list(SPACE.resolutions),
        }
    ]
    path = f"/v1/devices/phone/tables/{created['id']}"
    back = both.get(path, headers={"Accept": "application/json"})
    assert json.loads(back.content) == {"context": CONTEXT, "rows": rows}
    as_csv = both.get(path, headers={"Accept": "text/csv"})
    assert as_csv.headers["content-type"].startswith("text/csv")
    assert as_csv.content == both.get(path, headers={"Accept": "text/csv"}).content
    assert both.get(path, headers={"If-None-Match": back.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("media_type", ["application/json", "text/csv"])
def test_what_comes_back_can_be_registered_again(api: Api, media_type: str) -> None:
    api.add_device("phone")
    created = api.add_table("phone")
    text = api.get(f"/v1/devices/phone/tables/{created['id']}", headers={"Accept": media_type}).content
    again = api.call("POST", "/v1/devices/phone/tables", content=text, headers={"Content-Type": media_type})
    assert again.status_code == 201
    assert again.json()["id"] == created["id"]  # equal content is the same version
    api.add_device("twin")
    copy = api.call("POST", "/v1/devices/twin/tables", content=text, headers={"Content-Type": media_type})
    assert copy.json()["rows"] == created["rows"]
    assert (
        api.get(f"/v1/devices/twin/tables/{copy.json()['id']}", headers={"Accept": media_type}).content
        == text
    )


def test_versions_are_kept(api: Api) -> None:
    api.add_device("phone")
    first = api.add_table("phone")
    rows = table_rows()
    rows[0]["median_ms"] *= 1.01
    second = api.add_table("phone", rows)
    assert (first["version"], second["version"]) == (1, 2)
    view = api.get("/v1/devices/phone").json()
    assert [t["id"] for t in view["tables"]] == [second["id"], first["id"]]
    assert view["table_id"] == second["id"]


def test_a_table_that_needs_review_is_not_used_silently(api: Api) -> None:
    """A4, F7: what cannot be true is kept, marked, and not selected."""
    api.add_device("phone")
    good = api.add_table("phone")
    rows = table_rows()
    rows[3] = {"operator": rows[3]["operator"], "median_ms": 1e-9}
    bad = api.add_table("phone", rows)
    assert bad["state"] == "needs_review"
    assert bad["warnings"]
    view = api.get("/v1/devices/phone").json()
    assert view["table_id"] == good["id"]
    assert view["tables"][0]["reasons"][0]["severity"] == "review"


def test_if_match_is_needed_and_checked(both: Api) -> None:
    """D6: of two changes with one ETag one is refused; without an ETag both are."""
    etag = both.add_device("phone").headers["etag"]
    body = {"description": "on the shelf"}
    is_problem(both.call("PATCH", "/v1/devices/phone", body), 428)
    first = both.call("PATCH", "/v1/devices/phone", body, headers={"If-Match": etag})
    assert first.status_code == 200
    assert first.json()["description"] == "on the shelf"
    is_problem(both.call("PATCH", "/v1/devices/phone", {"description": "x"}, headers={"If-Match": etag}), 412)
    again = both.call(
        "PATCH", "/v1/devices/phone", {"description": "y"}, headers={"If-Match": first.headers["etag"]}
    )
    assert again.status_code == 200


def test_two_changes_at_once_with_one_etag(both: Api) -> None:
    etag = both.add_device("phone").headers["etag"]
    statuses: list[int] = []
    barrier = threading.Barrier(4)

    def change(number: int) -> None:
        barrier.wait()
        answer = both.call(
            "PATCH", "/v1/devices/phone", {"description": str(number)}, headers={"If-Match": etag}
        )
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=change, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 412, 412, 412]


def test_d8_deletion_is_refused_while_in_use(both: Api) -> None:
    both.add_device("phone")
    table = both.add_table("phone")
    supernet = both.add_supernet()
    queued = both.post("/v1/searches", search_request(supernet, 100.0)).json()
    is_problem(both.call("DELETE", "/v1/devices/phone"), 409, code="in_use")
    is_problem(both.call("DELETE", f"/v1/devices/phone/tables/{table['id']}"), 409, code="in_use")
    assert both.post(f"/v1/jobs/{queued['id']}/cancel").status_code == 202
    assert both.call("DELETE", f"/v1/devices/phone/tables/{table['id']}").status_code == 204
    assert both.call("DELETE", "/v1/devices/phone").status_code == 204
    is_problem(both.get("/v1/devices/phone"), 404)
    with both.services.sessions() as session:
        assert session.query(Table).count() == session.query(TableRow).count() == 0


def test_a_device_of_a_delivered_model_stays(api: Api) -> None:
    from service.db.artifacts import register

    api.add_device("phone")
    table = api.add_table("phone")
    supernet = api.add_supernet()
    job = api.post("/v1/searches", search_request(supernet, 100.0)).json()["id"]
    with api.services.sessions.begin() as session:
        sha256, size = api.services.store.put(b"onnx")
        register(session, sha256, size, "onnx_model")
        row = session.get(Table, table["id"])
        assert row is not None
        session.add(
            Model(
                id=new_id("mod"),
                tenant_id=api.tenant_id,
                job_id=job,
                device_id=row.device_id,
                supernet_id=supernet,
                table_id=row.id,
                budget_ms=1.0,
                onnx_sha256=sha256,
                card={},
                created_at=now(),
            )
        )
    api.post(f"/v1/jobs/{job}/cancel")
    is_problem(api.call("DELETE", "/v1/devices/phone"), 409, code="in_use")
    is_problem(api.call("DELETE", f"/v1/devices/phone/tables/{table['id']}"), 409, code="in_use")


def test_unknown_device_and_table(api: Api) -> None:
    is_problem(api.get("/v1/devices/nobody"), 404)
    api.add_device("phone")
    is_problem(api.get(f"/v1/devices/phone/tables/{new_id('tab')}"), 404)
    is_problem(api.get("/v1/devices/phone/tables/nonsense"), 404)
    assert isinstance(api.services.queue, JobQueue)


def test_a_large_table(api: Api) -> None:
    """20,000 rows in one request, read back whole."""
    from latency_tables.operators.conv import Conv

    api.add_device("phone")
    lines = ["operator,median_ms"]
    for number in range(20_000):
        op = Conv(1 + number % 500, 1 + number // 500, 3, 8, 3, 1, 0, False, False, "relu", 1)
        lines.append(f"{op.text},0.5")
    answer = api.call(
        "POST",
        "/v1/devices/phone/tables",
        content="\n".join(lines).encode(),
        headers={"Content-Type": "text/csv"},
    )
    assert answer.status_code == 201
    assert answer.json()["rows"] == 20_000


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"provider": "GPU"}, "execution providers"),
        ({"runtime": "openvino", "provider": "CPUExecutionProvider"}, "one device"),
        ({"runtime": "openvino", "provider": "HETERO:GPU,CPU"}, "one device"),
        ({"runtime": "openvino", "provider": "CPU(NUM_STREAMS=4)"}, "threads"),
        ({"provider": "CUDAExecutionProvider(device_id)"}, "name=value"),
        ({"precision": "int3"}, "float32"),
        ({"runtime": "tflite", "provider": "xnnpack", "precision": "int8"}, "int8"),
        ({"runtime": "tensorrt", "precision": "int8", "runtime_version": "10.3"}, "int8"),
        ({"runtime_version": "0.9"}, "1.3"),
    ],
)
def test_a_context_that_nothing_can_be_measured_in_is_refused_with_the_reason(
    api: Api, changed: dict[str, str], said: str
) -> None:
    problem = is_problem(
        api.post("/v1/devices", {"name": "x", "context": {**CONTEXT, **changed}}),
        422,
        code="unservable_context",
    )
    assert said in problem["detail"] and problem["errors"][0]["pointer"] == "/context"
    assert api.get("/v1/devices").json()["items"] == []


def test_a_runtime_that_the_agent_has_not_is_registered_for_imported_tables(api: Api) -> None:
    context = {**CONTEXT, "runtime": "tflite", "provider": "xnnpack"}
    assert api.post("/v1/devices", {"name": "phone", "context": context}).status_code == 201
