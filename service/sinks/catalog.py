"""Kinds of places by name: ours, and the entry points `bespoke.sinks` of installed packages."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Final

from service.sinks import folder, huggingface, mlflow
from service.sinks.errors import PushFailed
from service.sinks.files import Release

GROUP: Final = "bespoke.sinks"
Sink = Callable[[Release, str], str]  # (what, where to) -> where it is now
OWN: Final[dict[str, Sink]] = {"folder": folder.push, "huggingface": huggingface.push, "mlflow": mlflow.push}


def sinks() -> dict[str, Sink]:
    """Every kind that is there; a package cannot take the place of one of ours."""
    found = {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in OWN}
    return {**{name: entry.load() for name, entry in found.items()}, **OWN}


def sink_named(name: str) -> Sink:
    """Raises PushFailed that lists what is there."""
    known = sinks()
    if name not in known:
        raise PushFailed(f"no such kind of place; known are {', '.join(sorted(known))}")
    return known[name]
