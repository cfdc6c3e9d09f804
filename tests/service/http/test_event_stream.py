"""Streams against a live server: what they hold, whom they leave room, and when they end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.reliability.machinery.live import LiveApi
from tests.service.api import is_problem

TRAINING = {"space": "digits-mbv3", "dataset": "digits", "recipe": "quick"}
SETTINGS = {
    "BESPOKE_MAX_CONCURRENT_REQUESTS": "4",
    "BESPOKE_MAX_STREAMS": "6",
    "BESPOKE_MAX_CONNECTIONS": "20",
}


@pytest.fixture
def live(tmp_path: Path, migrated_sqlite: str) -> Iterator[LiveApi]:
    with LiveApi(tmp_path / "data", migrated_sqlite, **SETTINGS) as started:
        yield started


def job_of(live: LiveApi, key: str) -> str:
    answer = live.post("/v1/supernets", json=TRAINING, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


@contextmanager
def stream(live: LiveApi, key: str, job: str) -> Iterator[httpx.Response]:
    """An answer of which the body has not been read."""
    headers = {"Authorization": f"Bearer {key}", "Accept": "text/event-stream"}
    with (
        httpx.Client(trust_env=False, timeout=30) as web,
        web.stream("GET", f"{live.url}/v1/jobs/{job}/events", headers=headers) as answer,
    ):
        yield answer


def new_key(live: LiveApi, by: str, **body: Any) -> dict[str, Any]:
    body = {"name": "another", "scopes": ["jobs:read"], **body}
    answer = live.post("/v1/keys", json=body, headers={"Authorization": f"Bearer {by}"})
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


def new_tenant(live: LiveApi, name: str) -> str:
    return str(live.post("/v1/tenants", json={"name": name}).json()["key"])


def test_streams_fill_neither_the_tenants_quota_of_others_nor_the_connections(live: LiveApi) -> None:
    job = job_of(live, live.key)
    keys = [new_key(live, live.key)["key"] for _ in range(3)]
    with ExitStack() as stack:
        for key in (keys[0], keys[0], keys[0], keys[0], keys[1], keys[1]):
            assert stack.enter_context(stream(live, key, job)).status_code == 200
        of_the_key = stack.enter_context(stream(live, keys[0], job))
        of_the_key.read()
        is_problem(of_the_key, 429, code="rate_limited")
        assert "requests of a key" in of_the_key.json()["detail"] and "Retry-After" in of_the_key.headers
        of_the_tenant = stack.enter_context(stream(live, keys[2], job))
        of_the_tenant.read()
        is_problem(of_the_tenant, 429, code="rate_limited")
        assert "event streams of a tenant" in of_the_tenant.json()["detail"]
        others = [new_tenant(live, name) for name in ("b", "c")]
        jobs = [job_of(live, key) for key in others]
        for key, its_job in [(others[0], jobs[0])] * 3 + [(others[1], jobs[1])]:
            assert stack.enter_context(stream(live, key, its_job)).status_code == 200
        full = stack.enter_context(stream(live, others[1], jobs[1]))
        full.read()
        is_problem(full, 429, code="rate_limited")
        assert "in all" in full.json()["detail"]
        with httpx.Client(trust_env=False, timeout=5) as web:
            assert web.get(f"{live.url}/readyz").status_code == 200
    _until_there_is_room(live, keys[0], job)


def _until_there_is_room(live: LiveApi, key: str, job: str) -> None:
    """Streams that were closed give their places back."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with stream(live, key, job) as answer:
            if answer.status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError("closed streams still hold their places")


def test_a_stream_ends_within_seconds_of_its_key(live: LiveApi) -> None:
    job = job_of(live, live.key)
    created = new_key(live, live.key)
    with stream(live, created["key"], job) as answer:
        lines = answer.iter_lines()
        first = [next(lines) for _ in range(3)]
        assert {line.partition(":")[0] for line in first} == {"event", "data", "id"}
        assert live.call("DELETE", f"/v1/keys/{created['id']}").status_code == 204
        revoked = time.monotonic()
        rest = list(lines)
        assert time.monotonic() - revoked < 4
        assert ": the key of this stream is no longer valid" in rest and "event: succeeded" not in rest
    with stream(live, created["key"], job) as again:
        assert again.status_code == 401


def test_a_last_event_id_beyond_every_number_is_answered(live: LiveApi) -> None:
    job = job_of(live, live.key)
    assert live.post(f"/v1/jobs/{job}/cancel").status_code == 202
    for given in ("99999999999999999999", "²", "-1", "x"):
        headers = {"Accept": "text/event-stream", "Last-Event-ID": given.encode()}
        answer = live.get(f"/v1/jobs/{job}/events", headers=headers)
        assert answer.status_code == 200, answer.text
        assert ("event: cancelled" in answer.text) is (given[0] != "9")
