"""Data sets as arrays, with splits that never leak.

Training sees `train`, predictors and searches see `validation`, model cards report `test`. Splits depend on the
data set alone, never on the seed of a training, so that no supernet has ever seen another one's test samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from latency_tables.errors import InvalidDataset
from supernets.data.preprocessing import Preprocessing, picture_steps
from supernets.data.steps import Interpolate, Normalise

Images = npt.NDArray[np.uint8]  # (N, C, H, W)
Labels = npt.NDArray[np.int64]  # (N,)
Floats = npt.NDArray[np.float32]
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """Samples of one split: images (N, C, H, W) in their raw values, labels (N,)."""

    images: Images
    labels: Labels

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8 or len(self.images) != len(self.labels):
            raise InvalidDataset("images must be bytes of shape (N, C, H, W), with one label each")

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set: names of its classes and its three splits."""

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split

    def __post_init__(self) -> None:
        for name in SPLITS:
            split = self.split(name)
            missing = sorted(set(range(len(self.classes))) - set(np.unique(split.labels).tolist()))
            if missing:
                shown = ", ".join(self.classes[c] for c in missing[:5])
                raise InvalidDataset(
                    f"data set {self.name!r}: the {name} split lacks {len(missing)} class(es): {shown}; add samples"
                )
            if split.labels.min() < 0 or split.labels.max() >= len(self.classes):
                raise InvalidDataset(
                    f"data set {self.name!r}: a label of the {name} split is outside 0 to {len(self.classes) - 1}"
                )
            if split.images.shape[1:] != self.train.images.shape[1:]:
                raise InvalidDataset(f"data set {self.name!r}: images of the {name} split have another size than those of train")

    @property
    def channels(self) -> int:
        return int(self.train.images.shape[1])

    @property
    def size(self) -> int:
        """Height of the stored images in pixels."""
        return int(self.train.images.shape[2])

    @cached_property
    def mean(self) -> Floats:
        """Mean of each channel over the train split, raw values, shape (C,)."""
        return np.asarray(self.train.images.mean(axis=(0, 2, 3), dtype=np.float64), dtype=np.float32)

    @cached_property
    def deviation(self) -> Floats:
        """Standard deviation of each channel over the train split, raw values, shape (C,)."""
        deviation = self.train.images.std(axis=(0, 2, 3), dtype=np.float64)
        return np.asarray(np.maximum(deviation, 1e-6), dtype=np.float32)

    def split(self, name: str) -> Split:
        """`train`, `validation` or `test`."""
        if name not in SPLITS:
            raise ValueError(f"a split is one of {', '.join(SPLITS)}")
        found: Split = getattr(self, name)
        return found

    def inputs(self, name: str, resolution: int) -> Floats:
        """What a network of that resolution gets: normalised images of a split, (N, C, resolution, resolution)."""
        return self.preprocessing(resolution).finish(self.split(name).images)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of the labels, which is that of a network's outputs."""
        return self.classes

    def preprocessing(self, resolution: int) -> Preprocessing:
        """All that happens between a file of this data set and the input of a network of that resolution.

        Raises InvalidPreprocessing where the samples are no pictures of 1 or 3 channels.
        """
        normalise = Normalise(tuple(map(float, self.mean)), tuple(map(float, self.deviation)))
        pictures = picture_steps(*self.train.images.shape[1:])
        return Preprocessing((*pictures, normalise, Interpolate(resolution, resolution)))


def stratified(labels: Labels, sizes: tuple[int, ...], seed: int) -> list[Labels]:
    """Disjoint sets of indices with about those sizes, every class in proportion; what is left comes last.

    Sizes are exact: the classes with the largest remainders give the samples that rounding left open.
    """
    generator = np.random.default_rng(seed)
    pools = [generator.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)]
    taken = np.zeros(len(pools), dtype=np.int64)
    parts: list[Labels] = []
    for size in sizes:
        shares = size * np.array([len(pool) for pool in pools]) / len(labels)
        counts = np.floor(shares).astype(np.int64)
        counts[np.argsort(counts - shares, kind="stable")[: size - counts.sum()]] += 1
        parts.append(np.sort(np.concatenate([p[t : t + n] for p, t, n in zip(pools, taken, counts, strict=True)])))
        taken += counts
    parts.append(np.sort(np.concatenate([p[t:] for p, t in zip(pools, taken, strict=True)])))
    return parts


def difficulty(images: Images, labels: Labels, bins: int) -> Labels:
    """Bin of each sample inside its class, 0 the hardest: how much nearer its own class's mean is than another's.

    Splits that are alike in this too predict each other better: validation accuracy is then what the test shows.
    """
    flat = images.reshape(len(images), -1).astype(np.float64)
    means = np.stack([flat[labels == c].mean(axis=0) for c in range(labels.max() + 1)])
    away = np.linalg.norm(flat[:, None] - means, axis=2)  # (N, classes)
    own = away[np.arange(len(labels)), labels]
    away[np.arange(len(labels)), labels] = np.inf
    margin = away.min(axis=1) - own
    found = np.zeros(len(labels), dtype=np.int64)
    for c in np.unique(labels):
        members = np.flatnonzero(labels == c)
        found[members[np.argsort(margin[members], kind="stable")]] = np.arange(len(members)) * bins // len(members)
    return found


def split_three(
    name: str, classes: tuple[str, ...], images: Images, labels: Labels, validation: int, test: int, seed: int = 0, bins: int = 1
) -> Dataset:
    """A data set from one pool of samples, every class and every one of `bins` degrees of difficulty in proportion."""
    strata = labels * bins + (difficulty(images, labels, bins) if bins > 1 else 0)
    held, kept, rest = stratified(strata, (test, validation), seed)
    train, valid, tested = (Split(images[i], labels[i]) for i in (rest, kept, held))
    return Dataset(name, classes, train, valid, tested)
