"""What the agent asks of a runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from latency_tables.agent.runtimes.setup import Setup

PICTURES: Final = "uint8"
"""Input of a network that holds its own preprocessing, in any precision."""


@dataclass(frozen=True)
class Opened:
    """A network that is ready to run: calling `run` is one inference, inputs and outputs are bound once.

    provider: what really computes. nodes: how many nodes of the optimised graph by provider; empty where the
    runtime does not tell. in_calling_thread: whether the work is done by the thread that calls, so that its
    processor time is the network's.
    """

    run: Callable[[], object]
    provider: str
    nodes: Mapping[str, int] = field(default_factory=dict)
    in_calling_thread: bool = False


class Runtime(Protocol):
    """One runtime. Nothing of it is loaded before `check` or `open`; `version` reads the installed package's
    metadata."""

    name: str
    default_provider: str

    def version(self) -> str | None:
        """Of the installed package; None where none is installed."""
        ...

    def refusal(self, setup: Setup) -> str | None:
        """Why no device can fulfil this setup, however it is equipped; None where one may. Loads nothing."""
        ...

    def check(self, setup: Setup) -> None:
        """Raises UnusableRuntime, with what to do, where the runtime is not installed or does not offer the
        provider."""
        ...

    def open(self, data: bytes, input_shape: Sequence[int] | None, setup: Setup, generator: Any) -> Opened:
        """Open a network on one fixed random input. input_shape None: the one it declares.

        Raises ValueError where the network takes an input of another shape or kind, UnusableRuntime where the
        provider or an option of it is not what was asked for.
        """
        ...


def sample_of(shape: Sequence[int], kind: str, generator: Any) -> Any:
    """A random input: normal numbers, or pixels."""
    if kind == PICTURES:
        return generator.integers(0, 256, shape).astype(kind)
    return generator.standard_normal(shape).astype(kind)


def check_context(setup: Setup, shape: Sequence[int], kind: str) -> None:
    """Raises ValueError where a network's batch or input type is not what the context says: its latency would
    be another's."""
    if not shape or shape[0] != setup.batch_size:
        raise ValueError(
            f"the network takes a batch of {shape[0] if shape else 0}, the context's is {setup.batch_size}"
        )
    if kind not in (setup.precision, PICTURES):
        raise ValueError(f"the network takes {kind}, the context's precision is {setup.precision}")


def shape_of(declared: Sequence[int | None], wanted: Sequence[int] | None) -> list[int]:
    """The input shape to use; None in `declared` is free. Raises ValueError where the network takes another
    one."""
    shape = list(declared) if wanted is None else list(wanted)
    fits = len(shape) == len(declared) and all(
        d is None or d == s for d, s in zip(declared, shape, strict=True)
    )
    if not fits or not all(isinstance(size, int) for size in shape):
        raise ValueError("the network takes an input of another shape")
    return [int(size) for size in shape if size is not None]
