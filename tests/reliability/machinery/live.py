"""The API as its own process on 127.0.0.1, to be killed, frozen and spoken to byte by byte."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx

from service.settings import Settings
from tests.reliability.machinery.lab import REPOSITORY, end

START_S = 180.0


class LiveApi:
    """One API process. Use as a context manager. `environment` holds further BESPOKE_ settings as texts."""

    def __init__(self, data_dir: Path, database_url: str = "", **environment: str) -> None:
        self.data_dir = data_dir
        self.settings = Settings(data_dir=data_dir, database_url=database_url)
        self.environment = environment
        self.log = data_dir / "api.log"
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._client: httpx.Client | None = None

    def __enter__(self) -> LiveApi:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        if self._client is not None:
            self._client.close()

    def start(self, **environment: str) -> None:
        """Start, and wait until it answers. The second start takes the same port."""
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        keep = {key: value for key, value in os.environ.items() if not key.startswith("BESPOKE_")}
        own = {
            "BESPOKE_DATA_DIR": str(self.data_dir),
            "BESPOKE_DATABASE_URL": self.settings.database_url,
            "BESPOKE_PORT": str(self.port),
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service"],
                cwd=REPOSITORY,
                env={**keep, **own, **self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._await_start(self.process)

    def _await_start(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise AssertionError(f"the API ended with {process.returncode}: {self.said()}")
            with suppress(OSError, ValueError, httpx.HTTPError):
                known = json.loads((self.data_dir / "server.json").read_text())
                self.port = int(known["url"].rsplit(":", 1)[1])
                if known["pid"] == process.pid and self.get("/healthz").status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"the API did not start: {self.said()}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        return (self.data_dir / "owner.key").read_text().strip()

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        if self._client is None:
            # Long: what is asked is whether it answers, and neighbours take their share of the machine.
            self._client = httpx.Client(timeout=120, trust_env=False)
        headers = {"Authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        return self._client.request(method, self.url + path, headers=headers, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.call("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.call("POST", path, **options)

    def kill(self) -> None:
        if self.process is not None:
            end(self.process)

    def terminate(self, timeout_s: float = 30) -> tuple[int, float]:
        """(exit status, seconds it took) after SIGTERM."""
        assert self.process is not None
        started = time.monotonic()
        self.process.terminate()
        status = self.process.wait(timeout_s)
        return status, time.monotonic() - started

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def raw(self, data: bytes, *, wait_s: float = 20) -> bytes:
        """Everything the server answers to these bytes until it closes or falls silent."""
        with closing(self.connect()) as line:
            with suppress(OSError):
                line.sendall(data)
            return read_all(line, wait_s)

    def request_bytes(self, method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            f"Authorization: Bearer {self.key}",
            *headers,
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def rss_bytes(self) -> int:
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * 4096

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""


def read_all(line: socket.socket, wait_s: float) -> bytes:
    """What comes until the other side closes, resets, or says nothing for `wait_s`."""
    line.settimeout(wait_s)
    parts = []
    with suppress(OSError):
        while part := line.recv(65536):
            parts.append(part)
    return b"".join(parts)


def status_of(answer: bytes) -> int:
    """Status code of a raw answer, 0 where there was none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0
