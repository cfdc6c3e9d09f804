"""Group A: whatever is sent, the answer is a problem of 4xx, nothing is stored, nothing is opened, nothing is
echoed.

The corpus is bytes as an attacker would send them (machinery/corpus.py). The cases of single fields are in
tests/service/http/test_bad_input.py; here every route meets the whole corpus, and a live server is watched from
outside.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from service.db.models import Base
from tests.latency_tables.agent.networks import convolution
from tests.reliability.machinery import corpus
from tests.reliability.machinery.lab import REPOSITORY
from tests.reliability.machinery.live import LiveApi, status_of
from tests.reliability.machinery.routes import Call, calls
from tests.service.api import CONTEXT, Api, is_problem, search_request, table_rows

JSON = {"Content-Type": "application/json"}
CSV = {"Content-Type": "text/csv"}
MARK = "zqxjkvbpyq"
REFUSED = (400, 404, 409, 413, 415, 422, 428, 412)


def counts(api: Api) -> dict[str, int]:
    with api.services.sessions() as session:
        return {
            name: session.scalar(select(func.count()).select_from(table)) or 0
            for name, table in Base.metadata.tables.items()
        }


@pytest.fixture
def api(shared_api: Api) -> Iterator[Api]:
    """The shared server; whatever the test sent, no row may have come or gone."""
    if shared_api.get("/v1/devices/phone").status_code == 404:
        shared_api.add_device("phone")
        shared_api.add_table("phone")
        shared_api.add_supernet()
    before = counts(shared_api)
    yield shared_api
    assert counts(shared_api) == before


def bodies(api: Api) -> list[Call]:
    return [call for call in calls(api.client.app) if call.body == "json" or call.body == "table"]


def refused(answer: Any, *statuses: int) -> None:
    is_problem(answer, *(statuses or REFUSED))
    assert MARK not in answer.text


def rows_with(value: str) -> bytes:
    row = json.dumps({**table_rows()[0], "median_ms": "VALUE"})
    return (
        json.dumps({"context": CONTEXT, "rows": ["ROW"]})
        .replace('"ROW"', row.replace('"VALUE"', value))
        .encode()
    )


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a01_latency_that_is_no_number(api: Api, value: str) -> None:
    refused(api.call("POST", "/v1/devices/phone/tables", content=rows_with(value), headers=JSON), 400, 422)


def test_a02_bodies_that_are_not_json_or_not_objects_on_every_route(api: Api) -> None:
    for call in bodies(api):
        for name, body in {**corpus.NOT_JSON, **corpus.NOT_AN_OBJECT}.items():
            # `{}` is a good request where every field may be left out: such a call goes to a device that is
            # not there
            if name == "empty_object" and call.template == "/v1/sessions":
                continue  # everything in it may be left out, and it names no device
            device = "nobody" if name == "empty_object" else "phone"
            answer = api.call(call.method, call.path(name=device), content=body, headers=JSON)
            assert answer.status_code in REFUSED + (401,), (
                f"{call.method} {call.template} {name}: {answer.status_code}"
            )
            assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("value", corpus.NOT_A_LATENCY)
def test_a03_latencies_and_budgets_out_of_bounds(api: Api, value: str) -> None:
    text = json.dumps(search_request(api_supernet(api), 777.0)).replace("777.0", value)
    if value != "5e-324":
        refused(
            api.call("POST", "/v1/devices/phone/tables", content=rows_with(value), headers=JSON), 400, 422
        )
    refused(api.call("POST", "/v1/searches", content=text.encode(), headers=JSON), 400, 422)


def api_supernet(api: Api) -> str:
    return str(api.get("/v1/supernets").json()["items"][0]["id"])


def test_a03_unknown_and_doubled_fields(api: Api) -> None:
    row = table_rows()[0]
    refused(api.post("/v1/devices/phone/tables", {"context": CONTEXT, "rows": [{**row, MARK: 1}]}), 422)
    refused(api.post("/v1/devices/phone/tables", {"context": CONTEXT, "rows": [row], MARK: 1}), 422)
    doubled = json.dumps({"context": CONTEXT, "rows": [row]})[:-1] + ', "rows": []}'
    refused(api.call("POST", "/v1/devices/phone/tables", content=doubled.encode(), headers=JSON), 400, 422)


def test_a04_values_a_thousand_times_too_large_or_small_are_not_used_silently(shared_api: Api) -> None:
    """Units are in the field's name, so a unit cannot be given; implausible tables are kept for review and
    not selected."""
    api = shared_api
    api.add_device("a04")
    assert (
        api.post(
            "/v1/devices/a04/tables", {"context": CONTEXT, "rows": [{**table_rows()[0], "unit": "us"}]}
        ).status_code
        == 422
    )
    tiny = [{"operator": row["operator"], "median_ms": row["median_ms"] * 1e-6} for row in table_rows()]
    answer = api.post("/v1/devices/a04/tables", {"context": CONTEXT, "rows": tiny})
    assert answer.status_code == 201
    assert answer.json()["state"] == "needs_review"
    assert answer.json()["warnings"]
    refused(api.post("/v1/searches", search_request(api.add_supernet(seed=4), 1.0, "a04")), 422)


@pytest.mark.parametrize("name", sorted(corpus.not_a_table_csv()))
def test_a05_csv_that_is_no_table(api: Api, name: str) -> None:
    answer = api.call("POST", "/v1/devices/phone/tables", content=corpus.not_a_table_csv()[name], headers=CSV)
    refused(answer, 413, 415, 422)
    assert len(answer.json().get("errors", [])) <= 20


def test_a05_csv_of_a_million_rows_is_refused_with_flat_memory(live: LiveApi) -> None:
    live.post("/v1/devices", json={"name": "phone", "context": CONTEXT})
    body = b"operator,median_ms\n" + b"x,0.5\n" * 1_000_001
    before = live.rss_bytes()
    answer = live.post("/v1/devices/phone/tables", content=body, headers=CSV)
    assert answer.status_code in (413, 422), answer.text
    assert live.rss_bytes() - before < 64 * len(body)
    assert live.get("/healthz").status_code == 200


@pytest.mark.parametrize("name", sorted(corpus.disguises()))
def test_a06_formats_that_carry_code_are_refused_honest_or_disguised(api: Api, name: str) -> None:
    body = corpus.disguises()[name]
    for media_type in (
        "application/x-yaml",
        "application/octet-stream",
        "application/zip",
        "application/x-pickle",
        "",
    ):
        headers = {"Content-Type": media_type} if media_type else {}
        refused(api.call("POST", "/v1/devices/phone/tables", content=body, headers=headers), 415)
    for headers in (JSON, CSV):
        refused(api.call("POST", "/v1/devices/phone/tables", content=body, headers=headers), 400, 422)


def test_a06_no_loader_that_runs_code_exists_in_the_product() -> None:
    """R13. torch.load is used with weights_only=True, by the command line alone, for published
    checkpoints."""
    banned = (
        "pickle.load",
        "allow_pickle=True",
        "yaml.load(",
        "yaml.unsafe",
        "eval(",
        "exec(",
        "shell=True",
        "0o777",
        "os.system",
    )
    for package in ("latency_tables", "supernets", "service", "worker"):
        for file in (REPOSITORY / package).rglob("*.py"):
            text = file.read_text()
            for word in banned:
                lines = [
                    line
                    for line in text.splitlines()
                    if word in line and f".{word}" not in line and "model.eval" not in line
                ]
                assert not [line for line in lines if not line.strip().startswith(("#", '"'))], (
                    f"{file}: {word}"
                )
            for line in text.splitlines():
                if "torch.load(" in line:
                    assert "weights_only=True" in line, f"{file}: {line}"


def test_a07_body_over_the_limit_is_cut_off_at_the_limit(make_live: Callable[..., LiveApi]) -> None:
    live = make_live(BESPOKE_MAX_TABLE_BYTES="1000000")
    live.post("/v1/devices", json={"name": "phone", "context": CONTEXT})
    before = live.rss_bytes()
    for path, limit in (("/v1/devices", 2**20), ("/v1/devices/phone/tables", 1_000_000)):
        said = live.raw(
            live.request_bytes(
                "POST", path, b"{", "Content-Type: application/json", f"Content-Length: {limit + 1}"
            ),
            wait_s=5,
        )
        assert status_of(said) == 413
        assert b"onnection: close" in said
        chunk = b"%x\r\n" % 65536 + b" " * 65536 + b"\r\n"
        head = live.request_bytes(
            "POST", path, b"", "Content-Type: application/json", "Transfer-Encoding: chunked"
        )
        assert status_of(live.raw(head + chunk * 200, wait_s=5)) in (
            413,
            0,
        )  # 0: the connection was closed under the sender
        said = live.raw(
            live.request_bytes(
                "POST",
                path,
                b"x" * 30,
                "Content-Type: application/json",
                "Content-Encoding: gzip",
                "Content-Length: 30",
                "Connection: close",
            )
        )
        assert status_of(said) == 415
    assert live.rss_bytes() - before < 64 << 20
    assert list((live.data_dir / "artifacts").glob(".tmp-*")) == []
    assert live.get("/healthz").status_code == 200


def test_a08_multipart_is_refused_and_no_file_name_is_used(api: Api, tmp_path: Path) -> None:
    part = 'Content-Disposition: form-data; name="f"; filename="{}"\r\n\r\nx\r\n'
    for name in ("../../x", "a\x00b", "x" * 4096, 'a"\r\nX-Evil: 1', "C:\\x"):
        body = f"--b\r\n{part.format(name)}--b--\r\n".encode()
        refused(
            api.call(
                "POST",
                "/v1/devices/phone/tables",
                content=body,
                headers={"Content-Type": "multipart/form-data; boundary=b"},
            ),
            415,
        )
    many = (
        b"".join(b'--b\r\nContent-Disposition: form-data; name="f%d"\r\n\r\n1\r\n' % n for n in range(1001))
        + b"--b--"
    )
    for boundary in ("; boundary=b", "", "; boundary=" + "b" * 5000, "; boundary=%00"):
        refused(
            api.call(
                "POST",
                "/v1/searches",
                content=many,
                headers={"Content-Type": f"multipart/form-data{boundary}"},
            ),
            415,
        )


@pytest.mark.parametrize(
    "change",
    [
        {"candidates": 10**9}, {"candidates": 0}, {"targets": []}, {"strategy": "magic"}, {"confidence": 1.0}, {"confidence": 0},
        {"seed": -1}, {"seed": 2**31}, {"population": 10**9}, {"epochs": 10**9}, {"supernet": None}, {"space": "digits-mbv3"},
        {"supernet": "sup_" + "0" * 32}, {"verify": "yes"},
        {"targets": [{"device": "nobody", "budget": {"latency_ms": 1.0}}]},
        {"targets": [{"device": "phone", "budget": {}}]},
        {"targets": [{"device": "phone", "budget": {"latency_ms": 1.0}}] * 65},
    ],
)  # fmt: skip
def test_a09_jobs_out_of_bounds(api: Api, change: dict[str, Any]) -> None:
    refused(api.post("/v1/searches", {**search_request(api_supernet(api), 1e5), **change}), 422)


def test_a09_impossible_budget_is_refused_with_what_is_possible(api: Api) -> None:
    answer = api.post("/v1/searches", search_request(api_supernet(api), 1e-300))
    refused(answer, 422)
    reachable = answer.json()["reachable_ms"]
    assert 0 < reachable["min"] < reachable["max"]


def test_a10_data_set_is_a_name_never_a_place(api: Api) -> None:
    assert len(corpus.TRAVERSALS) >= 60
    for name in (*corpus.TRAVERSALS, "data", "train"):
        for recipe in ({}, {"recipe": name}):
            refused(api.post("/v1/supernets", {"space": "digits-mbv3", "dataset": name, **recipe}), 400, 422)


@pytest.mark.skipif(
    not Path("/usr/bin/strace").exists(), reason="no strace here; test_a10_data_set_is_a_name stands in"
)
def test_a10_no_file_outside_is_opened(make_live: Callable[..., LiveApi], tmp_path: Path) -> None:
    """strace on openat of the live API while every payload goes through names, ids, queries and paths."""
    live = make_live()
    live.get("/v1/spaces")
    log = tmp_path / "opened"
    assert live.process is not None
    arguments = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=open,openat",
        "-o",
        str(log),
        "-p",
        str(live.process.pid),
    ]
    watch = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1.0)
    if watch.poll() is not None:
        pytest.skip("strace may not attach here; test_a10_data_set_is_a_name stands in")
    try:
        for name in corpus.TRAVERSALS:
            live.post("/v1/supernets", json={"space": name, "dataset": name})
            with suppress(Exception):
                live.raw(live.request_bytes("GET", f"/v1/models/{name.replace(' ', '')}/onnx"), wait_s=0.05)
            live.get("/v1/devices", params={"after": name[:60]})
    finally:
        watch.send_signal(signal.SIGINT)
        watch.wait(10)
    opened = {line.split('"')[1] for line in log.read_text(errors="replace").splitlines() if '"' in line}
    foreign = {
        path
        for path in opened
        if any(word in path for word in ("passwd", "environ", "owner.key")) and "/etc/passwd" not in path
    }
    assert foreign == set()
    assert (
        "/etc/passwd" not in opened or "/etc/nsswitch.conf" in opened
    )  # the C library's own look-up of users
    assert not [path for path in opened if ".." in path.split("/")]


def test_a11_no_field_takes_an_address_and_nobody_is_called(api: Api) -> None:
    with closing(socket.socket()) as canary:
        canary.bind(("127.0.0.1", 0))
        canary.listen()
        canary.settimeout(0.5)
        port = canary.getsockname()[1]
        for host in corpus.LOOPBACKS:
            url = f"http://{host}:{port}/x"
            for field in ("callback", "callback_url", "webhook", "url", "dataset_url", "repo"):
                refused(api.post("/v1/searches", {**search_request(api_supernet(api), 1e5), field: url}), 422)
            refused(api.post("/v1/supernets", {"space": "digits-mbv3", "dataset": url}), 422)
        with pytest.raises(TimeoutError):
            canary.accept()


def test_a12_sql_in_every_text_and_query_is_data(api: Api) -> None:
    for text in corpus.SQL:
        for call in calls(api.client.app):
            if call.method == "GET" and call.scope != "agent":
                answer = api.get(
                    call.path().split("?")[0],
                    params={"after": text, "sort": text, "state": text, "kind": text, "limit": text},
                )
                assert answer.status_code in (200, 400, 404, 422, 503), (
                    f"{call.template} {text[:30]}: {answer.status_code}"
                )
        for body in (
            {"name": text, "context": CONTEXT},
            {"name": "x", "context": {**CONTEXT, "runtime": "a\x00" + text}},
        ):
            refused(api.post("/v1/devices", body), 400, 422)
        assert api.get(f"/v1/jobs/{text[:200].encode().hex()}").status_code == 404


def test_a12_sql_that_is_allowed_in_a_text_comes_back_as_it_was(shared_api: Api) -> None:
    for number, text in enumerate(t for t in corpus.SQL if len(t) < 1000):
        name = f"a12-{number}"
        answer = shared_api.post("/v1/devices", {"name": name, "description": text, "context": CONTEXT})
        assert answer.status_code == 201
        assert shared_api.get(f"/v1/devices/{name}").json()["description"] == text


def test_a13_log_stays_one_json_object_a_line(live: LiveApi) -> None:
    for text in corpus.CONTROL:
        printable = text.encode("ascii", "replace").replace(b"\r", b"").replace(b"\n", b"")
        raw = live.request_bytes("GET", "/v1/jobs", b"", "Connection: close").replace(
            b"\r\n\r\n", b"\r\nUser-Agent: " + printable + b"\r\nX-Request-Id: " + printable + b"\r\n\r\n"
        )
        status = status_of(live.raw(raw, wait_s=2))
        assert status in (200, 400, 431), status
        live.post("/v1/devices", json={"name": text[:64], "description": text[:900], "context": CONTEXT})
    answer = live.get("/v1/jobs", headers={"X-Request-Id": "evil id\twith spaces"})
    assert answer.headers["X-Request-Id"] != "evil id\twith spaces"
    assert (
        live.get("/v1/jobs", headers={"X-Request-Id": "good-id-12345"}).headers["X-Request-Id"]
        == "good-id-12345"
    )
    lines = live.log.read_bytes().splitlines()
    assert len(lines) > len(corpus.CONTROL)
    for line in lines:
        assert isinstance(json.loads(line), dict)
        assert b"\x1b" not in line
    assert live.key not in live.log.read_text()


# A14: ONNX of every bad kind, on the path that opens ONNX from elsewhere (the agent's)


def _bad_models(folder: Path) -> dict[str, bytes]:
    import onnx
    from onnx import TensorProto, helper

    good = convolution()
    made: dict[str, bytes] = {
        "random": random.Random(0).randbytes(5000),
        "truncated": good[:-20],
        "empty": b"",
        "text": b"not a model",
    }
    outside = {
        "parent": "../x",
        "absolute": "/etc/passwd",
        "url": "file:///etc/passwd",
        "dot": "./../x",
        "hardlink": "weights.bin",
    }
    (folder / "target.bin").write_bytes(b"\0" * 64)
    os.link(folder / "target.bin", folder / "weights.bin")
    for name, location in {**outside, "huge_length": "weights.bin", "dunder_key": "weights.bin"}.items():
        loaded = onnx.load_from_string(good)
        tensor = loaded.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", location
        if name == "huge_length":
            more = tensor.external_data.add()
            more.key, more.value = "length", str(2**50)
        if name == "dunder_key":
            more = tensor.external_data.add()
            more.key, more.value = "__class__", "x"
        made[f"external_{name}"] = loaded.SerializeToString()
    custom = onnx.load_from_string(good)
    custom.graph.node[0].domain = "evil.domain"
    custom.opset_import.append(helper.make_opsetid("evil.domain", 1))
    made["custom_domain"] = custom.SerializeToString()
    deep = onnx.load_from_string(good)
    for number in range(3000):
        node = helper.make_node(f"f{number + 1}", ["x"], ["y"], domain="f")
        deep.functions.append(
            helper.make_function("f", f"f{number}", ["x"], ["y"], [node], [helper.make_opsetid("f", 1)])
        )
    made["deep_functions"] = deep.SerializeToString()
    return made


def test_a14_bad_networks_are_refused_before_the_runtime_sees_them(tmp_path: Path) -> None:
    from latency_tables.agent.errors import RefusedGraph
    from latency_tables.agent.graph import check_graph

    made = _bad_models(tmp_path)
    assert len(made) >= 12
    for name, data in made.items():
        with pytest.raises(RefusedGraph):
            check_graph(data)
            pytest.fail(f"{name} was let through")


def test_a14_network_that_asks_for_terabytes_ends_the_child_not_the_agent(tmp_path: Path) -> None:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    from latency_tables.agent.errors import MeasuringFailed
    from latency_tables.agent.runner import Job, Limits, Network, measure_in_child

    shape = numpy_helper.from_array(np.array([2**20, 2**20], dtype=np.int64), "shape")
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "bomb",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [shape],
    )
    bomb = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    path = tmp_path / "bomb.onnx"
    path.write_bytes(bomb.SerializeToString())
    started = time.monotonic()
    with pytest.raises(MeasuringFailed):
        measure_in_child(Job({"bomb": Network(path)}, limits=Limits(memory_mib=1500, cpu_s=20, silent_s=20)))
    assert time.monotonic() - started < 30
