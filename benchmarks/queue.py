"""`python -m benchmarks.queue`: list, filter, read and claim while very many jobs are there, on both
databases."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sqlalchemy import select, text, update

from benchmarks.environment import environment
from service.db import jobs as job_rows
from service.db.models import Job
from service.db.states import JobState
from tests.reliability.machinery import postgres
from tests.reliability.machinery.lab import Lab
from tests.reliability.test_e_overload import fill
from worker.engine import claim

ROUNDS = 300
CLAIMS = 100


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=100_000)
    options = parser.parse_args()
    found = {name: run(name, options.jobs) for name in postgres.databases("both")}
    worst = {key: max(one[key] for one in found.values()) for key in ("p99_ms", "claim_p99_ms")}
    print(
        json.dumps(
            {"jobs": options.jobs, **worst, "databases": found, "seed": None, "environment": environment()},
            indent=1,
        )
    )
    return 0 if worst["p99_ms"] < 100 and worst["claim_p99_ms"] < 20 else 1


def run(name: str, count: int) -> dict[str, Any]:
    """Times of one database, in ms."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bespoke-queue-")))
        url = stack.enter_context(postgres.server()).database() if name == "postgresql" else ""
        lab = stack.enter_context(Lab(folder, url))
        for part in ("a", "b"):
            fill(lab, count // 2, lab.new_tenant(part))
        tenant = lab.new_tenant("a")
        with lab.sessions.begin() as session:
            if name == "postgresql":
                session.execute(text("ANALYZE"))
            ids = list(session.scalars(select(Job.id).where(Job.tenant_id == tenant).limit(CLAIMS)))
            cursor = session.execute(select(Job.created_at, Job.id).where(Job.id == ids[0])).one()
        queued = [lab.submit(number) for number in range(CLAIMS)]
        times = {
            "list": _times(lambda n: _list(lab, tenant, None, None)),
            "filter": _times(lambda n: _list(lab, tenant, "cancelled", "search")),
            "filter_rare": _times(lambda n: _list(lab, tenant, "running", None)),
            "next_page": _times(lambda n: _list(lab, tenant, None, None, (cursor[0], cursor[1]))),
            "get": _times(lambda n: _get(lab, tenant, ids[n % len(ids)])),
            "count_active": _times(lambda n: _count(lab, tenant)),
        }
        claims, commits = [], []
        for job_id in (
            queued
        ):  # interleaved with the least that a durable write costs here, so that a noisy moment meets both
            claims += _times(lambda _, job_id=job_id: _claim(lab, job_id), 1)  # type: ignore[misc]
            commits += _times(lambda _: _commit(lab, ids[0]), 1)
        claims, commits = sorted(claims), sorted(commits)
        with lab.sessions.begin() as session:
            session.execute(update(Job).where(Job.state == JobState.RUNNING).values(state=JobState.CANCELLED))
    quantiles = {f"{key}_p99_ms": _p99(values) for key, values in times.items()}
    return {
        **quantiles,
        "p99_ms": max(quantiles.values()),
        "claim_p99_ms": _p99(claims),
        "claim_median_ms": _median(claims),
        "commit_p99_ms": _p99(commits),
        "commit_median_ms": _median(commits),
        "claim_over_commit": round(_median(claims) / _median(commits), 2),
    }


def _times(action: Callable[[int], object], rounds: int = ROUNDS) -> list[float]:
    found = []
    for number in range(rounds):
        started = time.perf_counter()
        action(number)
        found.append((time.perf_counter() - started) * 1e3)
    return sorted(found)


def _p99(values: list[float]) -> float:
    return round(values[int(0.99 * (len(values) - 1))], 2)


def _median(values: list[float]) -> float:
    return round(values[len(values) // 2], 2)


def _list(lab: Lab, tenant: str, state: str | None, kind: str | None, after: Any = None) -> None:
    with lab.sessions() as session:
        job_rows.listed(session, tenant, job_rows.JobFilter(state, kind), after, 50)


def _get(lab: Lab, tenant: str, job_id: str) -> None:
    with lab.sessions() as session:
        job_rows.get(session, tenant, job_id)


def _count(lab: Lab, tenant: str) -> None:
    with lab.sessions() as session:
        job_rows.count_active(session, tenant)


def _claim(lab: Lab, job_id: str) -> None:
    with lab.sessions.begin() as session:
        claim(session, job_id, "benchmark")


def _commit(lab: Lab, job_id: str) -> None:
    """One row, one column, one durable transaction."""
    with lab.sessions.begin() as session:
        session.execute(update(Job).where(Job.id == job_id).values(attempts=Job.attempts + 1))


if __name__ == "__main__":
    sys.exit(main())
