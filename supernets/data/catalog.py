"""Every data set by name: built in, or registered by the operator. No torch here: the service lists this
catalog."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from supernets.data.fingerprint import check_unchanged
from supernets.data.glyphs import CHARACTERS, SIZE, load_glyphs
from supernets.data.loaders.catalog import load_registered
from supernets.data.loaders.forms import Wanted
from supernets.data.splits import Dataset, split_three
from supernets.errors import UnknownDataset
from supernets.spaces.space import Space

__all__ = ["DATASETS", "Dataset", "DatasetInfo", "load_dataset", "load_digits", "load_for"]


def load_digits(folder: Path | None = None) -> Dataset:
    """Scikit-learn's 1,797 handwritten digits, 8 x 8, values 0 to 16: 1,077 to train, 360 to validate, 360 to
    test."""
    from sklearn.datasets import load_digits as load  # noqa: PLC0415 - a second to import, and workers only

    images, labels = load(return_X_y=True)
    pixels = images.reshape(-1, 1, 8, 8).astype(np.uint8)
    return split_three(
        "digits", tuple("0123456789"), pixels, labels.astype(np.int64), validation=360, test=360, bins=9
    )


@dataclass(frozen=True)
class DatasetInfo:
    """What the catalog says about a data set before it is loaded. `load` gets a folder for files it may
    keep."""

    name: str
    description: str
    classes: int
    channels: int
    size: int
    load: Callable[[Path | None], Dataset]


DATASETS: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        DatasetInfo(
            "digits", "1,797 handwritten digits (UCI, scikit-learn), 8 x 8 pixels", 10, 1, 8, load_digits
        ),
        DatasetInfo(
            "glyphs",
            "Letters and digits rendered in many fonts, with clutter and noise",
            len(CHARACTERS),
            3,
            SIZE,
            load_glyphs,
        ),
    )
}


def load_dataset(
    name: str,
    folder: Path | None = None,
    registered: Mapping[str, str] | None = None,
    *,
    size: int | None = None,
    channels: int | None = None,
) -> Dataset:
    """The data set of that name: built in, or registered by the operator (name -> path, from the settings).

    folder: where rendered data sets and converted pictures are kept between runs. size: side at which
    pictures of a folder are kept, the largest resolution of the space; channels: what the space takes. Raises
    UnknownDataset, InvalidDataset.
    """
    known = sorted({*DATASETS, *(registered or {})})
    if name in (registered or {}):
        wanted = Wanted(size or Wanted.size, channels, folder)
        return load_registered(name, Path((registered or {})[name]), wanted)
    if name not in DATASETS:
        raise UnknownDataset(f"unknown data set; known are {', '.join(known)}")
    return DATASETS[name].load(folder)


def load_for(
    space: Space,
    name: str,
    folder: Path | None = None,
    registered: Mapping[str, str] | None = None,
    *,
    fingerprint: str | None = None,
) -> Dataset:
    """The data set as a space needs it. Raises UnknownDataset, InvalidDataset, also where it is not that of
    the fingerprint."""
    if fingerprint is not None and name in (registered or {}):
        check_unchanged(name, Path((registered or {})[name]), fingerprint, folder)
    return load_dataset(name, folder, registered, size=max(space.resolutions), channels=space.in_channels)
