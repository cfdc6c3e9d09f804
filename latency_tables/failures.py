"""An error of ours on its way from one process to another: its name, its message, its annotated fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, get_type_hints

from latency_tables.errors import BespokeError
from latency_tables.typed_json import PLAIN

MOST_MESSAGE: Final = 2000  # characters
OUT_OF_MEMORY: Final = "OutOfMemory"
INTERNAL: Final = "InternalError"


@dataclass(frozen=True)
class Failure:
    """What a child says when an error ends it. type: the error's class; detail: its fields as JSON."""

    type: str
    message: str
    detail: dict[str, Any] = field(default_factory=dict)


def failure_of(error: Exception) -> Failure:
    """What to say of an error; of one that is not ours no more than its kind and message."""
    message = str(error)[:MOST_MESSAGE]
    if isinstance(error, MemoryError) or "not enough memory" in message or "out of memory" in message:
        return Failure(OUT_OF_MEMORY, message)
    if not isinstance(error, BespokeError):
        return Failure("OSError" if isinstance(error, OSError) else INTERNAL, message)
    detail = {name: PLAIN.write(getattr(error, name), kind) for name, kind in _fields(type(error)).items()}
    return Failure(type(error).__name__, message, detail)


def error_of(failure: Failure) -> BespokeError | None:
    """The error itself, or None for one that is not ours. Raises InvalidForm where its fields are others."""
    kind = next((one for one in _tree(BespokeError) if one.__name__ == failure.type), None)
    if kind is None:
        return None
    # Not by its constructor, which may make the message of its arguments: the message is here already.
    found = kind.__new__(kind, failure.message)
    for name, declared in _fields(kind).items():
        setattr(found, name, PLAIN.read(declared, failure.detail.get(name)))
    return found


def _fields(kind: type[BespokeError]) -> dict[str, Any]:
    return {name: declared for name, declared in get_type_hints(kind).items() if not name.startswith("_")}


def _tree(root: type[BespokeError]) -> Iterator[type[BespokeError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)
