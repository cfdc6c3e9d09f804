"""Every task by name: the built-in ones and those of installed distributions. See `docs/add_a_task.md`.

No torch here: the service asks for a task's metric. The task itself is loaded by whoever trains or evaluates.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

from supernets.errors import InvalidTraining
from supernets.tasks.info import (
    IMAGES,
    PRONUNCIATION,
    TRANSLATION,
    TaskInfo,
    pictures_refused,
    sentences_refused,
)
from supernets.tasks.metric import ACCURACY
from supernets.tasks.text_metrics import BLEU, PHONEME_ERROR, Bleu, PhonemeError

if TYPE_CHECKING:
    from supernets.tasks.data import Data
    from supernets.tasks.task import Task

ENTRY_POINT_GROUP: Final = "bespoke.tasks"

TASKS: dict[str, TaskInfo] = {}


def register_task(info: TaskInfo) -> None:
    """Add a task to this process. Raises ValueError for a name that another task has."""
    if TASKS.get(info.name, info) != info:
        raise ValueError(f"there is a task {info.name!r} already; give yours another name")
    TASKS[info.name] = info


def task_named(name: str) -> TaskInfo:
    """The task of that name. Raises InvalidTraining that lists the known ones."""
    try:
        return TASKS[name]
    except KeyError:
        raise InvalidTraining(
            f"unknown task {name!r}; known are {', '.join(TASKS)}; install the distribution that has it"
        ) from None


def task_of(data: Data) -> Task[Any]:
    """The task of a data set. Raises InvalidTraining for one that is not known here."""
    return task_named(data.task).task


def register_installed_tasks() -> None:
    """Add what installed distributions name under `bespoke.tasks`. Raises TypeError for what is no
    TaskInfo."""
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        info = entry.load()
        if not isinstance(info, TaskInfo):
            raise TypeError(
                f"entry point {entry.name} of {ENTRY_POINT_GROUP} is not a TaskInfo: {entry.value}"
            )
        register_task(info)


def _images() -> Task[Any]:
    from supernets.tasks.images import ImagesTask  # noqa: PLC0415 - torch

    return ImagesTask()


def _translation() -> Task[Any]:
    from supernets.tasks.sentences import SentencesTask  # noqa: PLC0415 - torch

    return SentencesTask(Bleu())


def _pronunciation() -> Task[Any]:
    from supernets.tasks.sentences import SentencesTask  # noqa: PLC0415 - torch

    return SentencesTask(PhonemeError())


register_task(
    TaskInfo(IMAGES, "One of several classes for each picture", ACCURACY, _images, pictures_refused)
)
register_task(TaskInfo(TRANSLATION, "A sentence for each sentence", BLEU, _translation, sentences_refused))
register_task(
    TaskInfo(
        PRONUNCIATION,
        "The phonemes of each word",
        PHONEME_ERROR,
        _pronunciation,
        sentences_refused,
    )
)
register_installed_tasks()
