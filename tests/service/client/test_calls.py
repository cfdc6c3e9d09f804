"""The client against a small fake of the service, behind httpx's own seam. tests/service/cli runs it against
the real one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.client import (
    ApiProblem,
    BespokeClient,
    DamagedDownload,
    JobUnfinished,
    NoKey,
    NoServer,
    find_access,
)
from service.client import calls as module

Handler = Callable[[httpx.Request], httpx.Response]


def client_of(handler: Handler) -> BespokeClient:
    return BespokeClient("http://service.test/", "secret", transport=httpx.MockTransport(handler))


def job(state: str, **more: object) -> dict[str, object]:
    return {
        "id": "job_1",
        "kind": "search",
        "state": state,
        "progress": None,
        "result": None,
        "error": None,
        **more,
    }


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Sleeps are noted, not slept."""
    slept: list[float] = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    return slept


def test_every_request_carries_the_key_and_the_name_is_one_path_segment() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={})

    service = client_of(answer)
    for name in ("a/b", "..", "a?b#c", "ü"):
        service.device(name)
    assert {r.headers["authorization"] for r in seen} == {"Bearer secret"}
    assert [r.url.raw_path for r in seen] == [
        b"/v1/devices/a%2Fb",
        b"/v1/devices/%2E%2E",
        b"/v1/devices/a%3Fb%23c",
        b"/v1/devices/%C3%BC",
    ]


def test_lists_are_read_to_their_last_page() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        after = request.url.params.get("after")
        pages = {None: ([1, 2], "x"), "x": ([3], "y"), "y": ([], None)}
        items, cursor = pages[after]
        return httpx.Response(200, json={"items": [{"n": n} for n in items], "next": cursor})

    assert [d["n"] for d in client_of(answer).devices()] == [1, 2, 3]


def test_a_problem_is_an_error_with_all_it_says() -> None:
    body = {
        "title": "No network meets the budget",
        "status": 422,
        "detail": "ask for more",
        "reachable_ms": {"min": 1, "max": 9},
        "errors": [{"pointer": "/targets/0", "code": "infeasible", "detail": "too small"}],
    }
    service = client_of(
        lambda _: httpx.Response(422, json=body, headers={"content-type": "application/problem+json"})
    )
    with pytest.raises(ApiProblem) as caught:
        service.search({"targets": []})
    assert caught.value.status == 422
    assert caught.value.reachable_ms == {"min": 1, "max": 9}
    assert caught.value.errors[0]["pointer"] == "/targets/0"
    assert "No network meets the budget: ask for more" in str(caught.value)


@pytest.mark.parametrize("body", [b"<html>bad gateway</html>", b"", b"[1]", b'"text"'])
def test_an_error_page_of_a_proxy_is_still_a_named_error(body: bytes) -> None:
    with pytest.raises(ApiProblem) as caught:
        client_of(lambda _: httpx.Response(502, content=body)).devices()
    assert caught.value.status == 502


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[]", b"null"])
def test_another_program_on_the_port_is_told_apart(body: bytes) -> None:
    with pytest.raises(NoServer, match="another program"):
        client_of(lambda _: httpx.Response(200, content=body)).device("x")


def test_a_server_that_is_away_is_a_named_error_that_says_what_to_do() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(NoServer, match="bespoke serve"):
        client_of(refuse).devices()


def test_a_busy_service_is_asked_again_after_the_time_it_names(naps: list[float]) -> None:
    answers = [
        httpx.Response(429, headers={"Retry-After": "3"}),
        httpx.Response(503),
        httpx.Response(200, json={"items": []}),
    ]
    service = client_of(lambda _: answers.pop(0))
    assert service.devices() == []
    assert naps == [3.0, 1.0]


def test_a_service_that_stays_busy_ends_in_its_problem(naps: list[float]) -> None:
    service = client_of(
        lambda _: httpx.Response(503, json={"title": "The service is overloaded", "status": 503})
    )
    with pytest.raises(ApiProblem, match="overloaded"):
        service.devices()
    assert len(naps) == 4


