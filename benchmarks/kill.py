"""`python -m benchmarks.kill`: workers are killed at random under a stream of jobs; nothing acknowledged may
be lost.

Real worker processes with the product's engine and pipelines of stub length, on SQLite and on a private
PostgreSQL. Every second kill is on the other database. The history is checked afterwards, file by file and
event by event.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.environment import environment
from tests.reliability.machinery import postgres
from tests.reliability.machinery.history import quantiles
from tests.reliability.machinery.killer import Killer
from tests.reliability.machinery.lab import Lab


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, help="kills in all, shared between the databases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60, help="stop killing after that many minutes")
    parser.add_argument("--database", choices=("both", "sqlite", "postgresql"), default="both")
    options = parser.parse_args()
    names = postgres.databases(options.database)
    runs = {
        name: run(name, options.kills // len(names), options.seed, 60 * options.minutes / len(names))
        for name in names
    }
    keys = (
        "kills",
        "acknowledged",
        "lost",
        "finished_twice",
        "damaged",
        "doctor_findings",
        "rerun_steps",
        "fenced",
        "requeued",
    )
    total = {key: sum(one[key] for one in runs.values()) for key in keys}
    print(
        json.dumps({**total, "databases": runs, "seed": options.seed, "environment": environment()}, indent=1)
    )
    return (
        0
        if not (total["lost"] or total["finished_twice"] or total["damaged"] or total["doctor_findings"])
        else 1
    )


def run(name: str, kills: int, seed: int, seconds: float) -> dict[str, Any]:
    """Kill on one database."""
    started = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bespoke-kill-")))
        url = stack.enter_context(postgres.server()).database() if name == "postgresql" else ""
        lab = stack.enter_context(Lab(folder, url))
        killer = Killer(lab, seed)
        history = killer.run(kills, started + seconds)
        for line in (*history.findings, *history.damaged, *history.lost)[:20]:
            print(f"{name}: {line}", file=sys.stderr)
    return {
        "kills": len(killer.kills),
        "acknowledged": history.acknowledged,
        "lost": len(history.lost),
        "finished_twice": len(history.finished_twice),
        "damaged": len(history.damaged),
        "doctor_findings": len(history.findings),
        "step_starts": history.step_starts,
        "rerun_steps": history.rerun_steps,
        "crashes_seen": history.crashes_seen,
        "fenced": killer.fenced,
        "requeued": killer.requeued,
        "recovery_s": quantiles(history.recovery_s),
        "wall_s": round(time.monotonic() - started, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
