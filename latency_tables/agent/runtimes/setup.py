"""How a runtime is asked to compute; a context names what it then really did."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from latency_tables.agent.errors import UnusableRuntime
from latency_tables.measurement import Context

PRECISIONS: Final = ("float32", "float16")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:,-]{0,79}", re.ASCII)
_OPTION: Final = re.compile(r"([A-Za-z0-9_.:-]{1,64})=([^;()\s]{1,64})", re.ASCII)


@dataclass(frozen=True)
class Setup:
    """A wish: runtime, provider (None: the runtime's own choice) with options, threads, precision, batch
    size.

    precision: of the network file's weights and inputs. Raises UnusableRuntime where a part of it cannot be
    meant.
    """

    runtime: str = "onnxruntime"
    provider: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    threads: int = 1
    precision: str = "float32"
    batch_size: int = 1

    def __post_init__(self) -> None:
        if self.provider is not None and _NAME.fullmatch(self.provider) is None:
            raise UnusableRuntime(
                "a provider is named by letters and digits, such as CPUExecutionProvider or CPU"
            )
        if len(dict(self.options)) != len(self.options):
            raise UnusableRuntime("a provider option is given twice")
        if self.precision not in PRECISIONS:
            raise UnusableRuntime(
                f"the agent measures networks of {' or '.join(PRECISIONS)}; blocks in int8 are "
                f"asked for with "
                "the precision of a profile and of a search, on a device in float32"
            )
        if not 1 <= self.threads <= 65_536 or not 1 <= self.batch_size <= 65_536:
            raise UnusableRuntime("threads and batch size are whole numbers from 1 to 65,536")

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it."""
        return {
            "runtime": self.runtime,
            "provider": self.provider,
            "options": dict(self.options),
            "threads": self.threads,
            "precision": self.precision,
            "batch_size": self.batch_size,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `as_dict` gave."""
        return cls(**{**data, "options": tuple(sorted(data["options"].items()))})

    @classmethod
    def of_context(cls, context: Context) -> Self:
        """The wish that gives this context, if the device can fulfil it."""
        provider, options = split_provider(context.provider)
        return cls(context.runtime, provider, options, context.threads, context.precision, context.batch_size)

    def context(self, runtime_version: str, provider: str) -> Context:
        """The context of this setup where `provider` is what computed."""
        named = provider_text(provider, self.options)
        return Context(self.runtime, runtime_version, named, self.threads, self.precision, self.batch_size)


def options_from(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Provider options of a command line, `name=value` each, sorted. Raises UnusableRuntime."""
    found = []
    for text in texts:
        match = _OPTION.fullmatch(text)
        if match is None:
            raise UnusableRuntime(
                f"{text[:80]!r} is no provider option; give name=value, such as device_id=0"
            )
        found.append((match[1], match[2]))
    return tuple(sorted(found))


def provider_text(provider: str, options: tuple[tuple[str, str], ...]) -> str:
    """A provider with its options as a context names it: `CUDAExecutionProvider(device_id=0)`."""
    return provider + (f"({';'.join(f'{name}={value}' for name, value in options)})" if options else "")


def split_provider(text: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Provider and options of a context. Raises UnusableRuntime where the text is of another form."""
    name, bracket, rest = text.partition("(")
    if not bracket:
        return name, ()
    if not rest.endswith(")"):
        raise UnusableRuntime(
            f"{text[:80]!r} is no provider with options, such as CUDAExecutionProvider(device_id=0)"
        )
    return name, options_from(rest[:-1].split(";"))
