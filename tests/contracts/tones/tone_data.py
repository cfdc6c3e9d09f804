"""Words of two tones each, in noise: a data set, and what is learnt from it. No torch here: the API reads this file."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from supernets.data.info import DatasetInfo
from supernets.tasks.info import TaskInfo
from supernets.tasks.metric import Metric

if TYPE_CHECKING:
    from supernets.tasks.task import Task

WORDS = ("yes", "no", "up", "down", "stop")
LENGTH = 512
SHARES = (0.4, 0.3, 0.15, 0.1, 0.05)  # "stop" is rare, so the share of right answers would say little of it
BALANCED = Metric("balanced_accuracy")


@dataclass(frozen=True, eq=False)
class Split(Sized):
    """sounds (N, 1, LENGTH) float32, labels (N,)."""

    sounds: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Sounds:
    """What `supernets.tasks.data.Data` asks for, and the splits, which its task alone looks into."""

    splits: dict[str, Split]
    name: str = "two-tones"
    task: str = "keywords"
    classes: tuple[str, ...] = WORDS

    def split(self, name: str) -> Split:
        if name not in self.splits:
            raise ValueError(f"a split is one of {', '.join(self.splits)}")
        return self.splits[name]


def spoken(samples: int, seed: int) -> Split:
    """Each word is a low tone, then a high one, which fade in and out at a time of their own."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(len(WORDS), size=samples, p=SHARES)
    labels[: len(WORDS)] = np.arange(len(WORDS))  # every word in every split
    time = np.arange(LENGTH)[None, :]
    start = generator.uniform(40, 160, size=(samples, 1))
    sounds = 0.9 * generator.standard_normal((samples, LENGTH))
    for part in range(2):
        pitch = 0.02 * (1.6 ** ((labels + part * 2) % len(WORDS)))[:, None]
        envelope = np.exp(-(((time - start - 160 * part) / 60) ** 2))
        sounds += envelope * np.sin(2 * np.pi * pitch * time)
    return Split(sounds[:, None].astype(np.float32), labels.astype(np.int64))


@lru_cache(maxsize=1)
def load(folder: Path | None = None) -> Sounds:
    sizes = {"train": 600, "validation": 240, "test": 240}
    return Sounds({name: spoken(size, seed) for seed, (name, size) in enumerate(sizes.items())})


def _task() -> Task[Any]:
    from tone_task import Keywords  # torch

    return Keywords()


KEYWORDS = TaskInfo("keywords", "Which word was said", BALANCED, _task)
TWO_TONES = DatasetInfo(
    "two-tones",
    "1,080 words of two tones each, in noise, 512 samples",
    WORDS,
    channels=1,
    size=LENGTH,
    load=load,
    files=lambda: {"tone_data.py": Path(__file__)},
    task="keywords",
)
