"""A task as the catalog names it. Apart from the catalog, so that a distribution which adds one may
import this."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from supernets.tasks.metric import Metric

if TYPE_CHECKING:
    from supernets.tasks.task import Task

IMAGES: Final = "images"


@dataclass(frozen=True)
class TaskInfo:
    """What the catalog says of a task before torch is loaded. load: gives the task; called once a process."""

    name: str
    description: str
    metric: Metric
    load: Callable[[], Task[Any]]

    @cached_property
    def task(self) -> Task[Any]:
        """The task itself."""
        return self.load()
