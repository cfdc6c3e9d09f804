"""B1-B9: keys, scopes, tenants. The matrix is generated from the route table, so a new route is in it by
itself."""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter
from sqlalchemy import text

import service
from service.db.models import Base, new_id, now
from service.http import auth
from service.http.auth import PUBLIC, SCOPES, TENANT_SCOPES
from service.http.guard import GuardedRoute, needs
from service.routes.catalog import ROUTERS
from tests.service.api import CONTEXT, SPACE, Api, is_problem, search_request

ROUTES = [route for router in ROUTERS for route in router.routes if isinstance(route, GuardedRoute)]
CALLS = [(method, route) for route in ROUTES for method in sorted(route.methods or ())]
OPEN = {
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/docs",
    "/v1/agent/enrol",
    "/v1/sessions",
    "/",
    "/ui",
    "/ui/",
    "/ui/{digest}/{path:path}",
}
QUERIES = {
    "GET /v1/supernets/{supernet_id}/front": "?device=phone",
    "GET /v1/supernets/{supernet_id}/network": "?device=phone&genes=0",
    "GET /v1/devices/{name}/probe-plan": "?space=digits-mbv3",
    "GET /v1/devices/{name}/tables/{table_id}/cells": "?space=digits-mbv3",
    "DELETE /v1/devices/{name}/networks": "?session=probe",
}
IDS = [f"{method} {route.path}" for method, route in CALLS]


@pytest.fixture
def patient(make_api: Callable[..., Api]) -> Api:
    """A server that does not slow down guessing, so that the matrix can be walked."""
    return make_api(bad_keys_burst=100_000)


def path_of(route: GuardedRoute, **values: str) -> str:
    """A path with ids that are not there."""
    path = route.path
    for name in route.param_convertors:
        path = path.replace(
            "{" + name + "}", values.get(name, "job_" + "0" * 32 if "id" in name else "a" * 64)
        )
    return path


def send(api: Api, method: str, route: GuardedRoute, key: str | None, **options: Any) -> Any:
    body = {} if method in ("POST", "PATCH") else None
    return api.call(method, path_of(route), body, key=key, **options)


def test_only_these_routes_are_open() -> None:
    assert {route.path for route in ROUTES if route.scope_needed == PUBLIC} == OPEN


def test_b1_nothing_answers_without_a_good_key(patient: Api) -> None:
    expired = patient.new_key("jobs:read")
    revoked = patient.new_key("jobs:read")
    keys = {k["id"]: k for k in patient.get("/v1/keys").json()["items"]}
    with patient.services.sessions.begin() as session:
        session.execute(
            text("UPDATE api_keys SET expires_at = :at WHERE digest = :digest"),
            {
                "at": (now() - timedelta(seconds=1)).strftime("%Y-%m-%d %H:%M:%S.%f"),
                "digest": auth.digest_of(expired),
            },
        )
        row = auth.key_rows.by_digest(session, auth.digest_of(revoked))
        assert row is not None and row.id in keys
        auth.key_rows.revoke(session, patient.tenant_id, row.id)
    patient.services.authenticator.forget()
    bad = [
        None,
        "garbage",
        "",
        patient.key[:-1] + ("A" if patient.key[-1] != "A" else "B"),
        auth.new_secret("key"),
        expired,
        revoked,
    ]
    for method, route in CALLS:
        if route.scope_needed == PUBLIC:
            continue
        for key in bad:
            answer = send(patient, method, route, key)
            is_problem(answer, 401, code="unauthenticated")
            assert answer.headers["www-authenticate"].startswith("Bearer"), (method, route.path)
        basic = send(patient, method, route, None, headers={"Authorization": f"Basic {patient.key}"})
        is_problem(basic, 401)
        query = patient.call(method, path_of(route) + f"?key={patient.key}", key=None)
        is_problem(query, 401)


def test_b2_every_single_scope_opens_its_own_routes_only(patient: Api) -> None:
    for scope in SCOPES:
        key = patient.new_key(scope)
        for method, route in CALLS:
            answer = send(patient, method, route, key)
            if route.scope_needed in (PUBLIC, scope):
                assert answer.status_code not in (401, 403) or route.path == "/v1/agent/enrol", (
                    scope,
                    method,
                    route.path,
                )
            else:
                is_problem(answer, 403, code="insufficient_scope")


def test_b2_a_route_without_a_scope_fails_at_start() -> None:
    router = APIRouter(route_class=GuardedRoute)
    with pytest.raises(RuntimeError, match="declares no scope"):
        router.get("/open")(lambda: None)
    with pytest.raises(RuntimeError, match="declares no scope"):
        router.get("/open", openapi_extra=needs("everything:write"))(lambda: None)


def test_b2_a_route_of_another_kind_fails_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    from service import app
    from service.settings import Settings

    loose = APIRouter()
    loose.get("/open")(lambda: None)
    monkeypatch.setattr(app, "ROUTERS", (*ROUTERS, loose))
    with pytest.raises(RuntimeError, match="without a guard: /open"):
        app.create_app(Settings())


