"""Group B: who may do what. Every matrix is generated from the route table, so that a new route is in it from
its first day."""

from __future__ import annotations

import ast
import os
import secrets
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from sqlalchemy import func, select, update

from service.db.models import (
    AgentSession,
    ApiKey,
    Artifact,
    Base,
    Enrolment,
    MeasurementTask,
    Model,
    Table,
    new_id,
    now,
)
from service.http.auth import SCOPES, digest_of, kind_of, new_secret
from service.local.doctor import doctor
from tests.reliability.machinery.lab import REPOSITORY
from tests.reliability.machinery.live import LiveApi, status_of
from tests.reliability.machinery.routes import Call, calls
from tests.service.api import CONTEXT, Api, is_problem, search_request

PUBLIC = {
    ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/openapi.json"), ("GET", "/docs"), ("POST", "/v1/agent/enrol"),
    ("POST", "/v1/sessions"),
}  # fmt: skip
PAGES = (
    "/",
    "/ui",
    "/static",
    "/favicon.ico",
)  # pages for people hold no data: they ask for a key themselves


def protected(api: Api) -> list[Call]:
    return [call for call in calls(api.client.app) if call.scope != "public"]


def send(api: Api, call: Call, key: str | None, **values: str) -> httpx.Response:
    body: dict[str, Any] = {"json": {}} if call.body else {}
    return cast(httpx.Response, api.call(call.method, call.path(**values), key=key, **body))


# B1, B2


def test_b01_every_route_asks_for_a_key_but_those_that_are_listed(shared_api: Api) -> None:
    api = shared_api
    open_calls = {(c.method, c.template) for c in calls(api.client.app) if c.scope == "public"}
    assert {c for c in open_calls - PUBLIC if not c[1].startswith(PAGES)} == set(), (
        "a public route that nobody listed"
    )
    expired, revoked = api.new_key("catalog:read"), api.new_key("catalog:read")
    with api.services.sessions.begin() as session:
        session.execute(
            update(ApiKey)
            .where(ApiKey.digest == digest_of(expired))
            .values(expires_at=now() - timedelta(seconds=1))
        )
        session.execute(update(ApiKey).where(ApiKey.digest == digest_of(revoked)).values(revoked_at=now()))
    bad = [
        None,
        "",
        "garbage",
        "x" * 5000,
        expired,
        revoked,
        new_secret("key"),
        new_secret("agent"),
        new_secret("enrol"),
        api.key[:-1] + "_",
    ]
    for call in protected(api):
        for key in bad:
            answer = send(api, call, key)
            is_problem(answer, 401, code="unauthenticated")
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        for headers in (
            {"Authorization": f"Basic {api.key}"},
            {"Authorization": api.key},
            {"X-Api-Key": api.key},
            {"Cookie": f"key={api.key}"},
        ):
            assert api.call(call.method, call.path(), key=None, headers=headers).status_code == 401
        assert (
            api.call(
                call.method, call.path(), key=None, params={"key": api.key, "access_token": api.key}
            ).status_code
            == 401
        )


def test_b02_every_route_asks_for_its_own_scope(shared_api: Api) -> None:
    keys = {scope: shared_api.new_key(scope) for scope in SCOPES}
    for call in protected(shared_api):
        for scope, key in keys.items():
            answer = send(shared_api, call, key)
            if scope == call.scope:
                assert answer.status_code not in (401, 403), f"{call.method} {call.template} with {scope}"
            else:
                is_problem(answer, 403, code="insufficient_scope")


def test_b02_route_without_a_scope_stops_the_start() -> None:
    from fastapi import APIRouter

    from service.http.guard import GuardedRoute

    router = APIRouter(route_class=GuardedRoute)
    with pytest.raises(RuntimeError, match="declares no scope"):
        router.add_api_route("/v1/loose", lambda: None)


# B3: tenants. What A can do, recorded and replayed with every other credential (R12)


