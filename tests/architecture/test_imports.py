"""What a fresh interpreter loads: the API and the agent stay small."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "sklearn", "scipy", "matplotlib", "onnxruntime", "onnx", "onnxscript", "pandas")
PROBE = """
import json, sys
import {module}
{then}
status = open("/proc/self/status").read() if sys.platform == "linux" else "VmRSS: 0 kB"
kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
print(json.dumps([sorted(sys.modules), kib]))
"""


def loaded(module: str, then: str = "") -> tuple[set[str], float]:
    """(modules that are loaded after the import, resident MiB), in a fresh interpreter."""
    code = PROBE.format(module=module, then=then)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    modules, kib = json.loads(done.stdout)
    return set(modules), kib / 1024


@pytest.mark.parametrize("module", ["service.app", "service.__main__", "service.pricing"])
def test_the_api_loads_nothing_heavy(module: str) -> None:
    modules, resident_mib = loaded(module)
    assert not modules & set(HEAVY)
    assert resident_mib < 150


def test_the_application_with_its_contract_is_small() -> None:
    then = "from service.settings import Settings; application = service.app.create_app(Settings()); application.openapi()"
    modules, resident_mib = loaded("service.app", then)
    assert not modules & set(HEAVY)
    assert resident_mib < 150


def test_the_agent_loads_neither_torch_nor_the_web_framework() -> None:
    modules, _ = loaded("latency_tables.agent")
    assert not modules & {
        "torch",
        "fastapi",
        "sqlalchemy",
        "pydantic",
        "dbos",
        "sklearn",
        "scipy",
        "onnx",
        "service",
        "supernets",
    }


@pytest.mark.parametrize("package", ["latency_tables", "supernets"])
def test_the_lower_rooms_know_nothing_of_the_upper_ones(package: str) -> None:
    modules, _ = loaded(package)
    assert not modules & {"service", "worker", "fastapi", "sqlalchemy", "dbos", "torch"}
