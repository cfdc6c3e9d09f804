"""Data sets that can be named in a request: built in, or registered by the operator. Never a path from a caller."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latency_tables.errors import UnknownDataset
from service.settings import Settings
from supernets.training.data import DATASETS


@dataclass(frozen=True)
class Known:
    """What is known of a data set without loading it."""

    name: str
    description: str
    classes: int | None
    channels: int | None
    size: int | None


def listed(settings: Settings) -> list[Known]:
    """Every data set by name; the operator's own come after the built-in ones."""
    built_in = [Known(d.name, d.description, d.classes, d.channels, d.size) for d in DATASETS.values()]
    own = [
        Known(name, "registered by the operator", _classes(place), None, None)
        for name, place in sorted(settings.datasets.items())
        if name not in DATASETS
    ]
    return built_in + own


def known(settings: Settings, name: str) -> Known:
    """The data set of that name. Raises UnknownDataset that lists the known ones."""
    found = {d.name: d for d in listed(settings)}
    if name not in found:
        raise UnknownDataset(f"unknown data set; known are {', '.join(found)}")
    return found[name]


def _classes(place: Path) -> int | None:
    """Classes of a folder of image folders, counted; None for anything else."""
    folder = place / "train" if (place / "train").is_dir() else place
    if not folder.is_dir():
        return None
    return sum(1 for entry in folder.iterdir() if entry.is_dir()) or None