def test_b3_another_tenants_things_do_not_exist(both: Api) -> None:
    """The answers are byte for byte those for ids that are not there, and nothing of A changes."""
    both.add_device("phone")
    table = both.add_table("phone")["id"]
    supernet = both.add_supernet()
    job = both.post("/v1/searches", search_request(supernet, 100.0)).json()["id"]
    model = deliver(both, job, supernet, table)
    key_id = both.get("/v1/keys").json()["items"][0]["id"]
    stranger = both.new_tenant("stranger")
    mine = {
        "name": "phone",
        "table_id": table,
        "supernet_id": supernet,
        "job_id": job,
        "model_id": model,
        "key_id": key_id,
    }
    missing = {k: new_id(v.partition("_")[0]) if "_" in v else "nobody" for k, v in mine.items()}
    headers = {"If-Match": '"1"', "X-Request-Id": "the-same-for-both"}
    before = dump(both)
    tried = 0
    for method, route in CALLS:
        if (
            not route.param_convertors
            or set(route.param_convertors) & {"sha256"}
            or route.path.startswith("/v1/spaces")
        ):
            continue
        tried += 1
        body = BODIES.get((method, route.path), {}) if method in ("POST", "PATCH") else None
        query = QUERIES.get(f"{method} {route.path}", "")
        theirs = both.call(method, path_of(route, **mine) + query, body, key=stranger, headers=headers)
        nobodys = both.call(method, path_of(route, **missing) + query, body, key=stranger, headers=headers)
        is_problem(theirs, 404)
        assert theirs.content == nobodys.content, (method, route.path)
        assert visible(theirs) == visible(nobodys), (method, route.path)
    assert tried > 15
    for path in ("/v1/devices", "/v1/jobs", "/v1/supernets", "/v1/models"):
        assert both.get(path, key=stranger).json()["items"] == []
    search = both.post("/v1/searches", search_request(supernet, 100.0), key=stranger, headers=headers)
    nothing = both.post("/v1/searches", search_request(new_id("sup"), 100.0), key=stranger, headers=headers)
    assert search.status_code == 422 and search.content == nothing.content
    assert dump(both) == before


def visible(answer: Any) -> dict[str, str]:
    return {k: v for k, v in answer.headers.items() if k.lower() not in ("date", "x-request-id")}


BODIES: dict[tuple[str, str], Any] = {
    ("PATCH", "/v1/devices/{name}"): {"description": "theirs now"},
    ("POST", "/v1/devices/{name}/tables"): {"context": CONTEXT, "rows": []},
    ("POST", "/v1/models/{model_id}/compress"): {"budget": {"latency_ms": 1.0}},
    ("POST", "/v1/devices/{name}/profiles"): {"space": "digits-mbv3"},
    ("POST", "/v1/devices/{name}/transformers"): {
        "networks": [{"features": [1.0] * 10, "encoder_ms": 1.0, "decoder_ms": 1.0}]
    },
    ("POST", "/v1/devices/{name}/probes"): {
        "samples": [
            {
                "space": "digits-mbv3",
                "latency_ms": 1.0,
                "architecture": SPACE.to_json(SPACE.largest()),
            }
        ]
    },
}


def deliver(api: Api, job: str, supernet: str, table: str) -> str:
    """A delivered model, as a worker leaves it behind."""
    from service.db.artifacts import register
    from service.db.models import Model, Table

    with api.services.sessions.begin() as session:
        sha256, size = api.services.store.put(b"the bytes of a network")
        register(session, sha256, size, "onnx_model")
        row = session.get(Table, table)
        assert row is not None
        model = Model(
            id=new_id("mod"),
            tenant_id=row.tenant_id,
            job_id=job,
            device_id=row.device_id,
            supernet_id=supernet,
            table_id=table,
            budget_ms=100.0,
            onnx_sha256=sha256,
            card={"file": {"sha256": sha256}},
        )
        session.add(model)
        return model.id


def dump(api: Api) -> dict[str, list[Any]]:
    """Every row of every table, but for what a look changes."""
    with api.services.sessions() as session:
        return {
            name: sorted(str(tuple(row)) for row in session.execute(table.select()))
            for name, table in Base.metadata.tables.items()
            if name not in ("api_keys",)
        }


def test_b5_the_database_holds_no_secret(both: Api) -> None:
    both.add_device("phone")
    secrets = [
        both.key,
        both.new_key("jobs:read"),
        both.new_tenant("second"),
        both.post("/v1/devices/phone/enrolments").json()["token"],
    ]
    stored = "\n".join(line for lines in {**dump(both), "keys": all_keys(both)}.values() for line in lines)
    for secret in secrets:
        assert secret not in stored
        assert secret[12:40] not in stored
        assert repr(auth.digest_of(secret))[2:-1] in stored or auth.digest_of(secret).hex() in stored
    listing = both.get("/v1/keys").text
    assert not any(secret in listing for secret in secrets)


def all_keys(api: Api) -> list[str]:
    with api.services.sessions() as session:
        return [str(tuple(row)) for row in session.execute(Base.metadata.tables["api_keys"].select())]