@pytest.fixture(scope="module")
def world(shared_api: Api) -> dict[str, str]:
    """Things of tenant A (the owner): a device, a table, a supernet, a job, a model, a key; and their ids."""
    api = shared_api
    api.add_device("mine")
    table = api.add_table("mine")["id"]
    supernet = api.add_supernet(seed=33)
    job = api.post("/v1/searches", search_request(supernet, 1e5, "mine")).json()["id"]
    sha256, size_bytes = api.services.store.put(b"an onnx file of A")
    model_id, made = new_id("mod"), api.post("/v1/keys", {"name": "mine", "scopes": ["jobs:read"]}).json()
    with api.services.sessions.begin() as session:
        session.add(Artifact(sha256=sha256, size_bytes=size_bytes, kind="onnx_model"))
        session.flush()
        device_id = session.scalars(select(Table.device_id).where(Table.id == table)).one()
        session.add(
            Model(
                id=model_id, tenant_id=api.tenant_id, job_id=job, device_id=device_id, supernet_id=supernet, table_id=table,
                budget_ms=1.0, onnx_sha256=sha256, card={"id": model_id, "file": {"sha256": sha256}},
            )
        )  # fmt: skip
    return {
        "name": "mine", "table_id": table, "supernet_id": supernet, "job_id": job, "model_id": model_id, "key_id": made["id"],
        "sha256": sha256, "device_id": device_id,
    }  # fmt: skip


def snapshot(api: Api) -> dict[str, list[Any]]:
    """Every row of every table but what a request always touches."""
    with api.services.sessions() as session:
        return {
            name: [
                tuple(v for c, v in row._mapping.items() if c not in ("last_used_at", "seen_at"))
                for row in session.execute(select(t))
            ]
            for name, t in Base.metadata.tables.items()
        }


def test_b03_another_tenants_things_do_not_exist_byte_for_byte(
    shared_api: Api, world: dict[str, str]
) -> None:
    """With B's key, every route answers for A's ids exactly as for ids that nobody has; and nothing of A
    changes."""
    api, other = shared_api, shared_api.new_tenant("stranger")
    before = snapshot(api)
    for call in protected(api):
        if not call.parameters or call.scope == "agent" or "spaces" in call.template:
            continue
        for number in range(len(call.parameters)):
            theirs = {name: world[name] for name in call.parameters[: number + 1]}
            real, unknown = send(api, call, other, **theirs), send(api, call, other)
            assert real.status_code == unknown.status_code, f"{call.method} {call.template}"
            assert _without_id(real) == _without_id(unknown), f"{call.method} {call.template}"
            if call.body is None or call.body == "nothing":
                assert real.status_code in (404, 422), f"{call.method} {call.template}: {real.status_code}"
    assert snapshot(api) == before
    for path in ("/v1/devices", "/v1/jobs", "/v1/models", "/v1/supernets"):
        assert api.get(path, key=other).json()["items"] == []


def _without_id(answer: httpx.Response) -> tuple[int, Any, dict[str, str]]:
    headers = {k: v for k, v in answer.headers.items() if k not in ("x-request-id", "content-length", "date")}
    try:
        document = answer.json()
    except ValueError:
        return answer.status_code, answer.content, headers
    return answer.status_code, {k: v for k, v in document.items() if k != "request_id"}, headers


def test_b03_search_over_another_tenants_things_is_a_search_over_nothing(
    shared_api: Api, world: dict[str, str]
) -> None:
    other = shared_api.new_tenant("stranger2")
    assert shared_api.post("/v1/devices", {"name": "mine", "context": CONTEXT}, key=other).status_code == 201
    is_problem(
        shared_api.post("/v1/searches", search_request(world["supernet_id"], 1e5, "mine"), key=other),
        422,
        code="unknown_supernet",
    )
    cursor = shared_api.get("/v1/jobs?limit=1").json()["next"]
    if cursor:
        assert shared_api.get(f"/v1/jobs?after={cursor}", key=other).json()["items"] == []


