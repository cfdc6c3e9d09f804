"""What can stop the agent.

BespokeError (latency_tables/errors.py)
└── AgentError               what can stop the agent
    ├── Unreachable          the service did not answer in the time that was allowed
    ├── Refused              the service refused (not enrolled, key revoked, a task that cannot be)
    │   └── UnknownField     … fields of a result that this service, which is older, does not know
    ├── SessionClosed        the session is over; enrol again
    ├── StaleTask            tasks were issued anew, answered or withdrawn; their old results are dropped
    ├── DeviceChanged        processor, governor, threads or versions are not those the session began with
    ├── BusyDevice           too much else is running on the device
    ├── HostileServer        what no honest service answers: redirect, wrong hash, too large, not the protocol
    ├── RefusedGraph         a network the agent does not open: external data, foreign operators
    ├── UnusableRuntime      a runtime that is not there, lacks a provider or option, or silently is another
    └── MeasuringFailed      the child process that opens networks died
"""

from __future__ import annotations

from latency_tables.errors import BespokeError


class AgentError(BespokeError):
    """Root of what can stop the agent."""


class Unreachable(AgentError):
    """The service did not answer in the time that was allowed."""


class Refused(AgentError):
    """The service refused what the agent asked."""


class UnknownField(Refused):
    """The service is older than this agent: it does not know a field of its results."""


class SessionClosed(AgentError):
    """The session is over."""


class StaleTask(AgentError):
    """A task was issued anew with another nonce, or withdrawn."""


class DeviceChanged(AgentError):
    """The device is not as it was when the session began."""


class BusyDevice(AgentError):
    """Too much else is running on the device."""


class HostileServer(AgentError):
    """An answer that no honest service gives."""


class RefusedGraph(AgentError):
    """A network that the agent does not open."""


class UnusableRuntime(AgentError):
    """The runtime, its provider or an option of it cannot be had on this device as asked for."""


class MeasuringFailed(AgentError):
    """The child process that opens networks died or did not answer."""
