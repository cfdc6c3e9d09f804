"""The API with uvicorn: what `python -m service` runs. Settings come from the environment
(`service.settings`)."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from service.app import create_app
from service.http.deadline import with_deadline
from service.http.dependencies import Services
from service.settings import Settings, sentences
from service.startup import UnsafeSettings, check_data_dir, check_settings
from service.telemetry import configure_logging, log

# Where file descriptors run out, asyncio logs a failure for each place of the backlog.
_BACKLOG: Final = 64


def main() -> int:
    """Serve until told to stop; the exit status."""
    try:
        settings = Settings()
        check_settings(settings)
        check_data_dir(settings.data_dir)
        # Before logging is set up: an operator reads these on a terminal.
        _allow_files(settings.max_connections)
        listener = _bind(settings)
    except ValidationError as error:
        return _refuse("; ".join(sentences(error)))
    except UnsafeSettings as error:
        return _refuse(str(error))
    configure_logging(settings.log_level)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        log_config=None,
        http=with_deadline(settings.read_deadline_s),
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or None,
        limit_concurrency=settings.max_connections,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=max(1, int(settings.shutdown_s)),
        timeout_keep_alive=max(1, int(settings.read_deadline_s)),
        h11_max_incomplete_event_size=16_384,
        lifespan="on",
    )
    server = _Server(config, app)
    # uvicorn raises the signal again when it has shut down; by default that would end the process before the
    # cleaning up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    place = settings.data_dir / "server.json"
    _announce(place, settings.host, listener.getsockname()[1])
    try:
        server.run(sockets=[listener])
    finally:
        _withdraw(place)
        listener.close()
    return 0 if server.started else 3


class _Server(uvicorn.Server):
    """Tells the application that it shall end, and not only when every request has been answered."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        services: Services | None = getattr(self._app.state, "services", None)
        if services is not None:
            services.ending.set()
        super().handle_exit(sig, frame)


def _allow_files(connections: int) -> None:
    """Room for every connection and the files behind it, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _bind(settings: Settings) -> socket.socket:
    """The listening socket, bound before anything else so that port 0 gets its number. Raises
    UnsafeSettings."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With its protocol named, asyncio sets TCP_NODELAY; without, every answer waits 40 ms for a delayed
    # acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise UnsafeSettings(
            f"{settings.host}:{settings.port} cannot be bound ({error.strerror}); set BESPOKE_PORT"
        ) from None
    listener.set_inheritable(True)
    return listener


def _announce(place: Path, host: str, port: int) -> None:
    """Where this server is, for the command line on this machine."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - a wildcard is no address to go to
    name = f"[{reached}]" if ":" in reached else reached
    # Renamed into place: the command line must never read half of it.
    partial = place.with_name(f".{place.name}.{os.getpid()}.part")
    partial.write_text(
        json.dumps({"url": f"http://{name}:{port}", "pid": os.getpid()}) + "\n", encoding="utf-8"
    )
    partial.replace(place)
    log().info("listening", url=f"http://{name}:{port}")


def _withdraw(place: Path) -> None:
    with suppress(OSError, ValueError, AttributeError):
        # A newer server may have taken the folder over.
        if json.loads(place.read_text(encoding="utf-8")).get("pid") == os.getpid():
            place.unlink()


def _refuse(reason: str) -> int:
    sys.stderr.write(f"bespoke: {reason}\n")
    return 2
