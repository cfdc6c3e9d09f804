"""The log of a job: in order, bounded, without secrets, for its tenant alone."""

from __future__ import annotations

import pytest

from service.db import job_log
from service.db import transitions as job_states
from tests.service.api import Api, is_problem


def add_job(api: Api) -> str:
    with api.services.sessions.begin() as session:
        return job_states.create_job(session, tenant_id=api.tenant_id, kind="search", request={}).id


def say(api: Api, job_id: str, *lines: str, step: str = "score") -> None:
    with api.services.sessions.begin() as session:
        job_log.append(session, job_id, step, "worker", lines)


def test_lines_come_in_order_page_by_page_and_go_on_where_one_was(both: Api) -> None:
    job, other = add_job(both), add_job(both)
    say(both, job, "one", "two")
    say(both, other, "not ours")
    say(both, job, "three", step="export")
    first = both.get(f"/v1/jobs/{job}/log?limit=2").json()
    assert [(line["text"], line["step"]) for line in first["items"]] == [("one", "score"), ("two", "score")]
    rest = both.get(f"/v1/jobs/{job}/log?after={first['next']}").json()
    assert [line["text"] for line in rest["items"]] == ["three"]
    assert rest["next"] is None


def test_the_last_two_thousand_are_kept(both: Api) -> None:
    job = add_job(both)
    for start in range(0, 4000, 500):
        say(both, job, *(f"line {n}" for n in range(start, start + 500)))
    items = []
    page = {"next": 0}
    while page["next"] is not None:
        page = both.get(f"/v1/jobs/{job}/log?after={page['next']}").json()
        items += page["items"]
    assert [line["text"] for line in items] == [f"line {n}" for n in range(2000, 4000)]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("key bespoke_key_AbCdEf0123456789 used", "key [secret] used"),
        ("postgresql://nas:hunter2@db:5432/nas", "postgresql://[secret]@db:5432/nas"),
        ("Authorization: Bearer abcdefgh12345678", "Authorization: Bearer [secret]"),
        ("red \x1b[31mword\x00", "red \ufffd[31mword\ufffd"),
        ("x" * 5000, "x" * job_log.LONGEST),
        ("loss 0.43 at http://127.0.0.1:8000/v1", "loss 0.43 at http://127.0.0.1:8000/v1"),
    ],
    ids=["key", "database", "bearer", "control", "long", "plain"],
)
def test_no_secret_and_nothing_unprintable_is_kept(api: Api, said: str, kept: str) -> None:
    job = add_job(api)
    say(api, job, said)
    assert api.get(f"/v1/jobs/{job}/log").json()["items"][0]["text"] == kept


def test_of_another_tenant_it_is_not_there(api: Api) -> None:
    job = add_job(api)
    is_problem(api.get(f"/v1/jobs/{job}/log", key=api.new_tenant()), 404)
    is_problem(api.get(f"/v1/jobs/{job}/log", key=api.new_key("models:read")), 403)
    is_problem(api.get("/v1/jobs/job_nobody/log"), 404)
    for bad in ("after=-1", "after=x", "limit=0", "limit=2001"):
        is_problem(api.get(f"/v1/jobs/{job}/log?{bad}"), 422)


def test_it_goes_with_its_job(api: Api) -> None:
    job = add_job(api)
    say(api, job, "one")
    with api.services.sessions.begin() as session:
        row = session.get_one(job_states.Job, job)
        row.state = job_states.JobState.QUARANTINED
        session.flush()
        job_states.delete_quarantined(session, row)
    with api.services.sessions() as session:
        assert job_log.listed(session, job, 0, 10) == []
