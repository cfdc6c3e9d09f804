"""Data sets that can be named in a request: built in, or registered by the operator. Never a path from a
caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.db.models import Supernet
from service.settings import Settings
from supernets.data.catalog import DATASETS
from supernets.data.fingerprint import facts_of
from supernets.data.loaders import folder as folders
from supernets.errors import InvalidDataset, UnknownDataset


@dataclass(frozen=True)
class Known:
    """What is known of a data set without loading it.

    size: None where pictures are kept at the size that a space needs. also: other numbers of channels it can
    be had with.
    fingerprint: of what is there now; None for what is built in. fault: why it cannot be used; names no
    place.
    """

    name: str
    description: str
    classes: int | None
    channels: int | None
    size: int | None
    also: tuple[int, ...] = ()
    class_names: tuple[str, ...] | None = None
    fingerprint: str | None = None
    form: str | None = None
    fault: str = ""


def listed(settings: Settings) -> list[Known]:
    """Every data set by name; the operator's own come after the built-in ones."""
    built_in = [Known(d.name, d.description, d.classes, d.channels, d.size) for d in DATASETS.values()]
    return built_in + [_registered(settings, name) for name in sorted(settings.datasets)]


def known(settings: Settings, name: str) -> Known:
    """The data set of that name. Raises UnknownDataset that lists the known ones, InvalidDataset for one that
    cannot be used."""
    if name in DATASETS:
        info = DATASETS[name]
        return Known(info.name, info.description, info.classes, info.channels, info.size)
    if name not in settings.datasets:
        raise UnknownDataset(
            f"unknown data set; known are {', '.join([*DATASETS, *sorted(settings.datasets)])}"
        )
    found = _registered(settings, name)
    if found.fault:
        raise InvalidDataset(found.fault)
    return found


def facts_folder(settings: Settings) -> Path:
    """Where API and workers keep what they know of registered data sets."""
    return settings.data_dir / "work" / "data"


def check_trained_on(settings: Settings, supernet: Supernet) -> None:
    """Raises UnknownDataset, and InvalidDataset where the supernet's data set is not the one that it was
    trained on."""
    found = known(settings, supernet.dataset)
    if found.fingerprint is None or supernet.dataset_fingerprint == found.fingerprint:
        return
    if supernet.dataset_fingerprint is not None:
        raise InvalidDataset(
            f"data set {found.name!r} has changed since this supernet was trained on it (fingerprint "
            f"{found.fingerprint[:12]}, "
            f"it was {supernet.dataset_fingerprint[:12]}): its scores and tests would be of other samples. "
            "Search with space and "
            "dataset to train on what is there now, or put the old files back"
        )
    if found.form == folders.FORM.name and supernet.recipe != "imported":
        raise InvalidDataset(
            f"this supernet was trained on pictures of {found.name!r} kept at 64 pixels, as folders were "
            "read before they had "
            "fingerprints; search with space and dataset to train on the pictures as they are read now"
        )


def remark_on_change(name: str, fingerprint: str | None, trained: Sequence[Supernet]) -> str | None:
    """What to say to who trains on a set under whose name supernets were trained on something else; None
    where there is none."""
    others = [row for row in trained if row.dataset_fingerprint != fingerprint]
    if fingerprint is None or not others:
        return None
    was = ", ".join(sorted({(row.dataset_fingerprint or "unknown")[:12] for row in others}))
    return (
        f"data set {name!r} is another set than the one that {len(others)} earlier supernet(s) were "
        "trained on (fingerprint "
        f"{fingerprint[:12]}, theirs {was}): a supernet of its own belongs to it"
    )


def _registered(settings: Settings, name: str) -> Known:
    description = "registered by the operator"
    try:
        facts = facts_of(name, settings.datasets[name], facts_folder(settings))
    except InvalidDataset as error:
        return Known(name, description, None, None, None, fault=str(error))
    shape = facts.shape
    return Known(
        name,
        description,
        shape.classes,
        shape.channels,
        shape.size,
        shape.also,
        facts.classes,
        facts.fingerprint,
        facts.form,
    )