def test_b6_form_and_checksum_of_a_secret() -> None:
    for kind in ("key", "agent", "enrol"):
        secret = auth.new_secret(kind)  # type: ignore[arg-type]
        assert auth.kind_of(secret) == kind
        assert len(secret.removeprefix(f"bespoke_{kind}_")) == 49
        for place in (0, len(secret) // 2, len(secret) - 1):
            other = "A" if secret[place] != "A" else "B"
            assert auth.kind_of(secret[:place] + other + secret[place + 1 :]) is None
        assert auth.kind_of(secret + "\n") is None
    assert len({auth.new_secret("key") for _ in range(100)}) == 100


def test_b6_no_secret_is_compared_with_equals() -> None:
    """`==` on a digest or a secret leaks where they differ; `hmac.compare_digest` does not."""
    words = ("digest", "secret", "token", "key_digest")
    for file in ("http/auth.py", "http/guard.py", "http/browsers.py", "startup.py"):
        tree = ast.parse((Path(service.__file__).parent / file).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and any(isinstance(o, ast.Eq | ast.NotEq) for o in node.ops):
                names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} | {
                    n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)
                }
                calls = {
                    n.func.id
                    for n in ast.walk(node)
                    if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
                }
                assert calls or not names & set(words), f"{file}:{node.lineno}"


def test_b7_guessing_is_slowed_down(make_api: Callable[..., Api]) -> None:
    api = make_api(bad_keys_burst=20, bad_keys_per_s=0.01)
    answers = [api.get("/v1/jobs", key=auth.new_secret("key")) for _ in range(25)]
    assert [a.status_code for a in answers[:20]] == [401] * 20
    is_problem(answers[-1], 429, code="rate_limited")
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert api.get("/v1/jobs").status_code == 200  # a good key is not slowed down


def test_keys_are_made_shown_once_and_revoked(both: Api) -> None:
    made = both.post("/v1/keys", {"name": "laptop", "scopes": ["jobs:read"], "expires_in_days": 30}).json()
    assert made["scopes"] == ["jobs:read"] and made["expires_at"] is not None
    key = made.pop("key")
    assert both.get("/v1/jobs", key=key).status_code == 200
    listed = [k for k in both.get("/v1/keys").json()["items"] if k["id"] == made["id"]]
    assert listed and "key" not in listed[0] and listed[0]["last_used_at"] is not None
    assert both.call("DELETE", f"/v1/keys/{made['id']}").status_code == 204
    is_problem(both.get("/v1/jobs", key=key), 401)
    assert both.call("DELETE", f"/v1/keys/{made['id']}").status_code == 204
    is_problem(both.call("DELETE", f"/v1/keys/{new_id('key')}"), 404)


def test_a_key_revoked_on_another_process_stops_within_a_second(api: Api) -> None:
    key = api.new_key("jobs:read")
    assert api.get("/v1/jobs", key=key).status_code == 200
    with api.services.sessions.begin() as session:
        row = auth.key_rows.by_digest(session, auth.digest_of(key))
        assert row is not None
        auth.key_rows.revoke(session, row.tenant_id, row.id)
    at = api.services.authenticator.clock()
    api.services.authenticator.clock = lambda: at + 1.01
    is_problem(api.get("/v1/jobs", key=key), 401)


def test_a_key_gives_no_more_than_it_has(api: Api) -> None:
    small = api.new_key("keys:write", "jobs:read")
    is_problem(api.post("/v1/keys", {"name": "x", "scopes": ["jobs:write"]}, key=small), 403)
    assert api.post("/v1/keys", {"name": "x", "scopes": ["jobs:read"]}, key=small).status_code == 201
    is_problem(api.post("/v1/keys", {"name": "x", "scopes": ["agent"]}), 422)
    is_problem(api.post("/v1/keys", {"name": "x", "scopes": ["public"]}), 422)


def test_tenants_are_for_operators(api: Api) -> None:
    other = api.new_tenant("other")
    is_problem(api.get("/v1/tenants", key=other), 403)
    is_problem(api.post("/v1/tenants", {"name": "third"}, key=other), 403)
    is_problem(api.get("/metrics", key=other), 403)
    is_problem(api.post("/v1/tenants", {"name": "other"}), 409)
    assert [t["name"] for t in api.get("/v1/tenants").json()["items"]] == ["owner", "other"]
    scopes = api.get("/v1/keys", key=other).json()["items"][0]["scopes"]
    assert sorted(scopes) == sorted(TENANT_SCOPES)


def test_two_tenants_may_use_one_name(both: Api) -> None:
    other = both.new_tenant("other")
    both.add_device("phone")
    both.add_device("phone", key=other)
    both.add_table("phone")
    assert both.get("/v1/devices/phone", key=other).json()["tables"] == []


def test_many_first_requests_at_once(both: Api) -> None:
    key = both.new_key("jobs:read")
    statuses: list[int] = []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        statuses.append(both.get("/v1/jobs", key=key).status_code)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 8
