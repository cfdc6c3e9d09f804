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
    fingerprint: of what is there now. before: that of what supernets without one were trained on, None where
    nobody knows. fault: why it cannot be used; names no place.
    """

    name: str
    description: str
    classes: int | None
    channels: int | None
    size: int | None
    also: tuple[int, ...] = ()
    class_names: tuple[str, ...] | None = None
    fingerprint: str | None = None
    before: str | None = None
    form: str | None = None
    fault: str = ""


def listed(settings: Settings) -> list[Known]:
    """Every data set by name; the operator's own come after the built-in ones."""
    built_in = [_built_in(settings, name) for name in DATASETS]
    return built_in + [_registered(settings, name) for name in sorted(settings.datasets)]


def known(settings: Settings, name: str) -> Known:
    """The data set of that name. Raises UnknownDataset that lists the known ones, InvalidDataset for one that
    cannot be used."""
    if name not in DATASETS and name not in settings.datasets:
        raise UnknownDataset(
            f"unknown data set; known are {', '.join([*DATASETS, *sorted(settings.datasets)])}"
        )
    found = _built_in(settings, name) if name in DATASETS else _registered(settings, name)
    if found.fault:
        raise InvalidDataset(found.fault)
    return found


def facts_folder(settings: Settings) -> Path:
    """Where API and workers keep what they know of data sets."""
    return settings.data_dir / "work" / "data"


def check_trained_on(settings: Settings, supernet: Supernet) -> None:
    """Raises UnknownDataset, and InvalidDataset where the supernet's data set is not the one that it was
    trained on."""
    found = known(settings, supernet.dataset)
    trained_on = trained_on_fingerprint(found, supernet)
    if trained_on == found.fingerprint:
        return
    if trained_on is not None:
        raise InvalidDataset(
            f"data set {found.name!r} has changed since this supernet was trained on it (fingerprint "
            f"{(found.fingerprint or 'none')[:12]}, it was {trained_on[:12]}): its scores and tests would be "
            "of other samples. Search with space and dataset to train on what is there now, or put the old "
            "files back"
        )
    if found.form == folders.FORM.name and supernet.recipe != "imported":
        raise InvalidDataset(
            f"this supernet was trained on pictures of {found.name!r} kept at 64 pixels, as folders were "
            "read before they had fingerprints; search with space and dataset to train on the pictures as "
            "they are read now"
        )


def trained_on_fingerprint(found: Known, supernet: Supernet) -> str | None:
    """The fingerprint of what a supernet was trained on; None where nobody noted it and nobody knows."""
    return supernet.dataset_fingerprint or found.before


def remark_on_change(found: Known, fingerprint: str | None, trained: Sequence[Supernet]) -> str | None:
    """What to say to who trains on a set under whose name supernets were trained on something else; None
    where there is none."""
    others = [own for row in trained if (own := trained_on_fingerprint(found, row)) != fingerprint]
    if fingerprint is None or not others:
        return None
    was = ", ".join(sorted({(other or "unknown")[:12] for other in others}))
    return (
        f"data set {found.name!r} is another set than the one that {len(others)} earlier supernet(s) were "
        f"trained on (fingerprint {fingerprint[:12]}, theirs {was}): a supernet of its own belongs to it"
    )


def _built_in(settings: Settings, name: str) -> Known:
    info = DATASETS[name]
    try:
        facts = info.facts(facts_folder(settings))
    except InvalidDataset as error:
        return Known(name, info.description, None, None, None, fault=str(error))
    return Known(
        name,
        info.description,
        info.classes,
        info.channels,
        info.size,
        class_names=info.class_names,
        fingerprint=facts.fingerprint,
        before=info.before,
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
        form=facts.form,
    )
