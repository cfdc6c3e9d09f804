"""A1-A13: bad input gets a 4xx problem, stores nothing, and is not echoed. Raw bytes, as an attacker would
send them."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select

from service.db.models import Base
from tests.service.api import CONTEXT, SPACE, Api, is_problem, predictor, search_request, table_rows

JSON = {"Content-Type": "application/json"}
MARK = "zqxjkvbpyq"  # put into inputs; must never come back
ROW = table_rows()[0]
NUMBERS = {
    "nan": b"NaN",
    "infinity": b"Infinity",
    "minus infinity": b"-Infinity",
    "1e999": b"1e999",
    "-1e999": b"-1e999",
    "negative": b"-1.5",
    "zero": b"0",
    "minus zero": b"-0.0",
    "too large": b"1e12",
    "boolean": b"true",
    "text": b'"1"',
    "text with underscore": b'"1_0"',
    "text with unit": b'"5ms"',
    "null": b"null",
    "list": b"[1]",
    "object": b'{"a": 1}',
    "5,000 digits": b"1" * 5000,
    "2**63": str(2**63).encode(),
    "2**64": str(2**64).encode(),
    "1_0": b"1_0",
    "hex": b"0x10",
    "leading plus": b"+1",
    "octal": b"017",
}
BODIES = {
    "empty": b"",
    "null": b"null",
    "spaces": b"   ",
    "list": b"[]",
    "number": b"7",
    "text": b'"text"',
    "truncated": b'{"name": "a", "con',
    "trailing comma": b'{"name": "a",}',
    "two documents": b"{}{}",
    "byte-order mark": b"\xef\xbb\xbf{}",
    "utf-16": '{"name": "a"}'.encode("utf-16"),
    "utf-32": '{"name": "a"}'.encode("utf-32"),
    "latin-1": '{"name": "caf\xe9"}'.encode("latin-1"),
    "overlong": b'{"name": "\xc0\xaf"}',
    "lone surrogate value": b'{"name": "\\ud800"}',
    "lone surrogate key": b'{"\\udfff": 1}',
    "raw surrogate": b'{"name": "\xed\xa0\x80"}',
    "escaped NUL": b'{"name": "a\\u0000b"}',
    "raw NUL": b'{"name": "a\x00b"}',
    "100,000 lists": b"[" * 100_000,
    "50,000 objects": b'{"a":' * 50_000,
    "33 levels": b"[" * 33 + b"]" * 33,
    "duplicate key": b'{"name": "a", "name": "b"}',
    "comments": b'{"name": "a"} // hello',
    "single quotes": b"{'name': 'a'}",
    "pickle": pickle.dumps({"name": "a"}),
    "gzip": gzip.compress(b'{"name": "a"}'),
    "yaml": b"name: a\n",
    "yaml tag": b"!!python/object/apply:os.system ['id']",
}
ROUTES = {
    "/v1/devices": {"name": "phone2", "context": CONTEXT},
    "/v1/supernets": {"space": "digits-mbv3", "dataset": "digits"},
    "/v1/searches": {"space": "digits-mbv3", "dataset": "digits", "targets": []},
    "/v1/devices/phone/tables": {"context": CONTEXT, "rows": [ROW]},
    "/v1/devices/phone/probes": {"samples": []},
    "/v1/devices/phone/profiles": {"space": "digits-mbv3"},
    "/v1/keys": {"name": "k", "scopes": ["jobs:read"]},
    "/v1/tenants": {"name": "t"},
    "/v1/agent/enrol": {"token": "t", "context": CONTEXT, "environment": {}},
}


@pytest.fixture(scope="module")
def module_api(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Any) -> Any:
    """One server for the whole corpus: what one bad request leaves behind, the next would find."""
    import shutil

    from service.settings import Settings
    from tests.service.api import open_api

    folder = tmp_path_factory.mktemp("bad")
    shutil.copyfile(sqlite_template, folder / "bespoke.db")
    url = f"sqlite:///{folder / 'bespoke.db'}"
    with open_api(
        Settings(data_dir=folder / "data", database_url=url, bad_keys_burst=10_000, log_level="error")
    ) as made:
        made.add_device("phone")
        yield made


@pytest.fixture
def unchanged(module_api: Api) -> Any:
    """Nothing that the test sent was stored."""
    before = counts(module_api)
    yield
    assert counts(module_api) == before


def counts(api: Api) -> dict[str, int]:
    with api.services.sessions() as session:
        return {
            name: session.scalar(select(func.count()).select_from(table)) or 0
            for name, table in Base.metadata.tables.items()
        }


def refused(
    api: Api,
    path: str,
    content: bytes,
    headers: dict[str, str] = JSON,
    statuses: tuple[int, ...] = (400, 413, 415, 422),
) -> Any:
    answer = api.call("POST", path, content=content, headers=headers)
    document = is_problem(answer, *statuses)
    assert MARK not in answer.text
    return document


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("name", BODIES)
def test_a2_bodies_that_are_none(module_api: Api, unchanged: None, path: str, name: str) -> None:
    refused(module_api, path, BODIES[name])


@pytest.mark.parametrize("name", NUMBERS)
def test_a1_a3_numbers_in_a_table(module_api: Api, unchanged: None, name: str) -> None:
    for field in ("median_ms", "lower_quartile_ms", "mad_ms", "count"):
        if (field == "mad_ms" and name in ("zero", "minus zero")) or (
            field != "median_ms" and name == "null"
        ):
            continue
        row = {**ROW, field: "PLACE"}
        body = json.dumps({"context": CONTEXT, "rows": [row]}).encode().replace(b'"PLACE"', NUMBERS[name])
        refused(module_api, "/v1/devices/phone/tables", body, statuses=(400, 422))


@pytest.mark.parametrize("name", NUMBERS)
def test_a9_budgets(module_api: Api, unchanged: None, name: str) -> None:
    body = json.dumps(
        {
            "space": "digits-mbv3",
            "dataset": "digits",
            "targets": [{"device": "phone", "budget": {"latency_ms": "PLACE"}}],
        }
    )
    refused(module_api, "/v1/searches", body.encode().replace(b'"PLACE"', NUMBERS[name]), statuses=(400, 422))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": -1},
        {"seed": 2**40},
        {"seed": 1.0},
        {"seed": True},
        {"recipe": "nonsense"},
        {"recipe": "../quick"},
        {"space": "nonsense"},
        {"dataset": "nonsense"},
        {"epochs": 10**9},
        {"tenant_id": "ten_1"},
        {"state": "succeeded"},
        {"owner": MARK},
        {MARK: 1},
        {"callback_url": "http://169.254.169.254/" + MARK},
        {"dataset": "number-words"},  # sentences, where the space reads pictures
    ],
    ids=str,
)
def test_a9_b4_supernets(module_api: Api, unchanged: None, change: dict[str, Any]) -> None:
    body = {"space": "digits-mbv3", "dataset": "digits", "recipe": "quick", **change}
    refused(module_api, "/v1/supernets", json.dumps(body).encode(), statuses=(422,))


@pytest.mark.parametrize(
    "change",
    [
        {"targets": []},
        {"targets": [{"device": "phone", "budget": {"latency_ms": 1.0}}] * 65},
        {"targets": [{"device": "phone", "budget": {}}]},
        {"targets": [{"device": "phone", "budget": {"latency_ms": 1.0, MARK: 2}}]},
        {"targets": [{"device": "../phone", "budget": {"latency_ms": 1.0}}]},
        {"targets": [{"device": "PHONE", "budget": {"latency_ms": 1.0}}]},
        {"targets": [{"device": "p" * 65, "budget": {"latency_ms": 1.0}}]},
        {"targets": [{"device": "phone\n", "budget": {"latency_ms": 1.0}}]},
        {"targets": [{"device": MARK, "budget": {"latency_ms": 1.0}}]},
        {"strategy": "quantum"},
        {"strategy": ["exact"]},
        {"confidence": 0},
        {"confidence": 1},
        {"confidence": 1.5},
        {"confidence": "0.9"},
        {"confidence": True},
        {"candidates": 0},
        {"candidates": 10**9},
        {"candidates": 1.5},
        {"measured_candidates": 0},
        {"measured_candidates": 17},
        {"measured_candidates": 1.5},
        {"measured_candidates": "3"},
        {"verify": "yes"},
        {"verify": 1},
        {"supernet": None, "space": "digits-mbv3"},
        {"space": "digits-mbv3", "dataset": "digits"},
        {"supernet": "sup_" + "0" * 32},
        {"supernet": "../../etc/passwd"},
        {"population": 10**9},
        {"verified": True},
    ],
    ids=str,
)
def test_a9_b4_searches(module_api: Api, unchanged: None, change: dict[str, Any]) -> None:
    supernet = "sup_" + "1" * 32
    body = {"supernet": supernet, "targets": [{"device": "phone", "budget": {"latency_ms": 1.0}}], **change}
    refused(module_api, "/v1/searches", json.dumps(body).encode(), statuses=(422,))


PATHS = [
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%252e%252e%252fetc",
    "/etc/passwd",
    "file:///etc/passwd",
    "file:etc",
    "digits#x",
    "digits?x",
    "digits/../digits",
    "digits\\..\\x",
    "\\\\host\\share",
    "/proc/self/environ",
    "digits\x00",
    "digits ",
    " digits",
    "DIGITS",
    "digits\n",
    "．．/etc",
    "dıgits",
    "digits/",
    "./digits",
    "~root",
    "$HOME",
    "${jndi:ldap://x}",
    "`id`",
    "a" * 65,
    "http://127.0.0.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://[::ffff:127.0.0.1]/",
    "s3://bucket",
    "gs://b",
    "data:,x",
    "digits'; DROP TABLE jobs; --",
    "digits%",
    "_igits",
    "' OR 1=1 --",
]


@pytest.mark.parametrize("path", PATHS)
def test_a10_a11_a12_names_are_ids_never_paths(module_api: Api, unchanged: None, path: str) -> None:
    for field in ("dataset", "space", "recipe"):
        body = {"space": "digits-mbv3", "dataset": "digits", "recipe": "quick", field: path}
        answer = module_api.post("/v1/supernets", body)
        is_problem(answer, 400, 422)
        if len(path) > 8 and path.strip() == path:
            assert path not in answer.text
    is_problem(module_api.post("/v1/devices", {"name": path, "context": CONTEXT}), 400, 422)
    answer = module_api.get(
        "/v1/supernets/" + path.replace("#", "%23").replace("?", "%3f").encode("unicode_escape").decode()
    )
    is_problem(answer, 404, 405, 400)


@pytest.mark.parametrize("field", CONTEXT)
@pytest.mark.parametrize(
    "value", ["", "a\nb", "\x1b[31m", "x" * 129, -1, 0, 1.5, True, None, [], 10**6], ids=repr
)
def test_contexts(module_api: Api, unchanged: None, field: str, value: Any) -> None:
    refused(
        module_api,
        "/v1/devices",
        json.dumps({"name": "new", "context": {**CONTEXT, field: value}}).encode(),
        statuses=(422,),
    )


def test_rows_are_named_by_number_all_or_nothing(module_api: Api, unchanged: None) -> None:
    rows = table_rows()
    rows[2] = {**rows[2], "operator": MARK}
    rows[7] = {**rows[7], "median_ms": -1}
    rows[9] = rows[8]
    document = refused(
        module_api,
        "/v1/devices/phone/tables",
        json.dumps({"context": CONTEXT, "rows": rows}).encode(),
        statuses=(422,),
    )
    assert document["rows"] == [3, 8, 10]
    assert [e["pointer"] for e in document["errors"]] == ["/rows/2", "/rows/7", "/rows/9"]


def test_a5_csv(module_api: Api, unchanged: None) -> None:
    good = f"{ROW['operator']},0.5"
    bad = {
        "no header": good,
        "only a header": "operator,median_ms",
        "duplicate header": f"operator,median_ms,median_ms\n{good},1",
        "ragged": f"operator,median_ms\n{good},1",
        "short": f"operator,median_ms\n{ROW['operator']}",
        "formula": f"operator,median_ms\n=cmd|'/C {MARK}'!A0,1",
        "formula number": f"operator,median_ms\n{ROW['operator']},=1+1",
        "nan": f"operator,median_ms\n{ROW['operator']},nan",
        "inf": f"operator,median_ms\n{ROW['operator']},inf",
        "underscore": f"operator,median_ms\n{ROW['operator']},1_0",
        "unit": f"operator,median_ms\n{ROW['operator']},5ms",
        "twice": f"operator,median_ms\n{good}\n{good}",
        "open quote": f'operator,median_ms\n"{good}',
        "nul": f"operator,median_ms\n{good}\x00",
    }
    for name, text in bad.items():
        answer = module_api.call(
            "POST", "/v1/devices/phone/tables", content=text.encode(), headers={"Content-Type": "text/csv"}
        )
        is_problem(answer, 422, 400)
        assert MARK not in answer.text, name
    lines = "\n".join(["operator,median_ms", *[f"nonsense{n},1" for n in range(500)]])
    document = refused(
        module_api, "/v1/devices/phone/tables", lines.encode(), {"Content-Type": "text/csv"}, (422,)
    )
    assert len(document["errors"]) <= 20
    refused(
        module_api,
        "/v1/devices/phone/tables",
        gzip.compress(b"x" * 1000),
        {"Content-Type": "text/csv"},
        (422, 400),
    )


def test_a6_foreign_formats(module_api: Api, unchanged: None) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("../../evil", "x")
    contents = {
        "pickle": pickle.dumps({}),
        "zip": archive.getvalue(),
        "npz": b"\x93NUMPY\x01\x00",
        "yaml": b"a: &a [*a]",
    }
    types = (
        "application/yaml",
        "application/x-yaml",
        "text/yaml",
        "application/octet-stream",
        "application/zip",
        "text/plain",
        "",
        "*/*",
    )
    for content in contents.values():
        for media_type in types:
            refused(module_api, "/v1/devices/phone/tables", content, {"Content-Type": media_type}, (415,))
        for media_type in ("application/json", "text/csv"):
            refused(module_api, "/v1/devices/phone/tables", content, {"Content-Type": media_type}, (400, 422))


@pytest.mark.parametrize("path", ROUTES)
def test_wrong_media_type(module_api: Api, unchanged: None, path: str) -> None:
    body = json.dumps(ROUTES[path]).encode()
    for media_type in (
        "text/plain",
        "application/xml",
        "application/json; charset=utf-16",
        "multipart/form-data",
        "text/json",
    ):
        refused(module_api, path, body, {"Content-Type": media_type}, (415,))
    refused(module_api, path, body, {"Content-Type": ""}, (415,))


@pytest.mark.parametrize("path", ROUTES)
def test_a7_encoded_bodies(module_api: Api, unchanged: None, path: str) -> None:
    bomb = gzip.compress(b"[" + b"0," * 10**6 + b"0]")
    for encoding in ("gzip", "deflate", "br", "identity, gzip", "x" * 50):
        refused(module_api, path, bomb, {**JSON, "Content-Encoding": encoding}, (415,))


@pytest.mark.parametrize("path", ["/v1/devices", "/v1/searches", "/v1/keys"])
def test_a7_too_large(module_api: Api, unchanged: None, path: str) -> None:
    limit = module_api.settings.max_body_bytes
    document = refused(module_api, path, b" " * (limit + 1), statuses=(413,))
    assert document["limit_bytes"] == limit
    refused(module_api, path, b" " * limit, statuses=(400,))  # not too large: just not JSON

    def chunks() -> Any:
        for _ in range(limit // 65536 + 2):
            yield b" " * 65536

    answer = module_api.call("POST", path, content=chunks(), headers=JSON)
    is_problem(answer, 413)
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "x" * 5000,
        "multipart/form-data; boundary=a\tb",
        "application/x-www-form-urlencoded",
    ],
)
def test_a8_multipart(module_api: Api, unchanged: None, content_type: str) -> None:
    part = '--x\r\nContent-Disposition: form-data; name="f"; filename="../../evil"\r\n\r\n1\r\n'
    body = (part * 1001 + "--x--").encode()
    for path in ("/v1/devices", "/v1/devices/phone/tables"):
        refused(module_api, path, body, {"Content-Type": content_type}, (415,))


@pytest.mark.parametrize(
    "query",
    [
        "?state=sleeping",
        "?kind=x",
        "?limit=0",
        "?limit=201",
        "?limit=1_0",
        "?limit=-1",
        "?limit=1e2",
        "?limit=%00",
        "?limit= 1",
        "?after=x",
        "?after=",
        "?after=%ff%fe",
        "?after=MjAyNi0wMS0wMXxq",
        "?sort=id;drop table jobs",
        "?tenant_id=ten_1",
        "?state=",
        "?state=queued&state=running",
        "?key=abc",
        "?after=" + "A" * 10_000,
    ],
)
def test_a12_queries(module_api: Api, unchanged: None, query: str) -> None:
    is_problem(module_api.get("/v1/jobs" + query), 422, 400, 414)


def test_cancel_and_enrol_take_no_body(module_api: Api, unchanged: None) -> None:
    refused(module_api, "/v1/devices/phone/enrolments", b'{"device": "other"}', statuses=(422,))
    refused(module_api, "/v1/devices/phone/enrolments", b"x" * 2**21, statuses=(413,))


def test_a13_hostile_headers_are_data(module_api: Api) -> None:
    for value in ("a" * 4000, "${jndi:ldap://x}", "\x1b[31mred", "short", "-" * 65):
        answer = module_api.get("/healthz", key=None, headers={"X-Request-Id": value, "User-Agent": value})
        assert answer.status_code == 200
        assert answer.headers["x-request-id"] != value
    kept = module_api.get("/healthz", key=None, headers={"X-Request-Id": "trace-0123456789"})
    assert kept.headers["x-request-id"] == "trace-0123456789"


def test_idempotency_keys_that_are_none(module_api: Api, unchanged: None) -> None:
    body = {"space": "digits-mbv3", "dataset": "digits"}
    for key in ("", "x" * 256, "x" * 2000, "caf\xe9"):
        answer = module_api.post("/v1/supernets", body, headers={"Idempotency-Key": key.encode("latin-1")})
        is_problem(answer, 400, 422)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda a: {**a, "space": "ofa-mbv3"},
        lambda a: {**a, "resolution": 9},
        lambda a: {**a, "resolution": "8"},
        lambda a: {**a, "resolution": True},
        lambda a: {**a, "stages": []},
        lambda a: {**a, "stages": a["stages"][:-1]},
        lambda a: {**a, "stages": [MARK]},
        lambda a: {**a, "stages": [{**a["stages"][0], "width": 10**9}, *a["stages"][1:]]},
        lambda a: {
            **a,
            "stages": [{**a["stages"][0], "blocks": [{"kernel": 99, "expand": 2}]}, *a["stages"][1:]],
        },
        lambda a: {
            **a,
            "stages": [{**a["stages"][0], "blocks": [{"kernel": [], "expand": {}}]}, *a["stages"][1:]],
        },
        lambda a: {**a, "stages": [{**a["stages"][0], "name": []}, *a["stages"][1:]]},
        lambda a: {"stages": None},
        lambda a: {},
    ],
)
def test_probes_of_networks_that_are_none(
    module_api: Api, unchanged: None, spoil: Callable[[Any], Any]
) -> None:
    architecture = spoil(SPACE.to_json(SPACE.largest()))
    body = {"samples": [{"space": SPACE.name, "architecture": architecture, "latency_ms": 1.0}]}
    refused(module_api, "/v1/devices/phone/probes", json.dumps(body).encode(), statuses=(422,))


def test_an_unreachable_budget_says_what_can_be_reached(both: Api) -> None:
    both.add_device("phone")
    both.add_table("phone")
    supernet = both.add_supernet()
    answer = both.post("/v1/searches", search_request(supernet, 1e-6))
    document = is_problem(answer, 422, code="infeasible_budget")
    assert document["errors"][0]["pointer"] == "/targets/0/budget/latency_ms"
    low, high = document["reachable_ms"]["min"], document["reachable_ms"]["max"]
    assert 0 < low < high
    assert both.get("/v1/jobs").json()["items"] == []
    is_problem(both.post("/v1/searches", search_request(supernet, low * 0.999)), 422)
    assert both.post("/v1/searches", search_request(supernet, low)).status_code == 202
    assert both.post("/v1/searches", search_request(supernet, high * 10)).status_code == 202


def test_asked_confidence_without_enough_networks(both: Api) -> None:
    both.add_device("phone")
    both.add_table("phone")
    supernet = both.add_supernet()
    document = is_problem(
        both.post("/v1/searches", search_request(supernet, 100.0, confidence=0.95)),
        422,
        code="too_few_networks",
    )
    assert document["missing_networks"] == 19
    assert document["errors"][0]["pointer"] == "/confidence"
    assert both.post("/v1/searches", search_request(supernet, 100.0)).status_code == 202


def test_a_device_without_a_table(both: Api) -> None:
    both.add_device("bare")
    supernet = both.add_supernet()
    document = is_problem(
        both.post("/v1/searches", search_request(supernet, 1.0, "bare")), 422, code="no_table"
    )
    assert document["errors"][0]["pointer"] == "/targets/0/device"
    assert predictor() is not None


def test_the_wrong_context(both: Api) -> None:
    both.add_device("phone")
    body = {"context": {**CONTEXT, "threads": 2}, "rows": table_rows()}
    is_problem(both.post("/v1/devices/phone/tables", body), 422, code="context_mismatch")
    assert both.get("/v1/devices/phone").json()["tables"] == []


def test_errors_stay_under_four_kib(module_api: Api) -> None:
    targets = [{"device": "x" * 200, "budget": {"latency_ms": -1}, f"{MARK}{n}": n} for n in range(64)]
    refused(
        module_api,
        "/v1/searches",
        json.dumps({"supernet": "x", "targets": targets, "strategy": MARK}).encode(),
        statuses=(422,),
    )


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "PROPFIND", "POST"])
def test_methods_that_are_not_there(module_api: Api, method: str) -> None:
    is_problem(module_api.call(method, "/v1/spaces"), 405)
    is_problem(module_api.call(method, "/v1/nowhere"), 404)
