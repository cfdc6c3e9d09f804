"""Which measuring contexts a device may be registered with: those that something can be measured in, and
delivered for."""

from __future__ import annotations

from collections.abc import Mapping

from latency_tables.agent.runtimes import catalog as runtimes
from latency_tables.measurement import Context
from service.http.errors import Problem, error, invalid
from supernets.delivery import catalog as deliveries
from supernets.errors import InvalidArchitecture
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


def refuse_sentences(space: Space, context: Context, pointer: str) -> None:
    """Raises Problem `unservable_context` where networks of the space write sentences and the device cannot
    run what writes them."""
    if space.generation is None:
        return
    known = (context.runtime, context.precision, context.batch_size) == ("onnxruntime", "float32", 1)
    if not known:
        detail = (
            f"networks of {space.name} write sentences: they are measured and delivered for onnxruntime, in "
            "float32, one sentence at a time; register the device with such a context"
        )
        raise Problem("unservable_context", detail, errors=[error(pointer, "unservable_context", detail)])
