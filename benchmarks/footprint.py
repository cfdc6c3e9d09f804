"""Memory and start-up of the processes that run all the time, and how fast a search is accepted.

A real API process on SQLite (durable commits, no worker), a real agent process against it. Resident memory is
read from /proc, so this runs on Linux.

    python -m benchmarks.footprint --requests 100 --seed 0
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnxruntime

from benchmarks.environment import environment
from service.client import BespokeClient, NoServer

CONTEXT = {
    "runtime": "onnxruntime",
    "runtime_version": "1.31",
    "provider": "CPUExecutionProvider",
    "threads": 1,
    "precision": "float32",
    "batch_size": 1,
}


def resident_mib(pid: int, peak: bool = False) -> float:
    """Resident memory of a process in MiB, now or at its peak."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    match = re.search(rf"^{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", text, re.MULTILINE)
    if match is None:
        raise RuntimeError("the kernel does not tell a process's memory here")
    return int(match[1]) / 1024


@contextmanager
def api(folder: Path) -> Iterator[tuple[BespokeClient, int, float]]:
    """(client, process, seconds to be ready) of a real API process."""
    quota = {"BESPOKE_MAX_ACTIVE_JOBS": "10000"}
    settings = {"BESPOKE_DATA_DIR": str(folder), "BESPOKE_PORT": "0", "BESPOKE_DATABASE_URL": "", **quota}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "service"], env={**os.environ, **settings}, stderr=subprocess.DEVNULL
    )
    try:
        yield _ready(folder), process.pid, time.perf_counter() - started
    finally:
        process.terminate()
        process.wait(30)


def _ready(folder: Path) -> BespokeClient:
    announced = folder / "server.json"
    for _ in range(600):
        if announced.exists() and (folder / "owner.key").exists():
            url = json.loads(announced.read_text(encoding="utf-8"))["url"]
            client = BespokeClient(url, (folder / "owner.key").read_text(encoding="utf-8").strip())
            try:
                if client.ready():
                    return client
            except NoServer:
                client.close()
        time.sleep(0.05)
    raise RuntimeError("the API did not become ready")


def register(client: BespokeClient, generator: random.Random) -> float:
    """A device with a full table for digits-mbv3; a budget in its middle, in ms."""
    client.add_device("board", CONTEXT)
    rows = {
        i["operator"]: 0.002 + i["macs"] / 1e7 * generator.uniform(0.9, 1.1)
        for i in client.operators("digits-mbv3")
    }
    text = "operator,median_ms\n" + "".join(f"{operator},{ms!r}\n" for operator, ms in rows.items())
    client.upload_table("board", text.encode(), "text/csv")
    return sum(rows.values()) / 10


def post_searches(client: BespokeClient, budget_ms: float, requests: int) -> list[float]:
    """Milliseconds of each POST, committed and queued."""
    request = {
        "space": "digits-mbv3",
        "dataset": "digits",
        "targets": [{"device": "board", "budget": {"latency_ms": budget_ms}}],
        "verify": False,
    }
    times = []
    for _ in range(requests):
        started = time.perf_counter()
        client.search(request)
        times.append((time.perf_counter() - started) * 1e3)
    return times


def agent(client: BespokeClient, url: str, folder: Path) -> dict[str, float]:
    """Seconds from start to the enrolled session, and the peak memory of the agent."""
    context = {**CONTEXT, "runtime_version": onnxruntime.__version__}
    client.add_device("here", context)
    token = client.enrol("here")["token"]
    started = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "latency_tables.agent",
        "--server",
        url,
        "--token",
        token,
        "--state-dir",
        str(folder),
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while not (client.device("here")["agent"] or {}).get("present") and process.poll() is None:
            if time.perf_counter() - started > 60:
                break
            time.sleep(0.02)
        start_s = time.perf_counter() - started
        time.sleep(1.0)
        return {
            "agent_start_s": round(start_s, 2),
            "agent_resident_mib": round(resident_mib(process.pid, peak=True), 1),
        }
    finally:
        process.terminate()
        process.wait(30)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=100, help="searches to post (default 100)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with api(folder / "data") as (client, pid, ready_s):
            at_start = resident_mib(pid)
            times = post_searches(client, register(client, random.Random(arguments.seed)), arguments.requests)
            url = json.loads((folder / "data" / "server.json").read_text(encoding="utf-8"))["url"]
            figures: dict[str, Any] = {
                "api_ready_s": round(ready_s, 2),
                "api_resident_mib_at_start": round(at_start, 1),
                "post_search_ms": round(statistics.median(times), 2),
                "post_search_p99_ms": round(statistics.quantiles(times, n=100)[98], 2),
                **agent(client, url, folder / "agent"),
                "api_resident_mib": round(resident_mib(pid, peak=True), 1),
            }
            client.close()
    print(
        json.dumps(
            {**figures, "requests": arguments.requests, "seed": arguments.seed, "environment": environment()}
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
