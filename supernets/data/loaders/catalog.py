"""Data sets that the operator has on disk, by form: the first form that matches what is at the path reads it.

Paths come from the operator's settings, never over HTTP. Nothing here unpickles. Where a form has no
validation split, one is taken from its training samples, every class in proportion.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from supernets.data.folder_names import is_hidden
from supernets.data.loaders import arrays, cifar, folder, idx, strangers, text
from supernets.data.loaders.forms import Form, Shape, Wanted
from supernets.data.splits import Dataset
from supernets.errors import InvalidDataset
from supernets.tasks.data import Data

FORMS: Final[dict[str, Form]] = {
    form.name: form
    for form in (arrays.FORM, idx.FORM, cifar.CIFAR_10, cifar.CIFAR_100, folder.FORM, text.FORM)
}

_WRAPPED: Final = 4  # folders around a data set, at most


def located(name: str, path: Path) -> tuple[Form, Path]:
    """(form, place) of the data set at the path: there, or in the only folder there, as in archives.

    Raises InvalidDataset that says what is wanted.
    """
    place = path
    try:
        for _ in range(_WRAPPED):
            for form in FORMS.values():
                if form.matches(place):
                    return form, place
            inside = (
                [p for p in place.iterdir() if p.is_dir() and not is_hidden(p.name)] if place.is_dir() else []
            )
            if len(inside) != 1:
                break
            (place,) = inside
    except OSError as error:  # a folder that the service may not enter
        raise unreadable(name, error) from error
    raise InvalidDataset(
        f"data set {name!r}: nothing known at its path{strangers.described(path)}; wanted an .npz file, or a "
        "folder with IDX files (train-images-idx3-ubyte, ...), CIFAR binaries (data_batch_1.bin, ... or "
        "train.bin, test.bin), one folder per class, or parallel text (two aligned files, a .tsv or a .jsonl)"
    )


def shape_of(name: str, path: Path) -> Shape:
    """Shape of the data set at `path` without reading its images. Raises InvalidDataset that says what is
    wrong."""
    try:
        form, place = located(name, path)
        return form.shape(name, place)
    except OSError as error:
        raise unreadable(name, error) from error


def load_registered(name: str, path: Path, wanted: Wanted | None = None) -> Data:
    """The data set at `path`, its form found by what is there. Raises InvalidDataset that says what is
    wrong."""
    try:
        form, place = located(name, path)
        dataset = form.load(name, place, wanted or Wanted())
    except OSError as error:
        raise unreadable(name, error) from error
    if isinstance(dataset, Dataset):
        dataset.check_values()
    return dataset


def unreadable(name: str, error: OSError) -> InvalidDataset:
    """What to say of a file or folder that may not be read; names no place."""
    return InvalidDataset(
        f"data set {name!r} cannot be read: {error.strerror or 'unreadable'}; ask who runs the service"
    )
