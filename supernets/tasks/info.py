"""A task as the catalog names it. Apart from the catalog, so that a distribution which adds one may
import this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from supernets.tasks.metric import Metric

if TYPE_CHECKING:
    from supernets.spaces.space import Space
    from supernets.tasks.task import Task

IMAGES: Final = "images"
TRANSLATION: Final = "translation"
PRONUNCIATION: Final = "pronunciation"


def nothing_known(space: Space, channels: Sequence[int | None]) -> str | None:
    """The task itself says whether data and space fit, when both are loaded (`Task.check`)."""
    return None


def pictures_refused(space: Space, channels: Sequence[int | None]) -> str | None:
    """Why a space cannot take pictures that can be had with these numbers of channels; None where it can."""
    if space.image_channels is None:
        return f"networks of {space.name} take no pictures; choose another data set"
    if space.image_channels == 3 and 1 in channels:
        return None  # a grey channel is repeated (`supernets.data.catalog.load_for`)
    if space.image_channels not in channels:
        return f"the space takes {space.image_channels} channel(s), the data set has {channels[0]}"
    return None


def sentences_refused(space: Space, channels: Sequence[int | None]) -> str | None:
    """Why a space cannot take sentences; None where it can."""
    if any(spec.dtype == "int64" for spec in space.inputs):
        return None
    return f"networks of {space.name} read no sentences; choose a space of transformers"


@dataclass(frozen=True)
class TaskInfo:
    """What the catalog says of a task before torch is loaded. load: gives the task; called once a process.

    refusal: why networks of a space cannot take data with these numbers of channels (the set's own first,
    then others it can be had with), as far as that is known before anything is loaded.
    """

    name: str
    description: str
    metric: Metric
    load: Callable[[], Task[Any]]
    refusal: Callable[[Space, Sequence[int | None]], str | None] = nothing_known

    @cached_property
    def task(self) -> Task[Any]:
        """The task itself."""
        return self.load()
