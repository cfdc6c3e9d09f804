"""Images of a split as a training takes them: kept as bytes, normalised one batch at a time on the training
device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from supernets.data.pictures import Pictures
from supernets.data.splits import Dataset, Split


class NormalisedImages:
    """Indexing with rows gives normalised images, float32 (n, C, H, W) on the device.

    Arrays lie on the device as bytes, a quarter of the room of floats; pictures of a large folder are
    converted batch by batch.
    """

    def __init__(self, dataset: Dataset, split: Split, device: torch.device) -> None:
        self._mean, self._deviation = (
            torch.from_numpy(values)[:, None, None].to(device) for values in (dataset.mean, dataset.deviation)
        )
        self._device = device
        images = split.images
        self._source = images if isinstance(images, Pictures) else torch.from_numpy(images).to(device)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, rows: Tensor) -> Tensor:
        if isinstance(self._source, Tensor):
            raw = self._source[rows]
        else:
            raw = torch.from_numpy(self._source[np.asarray(rows.cpu())]).to(self._device)
        normalised: Tensor = (raw.float() - self._mean) / self._deviation
        return normalised
