"""Data sets as bytes, with splits that never leak.

Training sees `train`, predictors and searches see `validation`, model cards report `test`. Splits depend on
the data set alone, never on the seed of a training, so that no supernet has ever seen another one's test
samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from supernets.data.normalisation import Normalisation
from supernets.data.pictures import Pictures
from supernets.data.preprocessing import Preprocessing, picture_steps
from supernets.data.steps import Floats, Interpolate, Normalise, PictureStep
from supernets.errors import InvalidDataset

Images = npt.NDArray[np.uint8] | Pictures  # (N, C, H, W)
Labels = npt.NDArray[np.int64]  # (N,)
SPLITS = ("train", "validation", "test")
STATISTICS_SAMPLES = 1024  # of pictures that are converted when they are asked for; arrays are taken whole
BATCH_BYTES = 64 * 2**20  # of float32 inputs made at once


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

    def take(self, rows: npt.NDArray[np.int64]) -> Split:
        """The samples of those rows, in that order; pictures that are converted when asked for stay so."""
        images = self.images.take(rows) if isinstance(self.images, Pictures) else self.images[rows]
        return Split(images, self.labels[rows])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set: names of its classes in the order of the labels, and its three splits.

    pictures: the steps from a file to an image of the splits; None where the images are the pictures
    themselves. normalisation: mean and deviation that inputs are normalised with, as the weights of another
    data set expect them; None: those of the train split. highest: raw value of white. coloured: whether the
    samples were grey, and their channel was repeated (`in_colour`).
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    pictures: tuple[PictureStep, ...] | None = None
    normalisation: Normalisation | None = None
    highest: int = 255
    coloured: bool = False

    def __post_init__(self) -> None:
        for name in SPLITS:
            split = self.split(name)
            missing = sorted(set(range(len(self.classes))) - set(np.unique(split.labels).tolist()))
            if missing:
                shown = ", ".join(self.classes[c] for c in missing[:5])
                raise InvalidDataset(
                    f"data set {self.name!r}: the {name} split lacks {len(missing)} class(es): {shown}; "
                    "add samples"
                )
            if split.labels.min() < 0 or split.labels.max() >= len(self.classes):
                raise InvalidDataset(
                    f"data set {self.name!r}: a label of the {name} split is outside 0 to "
                    f"{len(self.classes) - 1}"
                )
            if split.images.shape[1:] != self.train.images.shape[1:]:
                raise InvalidDataset(
                    f"data set {self.name!r}: images of the {name} split have another size than those of "
                    "train"
                )
        if len(self.classes) < 2:
            raise InvalidDataset(
                f"data set {self.name!r}: one class only; a classifier needs samples of two classes or more"
            )

    @property
    def task(self) -> str:
        """What is learnt from it: one of the classes for each picture."""
        return "images"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of the labels, which is that of a network's outputs."""
        return self.classes

    @property
    def channels(self) -> int:
        return int(self.train.images.shape[1])

    @property
    def size(self) -> int:
        """Height of the images of the splits in pixels."""
        return int(self.train.images.shape[2])

    @cached_property
    def mean(self) -> Floats:
        """Mean that is subtracted from each channel, raw values, shape (C,)."""
        return self._moments[0] if self.normalisation is None else self.normalisation.values[0]

    @cached_property
    def deviation(self) -> Floats:
        """Standard deviation that each channel is divided by, raw values, shape (C,). Raises InvalidDataset
        for 0."""
        return self._moments[1] if self.normalisation is None else self.normalisation.values[1]

    def normalised_as(self, other: Normalisation | None) -> Dataset:
        """The same samples, normalised as weights expect that come with it; None: with its own moments."""
        if other is None:
            return replace(self, normalisation=None)
        return replace(self, normalisation=other.with_channels(self.channels).in_range(self.highest))

    def check_values(self) -> None:
        """Raises InvalidDataset where a channel has one value everywhere: nothing can be learnt from it."""
        _ = self._moments

    @cached_property
    def _moments(self) -> tuple[Floats, Floats]:
        lazy = isinstance(self.train.images, Pictures)
        rows = evenly_spread(len(self.train), STATISTICS_SAMPLES if lazy else len(self.train))
        counts = np.zeros((self.channels, 256))
        for start in range(0, len(rows), 256):
            images = self.train.images[rows[start : start + 256]]
            for channel in range(self.channels):
                counts[channel] += np.bincount(images[:, channel].ravel(), minlength=256)
        values, shares = np.arange(256), counts / counts.sum(axis=1, keepdims=True)
        mean = shares @ values
        deviation = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(axis=1))
        if deviation.min() <= 0:
            flat = int(deviation.argmin())
            raise InvalidDataset(
                f"data set {self.name!r}: every pixel of channel {flat + 1} of {self.channels} is "
                f"{mean[flat]:g} in all training "
                "images, so there is nothing to learn from; see how the pictures were written"
            )
        return mean.astype(np.float32), deviation.astype(np.float32)

    def in_colour(self) -> Dataset:
        """The same grey samples with three equal channels, for networks that take colours. Pictures are
        fed to such networks in colour, so a grey file is repeated as well."""

        def three(split: Split) -> Split:
            return Split(np.repeat(np.asarray(split.images[:]), 3, axis=1), split.labels)

        train, validation, test = (three(self.split(name)) for name in SPLITS)
        return Dataset(self.name, self.classes, train, validation, test, highest=self.highest, coloured=True)

    def split(self, name: str) -> Split:
        """`train`, `validation` or `test`."""
        if name not in SPLITS:
            raise ValueError(f"a split is one of {', '.join(SPLITS)}")
        found: Split = getattr(self, name)
        return found

    def preprocessing(self, resolution: int) -> Preprocessing:
        """All that happens between a file of this data set and the input of a network of that resolution.

        Raises InvalidPreprocessing where the samples are no pictures of 1 or 3 channels.
        """
        normalise = Normalise(tuple(map(float, self.mean)), tuple(map(float, self.deviation)))
        pictures = self.pictures or picture_steps(*self.train.images.shape[1:])
        return Preprocessing((*pictures, normalise, Interpolate(resolution, resolution)))

    def inputs(self, name: str, resolution: int, rows: npt.NDArray[np.int64] | None = None) -> Floats:
        """What a network of that resolution gets: images of a split, (N, C, resolution, resolution); of those
        rows only."""
        images = self.split(name).images
        return self.preprocessing(resolution).finish(images[:] if rows is None else images[rows])

    def batches(
        self, name: str, resolution: int, most_bytes: int = BATCH_BYTES
    ) -> Iterator[tuple[Floats, Labels]]:
        """(inputs, labels) of a whole split in order, never more than that many bytes of inputs at once."""
        split, each = self.split(name), 4 * self.channels * resolution**2
        size = max(1, most_bytes // each)
        for start in range(0, len(split), size):
            rows = np.arange(start, min(start + size, len(split)))
            yield self.inputs(name, resolution, rows), split.labels[rows]


def evenly_spread(rows: int, samples: int) -> npt.NDArray[np.int64]:
    """At most `samples` of that many rows, evenly spread, the first and last among them."""
    if rows <= samples:
        return np.arange(rows)
    return np.rint(np.linspace(0, rows - 1, samples)).astype(np.int64)


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
        parts.append(
            np.sort(np.concatenate([p[t : t + n] for p, t, n in zip(pools, taken, counts, strict=True)]))
        )
        taken += counts
    parts.append(np.sort(np.concatenate([p[t:] for p, t in zip(pools, taken, strict=True)])))
    return parts


def difficulty(images: npt.NDArray[np.uint8], labels: Labels, bins: int) -> Labels:
    """Bin of each sample inside its class, 0 the hardest: how much nearer its own class's mean is than
    another's.

    Splits that are alike in this too predict each other better: validation accuracy is then what the test
    shows.
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
        found[members[np.argsort(margin[members], kind="stable")]] = (
            np.arange(len(members)) * bins // len(members)
        )
    return found


def three_parts(labels: Labels, validation: int, test: int, seed: int = 0) -> list[Labels]:
    """Rows of train, validation and test of one pool, every label in proportion."""
    held, kept, rest = stratified(labels, (test, validation), seed)
    return [rest, kept, held]


def split_three(
    name: str,
    classes: tuple[str, ...],
    images: Images,
    labels: Labels,
    validation: int,
    test: int,
    seed: int = 0,
    bins: int = 1,
) -> Dataset:
    """A data set from one pool of samples, every class and every one of `bins` degrees of difficulty in
    proportion."""
    strata = labels * bins + (difficulty(np.asarray(images[:]), labels, bins) if bins > 1 else 0)
    pool = Split(images, labels)
    train, valid, tested = (pool.take(rows) for rows in three_parts(strata, validation, test, seed))
    return Dataset(name, classes, train, valid, tested)
