"""Which measuring contexts a device may be registered with: those that something can be measured in, and
delivered for."""

from __future__ import annotations

from latency_tables.agent.runtimes import catalog as runtimes
from latency_tables.measurement import Context
from service.http.errors import Problem, error
from supernets.delivery import catalog as deliveries


def refuse_unservable(context: Context) -> None:
    """Raises Problem `unservable_context`, with the reason, where nothing can be measured or delivered in
    this context."""
    reason = runtimes.refusal(context) or deliveries.refusal(context)
    if reason is not None:
        raise Problem("unservable_context", reason, errors=[error("/context", "unservable_context", reason)])
