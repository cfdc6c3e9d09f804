"""`python -m benchmarks.load`: what one API process carries on this machine, beside a bare FastAPI route in
the same run.

Three phases against the live API on SQLite with durable commits: GET job and the bare route in alternating
slices, then POST search, then an overload. Clients are threads of processes of their own, with kept-alive
connections, on 127.0.0.1 only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import update

from benchmarks.environment import environment
from service.db.artifacts import register
from service.db.models import Supernet
from service.telemetry import configure_logging
from tests.reliability.machinery.lab import end
from tests.reliability.machinery.live import LiveApi
from tests.reliability.machinery.load_client import found_by
from tests.reliability.machinery.postgres import free_port
from tests.service.api import open_api, search_request

CLIENTS = 16
SLICES = 4
BARE = (
    "from fastapi import FastAPI\napp = FastAPI()\n"
    "@app.get('/v1/jobs/{job_id}')\ndef one(job_id: str): return {'id': job_id, 'kind': 'search', 'state': "
    "'queued'}\n"
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60, help="for all phases together")
    parser.add_argument("--pages", type=int, default=0, help="only this: polls beside that many open pages")
    options = parser.parse_args()
    configure_logging("error")
    folder = Path(tempfile.mkdtemp(prefix="bespoke-load-"))
    try:
        if options.pages:
            found = beside_pages(folder, options.seconds, options.pages)
        else:
            found = measure(folder, options.seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({**found, "seed": None, "environment": environment()}, indent=1))
    return 0


def measure(folder: Path, seconds: float) -> dict[str, Any]:
    """All phases."""
    free = {
        "BESPOKE_RATE_PER_S": "100000",
        "BESPOKE_RATE_BURST": "100000",
        "BESPOKE_MAX_ACTIVE_JOBS": "1000000",
    }
    free |= {"BESPOKE_MAX_ACTIVE_JOBS_IN_ALL": "10000000", "BESPOKE_LOG_LEVEL": "warning"}
    live = LiveApi(folder / "data", **free)
    body, job = _prepare(live)
    bare, url = _bare(folder)
    try:
        live.start()
        get = {"method": "GET", "url": f"{live.url}/v1/jobs/{job}", "key": live.key}
        base = {"method": "GET", "url": f"{url}/v1/jobs/{job}", "key": live.key}
        _load(get, 1, CLIENTS), _load(base, 1, CLIENTS)
        gets, bases = [], []
        for _ in range(SLICES):  # interleaved, so that a noisy moment meets both
            gets.append(_load(get, seconds / 4 / SLICES, CLIENTS))
            bases.append(_load(base, seconds / 4 / SLICES, CLIENTS))
        post = {"method": "POST", "url": f"{live.url}/v1/searches", "key": live.key, "body": body}
        posts = _load(post, seconds / 4, CLIENTS)
        live.kill()
        over = _overload(live, get, seconds / 4)
    finally:
        live.__exit__()
        end(bare)
    get_rate, base_rate = _rate(gets), _rate(bases)
    return {
        "get_per_second": get_rate,
        "post_per_second": _rate([posts]),
        "baseline_per_second": base_rate,
        "get_share_of_baseline": round(get_rate / base_rate, 3),
        "p50_ms": _quantile(gets, 0.5),
        "p99_ms": _quantile(gets, 0.99),
        "post_p50_ms": _quantile([posts], 0.5),
        "post_p99_ms": _quantile([posts], 0.99),
        "statuses": {"get": _statuses(gets), "post": _statuses([posts])},
        "overload": over,
    }


def beside_pages(folder: Path, seconds: float, pages: int) -> dict[str, Any]:
    """GET job in alternating slices: without a page, and beside `pages` open ones, their streams quiet."""
    many = str(4 * pages)
    names = ("MAX_STREAMS", "MAX_CONNECTIONS", "MAX_CONCURRENT_REQUESTS")
    limits = {f"BESPOKE_{name}": many for name in names}
    limits |= {"BESPOKE_RATE_PER_S": "100000", "BESPOKE_RATE_BURST": "100000", "BESPOKE_LOG_LEVEL": "warning"}
    live = LiveApi(folder / "data", **limits)
    _, job = _prepare(live)
    without, beside = [], []
    try:
        live.start()
        get = {"method": "GET", "url": f"{live.url}/v1/jobs/{job}", "key": live.key}
        _load(get, 1, CLIENTS)
        for _ in range(SLICES):
            without.append(_load(get, seconds / 2 / SLICES, CLIENTS))
            command = [sys.executable, "-m", "benchmarks.open_pages", live.url, str(pages)]
            with subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "BESPOKE_KEY": live.key},
            ) as opened:
                if opened.stdin is None or opened.stdout is None or opened.stdout.readline() != b"open\n":
                    raise RuntimeError("the pages could not be opened")
                beside.append(_load(get, seconds / 2 / SLICES, CLIENTS))
                opened.stdin.close()
    finally:
        live.__exit__()
    rates = _rate(without), _rate(beside)
    return {
        "pages": pages,
        "get_per_second": rates[0],
        "get_per_second_beside_pages": rates[1],
        "fewer": round(1 - rates[1] / rates[0], 3),
        "p99_ms": _quantile(without, 0.99),
        "p99_ms_beside_pages": _quantile(beside, 0.99),
        "statuses": _statuses(beside),
    }


def _prepare(live: LiveApi) -> tuple[dict[str, Any], str]:
    """A device, its table and a supernet; the body of a search, and a job to read."""
    with open_api(live.settings) as api:
        api.add_device("phone")
        api.add_table("phone")
        supernet = api.add_supernet()
        sha256, size_bytes = api.services.store.put(b"weights")
        with api.services.sessions.begin() as session:
            register(session, sha256, size_bytes, "supernet")
            session.execute(update(Supernet).where(Supernet.id == supernet).values(weights_sha256=sha256))
        body = search_request(supernet, 1e5)
        return body, str(api.post("/v1/searches", body).json()["id"])


def _bare(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    (folder / "bare.py").write_text(BARE)
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "bare:app",
        "--port",
        str(port),
        "--log-level",
        "warning",
        "--no-access-log",
    ]
    process = subprocess.Popen(command, cwd=folder, start_new_session=True)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.1)
    return process, f"http://127.0.0.1:{port}"


def _load(request: dict[str, Any], seconds: float, clients: int) -> dict[str, Any]:
    """What a client process found: seconds, statuses, times in ms."""
    return found_by({**request, "seconds": seconds, "clients": clients})


def _overload(live: LiveApi, get: dict[str, Any], seconds: float) -> dict[str, Any]:
    """With default limits, far more clients than they allow: only 429 and 503 beside 200, flat memory, soon
    normal again."""
    live.environment = {
        "BESPOKE_LOG_LEVEL": "error",
        "BESPOKE_MAX_CONNECTIONS": "64",
        "BESPOKE_RATE_PER_S": "200",
    }
    live.environment |= {"BESPOKE_RATE_BURST": "200"}
    live.start()
    _load(get, 1, 4)
    before = live.rss_bytes()
    over = _load(get, seconds, 150)
    grown = live.rss_bytes() - before
    started = time.monotonic()
    while live.get("/v1/jobs").status_code != 200 and time.monotonic() - started < 30:
        time.sleep(0.1)
    return {
        "statuses": _statuses([over]),
        "accepted_p99_ms": _quantile([over], 0.99),
        "memory_growth_mib": round(grown / 2**20, 1),
        "normal_after_s": round(time.monotonic() - started, 2),
    }


def _rate(found: list[dict[str, Any]]) -> float:
    good = sum(count for one in found for status, count in one["statuses"].items() if status.startswith("2"))
    return round(good / sum(one["seconds"] for one in found), 1)


def _quantile(found: list[dict[str, Any]], q: float) -> float:
    times = sorted(t for one in found for t in one["times_ms"])
    return round(times[int(q * (len(times) - 1))], 2) if times else 0.0


def _statuses(found: list[dict[str, Any]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in found:
        total.update(one["statuses"])
    return dict(total)


if __name__ == "__main__":
    sys.exit(main())
