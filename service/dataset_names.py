"""The operator's data sets as the setting names them: a name each that is free and can be asked for, and a
whole path."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from supernets.data.catalog import DATASETS

_SETTING: Final = "BESPOKE_DATASETS"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # as names in requests
_EXAMPLE: Final = '{"parts": "/data/parts"}'


def registered(given: object) -> dict[str, Path]:
    """Name -> path, `~` expanded and from the root. given: the setting's text, or a mapping.

    Raises ValueError, in one sentence, for text that is no such object, a name twice or taken or that no
    request could use, and an empty path. Whether something lies at a path is said where it is used: a disk
    may come back.
    """
    pairs = list(given.items()) if isinstance(given, dict) else _pairs(given)
    found: dict[str, Path] = {}
    for name, place in pairs:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(
                f"{_SETTING}: {str(name)[:80]!r} cannot be the name of a data set; it takes small letters, "
                "digits, dots, dashes and underscores, 64 at most"
            )
        if name in DATASETS:
            raise ValueError(f"{_SETTING}: {name!r} is the name of a built-in data set; choose another name")
        if name in found:
            raise ValueError(f"{_SETTING}: {name!r} is there twice; give one of them another name")
        if not isinstance(place, str | Path) or not str(place).strip() or "\0" in str(place):
            raise ValueError(f"{_SETTING}: the path of {name!r} is missing; write it as in {_EXAMPLE}")
        found[name] = _whole(name, Path(place))
    return found


def _whole(name: str, place: Path) -> Path:
    """From the root, since API and workers may be started in different folders."""
    try:
        return place.expanduser().absolute()
    except RuntimeError:
        raise ValueError(
            f"{_SETTING}: there is no user of the path {str(place)!r} of {name!r}; write the path in full"
        ) from None


def _pairs(given: object) -> list[tuple[str, object]]:
    if isinstance(given, str) and not given.strip():
        return []
    try:
        found = json.loads(given, object_pairs_hook=lambda pairs: pairs) if isinstance(given, str) else None
    except ValueError as error:
        raise ValueError(f"{_SETTING} is no JSON ({error}); write it as in {_EXAMPLE}") from None
    if not isinstance(found, list) or any(not isinstance(pair, tuple) for pair in found):
        raise ValueError(f"{_SETTING} is no JSON object of names and paths; write it as in {_EXAMPLE}")
    return found
