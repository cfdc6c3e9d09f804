"""How many threads numpy's linear algebra has, in a fresh interpreter as each program starts it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROBE = """
import {module}
import numpy, threadpoolctl
print([pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["internal_api"] == "openblas"])
"""
PROGRAMS = [
    "service.app",
    "service.cli.app",
    "latency_tables.agent.command",
    "worker.compute.child",
    "supernets.accuracy.predictor",
]


def threads(module: str, **asked: str) -> str:
    clean = {
        k: v
        for k, v in os.environ.items()
        if k not in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")
    }
    command = [sys.executable, "-c", PROBE.format(module=module)]
    return subprocess.run(
        command, env={**clean, **asked}, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.parametrize("module", [*PROGRAMS, "benchmarks.accuracy_predictor"])
def test_linear_algebra_takes_one_thread_unless_asked(module: str) -> None:
    assert set(threads(module).strip("[]").split(", ")) <= {"1", ""}


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core has one thread")
def test_more_threads_are_had_by_asking() -> None:
    found = threads("supernets.accuracy.predictor", OPENBLAS_NUM_THREADS="2")
    assert set(found.strip("[]").split(", ")) <= {"2", ""}
