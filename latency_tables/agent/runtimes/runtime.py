"""What the agent asks of a runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from latency_tables.agent.runtimes.setup import Setup
from latency_tables.inputs import InputSpec

PICTURES: Final = "uint8"
"""Input of a network that holds its own preprocessing, in any precision."""

WHOLE: Final = ("int32", "int64")
"""Inputs that are numbers of something, such as tokens; in any precision too."""


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

    def open(self, data: bytes, inputs: Sequence[InputSpec] | None, setup: Setup, generator: Any) -> Opened:
        """Open a network on fixed random inputs. inputs: with the batch in their shapes; None: those it
        declares.

        Raises ValueError where the network takes inputs of another shape or kind, UnusableRuntime where the
        provider or an option of it is not what was asked for.
        """
        ...


@dataclass(frozen=True)
class Declared:
    """An input as a network's file has it. shape: None where it is free. kind: as numpy names it; None for
    one that cannot be measured."""

    name: str
    shape: tuple[int | None, ...]
    kind: str | None


def samples_of(
    declared: Sequence[Declared], inputs: Sequence[InputSpec] | None, setup: Setup, generator: Any
) -> list[Any]:
    """A random value for every input of a network, in its order. inputs: by name, or in the network's order
    where the names are others. Raises ValueError where they do not fit it, or it does not fit the context."""
    if not declared or any(one.kind is None for one in declared):
        raise ValueError("a network to be measured has inputs of float32, float16, uint8, int32 or int64")
    wanted: Sequence[InputSpec | None] = _in_order(declared, inputs)
    found = []
    for one, spec in zip(declared, wanted, strict=True):
        shape, kind = shape_of(one.shape, None if spec is None else spec.shape), str(one.kind)
        check_context(setup, shape, kind)
        found.append(_sample(shape, kind, None if spec is None else spec.below, generator))
    return found


def _in_order(declared: Sequence[Declared], inputs: Sequence[InputSpec] | None) -> Sequence[InputSpec | None]:
    if inputs is None:
        return [None] * len(declared)
    if len(inputs) != len(declared):
        raise ValueError(f"the network takes {len(declared)} inputs, not {len(inputs)}")
    by_name = {spec.name: spec for spec in inputs}
    if by_name.keys() == {one.name for one in declared}:
        return [by_name[one.name] for one in declared]
    return inputs


def _sample(shape: Sequence[int], kind: str, below: int | None, generator: Any) -> Any:
    """Normal numbers, pixels, or whole numbers of those there are (0 and 1 where that is not said)."""
    if kind == PICTURES:
        return generator.integers(0, 256, shape).astype(kind)
    if kind in WHOLE:
        return generator.integers(0, below or 2, shape).astype(kind)
    return generator.standard_normal(shape).astype(kind)


def check_context(setup: Setup, shape: Sequence[int], kind: str) -> None:
    """Raises ValueError where a network's batch or input type is not what the context says: its latency would
    be another's."""
    if not shape or shape[0] != setup.batch_size:
        raise ValueError(
            f"the network takes a batch of {shape[0] if shape else 0}, the context's is {setup.batch_size}"
        )
    if kind not in (setup.precision, PICTURES, *WHOLE):
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
