"""The agent's command line: `bespoke agent` and `python -m latency_tables.agent`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from latency_tables.agent import environment
from latency_tables.agent.cgroup import cpu_quota
from latency_tables.agent.client import Client
from latency_tables.agent.errors import (
    AgentError,
    BusyDevice,
    DeviceChanged,
    HostileServer,
    RefusedGraph,
    SessionClosed,
    UnusableRuntime,
)
from latency_tables.agent.loop import Agent, Options
from latency_tables.agent.runner import Limits
from latency_tables.agent.runtimes.catalog import RUNTIMES
from latency_tables.agent.runtimes.setup import PRECISIONS, Setup, options_from
from latency_tables.agent.state import StateFolder
from latency_tables.measuring.profiling import Settings

EXIT_CODES: Final = {
    SessionClosed: 3,
    DeviceChanged: 4,
    HostileServer: 5,
    RefusedGraph: 6,
    BusyDevice: 7,
    UnusableRuntime: 8,
}
"""1 for every other AgentError; 130 when interrupted."""


def parser() -> argparse.ArgumentParser:
    """The options of the agent."""
    p = argparse.ArgumentParser(
        prog="bespoke agent", description="Measure networks on this device for a bespoke service."
    )
    p.add_argument(
        "--server", required=True, metavar="URL", help="of the service, e.g. http://127.0.0.1:8000"
    )
    p.add_argument("--token", help="one-time enrolment token; not needed to resume (or BESPOKE_AGENT_TOKEN)")
    p.add_argument(
        "--state-dir", type=Path, default=None, help="identity and unsent results (default: ~/.bespoke/agent)"
    )
    p.add_argument(
        "--once",
        action="store_true",
        help="end when there is nothing to measure, instead of waiting for more",
    )
    p.add_argument(
        "--runtime",
        choices=sorted(RUNTIMES),
        default=Setup.runtime,
        help="what runs the networks (default: %(default)s)",
    )
    p.add_argument(
        "--provider",
        help="what the runtime computes with, such as CUDAExecutionProvider, or GPU for openvino",
    )
    p.add_argument(
        "--provider-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the provider; may be repeated",
    )
    p.add_argument("--threads", type=int, default=1, help="threads of the runtime (default: 1)")
    p.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=Setup.precision,
        help="of the networks (default: %(default)s)",
    )
    p.add_argument(
        "--batch-size", type=int, default=Setup.batch_size, help="inputs at once (default: %(default)s)"
    )
    p.add_argument(
        "--group",
        type=int,
        default=Options.group,
        help="networks measured together, interleaved (default: %(default)s)",
    )
    p.add_argument(
        "--group-mib",
        type=int,
        default=Options.group_mib,
        help="and at most this size of files (default: %(default)s)",
    )
    p.add_argument(
        "--memory-mib",
        type=int,
        default=Limits.memory_mib,
        help="address space of the child (default: %(default)s)",
    )
    p.add_argument(
        "--patience-s",
        type=float,
        default=None,
        help="give up when the service is away that long (default: never)",
    )
    p.add_argument(
        "--session-s",
        type=float,
        default=None,
        help="longest measuring session on a device that is never quiet, in seconds (default: 40; or "
        "BESPOKE_AGENT_SESSION_S)",
    )
    p.add_argument(
        "--max-load",
        type=float,
        default=None,
        help="do not start above so many runnable processes a core (default: start; a busy device only "
        "takes longer)",
    )
    p.add_argument(
        "--allow-load", action="store_true", help=argparse.SUPPRESS
    )  # what earlier versions needed to start
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the agent; returns an exit code (see EXIT_CODES)."""
    args = parser().parse_args(argv)
    try:
        return _run(args)
    except AgentError as error:
        _say(f"agent: {error}")
        return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)
    except KeyboardInterrupt:
        _say("agent: interrupted; start it again to go on")
        return 130


def _run(args: argparse.Namespace) -> int:
    options = Options(
        setup=_setup(args),
        settings=_settings(args.session_s),
        group=max(1, args.group),
        group_mib=max(1, args.group_mib),
        limits=Limits(memory_mib=args.memory_mib),
        most_load=None if args.allow_load else args.max_load,
    )
    folder = StateFolder(args.state_dir or Path.home() / ".bespoke" / "agent")
    client = Client(args.server, patience_s=args.patience_s, report=_say)
    try:
        with folder.held():
            agent = Agent(client, folder, options, report=_say)
            state = agent.start(args.server, args.token or os.environ.get("BESPOKE_AGENT_TOKEN"))
            _say(f"agent: measuring for device {state.device}, session {state.session_id}")
            busy = environment.load()
            if busy is not None and busy > environment.BUSY_LOAD:
                _say(
                    f"agent: this device is busy ({busy:.1f} processes a core); measuring waits for its "
                    "quiet moments"
                )
            quota = cpu_quota()
            if quota is not None and quota <= options.setup.threads:
                _say(
                    f"agent: a CPU quota allows {quota:g} cores; its pauses show in the 90th percentile alone"
                )
            answered = agent.run(once=args.once)
            _say(f"agent: {answered} task(s) answered")
            return 0
    finally:
        client.close()


def _setup(args: argparse.Namespace) -> Setup:
    options = options_from(args.provider_option)
    return Setup(args.runtime, args.provider, options, args.threads, args.precision, args.batch_size)


def _settings(session_s: float | None) -> Settings:
    """The protocol's own, or with shorter or longer sessions. Raises AgentError for a length that is none."""
    text = os.environ.get("BESPOKE_AGENT_SESSION_S")
    try:
        limit_s = float(text) if session_s is None and text else session_s
    except ValueError:
        raise AgentError("BESPOKE_AGENT_SESSION_S must be a number of seconds") from None
    if limit_s is None:
        return Settings()
    if not 0 < limit_s <= 86_400:
        raise AgentError("a session lasts more than 0 s and at most a day; correct --session-s")
    usual = Settings()
    most_s = limit_s * usual.most_s / usual.limit_s
    return Settings(
        limit_s=limit_s, most_s=most_s, returning_s=1.5 * limit_s, least_s=min(usual.least_s, limit_s / 4)
    )


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
