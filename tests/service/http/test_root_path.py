"""The API under a path of a gateway: links lead back through the gateway."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from service.client import BespokeClient
from service.settings import Settings
from service.startup import UnsafeSettings, check_settings
from tests.reliability.machinery.live import LiveApi
from tests.service.api import CONTEXT, Api

TRAINING = {"space": "digits-mbv3", "dataset": "digits", "recipe": "quick"}


@contextmanager
def gateway(port: int, strip: bool) -> Iterator[str]:
    """Address of a gateway that shows the service at /nas, and strips that or sends it on."""

    class Pass(http.server.BaseHTTPRequestHandler):
        def _pass(self) -> None:
            if not self.path.startswith("/nas/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kept = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
            line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            line.request(self.command, self.path[4:] if strip else self.path, body, kept)
            answer = line.getresponse()
            data = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            line.close()

        do_GET = do_POST = do_DELETE = _pass

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pass)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def live(tmp_path: Path, migrated_sqlite: str) -> Iterator[LiveApi]:
    with LiveApi(tmp_path / "data", migrated_sqlite, BESPOKE_ROOT_PATH="/nas") as started:
        yield started


@pytest.mark.parametrize("strip", [True, False])
def test_locations_and_the_contract_lead_back_through_the_gateway(strip: bool, live: LiveApi) -> None:
    with (
        gateway(live.port, strip) as outside,
        httpx.Client(trust_env=False, base_url=outside, timeout=30) as web,
    ):
        web.headers["Authorization"] = f"Bearer {live.key}"
        answer = web.post("/nas/v1/supernets", json=TRAINING)
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == f"/nas/v1/jobs/{answer.json()['id']}"
        assert web.get(answer.headers["location"]).json()["id"] == answer.json()["id"]
        contract = web.get("/nas/openapi.json").json()
        (server,) = contract["servers"]
        assert server == {"url": "/nas"} and "/v1/jobs" in contract["paths"]
        assert web.get(urlsplit(server["url"]).path + "/v1/jobs").status_code == 200
        with BespokeClient(f"{outside}/nas", live.key) as client:
            client.add_device("behind", CONTEXT)
            assert [d["name"] for d in client.devices()] == ["behind"]


def test_a_header_of_a_caller_does_not_decide_where_links_lead(make_api: Callable[..., Api]) -> None:
    api = make_api()
    headers = {"X-Forwarded-Prefix": "/evil", "X-Forwarded-Host": "evil.example"}
    answer = api.post("/v1/supernets", TRAINING, headers=headers)
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    assert "servers" not in api.get("/openapi.json", headers=headers).json()


@pytest.mark.parametrize(
    "path", ["nas", "/nas/", "/", "//evil.example", "/a b", "/a/../b", "/é", "https://evil.example"]
)
def test_a_prefix_that_is_none_is_refused_at_start(path: str) -> None:
    with pytest.raises(UnsafeSettings, match="BESPOKE_ROOT_PATH"):
        check_settings(Settings(root_path=path))
    check_settings(Settings(root_path="/nas/eu-1"))
