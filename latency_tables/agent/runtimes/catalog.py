"""The runtimes there are. To add one, write a module with a `Runtime` and name it here; the contract suite covers it."""

from __future__ import annotations

from typing import Final

from latency_tables.agent.problems import UnusableRuntime
from latency_tables.agent.runtimes.onnxruntime import OnnxRuntime
from latency_tables.agent.runtimes.runtime import Runtime

RUNTIMES: Final[dict[str, Runtime]] = {runtime.name: runtime for runtime in (OnnxRuntime(),)}


def runtime_named(name: str) -> Runtime:
    """Raises UnusableRuntime where the agent has no runtime of that name."""
    if name not in RUNTIMES:
        raise UnusableRuntime(f"the agent has no runtime {name[:64]}; it has {', '.join(RUNTIMES)}")
    return RUNTIMES[name]
