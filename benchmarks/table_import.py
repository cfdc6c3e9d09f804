"""Registering a large latency profile over HTTP: seconds, rows a second and memory, for two sizes of table.

A real API process on SQLite. If memory or time grew with the square of the rows, the ratio of the two sizes
would show it.

    python -m benchmarks.table_import --rows 100000 --seed 0
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.environment import environment
from benchmarks.footprint import CONTEXT, api, resident_mib
from latency_tables.operators.conv import Conv


def profile(rows: int, generator: random.Random) -> dict[str, float]:
    """Canonical operator text -> ms of that many distinct convolutions."""
    found: dict[str, float] = {}
    for index in range(rows):
        channels, out = 1 + index % 1000, 1 + index // 1000
        operator = Conv(8, 8, channels, out, 3, 1, 0, False, False, "relu", 1)
        found[operator.text] = round(0.002 + operator.macs / 1e7 * generator.uniform(0.9, 1.1), 6)
    return found


def post(rows: int, media_type: str, seed: int) -> dict[str, Any]:
    """Figures of one POST to a fresh API process."""
    table = profile(rows, random.Random(seed))
    if media_type == "text/csv":
        body = "operator,median_ms\n" + "".join(f"{operator},{ms!r}\n" for operator, ms in table.items())
    else:
        body = json.dumps(
            {"context": CONTEXT, "rows": [{"operator": o, "median_ms": ms} for o, ms in table.items()]}
        )
    with tempfile.TemporaryDirectory() as name, api(Path(name)) as (client, pid, _):
        client.add_device("board", CONTEXT)
        before = resident_mib(pid)
        started = time.perf_counter()
        answer = client.upload_table("board", body.encode(), media_type)
        elapsed = time.perf_counter() - started
        client.close()
        if answer["rows"] != rows:
            raise RuntimeError(f"{answer['rows']} of {rows} rows were stored")
        return {
            "rows": rows,
            "seconds": round(elapsed, 2),
            "memory_growth_mib": round(resident_mib(pid, peak=True) - before, 1),
        }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows",
        type=int,
        default=100_000,
        help="rows of the larger table (default 100000); the smaller has half",
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    for name, media_type in (("csv", "text/csv"), ("json", "application/json")):
        half, whole = (
            post(rows, media_type, arguments.seed) for rows in (arguments.rows // 2, arguments.rows)
        )
        figures[name] = {
            "half": half,
            "whole": whole,
            "time_ratio": round(whole["seconds"] / half["seconds"], 2),
        }
    print(json.dumps({**figures, "seed": arguments.seed, "environment": environment()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
