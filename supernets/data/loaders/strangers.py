"""What lies at a path where no form of data set was found: said, with what to do about it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Final

from supernets.data.folder_names import is_hidden
from supernets.data.index import picture_endings, tables_beside

_ARCHIVES: Final = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
_PICKLED: Final = (
    ": CIFAR in its pickled version could run programs and is never opened; fetch the binary version"
)
_MOST_SEEN: Final = 10_000  # files; enough to say what there is


def described(path: Path) -> str:
    """What is there, as the middle of a sentence; empty where nothing is. Names no place."""
    if path.is_file():
        return _file(path)
    if not path.is_dir():
        return ""
    names = sorted(p.name for p in path.iterdir() if not is_hidden(p.name))
    if not names:
        return " (an empty folder)"
    shown = ", ".join(name + ("/" if (path / name).is_dir() else "") for name in names[:4])
    return f" (found {shown}{', ...' if len(names) > 4 else ''}{_cure(path, names)})"


def _file(path: Path) -> str:
    name = path.name.lower()
    if name.endswith(_ARCHIVES):
        return " (an archive: unpack it, and name the folder)"
    if name.endswith(".npy"):
        return " (one array: save images and labels together, by numpy.savez)"
    return f" (a file with ending {path.suffix.lower() or 'missing'})"


def _cure(folder: Path, names: list[str]) -> str:
    """What to do with what is in a folder; empty where that is unknown."""
    suffixes = {Path(name).suffix.lower() for name in names}
    sort = tables_beside(folder) or ": put every picture into a folder that is named like its class"
    for there, said in (
        (any(name.lower().endswith(_ARCHIVES) for name in names), ": unpack the archive"),
        (".npz" in suffixes, ": name the .npz file itself"),
        (".npy" in suffixes, ": save the arrays together in one file, by numpy.savez"),
        ("data_batch_1" in names, _PICKLED),
        (bool(suffixes & picture_endings()), sort),
    ):
        if there:
            return said
    inside = _endings_inside(folder)
    if not inside:
        return ""
    said = ", ".join(f"{count} with ending {ending or 'missing'}" for ending, count in inside.most_common(3))
    return f": files in them are no pictures that can be read, {said}; convert them to PNG or JPEG"


def _endings_inside(folder: Path) -> Counter[str]:
    """Endings of the files in the folders inside, how many of each."""
    found: Counter[str] = Counter()
    for place, folders, files in os.walk(folder):
        folders[:] = [one for one in folders if not is_hidden(one)]
        if Path(place) != folder:
            found.update(Path(name).suffix.lower() for name in files if not is_hidden(name))
        if found.total() >= _MOST_SEEN:
            break
    return found
