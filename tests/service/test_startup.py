"""B11, B12, C15: what the API refuses to start with, what it says to whom, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.settings import Settings
from service.startup import UnsafeSettings, check_data_dir, check_settings
from tests.service.api import CONTEXT, Api, is_problem


@contextmanager
def process(folder: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    scrubbed = {k: v for k, v in os.environ.items() if not k.startswith("BESPOKE_")}
    given = {"BESPOKE_DATA_DIR": str(folder), "BESPOKE_PORT": "0", **environment}
    started = subprocess.Popen(
        [sys.executable, "-m", "service"],
        env={**scrubbed, **given},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


@contextmanager
def server(folder: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A live server and its address."""
    with process(folder, **environment) as started:
        for _ in range(600):
            try:
                url = json.loads((folder / "server.json").read_text())["url"]
                if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                    break
            except (OSError, httpx.HTTPError):
                assert started.poll() is None, started.communicate()
            time.sleep(0.1)
        yield started, url


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"BESPOKE_HOST": "0.0.0.0"}, "BESPOKE_TLS_PROXY"),
        ({"BESPOKE_HOST": "0.0.0.0", "BESPOKE_TLS_PROXY": "true"}, "BESPOKE_ALLOWED_HOSTS"),
        ({"BESPOKE_ALLOWED_HOSTS": '["*"]'}, "wildcards"),
        ({"BESPOKE_ALLOWED_HOSTS": '["*.example.org"]'}, "wildcards"),
        ({"BESPOKE_TRUSTED_PROXIES": "*"}, "BESPOKE_TRUSTED_PROXIES"),
        ({"BESPOKE_DATABASE_URL": "mysql://localhost/x"}, "BESPOKE_DATABASE_URL"),
        ({"BESPOKE_PORT": "70000"}, "BESPOKE_PORT"),
        ({"BESPOKE_RATE_PER_S": "-1"}, "BESPOKE_RATE_PER_S"),
    ],
    ids=str,
)
def test_b12_refuses_to_start(
    tmp_path: Path, settings: dict[str, str], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BESPOKE_DATA_DIR", str(tmp_path / "data"))
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    from service import __main__ as entry

    said: list[str] = []
    monkeypatch.setattr(sys.stderr, "write", lambda line: said.append(line) or len(line))
    assert entry.main() != 0
    assert len(said) == 1 and word in said[0] and said[0].count("\n") == 1


def test_b12_as_a_process(tmp_path: Path) -> None:
    with process(tmp_path / "data", BESPOKE_HOST="0.0.0.0") as started:
        _, errors = started.communicate(timeout=60)
    assert started.returncode == 2
    assert errors.count(b"\n") == 1 and b"BESPOKE_TLS_PROXY" in errors


def test_b12_a_data_folder_that_others_may_write(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(UnsafeSettings, match="chmod 700"):
        check_data_dir(folder)
    folder.chmod(0o700)
    (folder / "owner.key").write_text("x")
    (folder / "owner.key").chmod(0o644)
    with pytest.raises(UnsafeSettings, match="chmod 600"):
        check_data_dir(folder)


def test_another_address_behind_a_proxy() -> None:
    check_settings(Settings(host="0.0.0.0", tls_proxy=True, allowed_hosts=("bespoke.example.org",)))


def test_the_owner_key(make_api: Callable[..., Api], tmp_path: Path) -> None:
    api = make_api()
    place = tmp_path / "data" / "owner.key"
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    again = make_api(api.settings.database_url)
    assert again.key == api.key
    place.unlink()
    fresh = make_api(api.settings.database_url)
    assert fresh.key != api.key
    assert fresh.get("/v1/jobs").status_code == 200
    is_problem(fresh.get("/v1/jobs", key=api.key), 401)


def test_b11_hosts_and_browsers(make_api: Callable[..., Api]) -> None:
    api = make_api(allowed_hosts=("bespoke.example.org",))
    for host in (
        "127.0.0.1:8000",
        "localhost",
        "[::1]:8000",
        "BESPOKE.example.org",
        "bespoke.example.org:443",
    ):
        assert api.get("/healthz", key=None, headers={"Host": host}).status_code == 200
    for host in (
        "evil.example",
        "127.0.0.1.evil.example",
        "",
        "bespoke.example.org.",
        "[::1].evil",
        "x" * 300,
    ):
        is_problem(api.get("/v1/jobs", headers={"Host": host}), 400, code="bad_host")
    answer = api.get("/v1/jobs", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    preflight = api.call(
        "OPTIONS",
        "/v1/searches",
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
        key=None,
    )
    is_problem(preflight, 405)
    override = api.get(
        "/v1/jobs", headers={"X-HTTP-Method-Override": "DELETE", "X-Forwarded-Host": "evil.example"}
    )
    assert override.status_code == 200


def test_security_headers_on_every_answer(api: Api) -> None:
    for answer in (
        api.get("/healthz", key=None),
        api.get("/v1/jobs", key=None),
        api.get("/nowhere"),
        api.get("/docs", key=None),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert len(answer.headers["x-request-id"]) >= 8
        assert "server" not in answer.headers


def test_c13_a_database_that_is_locked_or_away(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller gets 503 with Retry-After, never a 500; liveness stays."""
    import sqlite3

    from sqlalchemy import event

    place = api.settings.database_url.removeprefix("sqlite:///")

    @event.listens_for(api.services.engine, "connect")
    def impatient(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA busy_timeout = 50")

    api.services.engine.dispose()
    other = sqlite3.connect(place, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    answer = api.post("/v1/devices", {"name": "x", "context": CONTEXT})
    is_problem(answer, 503, code="db_busy")
    assert int(answer.headers["retry-after"]) > 0
    assert api.get("/readyz", key=None).status_code == 503
    assert api.get("/healthz", key=None).status_code == 200
    other.execute("COMMIT")
    other.close()
    assert api.get("/v1/jobs").status_code == 200
    assert api.get("/readyz", key=None).status_code == 200


def test_c15_sigterm_with_a_half_sent_request(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with server(folder, BESPOKE_SHUTDOWN_S="3") as (started, url):
        port = int(url.rpartition(":")[2])
        key = (folder / "owner.key").read_text().strip()
        with (
            socket.create_connection(("127.0.0.1", port)) as idle,
            socket.create_connection(("127.0.0.1", port)) as half,
        ):
            head = f"POST /v1/devices HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
            half.sendall((head + "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{").encode())
            idle.sendall(b"GET /healthz HT")
            time.sleep(0.3)
            before = time.monotonic()
            started.send_signal(signal.SIGTERM)
            _, errors = started.communicate(timeout=30)
            assert time.monotonic() - before < 10
        assert started.returncode == 0, errors
        assert not (folder / "server.json").exists()


@pytest.mark.parametrize("path", ["/v1/events", "/v1/jobs/{job}/events"])
def test_c15_open_streams_do_not_hold_up_the_end(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "data"
    with server(folder) as (started, url):
        key = (folder / "owner.key").read_text().strip()
        headers = {"Authorization": f"Bearer {key}", "Accept": "text/event-stream"}
        wanted = {"space": "digits-mbv3", "dataset": "digits", "recipe": "trial"}
        job = httpx.post(f"{url}/v1/supernets", json=wanted, headers=headers).json()[
            "id"
        ]  # nobody works on it
        with httpx.stream("GET", url + path.format(job=job), headers=headers, timeout=30) as answer:
            lines = answer.iter_lines()
            assert next(lines) in ("event: ready", "event: queued")
            before = time.monotonic()
            started.send_signal(signal.SIGTERM)
            assert next(lines).startswith("data: {")
            assert not [line for line in lines if line.startswith("event")], "ended, not cut off"
        _, errors = started.communicate(timeout=30)
        assert time.monotonic() - before < Settings.model_fields["shutdown_s"].default / 2, errors
        assert started.returncode == 0, errors


def test_e4_bodies_and_headers_that_trickle(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with server(folder, BESPOKE_READ_DEADLINE_S="1") as (_, url):
        port = int(url.rpartition(":")[2])
        key = (folder / "owner.key").read_text().strip()
        slow_body = socket.create_connection(("127.0.0.1", port))
        slow_head = socket.create_connection(("127.0.0.1", port))
        head = f"POST /v1/devices HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        slow_body.sendall((head + "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{").encode())
        slow_head.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.")
        for connection, word in ((slow_body, b"408"), (slow_head, b"")):
            connection.settimeout(20)
            received = b""
            while part := connection.recv(4096):
                received += part
            assert word in received
            connection.close()
        assert httpx.get(f"{url}/healthz", trust_env=False).status_code == 200


def test_a13_one_json_line_for_each_event_and_no_secret(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with server(folder) as (started, url):
        key = (folder / "owner.key").read_text().strip()
        headers = {"Authorization": f"Bearer {key}", "User-Agent": "a\x1b[31m${jndi:x}" + "z" * 5000}
        with httpx.Client(base_url=url, trust_env=False) as client:
            assert client.get("/v1/jobs", headers=headers).status_code == 200
            assert client.get("/v1/jobs", headers={"Authorization": f"Bearer {key[:-1]}?"}).status_code == 401
            assert client.get("/v1/nothing%0a%0dhere", headers=headers).status_code == 404
        started.send_signal(signal.SIGTERM)
        _, errors = started.communicate(timeout=30)
    lines = errors.decode().splitlines()
    events = [json.loads(line) for line in lines]
    requests = [e for e in events if e["event"] == "request" and e["route"] == "/v1/jobs"]
    assert [e["status"] for e in requests] == [200, 401]
    assert requests[0]["tenant"].startswith("ten_") and len(requests[0]["request_id"]) >= 8
    assert key not in errors.decode() and "\x1b" not in errors.decode()
    assert max(len(line) for line in lines if '"request"' in line) < 2000
