"""The task `images`: one of several classes for each picture, cross-entropy, share of right answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from latency_tables.dense import Array
from supernets.data.normalisation import Normalisation
from supernets.data.pictures import Pictures
from supernets.data.preprocessing import Preprocessing
from supernets.data.splits import Dataset
from supernets.delivery.description import described_input
from supernets.delivery.verdict import by_class
from supernets.errors import InvalidTraining
from supernets.tasks.data import Rows
from supernets.tasks.task import Task
from supernets.training.augment import augmented
from supernets.training.recipe import Augmentation

if TYPE_CHECKING:
    from supernets.delivery.format import Delivery
    from supernets.spaces.space import Space

COLOURED: Final = "training pictures were grey; their channel stands for red, green and blue alike"


class ImagesTask(Task[Dataset]):
    """Data are `supernets.data.splits.Dataset`. A tally is (2, classes): right answers and samples of
    each class."""

    def check(self, space: Space, data: Dataset) -> None:
        if data.channels != space.image_channels or len(data.classes) != space.classes:
            raise InvalidTraining(
                f"space {space.name!r} takes {space.image_channels or 'no pictures, no'} channel(s) and "
                f"{space.classes} classes, "
                f"data set {data.name!r} has {data.channels} and {len(data.classes)}; choose another space"
            )

    def batches(self, data: Dataset, split: str, device: torch.device) -> NormalisedImages:
        return NormalisedImages(data, split, device)

    def prepare(
        self, inputs: Tensor, condition: int, augmentation: Augmentation, generator: torch.Generator
    ) -> Tensor:
        return augmented(inputs, condition, augmentation, generator)

    def examples(
        self, data: Dataset, split: str, condition: int, rows: Rows, *, embedded: bool = False
    ) -> tuple[Tensor, Tensor]:
        found = data.split(split)
        inputs = found.images[rows] if embedded else data.inputs(split, condition, rows)
        return torch.from_numpy(inputs), torch.from_numpy(found.labels[rows])

    def loss(self, outputs: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        return F.cross_entropy(outputs, targets, label_smoothing=smoothing)

    def weighted_loss(
        self, outputs: Tensor, targets: Tensor, weights: Tensor, *, smoothing: float = 0.0
    ) -> Tensor:
        # Outputs are told how frequent classes are, so they need not learn it (logit adjustment, Menon et
        # al., ICLR 2021). Few samples that are weighed instead are soon known by heart, and weigh nothing.
        share = 1 / weights.to(outputs.device)
        prior = share / share.sum()
        told = F.log_softmax(outputs + prior.log(), dim=1)
        right = told.gather(1, targets[:, None]).squeeze(1)
        # Smoothed towards the prior: towards equal classes would make rare ones too likely.
        return -((1 - smoothing) * right + smoothing * (told @ prior)).mean()

    def class_weights(self, data: Dataset) -> Tensor:
        labels = data.train.labels
        counts = np.bincount(labels, minlength=len(data.classes))
        return torch.from_numpy(len(labels) / (len(counts) * counts)).float()

    def log_likelihoods(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return -F.cross_entropy(outputs.float(), targets, reduction="none")

    def imitation(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        return soft_cross_entropy(outputs, teacher)

    def regressed(self, targets: Tensor, outputs: int) -> Tensor:
        return F.one_hot(targets, outputs)

    def tally(self, outputs: Tensor, targets: Tensor) -> Array:
        right = targets[outputs.argmax(dim=1) == targets]
        counts = [torch.bincount(labels, minlength=outputs.shape[1]) for labels in (right, targets)]
        return np.asarray(torch.stack(counts).cpu().numpy(), dtype=np.float64)

    def confusion(self, outputs: Tensor, targets: Tensor) -> Array:
        classes = outputs.shape[1]
        pairs = torch.bincount(targets * classes + outputs.argmax(dim=1), minlength=classes**2)
        return np.asarray(pairs.reshape(classes, classes).cpu().numpy(), dtype=np.float64)

    def quality(self, tally: Array) -> float:
        return float(tally[0].sum() / tally[1].sum())

    def expected(self, data: Dataset) -> Normalisation:
        return Normalisation(
            tuple(map(float, data.mean)), tuple(map(float, data.deviation)), float(data.highest)
        )

    def as_expected(self, data: Dataset, normalisation: Normalisation | None) -> Dataset:
        return data if normalisation is None else data.normalised_as(normalisation)

    def input_of(self, data: Dataset, condition: int, delivery: Delivery, name: str) -> dict[str, Any]:
        described = described_input(name, data.preprocessing(condition), delivery)
        return {**described, "channels": COLOURED} if data.coloured else described

    def preprocessing(self, data: Dataset, condition: int) -> Preprocessing:
        return data.preprocessing(condition)

    def by_class(self, tally: Array, data: Dataset) -> list[dict[str, Any]]:
        return by_class(tally, data.classes)


class NormalisedImages:
    """A split: rows give normalised images, float32 (n, C, H, W), and labels (n,), on the device.

    Arrays lie on the device as bytes, a quarter of the room of floats; pictures of a large folder are
    converted batch by batch.
    """

    def __init__(self, dataset: Dataset, split: str, device: torch.device) -> None:
        found, self._device = dataset.split(split), device
        self._mean, self._deviation = (
            torch.from_numpy(values)[:, None, None].to(device) for values in (dataset.mean, dataset.deviation)
        )
        self._source = (
            found.images if isinstance(found.images, Pictures) else torch.from_numpy(found.images).to(device)
        )
        self._labels = torch.from_numpy(found.labels).to(device)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self._source, Tensor):
            raw = self._source[rows]
        else:
            raw = torch.from_numpy(self._source[np.asarray(rows.cpu())]).to(self._device)
        return (raw.float() - self._mean) / self._deviation, self._labels[rows]


def soft_cross_entropy(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy against the teacher's probabilities, mean over the batch; both (B, classes)."""
    return -(F.softmax(teacher_logits, dim=1) * F.log_softmax(logits, dim=1)).sum(dim=1).mean()
