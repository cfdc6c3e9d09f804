"""The console script `bespoke`.

`bespoke agent` must start on a device that has the `agent` extra alone, so nothing of the rest is imported
for it.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper


def main() -> int:
    """Run the command line; the exit status."""
    _print_anything()
    if sys.argv[1:2] == ["agent"]:
        return _agent(sys.argv[2:])
    try:
        from service.cli.app import run
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] in ("service", "supernets", "latency_tables"):
            raise  # a fault of this installation, not a missing extra
        sys.stderr.write(
            f"bespoke: this command needs {error.name}, which is not installed here. "
            "Install the service with `pip install 'bespoke-nas[service]'` "
            "(with training: `bespoke-nas[worker]`); `bespoke agent` works without.\n"
        )
        return 1
    return run(sys.argv[1:])


def _print_anything() -> None:
    """A terminal that lacks a character of somebody's description shows `?` for it, instead of ending the
    command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _agent(arguments: list[str]) -> int:
    try:
        from latency_tables.agent import main as agent
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"bespoke agent: {error.name} is not installed here. Install the agent with `pip install "
            "'bespoke-nas[agent]'`.\n"
        )
        return 1
    return int(agent(arguments) or 0)


if __name__ == "__main__":
    sys.exit(main())
