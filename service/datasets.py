"""Data sets that can be named in a request: built in, or registered by the operator. Never a path from a caller."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latency_tables.errors import InvalidDataset, UnknownDataset
from service.settings import Settings
from supernets.data.catalog import DATASETS
from supernets.data.loaders.catalog import shape_of


@dataclass(frozen=True)
class Known:
    """What is known of a data set without loading it."""

    name: str
    description: str
    classes: int | None
    channels: int | None
    size: int | None  # None where pictures are kept at the size that a space needs
    also: tuple[int, ...] = ()  # other numbers of channels it can be had with
    fault: str = ""  # why it cannot be used; names no place


def listed(settings: Settings) -> list[Known]:
    """Every data set by name; the operator's own come after the built-in ones."""
    built_in = [Known(d.name, d.description, d.classes, d.channels, d.size) for d in DATASETS.values()]
    own = [_registered(name, place) for name, place in sorted(settings.datasets.items()) if name not in DATASETS]
    return built_in + own


def known(settings: Settings, name: str) -> Known:
    """The data set of that name. Raises UnknownDataset that lists the known ones, InvalidDataset for one that cannot be used."""
    found = {d.name: d for d in listed(settings)}
    if name not in found:
        raise UnknownDataset(f"unknown data set; known are {', '.join(found)}")
    if found[name].fault:
        raise InvalidDataset(found[name].fault)
    return found[name]


def _registered(name: str, place: Path) -> Known:
    try:
        shape = shape_of(name, place)
    except InvalidDataset as error:
        return Known(name, "registered by the operator", None, None, None, fault=str(error))
    return Known(name, "registered by the operator", shape.classes, shape.channels, shape.size, shape.also)
