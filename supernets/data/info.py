"""A data set as the catalog names it. Apart from the catalog, so that a distribution which adds one may
import this."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from supernets.data.fingerprint import Facts, Source, facts_from
from supernets.data.loaders.forms import Shape
from supernets.tasks.data import Data
from supernets.tasks.info import IMAGES


@dataclass(frozen=True)
class DatasetInfo:
    """What the catalog says about a data set before it is loaded. `load` gets a folder for files it may keep.

    files: those that its samples are made of, by name. version: of how they become samples. before: its
    fingerprint at the time when supernets did not note one, None for a set that is younger than that. task:
    what is learnt from it (`supernets.tasks.catalog`). channels, size: of what a network takes.
    """

    name: str
    description: str
    class_names: tuple[str, ...]
    channels: int
    size: int
    load: Callable[[Path | None], Data]
    files: Callable[[], dict[str, Path]]
    version: str = "1"
    before: str | None = None
    task: str = IMAGES

    @property
    def classes(self) -> int:
        return len(self.class_names)

    def facts(self, folder: Path | None = None) -> Facts:
        """Its fingerprint and the like. folder: where hashes of files are kept. Raises InvalidDataset."""

        def source() -> Source:
            shape = Shape(self.classes, self.channels, self.size)
            return Source(
                f"built in, version {self.version}", self.files(), lambda: self.class_names, lambda: shape
            )

        return facts_from(self.name, "built in", source, folder)
