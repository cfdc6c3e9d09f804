"""What `GET /v1/events` tells: everything, once, in order, to whom it concerns, as long as the key is
good."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.bulletin import Bulletin
from service.db import happenings
from service.db import transitions as job_states
from service.db.models import Happening
from service.http.auth import Identity
from service.routes.happenings import _events
from tests.service.api import Api, table_rows

ALL = frozenset({"jobs:read", "devices:read", "models:read"})


def bulletin(api: Api) -> Bulletin:
    return Bulletin(api.services.sessions, 30.0)


def caller(api: Api, scopes: frozenset[str] = ALL) -> Identity:
    return Identity("key", api.tenant_id, scopes)


async def always() -> bool:
    return True


async def take(parts: AsyncIterator[bytes], count: int) -> list[dict[str, Any]]:
    """The next events of a stream, comments and what may not be seen left out."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(20):
        async for part in parts:
            lines = [line for line in part.decode().strip().splitlines() if line and not line.startswith(":")]
            if not lines:
                continue
            fields = dict(line.split(": ", 1) for line in lines)
            found.append({**json.loads(fields["data"]), "kind": fields["event"], "id": fields.get("id")})
            if len(found) == count:
                return found
    return found


def a_job(api: Api) -> str:
    with api.services.sessions.begin() as session:
        return job_states.create_job(session, tenant_id=api.tenant_id, kind="profile", request={}).id


def test_jobs_devices_and_tables_are_told_as_they_happen(both: Api) -> None:
    async def listen() -> list[dict[str, Any]]:
        stream = _events(bulletin(both), caller(both), None, always)
        assert (await take(stream, 1))[0]["kind"] == "ready"
        await asyncio.to_thread(both.add_device)
        job_id = await asyncio.to_thread(a_job, both)
        await asyncio.to_thread(both.add_table)
        told = await take(stream, 3)
        assert told[1]["subject"] == job_id
        return told

    told = asyncio.run(listen())
    assert [(t["kind"], t["data"].get("event")) for t in told] == [
        ("device", None),
        ("job", "queued"),
        ("table", None),
    ]
    positions = [t["position"] for t in told]
    assert positions == sorted(set(positions))


def test_whatever_changes_a_table_is_told(both: Api) -> None:
    both.add_device()
    slower = [{**row, **{k: 2 * row[k] for k in row if k.endswith("_ms")}} for row in table_rows()]
    first, second = both.add_table()["id"], both.add_table(rows=slower)["id"]
    tables = "/v1/devices/phone/tables"

    def change() -> None:
        assert both.post(f"{tables}/{first}/use").status_code == 200
        assert both.post(f"{tables}/{first}/accept", {"note": "seen"}).status_code == 200
        assert both.call("DELETE", f"{tables}/{second}").status_code == 204

    async def listen() -> list[dict[str, Any]]:
        stream = _events(bulletin(both), caller(both), None, always)
        assert (await take(stream, 1))[0]["kind"] == "ready"
        await asyncio.to_thread(change)
        return await take(stream, 3)

    told = asyncio.run(listen())
    found = [(t["kind"], t["subject"], t["data"]["table_id"], t["data"].get("deleted", False)) for t in told]
    assert found == [
        ("table", "phone", first, False),
        ("table", "phone", first, False),
        ("table", "phone", second, True),
    ]


def test_who_comes_back_is_told_what_was_missed_and_nothing_twice(both: Api) -> None:
    async def listen() -> None:
        board = bulletin(both)
        first = _events(board, caller(both), None, always)
        await take(first, 1)
        ids = [await asyncio.to_thread(a_job, both) for _ in range(2)]
        seen = await take(first, 2)
        await first.aclose()  # type: ignore[attr-defined]
        missed = [await asyncio.to_thread(a_job, both) for _ in range(3)]
        again = _events(board, caller(both), int(seen[-1]["id"]), always)
        back = await take(again, 4)
        assert [b["subject"] for b in back[1:]] == missed
        later = await asyncio.to_thread(a_job, both)
        assert [e["subject"] for e in await take(again, 1)] == [later]
        assert [s["subject"] for s in seen] == ids

    asyncio.run(listen())


def test_position_that_is_committed_late_is_told_after_all(api: Api) -> None:
    """As PostgreSQL may do: the lower position comes after the higher one."""

    async def listen() -> None:
        stream = _events(bulletin(api), caller(api), None, always)
        await take(stream, 1)

        def write(position: int) -> None:
            with api.services.sessions.begin() as session:
                session.add(
                    Happening(
                        position=position, tenant_id=api.tenant_id, kind="job", subject=str(position), data={}
                    )
                )

        await asyncio.to_thread(write, 1_000_003)
        (high,) = await take(stream, 1)
        assert int(high["id"]) < 1_000_003, "whoever comes back from here must be told the late one"
        await asyncio.to_thread(write, 1_000_002)
        assert [e["subject"] for e in await take(stream, 1)] == ["1000002"]

    asyncio.run(listen())


def test_other_tenants_and_missing_scopes_hear_nothing(api: Api) -> None:
    other = api.new_tenant()

    async def listen() -> None:
        stranger = Identity("key2", "ten_of_somebody_else", ALL)
        modest = _events(bulletin(api), caller(api, frozenset({"jobs:read"})), None, always)
        foreign = _events(bulletin(api), stranger, None, always)
        await take(modest, 1)
        await take(foreign, 1)
        await asyncio.to_thread(api.add_device)
        job_id = await asyncio.to_thread(a_job, api)
        assert [e["subject"] for e in await take(modest, 1)] == [job_id]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await take(foreign, 1)

    asyncio.run(listen())
    assert other


def test_stream_too_far_behind_is_told_to_read_again(api: Api) -> None:
    a_job(api)
    a_job(api)
    with api.services.sessions.begin() as session:
        happenings.forget(session, kept=-time_of(1))
    a_job(api)

    async def listen() -> list[dict[str, Any]]:
        return await take(_events(bulletin(api), caller(api), 0, always), 2)

    assert [e["kind"] for e in asyncio.run(listen())] == ["ready", "reset"]


def time_of(hours: int) -> Any:
    from datetime import timedelta

    return timedelta(hours=hours)


def test_stream_ends_with_its_key(api: Api) -> None:
    async def gone() -> bool:
        return False

    async def listen() -> float:
        started = time.monotonic()
        async for _ in _events(bulletin(api), caller(api), None, gone):
            pass
        return time.monotonic() - started

    assert asyncio.run(listen()) < 3


def test_what_happened_can_be_read_without_a_stream(both: Api) -> None:
    both.add_device()
    job_id = a_job(both)
    items = both.get("/v1/events").json()["items"]
    assert [(i["kind"], i["subject"]) for i in items] == [("device", "phone"), ("job", job_id)]
    assert both.get("/v1/events", params={"after": items[0]["position"]}).json()["items"] == items[1:]
    modest = both.new_key("jobs:read")
    assert [i["kind"] for i in both.get("/v1/events", key=modest).json()["items"]] == ["job"]
    assert both.get("/v1/events", key=both.new_tenant()).json()["items"] == []


@pytest.mark.parametrize("after", ["-1", "1e3", "x", "9" * 11, ""])
def test_position_that_is_none_is_refused(api: Api, after: str) -> None:
    assert api.get("/v1/events", params={"after": after}).status_code == 422