def test_b04_no_request_sets_what_the_service_decides(shared_api: Api, world: dict[str, str]) -> None:
    good: dict[str, dict[str, Any]] = {
        "/v1/devices": {"name": "b04", "context": CONTEXT},
        "/v1/supernets": {"space": "digits-mbv3", "dataset": "digits", "recipe": "quick"},
        "/v1/searches": search_request(world["supernet_id"], 1e5, "mine"),
        "/v1/keys": {"name": "x", "scopes": ["jobs:read"]},
        "/v1/tenants": {"name": "b04"},
    }
    for path, body in good.items():
        for field in (
            "tenant_id",
            "tenant",
            "state",
            "owner",
            "verified",
            "role",
            "id",
            "created_at",
            "priority",
            "__class__",
        ):
            is_problem(shared_api.post(path, {**body, field: "x"}), 422, code="validation")
    for call in calls(shared_api.client.app):
        if call.method == "GET" and call.scope not in ("agent", "public"):
            answer = shared_api.get(
                call.path(**{k: world.get(k, "x") for k in call.parameters}), params={"tenant_id": "x"}
            )
            is_problem(answer, 422, code="validation")


def test_b05_no_secret_is_anywhere(make_live: Callable[..., LiveApi]) -> None:
    """Database, log, artifacts and answers are searched for every secret that was issued; only the owner's
    file has its own."""
    live = make_live(BESPOKE_LOG_LEVEL="debug")
    made = live.post("/v1/keys", json={"name": "x", "scopes": ["jobs:read"]}).json()["key"]
    tenant = live.post("/v1/tenants", json={"name": "b05"}).json()["key"]
    live.post("/v1/devices", json={"name": "phone", "context": CONTEXT})
    token = live.post("/v1/devices/phone/enrolments").json()["token"]
    enrolled = live.post(
        "/v1/agent/enrol", json={"token": token, "context": CONTEXT, "environment": {"fingerprint": "0" * 16}}
    )
    agent = enrolled.json()["agent_key"]
    for secret in (made, tenant, token, agent, live.key):
        live.get("/v1/jobs", headers={"Authorization": f"Bearer {secret}"})
        said = live.get(f"/v1/jobs/{secret}", headers={"X-Request-Id": secret[:60], "User-Agent": "x"})
        assert secret not in said.text
    live.terminate()
    for secret in (made, tenant, token, agent, live.key):
        for file in live.data_dir.rglob("*"):
            if file.is_file() and file.name != "owner.key":
                assert secret.encode() not in file.read_bytes(), f"{file.name} holds a secret"
    with closing(sqlite3.connect(live.data_dir / "bespoke.db")) as database:
        assert all(len(digest) == 32 for (digest,) in database.execute("SELECT digest FROM api_keys"))
    assert (live.data_dir / "owner.key").stat().st_mode & 0o077 == 0


def test_b06_secrets_are_refused_by_form_and_compared_in_constant_time(shared_api: Api) -> None:
    secret = new_secret("key")
    assert kind_of(secret) == "key"
    for wrong in (
        secret[:-1] + ("A" if secret[-1] != "A" else "B"),
        "x" + secret,
        secret + "\n",
        secret.upper(),
        secret.replace("key", "enrol", 1),
    ):
        assert kind_of(wrong) is None
    for at in (12, len(secret) // 2, len(secret) - 7):
        wrong = secret[:at] + ("A" if secret[at] != "A" else "B") + secret[at + 1 :]
        assert shared_api.get("/v1/jobs", key=wrong).status_code == 401
    tree = ast.parse((REPOSITORY / "service" / "http" / "auth.py").read_text())
    compared = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        and any(word in ast.unparse(node) for word in ("digest", "secret", "token", "match[3]"))
    ]
    assert not [text for text in compared if "==" in text and "kind_of" not in text], compared


def test_b07_guessing_keys_is_slowed_down_and_nobody_else(live: LiveApi) -> None:
    answers = [
        live.get("/v1/jobs", headers={"Authorization": f"Bearer {new_secret('key')}"}) for _ in range(60)
    ]
    assert {a.status_code for a in answers} == {401, 429}
    assert all("Retry-After" in a.headers for a in answers if a.status_code == 429)
    assert live.get("/v1/jobs").status_code == 200, "a good key was refused too"


