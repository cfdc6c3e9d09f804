"""The task `keywords`: one of several words for each sound, the mean recall of the words."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tone_data import Sounds
from torch import Tensor
from torch.nn import functional as F

from latency_tables.dense import Array
from supernets.delivery.format import Delivery
from supernets.errors import ExportFailed, InvalidTraining
from supernets.spaces.space import Space
from supernets.tasks.data import Rows
from supernets.tasks.task import Task
from supernets.training.recipe import Augmentation


class Keywords(Task[Sounds]):
    """A tally is (2, words): right answers and samples of each word."""

    def check(self, space: Space, data: Sounds) -> None:
        shape = (1, max(space.resolutions))
        if space.input_shape(max(space.resolutions)) != shape or space.classes != len(data.classes):
            raise InvalidTraining(f"{space.name} is no space of sounds with {len(data.classes)} outputs")

    def batches(self, data: Sounds, split: str, device: torch.device) -> Batches:
        return Batches(data, split, device)

    def prepare(
        self, inputs: Tensor, condition: int, augmentation: Augmentation, generator: torch.Generator
    ) -> Tensor:
        size = inputs.shape[-1]
        if augmentation.shift:
            most = int(size * augmentation.shift)
            moved = torch.randint(
                -most, most + 1, (len(inputs), 1), generator=generator, device=inputs.device
            )
            places = (torch.arange(size, device=inputs.device) - moved) % size
            inputs = inputs.gather(2, places[:, None].expand_as(inputs))
        if augmentation.noise:
            noise = torch.randn(inputs.shape, generator=generator, device=inputs.device)
            inputs = inputs + augmentation.noise * noise
        return at(inputs, condition)

    def examples(
        self, data: Sounds, split: str, condition: int, rows: Rows, *, embedded: bool = False
    ) -> tuple[Tensor, Tensor]:
        if embedded:
            raise ExportFailed("sounds are fed as floats; there is nothing to put inside a file")
        found = data.split(split)
        sounds, labels = torch.from_numpy(found.sounds[rows]), torch.from_numpy(found.labels[rows])
        return at(sounds, condition), labels

    def loss(self, outputs: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        return F.cross_entropy(outputs, targets, label_smoothing=smoothing)

    def imitation(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        return F.cross_entropy(outputs, teacher.softmax(dim=1))

    def tally(self, outputs: Tensor, targets: Tensor) -> Array:
        right = targets[outputs.argmax(dim=1) == targets]
        counts = [torch.bincount(labels, minlength=outputs.shape[1]) for labels in (right, targets)]
        return np.asarray(torch.stack(counts).cpu().numpy(), dtype=np.float64)

    def quality(self, tally: Array) -> float:
        right, samples = tally
        return float(np.mean(right[samples > 0] / samples[samples > 0]))

    def input_of(self, data: Sounds, condition: int, delivery: Delivery, name: str) -> dict[str, Any]:
        shape = [delivery.batch_size, 1, condition]
        steps = [{"step": "mean_of_neighbours", "samples": condition}]
        said = {"name": name, "layout": "NCL", "dtype": delivery.precision, "shape": shape}
        return {**said, "steps": steps, "inside": []}

    def by_class(self, tally: Array, data: Sounds) -> list[dict[str, Any]]:
        return [
            {"name": word, "samples": int(samples), "recall": right / samples if samples else None}
            for word, right, samples in zip(data.classes, *tally, strict=True)
        ]


class Batches:
    """The training split on the device."""

    def __init__(self, data: Sounds, split: str, device: torch.device) -> None:
        found = data.split(split)
        self.sounds = torch.from_numpy(found.sounds).to(device)
        self.labels = torch.from_numpy(found.labels).to(device)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self.sounds[rows], self.labels[rows]


def at(sounds: Tensor, samples: int) -> Tensor:
    """Means of neighbouring samples, so that so many are left."""
    return sounds if sounds.shape[-1] == samples else F.avg_pool1d(sounds, sounds.shape[-1] // samples)
