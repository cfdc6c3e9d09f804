"""Which measuring contexts a device may be registered with: those that something can be measured in, and
delivered for."""

from __future__ import annotations

from collections.abc import Mapping

from latency_tables.agent.runtimes import catalog as runtimes
from latency_tables.measurement import Context
from service.http.errors import Problem, error, invalid
from supernets.delivery import catalog as deliveries
from supernets.errors import InvalidArchitecture, UnservableContext
from supernets.spaces.space import Space


def refuse_unservable(context: Context) -> None:
    """Raises Problem `unservable_context`, with the reason, where nothing can be measured or delivered in
    this context."""
    reason = runtimes.refusal(context) or deliveries.refusal(context)
    if reason is not None:
        raise Problem("unservable_context", reason, errors=[error("/context", "unservable_context", reason)])


def generating(space: Space, asked: Mapping[str, int | None] | None, pointer: str = "/generation") -> Space:
    """The space priced for the sentence that was asked for. Raises Problem that points to it."""
    try:
        return space if asked is None else space.generating(asked)
    except InvalidArchitecture as refused:
        raise invalid(pointer, "generation", str(refused)) from None


def refuse_undeliverable(space: Space, context: Context, pointer: str) -> None:
    """Raises Problem `unservable_context` where no file of networks of the space can be for that context."""
    try:
        deliveries.delivery_of(context, space)
    except UnservableContext as reason:
        where = [error(pointer, "unservable_context", str(reason))]
        raise Problem("unservable_context", str(reason), errors=where) from None