def test_b08_enrolment_token_is_good_for_one_agent(shared_api: Api) -> None:
    api = shared_api
    api.add_device("b08")
    token = api.post("/v1/devices/b08/enrolments").json()["token"]
    body = {"token": token, "context": CONTEXT, "environment": {"fingerprint": "0" * 16}}
    barrier, answers = threading.Barrier(30), []

    def redeem() -> None:
        barrier.wait()
        answers.append(api.post("/v1/agent/enrol", body, key=None).status_code)

    threads = [threading.Thread(target=redeem) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(answers)[201] == 1, Counter(answers)
    assert set(answers) <= {201, 409, 401, 429, 503}
    assert api.post("/v1/agent/enrol", body, key=None).status_code in (401, 409)
    with api.services.sessions.begin() as session:
        assert session.scalar(select(func.count()).select_from(AgentSession)) >= 1  # type: ignore[operator]
    late = api.post("/v1/devices/b08/enrolments").json()["token"]
    with api.services.sessions.begin() as session:
        session.execute(
            update(Enrolment)
            .where(Enrolment.digest == digest_of(late))
            .values(expires_at=now() - timedelta(seconds=1))
        )
    assert api.post("/v1/agent/enrol", {**body, "token": late}, key=None).status_code == 401


def test_b09_agent_may_do_what_its_session_is_for_and_nothing_else(
    shared_api: Api, world: dict[str, str]
) -> None:
    api = shared_api
    for name in ("b09-a", "b09-b"):
        api.add_device(name)
    agents = {}
    for name in ("b09-a", "b09-b"):
        token = api.post(f"/v1/devices/{name}/enrolments").json()["token"]
        body = {"token": token, "context": CONTEXT, "environment": {"fingerprint": "0" * 16}}
        agents[name] = api.post("/v1/agent/enrol", body, key=None).json()
    key = agents["b09-a"]["agent_key"]
    for call in protected(api):
        if call.scope != "agent":
            is_problem(
                send(api, call, key, **{k: world.get(k, "x") for k in call.parameters}),
                403,
                code="insufficient_scope",
            )
    task, sha256 = new_id("task"), world["sha256"]
    with api.services.sessions.begin() as session:
        theirs = session.scalars(
            select(AgentSession.device_id).where(AgentSession.id == agents["b09-b"]["session_id"])
        ).one()
        session.add(
            MeasurementTask(
                id=task, tenant_id=api.tenant_id, device_id=theirs, job_id=world["job_id"], position=0, kind="operator",
                operator="x",
                input_shape=[1], sha256=sha256, size_bytes=17, nonce="n",
            )
        )  # fmt: skip
    assert api.get("/v1/agent/tasks", key=key).json()["items"] == []
    assert api.get(f"/v1/agent/files/{sha256}", key=key).status_code == 404
    item = {"task_id": task, "nonce": "n", "sha256": sha256, "median_ms": 1.0}
    post = {
        "session_id": agents["b09-a"]["session_id"],
        "sequence": 1,
        "fingerprint": "0" * 16,
        "items": [item],
    }
    assert api.post("/v1/agent/measurements", post, key=key).status_code in (404, 422)
    post["session_id"] = agents["b09-b"]["session_id"]
    assert api.post("/v1/agent/measurements", post, key=key).status_code in (404, 422)
    with api.services.sessions() as session:
        assert (
            session.scalars(select(MeasurementTask.state).where(MeasurementTask.id == task)).one() == "open"
        )
    assert api.call("DELETE", "/v1/devices/b09-a/agent").status_code == 204
    time.sleep(1.1)
    assert api.get("/v1/agent/tasks", key=key).status_code in (401, 409)


def test_b10_agent_does_not_trust_the_server(tmp_path: Path) -> None:
    """A tampered file, an endless list, a foreign graph: refused, never opened. More in
    tests/latency_tables/agent."""
    import hashlib

    from latency_tables.agent.errors import AgentError
    from tests.latency_tables.agent.test_loop import FILES, FakeService, Life

    for number, content in enumerate((b"tampered", FILES[1][:-1], FILES[1] + b"\0" * 2**22, b"\0" * 2**20)):
        service, opened = FakeService(FILES), []
        service.files[hashlib.sha256(FILES[1]).hexdigest()] = content
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(AgentError):
            Life(service, folder, lambda job, p, opened=opened: opened.append(job)).run("token-1")
        assert not opened
        assert not service.answers


def test_b11_browsers_and_foreign_names_get_nothing(live: LiveApi) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil", "", "127.0.0.1:80@evil"):
        assert live.get("/v1/jobs", headers={"Host": host}).status_code == 400
    for origin in ("https://evil.example", "null", live.url):
        answer = live.get("/v1/jobs", headers={"Origin": origin})
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        preflight = live.call(
            "OPTIONS", "/v1/jobs", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
        )
        assert preflight.status_code in (404, 405)
        assert not [name for name in preflight.headers if name.lower().startswith("access-control")]
    assert live.call("TRACE", "/v1/jobs").status_code in (404, 405)
    assert live.get("/v1/jobs", headers={"X-HTTP-Method-Override": "DELETE"}).status_code == 200
    for _ in range(30):
        spoofed = {
            "Authorization": "Bearer x",
            "X-Forwarded-For": secrets.token_hex(2),
            "Forwarded": "for=1.2.3.4",
        }
        status = live.get("/v1/jobs", headers=spoofed).status_code
    assert status == 429, "a spoofed address was believed: guessing is not slowed down"
    answer = live.get("/healthz")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "server" not in answer.headers
    assert status_of(
        live.raw(b"GET / HTTP/1.1\r\nHost: a\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", wait_s=2)
    ) in (
        400,
        404,
    )


def _refuses(tmp_path: Path, **environment: str) -> str:
    keep = {key: value for key, value in os.environ.items() if not key.startswith("BESPOKE_")}
    variables = {**keep, "BESPOKE_DATA_DIR": str(tmp_path / "data"), "BESPOKE_PORT": "0", **environment}
    done = subprocess.run(
        [sys.executable, "-m", "service"],
        cwd=REPOSITORY,
        env=variables,
        capture_output=True,
        timeout=60,
        text=True,
        check=False,
    )
    assert done.returncode != 0, environment
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("bespoke: ")
    return lines[0]


@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({"BESPOKE_HOST": "0.0.0.0"}, "BESPOKE_TLS_PROXY"),
        ({"BESPOKE_HOST": "0.0.0.0", "BESPOKE_TLS_PROXY": "true"}, "BESPOKE_ALLOWED_HOSTS"),
        (
            {"BESPOKE_HOST": "0.0.0.0", "BESPOKE_TLS_PROXY": "true", "BESPOKE_ALLOWED_HOSTS": '["*"]'},
            "wildcard",
        ),
        ({"BESPOKE_TRUSTED_PROXIES": "*"}, "BESPOKE_TRUSTED_PROXIES"),
        ({"BESPOKE_DATABASE_URL": "mysql://x"}, "BESPOKE_DATABASE_URL"),
        ({"BESPOKE_PORT": "99999"}, "BESPOKE_PORT"),
    ],
)
def test_b12_unsafe_settings_stop_the_start(tmp_path: Path, environment: dict[str, str], word: str) -> None:
    assert word in _refuses(tmp_path, **environment)


def test_b12_open_data_folder_and_open_key_stop_the_start(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o777)
    assert "chmod 700" in _refuses(tmp_path)
    data.chmod(0o700)
    (data / "owner.key").write_text(new_secret("key"))
    (data / "owner.key").chmod(0o644)
    assert "chmod 600" in _refuses(tmp_path)


def test_b12_journal_of_sqlite_fits_its_version(live: LiveApi) -> None:
    live.get("/v1/jobs")
    with closing(sqlite3.connect(live.data_dir / "bespoke.db")) as database:
        mode = database.execute("PRAGMA journal_mode").fetchone()[0]
    assert mode == ("wal" if sqlite3.sqlite_version_info >= (3, 51, 3) else "delete")
    assert live.get("/metrics", headers={"Authorization": ""}).status_code == 401
    assert [f for f in doctor(live.settings) if f.severity == "error"] == []
