"""What everybody may know of a data set, whatever task it is for. No torch here."""

from __future__ import annotations

from collections.abc import Sized
from typing import Protocol

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


class Data(Protocol):
    """A data set as its task loads it. Its splits are `train`, `validation` and `test`; no sample is in two
    of them.

    task: the name of its task in `supernets.tasks.catalog`. classes: what the outputs of a network stand
    for, in their order.
    """

    @property
    def name(self) -> str: ...

    @property
    def task(self) -> str: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    def split(self, name: str) -> Sized:
        """The samples of a split. Raises ValueError for another name."""
        ...
