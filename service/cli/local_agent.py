"""The measuring agent on this machine, enrolled and run as a child process: the same agent as on any
device."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from latency_tables.agent.runtimes.setup import Setup
from latency_tables.errors import BespokeError
from latency_tables.measurement import Context
from service.cli.runtimes import agent_arguments, this_context
from service.client import ApiProblem, BespokeClient, Job

_STOP_S: Final = 10.0
_LAST_LINES: Final = 4


class AgentStopped(BespokeError):
    """The agent on this machine ended while it was needed."""


class LocalAgent:
    """An agent for one device, alive inside a `with`: it measures in the context that the device was
    registered with.

    Its identity is new each time and is thrown away at the end.
    """

    def __init__(self, service: BespokeClient, device: str) -> None:
        self._service, self._device = service, device
        # A state of its own: it must not resume the session of an agent that runs as a service here.
        self._folder = tempfile.TemporaryDirectory(prefix="bespoke-agent-")
        self._log: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        context = Context(**self._service.device(self._device)["context"])
        token = self._service.enrol(self._device)["token"]
        folder = Path(self._folder.name)
        self._log = (folder / "agent.log").open("wb")
        command = [sys.executable, "-m", "service.cli.tethered", "latency_tables.agent"]
        command += [
            "--server",
            self._service.url,
            "--state-dir",
            str(folder / "state"),
            *agent_arguments(context),
        ]
        # The token goes by the environment: a command line can be read by every user of the machine.
        self._process = subprocess.Popen(  # noqa: S603 (our own module)
            command,
            env={**os.environ, "BESPOKE_AGENT_TOKEN": token},
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._stop(self._process)
        if self._log is not None:
            self._log.close()
        self._folder.cleanup()

    def check(self) -> None:
        """Raises AgentStopped, with its last words, where the agent has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise AgentStopped(
                f"the agent on this machine stopped with status {self._process.returncode}: "
                f"{self.last_words()}. Start again: what was measured is kept."
            )

    def remark(self, job: Job) -> str:
        """What the agent said last while its job waits for it, empty where the agent works. The service
        cannot know why an agent that it does not hear of is silent; this machine does, and to start another
        one would not help."""
        if job.step != "measure" or "no agent is running" not in job.message:
            return ""
        return f"the agent of this command runs and said last: {self.last_words(1)}"

    def wait(self) -> None:
        """Until the agent ends by itself or this process is interrupted."""
        if self._process is not None:
            self._process.wait()

    def last_words(self, lines: int = _LAST_LINES) -> str:
        """The end of its log."""
        with suppress(OSError):
            said = (Path(self._folder.name) / "agent.log").read_text(encoding="utf-8", errors="replace")
            return " | ".join(said.strip().splitlines()[-lines:]) or "it said nothing"
        return "its log is gone"

    @staticmethod
    def _stop(process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            # Windows knows no signal that asks a process to end; what the agent measured is on its disk at
            # any time.
            process.terminate() if os.name == "nt" else process.send_signal(signal.SIGINT)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    process.kill() if os.name == "nt" else os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.stdin is not None:
            process.stdin.close()


def ensure_device(service: BespokeClient, name: str, setup: Setup, description: str = "") -> bool:
    """Register this machine under that name if it is not; whether it was new.

    Raises AgentStopped where the name belongs to a device of another context, UnusableRuntime where this
    machine has not what the setup asks for.
    """
    context = this_context(setup).as_dict()
    try:
        known = service.device(name)
    except ApiProblem as problem:
        if problem.status != 404:
            raise
        service.add_device(name, context, description or "this machine, measured by its own agent")
        return True
    if known["context"] != context:
        there = known["context"]
        differing = ", ".join(
            f"{k} {there.get(k)}, here {v}" for k, v in context.items() if there.get(k) != v
        )
        raise AgentStopped(
            f"{name} is registered with another context ({differing}); latencies of two contexts never mix. "
            "Profile this machine under another name: `bespoke profile --device NAME`."
        )
    return False
