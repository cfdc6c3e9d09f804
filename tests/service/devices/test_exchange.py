"""A device as one file: out of one tenant or service and into another, all of it or nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from latency_tables.prediction.calibration import Calibration
from service.db import measurements as measurement_rows
from service.db import tables as table_rows
from service.db.models import Device, NetworkMeasurement, Table
from service.devices.exchange import canonical, write_device
from service.http.errors import Problem
from supernets.spaces.architecture import Architecture
from supernets.spaces.lowering import lower
from tests.service.api import CONTEXT, SPACE, Api, is_problem
from tests.service.api import table_rows as rows_of_space

SAMPLES = 24


def measured_device(api: Api, name: str = "phone") -> bytes:
    """A device with two versions of a table and measured networks; gives its file."""
    api.add_device(name)
    for factor in (1.0, 1.0 + 1e-15):
        api.add_table(name, [{**r, "median_ms": r["median_ms"] * factor} for r in rows_of_space()])
    genes = SPACE.chain.sample(np.random.default_rng(0), SAMPLES)
    samples = [
        {
            "space": SPACE.name,
            "architecture": SPACE.to_json(a),
            "latency_ms": latency_ms(a) * (1.05 + 0.001 * (i % 7)),
        }
        for i, a in enumerate(map(SPACE.architecture, genes))
    ]
    assert api.post(f"/v1/devices/{name}/probes", {"samples": samples}).status_code == 201
    return exported(api, name)


def latency_ms(architecture: Architecture) -> float:
    return sum(0.002 + op.macs * 1e-7 for op in lower(SPACE, architecture))


def exported(api: Api, name: str, **options: Any) -> bytes:
    answer = api.get(f"/v1/devices/{name}/bundle", **options)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-content-sha256"] == hashlib.sha256(answer.content).hexdigest()
    return answer.content


def imported(api: Api, data: bytes, query: str = "", **options: Any) -> Any:
    headers = {"Content-Type": "application/json"}
    return api.call("POST", f"/v1/devices/import{query}", content=data, headers=headers, **options)


def sealed(document: dict[str, Any]) -> bytes:
    """The file of a document with a hash that fits: what somebody would post who wants to get past the
    hash."""
    document["sha256"] = hashlib.sha256(canonical(document)).hexdigest()
    return json.dumps(document).encode()


def test_a_device_comes_back_byte_for_byte(both: Api) -> None:
    data = measured_device(both)
    assert data == exported(both, "phone"), "the same device, the same bytes"
    answer = imported(both, data, "?name=phone-2")
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == "/v1/devices/phone-2"
    old, new = both.get("/v1/devices/phone").json(), both.get("/v1/devices/phone-2").json()
    assert answer.json() == new
    assert [t["digest"] for t in new["tables"]] == [t["digest"] for t in old["tables"]]
    for mine, theirs in zip(old["tables"], new["tables"], strict=True):
        texts = [
            both.get(f"/v1/devices/{n}/tables/{t['id']}").content
            for n, t in (("phone", mine), ("phone-2", theirs))
        ]
        assert texts[0] == texts[1]
    for of in (old, new):
        for item in of["calibration"]:
            item.pop("measured_at")
    assert new["calibration"] == old["calibration"] and new["calibration"][0]["networks"] == SAMPLES
    assert new["context"] == old["context"] == CONTEXT
    again = {**json.loads(exported(both, "phone-2")), "name": "phone", "sha256": None}
    assert again == {**json.loads(data), "sha256": None}


def test_every_version_and_every_session_is_in_the_file(api: Api) -> None:
    """More versions than a listing shows; where they are too many for the file, that is said."""
    data = measured_device(api)
    rows = rows_of_space()
    for number in range(60):
        api.add_table("phone", [{**r, "median_ms": r["median_ms"] * (1.01 + number * 1e-4)} for r in rows])
    document = json.loads(exported(api, "phone"))
    assert len(document["tables"]) == 62 and len({t["digest"] for t in document["tables"]}) == 62
    assert {n["together"] for n in document["networks"]} == {0}
    assert imported(api, data, "?name=copy").status_code == 201
    again = samples_of_another_session(api, "copy")
    assert [n["together"] for n in json.loads(again)["networks"]] == [0] * SAMPLES + [1]
    with api.services.sessions() as session:
        device = session.scalars(select(Device).where(Device.name == "phone")).one()
        with pytest.raises(Problem, match="larger than 100000 bytes"):
            write_device(session, device, 100_000)


def samples_of_another_session(api: Api, name: str) -> bytes:
    architecture = SPACE.architecture(SPACE.chain.sample(np.random.default_rng(1), 1)[0])
    sample = {
        "space": SPACE.name,
        "architecture": SPACE.to_json(architecture),
        "latency_ms": latency_ms(architecture) * 1.05,
    }
    assert api.post(f"/v1/devices/{name}/probes", {"samples": [sample]}).status_code == 201
    return exported(api, name)


def test_back_after_it_was_deleted(api: Api) -> None:
    data = measured_device(api)
    assert api.call("DELETE", "/v1/devices/phone").status_code == 204
    assert imported(api, data).status_code == 201
    assert exported(api, "phone") == data
    assert api.key.encode() not in data and api.tenant_id.encode() not in data


def test_a_name_that_is_taken(both: Api) -> None:
    data = measured_device(both)
    is_problem(imported(both, data), 409, code="already_exists")
    with both.services.sessions() as session:
        assert len(session.scalars(select(Table)).all()) == 2
        assert len(session.scalars(select(NetworkMeasurement)).all()) == SAMPLES


def test_a_device_belongs_to_who_imports_it(both: Api) -> None:
    data = measured_device(both)
    other = both.new_tenant()
    assert both.get("/v1/devices/phone/bundle", key=other).status_code == 404
    assert imported(both, data, key=other).status_code == 201
    assert both.get("/v1/devices/phone", key=other).json()["description"] == ""
    is_problem(imported(both, data, key=both.new_key("devices:read")), 403, code="insufficient_scope")


def test_what_a_file_says_of_itself_is_not_believed(api: Api) -> None:
    document = json.loads(measured_device(api))
    document["tables"][0]["source"] = "agent"
    document["tables"][1]["state"] = "needs_review"
    assert imported(api, sealed(document), "?name=copy").status_code == 201
    new, old = api.get("/v1/devices/copy").json()["tables"]
    assert (old["source"], old["state"]) == ("upload", "ready")
    assert new["state"] == "needs_review" and new["reasons"][0]["kind"] == "imported"
    for row in document["tables"][0]["rows"]:
        row["median_ms"] = row["lower_quartile_ms"] = 1e-12  # faster than light
    with_fast = json.loads(exported(api, "phone"))
    digest = _digest_of(document["tables"][0]["rows"])
    with_fast["tables"] = [{**document["tables"][0], "digest": digest, "state": "ready"}]
    assert imported(api, sealed(with_fast), "?name=fast").status_code == 201
    assert api.get("/v1/devices/fast").json()["tables"][0]["state"] == "needs_review"


def _digest_of(rows: list[dict[str, Any]]) -> str:
    from latency_tables.formats.native_json import context_from, rows_from
    from latency_tables.table import LatencyTable

    return LatencyTable(context_from(CONTEXT), rows_from(rows)).digest


def test_a_transferred_table_keeps_its_calibration(api: Api) -> None:
    measured_device(api)
    with api.services.sessions.begin() as session:
        device = session.scalars(select(Device)).one()
        table = table_rows.load(session, str(table_rows.newest(session, device.id)))
        fitted = Calibration(0.5, 2.0, {8: (0.25, 1.5)}, 20, 0.03, 0.1, (0.9, 1.0, 1.1)).to_json()
        table_rows.publish(session, device, table, source="transfer", provenance={"calibration": fitted})
    data = exported(api, "phone")
    assert imported(api, data, "?name=copy").status_code == 201
    with api.services.sessions() as session:
        row = session.scalars(
            select(Table).join(Device).where(Device.name == "copy", Table.source == "transfer")
        ).one()
        assert row.provenance["calibration"] == fitted
        assert len(measurement_rows.networks(session, row.device_id, SPACE.name, 10)) == SAMPLES
    assert json.loads(exported(api, "copy"))["tables"] == json.loads(data)["tables"]


SPOILS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another form": (lambda d: d.update(format="tar"), "/format"),
    "a later version": (lambda d: d.update(version=2), "/version"),
    "an unknown field": (lambda d: d.update(tenant_id="x"), ""),
    "no tables": (lambda d: d.pop("tables"), "/tables"),
    "a table that is none": (lambda d: d["tables"].append([]), "/tables/2"),
    "no rows": (lambda d: d["tables"][1].update(rows=[]), "/tables/1/rows"),
    "a row too many": (lambda d: d["tables"][1]["rows"].pop(), "/tables/1/digest"),
    "a row twice": (lambda d: d["tables"][1]["rows"].append(d["tables"][1]["rows"][0]), "/tables/1/rows"),
    "a latency below zero": (lambda d: d["tables"][1]["rows"][3].update(median_ms=-1.0), "/tables/1/rows/3"),
    "a latency as text": (lambda d: d["tables"][1]["rows"][3].update(median_ms="1"), "/tables/1/rows/3"),
    "another source": (lambda d: d["tables"][0].update(source="god"), "/tables/0/source"),
    "a transfer without calibration": (lambda d: d["tables"][0].update(source="transfer"), "/tables/0/calibration"),
    "half a calibration": (lambda d: d["tables"][0].update(calibration={"slope": 1.0}), "/tables/0/calibration"),
    "another context": (lambda d: d["context"].update(threads=2), "/tables/0/digest"),
    "no context": (lambda d: d.update(context={}), "/context"),
    "a name with a path": (lambda d: d.update(name="../x"), "/name"),
    "an unknown space": (lambda d: d["networks"][0].update(space="nowhere"), "/networks/0"),
    "another space's network": (lambda d: d["networks"][5].update(architecture={"resolution": 8}), "/networks/5"),
    "a quartile above the median": (lambda d: d["networks"][5].update(lower_quartile_ms=1e5), "/networks/5"),
    "a network without a time": (lambda d: d["networks"][5].pop("median_ms"), "/networks/5/median_ms"),
}  # fmt: skip


def test_bad_files_say_where_and_leave_nothing(api: Api) -> None:
    good = measured_device(api)
    for what, (spoil, pointer) in SPOILS.items():
        document = json.loads(good)
        spoil(document)
        found = is_problem(imported(api, sealed(document), "?name=bad"), 422)
        assert found["errors"][0]["pointer"].startswith(pointer), (what, found)
    for query in ("?name=../x", "?name=A", "?other=x", "?name=a&name=b"):
        is_problem(imported(api, good, query), 422)
    assert [d["name"] for d in api.get("/v1/devices").json()["items"]] == ["phone"]


def test_damaged_bytes_are_no_device(api: Api) -> None:
    good = measured_device(api)
    generator = np.random.default_rng(0)
    for place in [0, 1, *generator.integers(2, len(good) - 2, 40)]:
        flipped = bytearray(good)
        flipped[place] ^= 1 << int(generator.integers(0, 7))
        is_problem(imported(api, bytes(flipped), "?name=bad"), 400, 422)
    for data in (
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        good[: len(good) // 2],
        good + good,
        b"NaN",
        b"[" * 10_000,
    ):
        is_problem(imported(api, data, "?name=bad"), 400, 422)
    is_problem(
        api.call("POST", "/v1/devices/import", content=good, headers={"Content-Type": "text/csv"}), 415
    )
    assert [d["name"] for d in api.get("/v1/devices").json()["items"]] == ["phone"]


def test_a_file_that_is_too_large_is_neither_taken_nor_given(make_api: Callable[..., Api]) -> None:
    api = make_api(max_table_bytes=100_000)
    api.add_device("phone")
    api.add_table("phone")
    is_problem(imported(api, b" " * 100_001), 413, code="payload_too_large")
    few = exported(api, "phone")
    assert len(few) < 100_000
    for factor in range(2, 30):
        api.add_table("phone", [{**r, "median_ms": r["median_ms"] * factor} for r in rows_of_space()])
    is_problem(api.get("/v1/devices/phone/bundle"), 413, code="payload_too_large")