def test_waiting_reports_every_look_and_ends_with_the_job(naps: list[float]) -> None:
    states = ["queued", "running", "running", "succeeded"]
    service = client_of(lambda _: httpx.Response(200, json=job(states.pop(0))))
    seen: list[str] = []
    done = service.wait("job_1", lambda j: seen.append(j.state))
    assert (done.state, seen) == ("succeeded", ["queued", "running", "running", "succeeded"])


@pytest.mark.parametrize("state", ["failed", "cancelled", "quarantined"])
def test_a_job_that_ends_badly_is_an_error_with_its_reason(state: str) -> None:
    raw = job(state, error={"title": "Training diverged", "detail": "the loss is not finite"})
    with pytest.raises(JobUnfinished, match=f"ended {state}: the loss is not finite"):
        client_of(lambda _: httpx.Response(200, json=raw)).wait("job_1")


def test_waiting_survives_a_restart_of_the_service(naps: list[float]) -> None:
    looks = iter(["away", "away", "succeeded"])

    def answer(request: httpx.Request) -> httpx.Response:
        state = next(looks)
        if state == "away":
            raise httpx.ConnectError("restarting", request=request)
        return httpx.Response(200, json=job(state))

    assert client_of(answer).wait("job_1").state == "succeeded"


def test_waiting_gives_up_on_a_service_that_stays_away(
    naps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("gone", request=request)

    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    with pytest.raises(NoServer):
        client_of(refuse).wait("job_1")


def model_service(data: bytes, promised: bytes) -> BespokeClient:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/onnx"):
            return httpx.Response(200, content=data)
        return httpx.Response(200, json={"file": {"sha256": hashlib.sha256(promised).hexdigest()}})

    return client_of(answer)


def test_a_download_is_checked_and_replaces_the_file_at_once(tmp_path: Path) -> None:
    target = tmp_path / "new" / "model.onnx"
    digest = model_service(b"onnx", b"onnx").download_model("model_1", target)
    assert (target.read_bytes(), digest) == (b"onnx", hashlib.sha256(b"onnx").hexdigest())
    assert [p.name for p in target.parent.iterdir()] == ["model.onnx"]


def test_a_damaged_download_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")
    with pytest.raises(DamagedDownload):
        model_service(b"onnx with a flipped bit", b"onnx").download_model("model_1", target)
    assert target.read_bytes() == b"old"


def data_folder(
    folder: Path, url: str | None = "http://127.0.0.1:9", key: str | None = "from-folder"
) -> Path:
    if url is not None:
        (folder / "server.json").write_text(json.dumps({"url": url}))
    if key is not None:
        (folder / "owner.key").write_text(key + "\n")
    return folder


def test_arguments_come_before_the_environment_and_that_before_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BESPOKE_URL", "BESPOKE_KEY"):
        monkeypatch.delenv(name, raising=False)
    folder = data_folder(tmp_path)
    assert find_access(data_dir=folder) == module.Access("http://127.0.0.1:9", "from-folder")
    monkeypatch.setenv("BESPOKE_URL", "https://far.test/")
    monkeypatch.setenv("BESPOKE_KEY", "from-environment")
    assert find_access(data_dir=folder) == module.Access("https://far.test", "from-environment")
    assert find_access("http://near.test", "given", folder) == module.Access("http://near.test", "given")


def test_the_owner_key_of_this_machine_goes_to_no_other_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BESPOKE_KEY", raising=False)
    folder = data_folder(tmp_path)
    with pytest.raises(NoKey, match="--key"):
        find_access("https://far.test", data_dir=folder)
    assert find_access("http://localhost:5", data_dir=folder).key == "from-folder"


def test_without_a_server_or_a_key_the_error_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BESPOKE_URL", "BESPOKE_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(NoServer, match="bespoke serve"):
        find_access(data_dir=tmp_path)
    with pytest.raises(NoKey, match="owner.key"):
        find_access(data_dir=data_folder(tmp_path, key=None))
    with pytest.raises(NoServer, match="http"):
        find_access("ftp://x", "key", tmp_path)
    (tmp_path / "server.json").write_text("not json")
    with pytest.raises(NoServer):
        find_access(data_dir=tmp_path)
