"""Every data set by name: built in, or registered by the operator. No torch here: the service lists this
catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np

from supernets.data.fingerprint import Facts, check_unchanged, facts_of
from supernets.data.glyphs import CHARACTERS, SIZE, load_glyphs, rendering, source_files
from supernets.data.info import DatasetInfo
from supernets.data.loaders.catalog import load_registered, located
from supernets.data.loaders.forms import Wanted
from supernets.data.splits import Dataset, split_three
from supernets.data.text import number_words, pronunciations
from supernets.data.vocabulary import SYMBOLS
from supernets.errors import UnknownDataset
from supernets.spaces.space import Space
from supernets.tasks.catalog import task_named
from supernets.tasks.data import Data
from supernets.tasks.info import IMAGES, PRONUNCIATION, TRANSLATION, TaskInfo

__all__ = ["DATASETS", "Dataset", "DatasetInfo", "load_dataset", "load_digits", "load_for"]

ENTRY_POINT_GROUP: Final = "bespoke.datasets"


def load_digits(folder: Path | None = None) -> Dataset:
    """Scikit-learn's 1,797 handwritten digits, 8 x 8, values 0 to 16: 1,077 to train, 360 to validate, 360 to
    test."""
    from sklearn.datasets import load_digits as load  # noqa: PLC0415 - a second to import, and workers only

    images, labels = load(return_X_y=True)
    pixels = images.reshape(-1, 1, 8, 8).astype(np.uint8)
    made = split_three(
        "digits", tuple("0123456789"), pixels, labels.astype(np.int64), validation=360, test=360, bins=9
    )
    return replace(made, highest=16)


def _digits_file() -> dict[str, Path]:
    found = find_spec("sklearn")  # importing it takes a second, and the service only looks at the file
    places = (found.submodule_search_locations or []) if found else []
    return {"digits.csv.gz": Path(next(iter(places), "")) / "datasets" / "data" / "digits.csv.gz"}


DATASETS: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        DatasetInfo(
            "digits",
            "1,797 handwritten digits (UCI, scikit-learn), 8 x 8 pixels",
            tuple("0123456789"),
            1,
            8,
            load_digits,
            _digits_file,
            before="df810d2193a393ddf517cf01aaa2a5c2dcc4a09bae5e984f6a9a04fa6c25e53f",
        ),
        DatasetInfo(
            "glyphs",
            "Letters and digits rendered in many fonts, with clutter and noise",
            tuple(CHARACTERS),
            3,
            SIZE,
            load_glyphs,
            source_files,
            rendering(),
            before="b78fc86e02a66c72f86027b6ab8a89ca528db58f46b0272c899292814886c1b6",
        ),
        DatasetInfo(
            "pronunciations",
            "124,926 English words and their phonemes (CMU Pronouncing Dictionary)",
            (*SYMBOLS, *pronunciations.PHONEMES),
            2,
            pronunciations.LONGEST,
            pronunciations.load_pronunciations,
            lambda: {pronunciations.LIST.name: pronunciations.LIST},
            task=PRONUNCIATION,
        ),
        DatasetInfo(
            "number-words",
            "11,848 numbers in English and Spanish words, for trials: nearly all are right in the end",
            (*SYMBOLS, *number_words.SPANISH),
            2,
            number_words.LONGEST,
            number_words.load_number_words,
            lambda: {"number_words.py": Path(number_words.__file__)},
            task=TRANSLATION,
        ),
    )
}


def register_dataset(info: DatasetInfo) -> None:
    """Add a data set to the catalog of this process. Raises ValueError when another one has its name."""
    if DATASETS.setdefault(info.name, info) != info:
        raise ValueError(f"a data set named {info.name!r} exists already; give the new one another name")


def register_installed_datasets() -> None:
    """Add what installed distributions name under `bespoke.datasets` (see `docs/add_a_task.md`). Raises
    TypeError for what is no DatasetInfo."""
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        info = entry.load()
        if not isinstance(info, DatasetInfo):
            raise TypeError(f"entry point {entry.value!r} of group {ENTRY_POINT_GROUP} is not a DatasetInfo")
        register_dataset(info)


def task_for(name: str, registered: Mapping[str, str | Path] | None = None) -> TaskInfo:
    """The task of a data set of that name, built in or registered; one that is not there any more held
    pictures. Raises InvalidTraining, InvalidDataset."""
    if name in DATASETS:
        return task_named(DATASETS[name].task)
    if name in (registered or {}):
        return task_named(located(name, Path((registered or {})[name]))[0].task)
    return task_named(IMAGES)


def facts_for(name: str, folder: Path | None = None, registered: Mapping[str, str] | None = None) -> Facts:
    """What is known of a data set without loading it, its fingerprint among it; built in, or registered.

    folder: where hashes of files are kept between processes. Raises UnknownDataset, InvalidDataset.
    """
    if name in (registered or {}):
        return facts_of(name, Path((registered or {})[name]), folder)
    if name not in DATASETS:
        known = sorted({*DATASETS, *(registered or {})})
        raise UnknownDataset(f"unknown data set; known are {', '.join(known)}")
    return DATASETS[name].facts(folder)


def load_dataset(
    name: str,
    folder: Path | None = None,
    registered: Mapping[str, str] | None = None,
    *,
    size: int | None = None,
    channels: int | None = None,
) -> Data:
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
) -> Data:
    """The data set as a space needs it. Raises UnknownDataset, InvalidDataset, also where it is not that of
    the fingerprint."""
    if fingerprint is not None:
        check_unchanged(name, facts_for(name, folder, registered), fingerprint)
    found = load_dataset(name, folder, registered, size=max(space.resolutions), channels=space.image_channels)
    if isinstance(found, Dataset) and (found.channels, space.image_channels) == (1, 3):
        return found.in_colour()  # arrays have the channels they have; folders were asked for three
    return found


register_installed_datasets()
