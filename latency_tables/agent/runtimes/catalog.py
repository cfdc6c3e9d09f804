"""The runtimes there are. To add one, write a module with a `Runtime` and name it here; the contract suite
covers it."""

from __future__ import annotations

from typing import Final

from latency_tables.agent.errors import UnusableRuntime
from latency_tables.agent.runtimes.onnxruntime import OnnxRuntime
from latency_tables.agent.runtimes.openvino import OpenVino
from latency_tables.agent.runtimes.runtime import Runtime
from latency_tables.agent.runtimes.setup import Setup
from latency_tables.measurement import Context

RUNTIMES: Final[dict[str, Runtime]] = {runtime.name: runtime for runtime in (OnnxRuntime(), OpenVino())}


def refusal(context: Context) -> str | None:
    """Why no agent can ever measure in this context; None where one may.

    A runtime that the agent does not have is no reason: tables for it are measured with its own tools, and
    imported.
    """
    runtime = RUNTIMES.get(context.runtime)
    if runtime is None:
        return None
    try:
        return runtime.refusal(Setup.of_context(context))
    except UnusableRuntime as error:
        return str(error)


def runtime_named(name: str) -> Runtime:
    """Raises UnusableRuntime where the agent has no runtime of that name."""
    if name not in RUNTIMES:
        raise UnusableRuntime(f"the agent has no runtime {name[:64]}; it has {', '.join(RUNTIMES)}")
    return RUNTIMES[name]
