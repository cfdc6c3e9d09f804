"""A load client: one order as JSON on standard input, what it found on standard output.

Closed loop: `clients` connections, each asks again once it was answered. Open loop, where the order has a
`rate`: that many requests begin every second whatever became of those before, as many strangers do; each
waits at most `PATIENCE_S`.

Plain asyncio streams with kept-alive connections and the smallest parser that will do: the client must cost
less than the server that it measures, for both share the machine.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PATIENCE_S = 10.0
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def answer(reader: asyncio.StreamReader) -> int:
    """Status of the next answer, after reading all of it."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    if length:
        await reader.readexactly(length)
    return int(head[9:12])


async def client(
    order: dict[str, Any], data: bytes, until: float, statuses: Counter[str], times: list[float]
) -> None:
    place = urlsplit(order["url"])
    writer = None
    while time.monotonic() < until:
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection(place.hostname, place.port)
            started = time.perf_counter()
            writer.write(data)
            status = await answer(reader)
            statuses[str(status)] += 1
            if status < 300:
                times.append((time.perf_counter() - started) * 1e3)
            elif status in (429, 503):
                await asyncio.sleep(0.05)
        except (OSError, asyncio.IncompleteReadError):
            statuses["closed"] += 1
            writer = None
            await asyncio.sleep(0.05)
    if writer is not None:
        writer.close()


async def stranger(
    order: dict[str, Any], data: bytes, idle: list[Connection], statuses: Counter[str], times: list[float]
) -> None:
    """One request of an open loop, on a connection that is free or on a new one. Its time counts from when it
    was due."""
    started = time.perf_counter()
    try:
        async with asyncio.timeout(PATIENCE_S):
            place = urlsplit(order["url"])
            reader, writer = idle.pop() if idle else await asyncio.open_connection(place.hostname, place.port)
            writer.write(data)
            status = await answer(reader)
    except TimeoutError:
        statuses["unanswered"] += 1
        return
    except (OSError, asyncio.IncompleteReadError):
        statuses["closed"] += 1
        return
    statuses[str(status)] += 1
    if status < 300:
        times.append((time.perf_counter() - started) * 1e3)
    if status == 503:
        writer.close()  # so does the server
    else:
        idle.append((reader, writer))


async def open_loop(order: dict[str, Any], data: bytes, statuses: Counter[str], times: list[float]) -> None:
    idle: list[Connection] = []
    begun, count = time.monotonic(), int(order["seconds"] * order["rate"])
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            await asyncio.sleep(begun + number / order["rate"] - time.monotonic())
            group.create_task(stranger(order, data, idle, statuses, times))
    for _, writer in idle:
        writer.close()


async def run(order: dict[str, Any]) -> dict[str, Any]:
    place = urlsplit(order["url"])
    body = json.dumps(order["body"]).encode() if "body" in order else b""
    lines = [
        f"{order['method']} {place.path} HTTP/1.1",
        f"Host: {place.netloc}",
        f"Authorization: Bearer {order['key']}",
    ]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    data = "\r\n".join([*lines, "", ""]).encode() + body
    statuses: Counter[str] = Counter()
    times: list[float] = []
    started = time.monotonic()
    until = started + order["seconds"]
    if "rate" in order:
        await open_loop(order, data, statuses, times)
    else:
        await asyncio.gather(*(client(order, data, until, statuses, times) for _ in range(order["clients"])))
    return {"seconds": time.monotonic() - started, "statuses": dict(statuses), "times_ms": times}


def found_by(order: dict[str, Any]) -> dict[str, Any]:
    """What a client in a process of its own found for an order: seconds, statuses, times in ms."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.machinery.load_client"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        timeout=order["seconds"] + 120,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(json.loads(sys.stdin.read())))))
