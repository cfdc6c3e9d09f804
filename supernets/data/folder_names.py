"""What the names of files and folders say: which are nobody's data, which are splits, which are classes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from supernets.errors import InvalidDataset

SPLIT_NAMES: Final = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
_SPLIT_ENDING: Final = re.compile(r"[-_. ]*(set|data|images|split)$")  # training_set, Test-Images
_COMPANIONS: Final = frozenset(
    {
        "__macosx",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",
        "@eadir",
        "$recycle.bin",
        "__pycache__",
        "lost+found",
    }
    | {"system volume information", "#recycle", "#snapshot"}
)
_TURNS_TEXT: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def split_of(folder: str) -> str | None:
    """The split that a folder's name says, None where it says none."""
    lower = folder.lower()
    return SPLIT_NAMES.get(lower) or SPLIT_NAMES.get(_SPLIT_ENDING.sub("", lower))


def is_hidden(name: str) -> bool:
    """Whether a file or folder is nobody's data: hidden, or left by another system."""
    return name.startswith((".", "~$")) or name.lower() in _COMPANIONS


def titles_of(name: str, folders: list[str]) -> dict[str, str]:
    """Class -> its folder, in the order of the classes. macOS writes an umlaut as two characters, others as
    one: a class is called as the others have it. Raises InvalidDataset for a name that cannot be shown."""
    found: dict[str, str] = {}
    for folder in folders:
        title = unicodedata.normalize("NFC", folder)
        if title in found:
            raise InvalidDataset(
                f"data set {name!r}: two folders are called {title!r}, written differently (as one character "
                "and as a letter with an accent after it); put their pictures into one of them"
            )
        if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in _TURNS_TEXT for c in title):
            text = title.encode("ascii", "backslashreplace").decode()
            raise InvalidDataset(
                f"data set {name!r}: the folder {text!r} has bytes in its name that are no text that can be "
                "shown (not UTF-8, or control characters); rename it"
            )
        found[title] = folder
    return dict(sorted(found.items()))


def alike_name(title: str) -> str:
    """The same for names of classes that are easily taken for each other."""
    return " ".join(
        unicodedata.normalize("NFKC", title).casefold().replace("_", " ").replace("-", " ").split()
    )


def shown(names: Sequence[str]) -> str:
    """The first five of some names, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(repr(name) for name in names[:5]) + more
