"""Which calls go through a proxy, and what is said where a proxy cannot be used."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from latency_tables.agent.client import Client
from latency_tables.agent.connection import by_proxy, is_loopback, open_client
from latency_tables.agent.errors import Refused, Unreachable
from service.client import BespokeClient, NoServer

_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def service() -> Iterator[str]:
    """Something that answers every GET with an empty plan."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"items": [], "poll_s": 1, "remaining": 0, "session_id": "s"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_the_agent_reaches_a_service_on_this_machine_whatever_proxy_is_set(
    service: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    client = Client(service, "key", patience_s=0)
    client._once("GET", "/v1/agent/tasks?limit=1", None, 1000, 5.0)
    client.close()
    assert by_proxy(service) == ""


def test_a_service_elsewhere_is_reached_by_the_proxy_and_the_message_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    client = Client("http://bespoke.example.org", "key", patience_s=0, sleep=lambda _s: None)
    with pytest.raises(Unreachable, match=r"HTTP_PROXY \(NO_PROXY names"):
        client.plan(1)
    client.close()
    with (
        BespokeClient("http://bespoke.example.org", "key") as asked,
        pytest.raises(NoServer, match="HTTP_PROXY"),
    ):
        asked.devices()
    monkeypatch.setenv("NO_PROXY", "bespoke.example.org")
    assert by_proxy("http://bespoke.example.org") == ""


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "ftp://127.0.0.1:21"])
def test_a_proxy_that_cannot_be_used_is_said_and_its_password_is_not(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy.replace("//", "//me:secret@"))
    for open_it, error in ((Client, Refused), (lambda url: BespokeClient(url, "key"), NoServer)):
        with pytest.raises(error, match="NO_PROXY") as caught:
            open_it("http://bespoke.example.org")
        assert "secret" not in str(caught.value)
    open_client("http://localhost:8000").close()


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://127.8.8.8", True),
        ("http://localhost/nas", True),
        ("http://[::1]:8000", True),
        ("http://bespoke.example.org", False),
        ("http://localhost.example.org", False),
        ("http://10.0.0.1", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_what_this_machine_is(url: str, here: bool) -> None:
    assert is_loopback(url) is here
