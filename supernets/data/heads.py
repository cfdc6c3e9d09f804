"""What the pictures of a folder are like: sizes, modes, what cannot be read, what is odd."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from supernets.data.pictures import UnreadablePicture, opened_picture
from supernets.data.steps import is_deep

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_SHOWN: Final = 3
_GREY: Final = frozenset({"1", "L", "LA", "La"})


class Heads:
    """Sizes and modes of pictures, and those that cannot be read. decode: read them in whole."""

    def __init__(self, root: Path, decode: bool) -> None:
        self.root, self.decode = root, decode
        self.modes: Counter[str] = Counter()
        self._sides: list[tuple[int, int]] = []
        self._bad: list[tuple[str, str]] = []
        self._several = self._cut = 0  # pictures of several frames; those of more bits than are read

    def read(self, names: Iterable[str]) -> None:
        """Look at each picture."""
        for name in names:
            try:
                with opened_picture(self.root / name) as opened:
                    self._look(opened)
            except UnreadablePicture as error:
                self._bad.append((name, str(error)))

    def _look(self, opened: Picture) -> None:
        self._several += getattr(opened, "n_frames", 1) > 1
        self._cut += _is_cut(opened)
        if self.decode:
            opened.load()
        self.modes[opened.mode] += 1
        self._sides.append(opened.size)

    def fault(self, name: str) -> str | None:
        """Why the set is refused: pictures that cannot be read."""
        if not self._bad:
            return None
        said = "; ".join(f"{picture} {why}" for picture, why in self._bad[:_SHOWN])
        more = f" and {len(self._bad) - _SHOWN} more" if len(self._bad) > _SHOWN else ""
        return f"data set {name!r}: image {said}{more}; repair or remove them"

    def sizes(self) -> dict[str, list[int]]:
        """Smallest, median and largest of widths and heights."""
        sides = {"width": [w for w, _ in self._sides], "height": [h for _, h in self._sides]}
        return {
            side: [min(found), sorted(found)[len(found) // 2], max(found)]
            for side, found in sides.items()
            if found
        }

    def remarks(self) -> list[str]:
        """What is often an accident: mixed modes, frames and bits that are not read."""
        deep = sum(count for mode, count in self.modes.items() if is_deep(mode))
        grey = deep + sum(count for mode, count in self.modes.items() if mode in _GREY)
        rest = sum(self.modes.values()) - deep
        colour = sum(self.modes.values()) - grey
        found = []
        if grey and colour:
            found.append(f"{grey} grey and {colour} colour pictures: all are taken as colour")
        if deep and rest:
            scale = "0 to 65535" if colour else "the range that they have"
            found.append(
                f"{deep} picture(s) of more than 8 bits and {rest} of 8 bits: the former are scaled from "
                f"{scale}, so the same thing may look darker in one than in the other; convert them alike"
            )
        if self._cut:
            found.append(
                f"{self._cut} colour picture(s) of 16 bits a channel: only the upper 8 are read; where their "
                "values do not reach 65535 they are dark, so scale them to 8 bits"
            )
        if self._several:
            found.append(f"{self._several} picture(s) have several frames or pages: the first one is taken")
        return found


def _is_cut(opened: Picture) -> bool:
    """Whether Pillow reads only the upper bits of a picture: it has no mode for 16-bit colour."""
    raw = [tile[3] for tile in getattr(opened, "tile", ()) if len(tile) > 3]
    names = [args[0] if isinstance(args, tuple) and args else args for args in raw]
    return not is_deep(opened.mode) and any(isinstance(name, str) and ";16" in name for name in names)
