"""Logging a browser in: a cookie and a proof, each worthless alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from service.db.models import ApiKey, BrowserSession, LoginLink, now
from tests.service.api import Api, is_problem

NAME = "bespoke-8000"
OURS = {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:8000"}


def log_in(api: Api, key: str | None = "own", body: dict[str, Any] | None = None) -> tuple[str, str]:
    """(cookie, proof) of a new session; the client itself keeps no cookie."""
    answer = api.post("/v1/sessions", body or {}, key=key)
    assert answer.status_code == 201, answer.text
    cookie = answer.cookies[NAME]
    api.client.cookies.clear()
    return cookie, answer.json()["proof"]


def ask(
    api: Api,
    cookie: str | None,
    proof: str | None,
    method: str = "GET",
    path: str = "/v1/jobs",
    **headers: str,
) -> Any:
    given = dict(headers)
    if cookie is not None:
        given["Cookie"] = f"{NAME}={cookie}"
    if proof is not None:
        given["X-Bespoke-Proof"] = proof
    body = {} if method == "POST" else None
    return api.call(method, path, body, key=None, headers=given)


def test_both_halves_together_are_the_key(both: Api) -> None:
    cookie, proof = log_in(both)
    assert ask(both, cookie, proof).status_code == 200
    seen = ask(both, cookie, proof, path="/v1/sessions/current").json()
    assert (seen["tenant"], seen["key_name"]) == ("owner", "owner")
    assert "jobs:write" in seen["scopes"]


def test_cookie_is_out_of_reach_of_scripts_and_of_other_sites(api: Api) -> None:
    answer = api.post("/v1/sessions", {})
    text = answer.headers["set-cookie"].lower()
    assert all(part in text for part in ("httponly", "samesite=strict", "path=/", "max-age=43200"))
    assert "secure" not in text
    assert answer.headers["cache-control"] == "no-store"


def test_behind_tls_the_cookie_is_bound_to_the_host(make_api: Callable[..., Api]) -> None:
    text = make_api(tls_proxy=True).post("/v1/sessions", {}).headers["set-cookie"]
    assert text.startswith("__Host-bespoke=")
    assert "Secure" in text


def test_halves_alone_or_of_two_sessions_are_nobody(api: Api) -> None:
    first, second = log_in(api), log_in(api)
    refused = [
        ask(api, first[0], None),
        ask(api, None, first[1]),
        ask(api, first[0], second[1]),
        ask(api, first[1], first[0]),
        ask(api, "x" * 5000, first[1]),
        ask(api, first[0], ""),
    ]
    for answer in refused:
        is_problem(answer, 401, code="unauthenticated")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:9000"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://example.org"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://127.0.0.1:9000"},
        {"Origin": "null"},
    ],
)
def test_other_origins_write_nothing_with_a_whole_session(api: Api, headers: dict[str, str]) -> None:
    cookie, proof = log_in(api)
    is_problem(ask(api, cookie, proof, "POST", "/v1/keys", **headers), 401, code="unauthenticated")
    assert ask(api, cookie, proof, **OURS).status_code == 200


def test_another_site_cannot_log_a_browser_in(api: Api) -> None:
    answer = api.call("POST", "/v1/sessions", {}, headers={"Sec-Fetch-Site": "cross-site"})
    is_problem(answer, 403, code="insufficient_scope")


def test_link_logs_in_once_and_within_a_minute(both: Api) -> None:
    token = both.post("/v1/sessions/links").json()["token"]
    cookie, proof = log_in(both, None, {"token": token})
    assert ask(both, cookie, proof).status_code == 200
    is_problem(both.post("/v1/sessions", {"token": token}, key=None), 401, code="unauthenticated")
    late = both.post("/v1/sessions/links").json()["token"]
    with both.services.sessions.begin() as session:
        session.execute(update(LoginLink).values(expires_at=now() - timedelta(seconds=1)))
    is_problem(both.post("/v1/sessions", {"token": late}, key=None), 401, code="unauthenticated")


def test_wrong_tokens_count_against_the_address(make_api: Callable[..., Api]) -> None:
    api = make_api(bad_keys_burst=3, bad_keys_per_s=0.001)
    answers = [api.post("/v1/sessions", {"token": f"guess{n}"}, key=None).status_code for n in range(5)]
    assert answers == [401, 401, 401, 429, 429]


def test_session_ends_with_its_key_its_time_and_by_hand(both: Api) -> None:
    key = both.new_key("catalog:read", "jobs:read")
    revoked, timed, ended = (log_in(both, key) for _ in range(3))
    assert ask(both, *ended, "DELETE", "/v1/sessions/current").status_code == 204
    is_problem(ask(both, *ended), 401)
    with both.services.sessions.begin() as session:
        from service.http.auth import digest_of

        over = update(BrowserSession).where(BrowserSession.cookie_digest == digest_of(timed[0]))
        session.execute(over.values(expires_at=now()))
    both.services.authenticator.forget()
    is_problem(ask(both, *timed), 401)
    assert ask(both, *revoked).status_code == 200
    with both.services.sessions.begin() as session:
        session.execute(update(ApiKey).where(ApiKey.digest == digest_of(key)).values(revoked_at=now()))
    both.services.authenticator.forget()
    is_problem(ask(both, *revoked), 401)


def test_session_may_do_what_its_key_may_and_begets_nothing(api: Api) -> None:
    cookie, proof = log_in(api, api.new_key("catalog:read"))
    is_problem(ask(api, cookie, proof, path="/v1/jobs"), 403, code="insufficient_scope")
    is_problem(ask(api, cookie, proof, "POST", "/v1/sessions/links"), 403, code="insufficient_scope")
    is_problem(ask(api, cookie, proof, "POST", "/v1/sessions"), 403, code="insufficient_scope")
    is_problem(api.call("DELETE", "/v1/sessions/current"), 409, code="conflict")


def test_keys_say_how_many_browsers_they_have(api: Api) -> None:
    log_in(api)
    log_in(api)
    assert [key["sessions"] for key in api.get("/v1/keys").json()["items"]] == [2]


def test_database_and_answers_hold_no_half(api: Api) -> None:
    cookie, proof = log_in(api)
    with api.services.sessions() as session:
        row = session.query(BrowserSession).one()
        assert cookie.encode() not in row.cookie_digest
        assert proof.encode() not in row.proof_digest
    assert proof not in ask(api, cookie, proof, path="/v1/sessions/current").text
