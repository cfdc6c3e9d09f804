"""The measuring agent: runs on the device with onnxruntime, httpx and numpy only, and talks HTTP to the
service."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the agent's command line; returns its exit code. Imports its parts only when it is called."""
    from latency_tables.agent.command import main as run  # noqa: PLC0415 (the child process must start without httpx)

    return run(argv)
