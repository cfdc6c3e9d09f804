"""A walk through the HTTP contract over the recorded database: what was asked, and what commit 0ecf99f
answered.

`python -m tests.recorded.walk` records it, in a checkout of the commit to record with this folder copied to
it. The walk is recorded twice, each on its own copy of the database: a value that differs between the two (a
new id, a time) is `VARIES`.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from service.settings import Settings
from tests.service.api import CONTEXT, Api, open_api

DATABASE = Path(__file__).parent / "service_0ecf99f.db.gz"
ANSWERS = Path(__file__).parent / "walk_0ecf99f.json.gz"
VARIES = "<varies>"
WORDING = ("detail", "description", "message")  # for people: may be said better
_TABLE = "operator,median_ms\nconv f32 no such operator,1\n"


def unpack(place: Path) -> str:
    """URL of a copy of the recorded database."""
    with gzip.open(DATABASE) as packed, place.open("wb") as file:
        shutil.copyfileobj(packed, file)
    # An agent's session lasts a day. The recorded one was open when the walk was taken, and has to stay so.
    with closing(sqlite3.connect(place)) as connection, connection:
        connection.execute("UPDATE agent_sessions SET expires_at = '2999-01-01 00:00:00.000000'")
    return f"sqlite:///{place}"


@contextmanager
def recorded_api(folder: Path) -> Iterator[Api]:
    """The API over a copy of the recorded database; its artifacts are not there."""
    data = folder / "data"
    data.mkdir(mode=0o700)
    with open_api(
        Settings(data_dir=data, database_url=unpack(folder / "recorded.db"), log_level="error")
    ) as api:
        yield api


def questions(api: Api) -> Iterator[dict[str, Any]]:
    """Every call of the walk, in order."""

    def ids(path: str) -> list[str]:
        return [item["id"] for item in api.get(path).json()["items"]]

    supernets, jobs, models = ids("/v1/supernets"), ids("/v1/jobs"), ids("/v1/models")
    tables = {name: ids(f"/v1/devices/{name}/tables") for name in ("board", "phone")}
    trained = next(i for i in supernets if api.get(f"/v1/supernets/{i}").json()["state"] == "ready")
    for path in _pages(supernets, jobs, models, tables, trained):
        yield {"method": "GET", "path": path}
    for name in tables:
        path = f"/v1/devices/{name}/tables/{tables[name][0]}"
        yield {"method": "GET", "path": path, "headers": {"Accept": "text/csv"}}
    yield {"method": "GET", "path": "/v1/devices", "key": None}
    for path, body in _posts(trained):
        yield {"method": "POST", "path": path, "body": body}
    post = {"method": "POST", "path": "/v1/devices/phone/tables"}
    yield {**post, "headers": {"Content-Type": "text/csv"}, "text": _TABLE}
    yield {**post, "headers": {"Content-Type": "application/x-yaml"}, "text": "a: 1"}
    yield {"method": "PATCH", "path": "/v1/devices/phone", "body": {"description": "x"}}
    yield {"method": "PUT", "path": "/v1/devices/phone", "body": {}}


def _pages(
    supernets: list[str], jobs: list[str], models: list[str], tables: dict[str, list[str]], trained: str
) -> Iterator[str]:
    lists = (
        "spaces",
        "datasets",
        "limits",
        "devices",
        "supernets",
        "jobs",
        "models",
        "keys",
        "tenants",
        "nothing",
    )
    yield from (f"/v1/{name}" for name in lists)
    yield from (
        "/healthz",
        "/v1/spaces/digits-mbv3",
        "/v1/spaces/nowhere",
        "/v1/jobs?state=failed&kind=search",
    )
    yield from ("/v1/jobs?state=lost", "/v1/devices/nobody", "/v1/models/model_0", "/v1/jobs/job_0")
    for resolution in (8, 9):
        yield f"/v1/spaces/digits-mbv3/operators?resolution={resolution}"
    yield "/v1/spaces/cifar-mbv3/operators?resolution=20&classes=62"
    for name, versions in tables.items():
        yield from (f"/v1/devices/{name}{rest}" for rest in ("", "/tables", "/networks"))
        yield from (f"/v1/devices/{name}/tables/{table}" for table in versions)
        yield f"/v1/devices/{name}/probe-plan?space=digits-mbv3&count=3"
    yield from (f"/v1/supernets/{supernet}" for supernet in supernets)
    yield from (f"/v1/supernets/{trained}/front?device={name}" for name in ("board", "phone", "nobody"))
    for job in jobs:
        yield from (f"/v1/jobs/{job}", f"/v1/jobs/{job}/events?after=0")
    for model in models:
        yield from (f"/v1/models/{model}", f"/v1/models/{model}/onnx")


def _posts(trained: str) -> Iterator[tuple[str, Any]]:
    def search(**changes: Any) -> tuple[str, dict[str, Any]]:
        target = {"device": "board", "budget": {"latency_ms": 0.06}}
        return "/v1/searches", {"supernet": trained, "targets": [target], **changes}

    yield search()
    yield search(targets=[{"device": "board", "budget": {"latency_ms": 0.0001}}])
    yield search(targets=[{"device": "board", "budget": {"latency_ms": 0.06, "macs": 10}}])
    yield search(targets=[{"device": "nobody", "budget": {"latency_ms": 1}}])
    yield search(supernet="sup_0")
    yield search(strategy="wishing")
    yield search(targets=[{"device": "phone", "budget": {"latency_ms": 1}}], confidence=0.95)
    yield "/v1/supernets", {"space": "digits-mbv3", "dataset": "digits", "recipe": "quick"}
    yield "/v1/supernets", {"space": "digits-mbv3", "dataset": "nothing"}
    yield "/v1/supernets", {"space": "digits-mbv3", "dataset": "digits", "recipe": "nothing"}
    yield "/v1/devices", {"name": "board", "context": CONTEXT}
    yield "/v1/devices", {"name": "third", "description": "new", "context": CONTEXT}
    yield "/v1/devices", {"name": "No", "context": CONTEXT, "more": 1}
    yield (
        "/v1/devices/phone/probes",
        {"samples": [{"space": "digits-mbv3", "architecture": {}, "latency_ms": 1}]},
    )
    yield "/v1/devices/phone/enrolments", None
    yield "/v1/devices/phone/profiles", {"space": "digits-mbv3", "dataset": "digits", "resolutions": [8]}
    yield "/v1/devices/third/checks", {}
    yield "/v1/keys", {"name": "walk", "scopes": ["jobs:read"]}


def ask(api: Api, question: dict[str, Any]) -> dict[str, Any]:
    """Status and body of the answer; JSON where it is JSON."""
    headers, text = dict(question.get("headers", {})), question.get("text")
    options = {} if text is None else {"content": text}
    key = question.get("key", "own")
    answer = api.call(
        question["method"], question["path"], question.get("body"), key=key, headers=headers, **options
    )
    kind = answer.headers.get("content-type", "").split(";")[0]
    body = answer.json() if kind.endswith("json") else answer.text
    return {"status": answer.status_code, "type": kind, "body": body}


def masked(first: Any, second: Any) -> Any:
    """The first answer with VARIES wherever the second differs."""
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return {name: masked(first[name], second[name]) for name in first}
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return [masked(a, b) for a, b in zip(first, second, strict=True)]
    return first if first == second else VARIES


def differences(recorded: Any, now: Any, place: str = "") -> Iterator[str]:
    """Where an answer is not what was recorded, additions and wording aside."""
    if recorded == VARIES or re.search(rf"/({'|'.join(WORDING)})$", place):
        return
    if isinstance(recorded, dict) and isinstance(now, dict):
        for name, value in recorded.items():
            if name not in now:
                yield f"{place}/{name} is gone"
            else:
                yield from differences(value, now[name], f"{place}/{name}")
    elif _names(recorded) and _names(now):
        # Names of a catalog, in order: further ones stand between those that were there.
        yield from (f"{place}: {name!r} is gone" for name in recorded if name not in now)
    elif isinstance(recorded, list) and isinstance(now, list):
        if len(recorded) > len(now):
            yield f"{place}: {len(now)} items, there were {len(recorded)}"
        for number, (a, b) in enumerate(zip(recorded, now, strict=False)):
            yield from differences(a, b, f"{place}/{number}")
    elif not _same(recorded, now):
        yield f"{place}: {now!r}, it was {recorded!r}"


def _names(values: Any) -> bool:
    """Whether it is an ascending list of words."""
    return isinstance(values, list) and all(isinstance(v, str) for v in values) and values == sorted(values)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, int | float):
        return abs(a - b) <= 1e-6 * max(abs(a), abs(b))  # another processor rounds otherwise
    return bool(a == b) and isinstance(b, bool) == isinstance(a, bool)


def record() -> list[dict[str, Any]]:
    """Every question with its answer, masked."""
    runs = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder, recorded_api(Path(folder)) as api:
            asked = list(questions(api))
            runs.append([{**question, "answer": ask(api, question)} for question in asked])
    return [masked(a, b) for a, b in zip(*runs, strict=True)]


if __name__ == "__main__":
    found = record()
    ANSWERS.write_bytes(gzip.compress(json.dumps(found, indent=0).encode(), mtime=0))
    for entry in found:
        print(entry["answer"]["status"], entry["method"], entry["path"])
