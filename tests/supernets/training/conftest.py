"""A space and recipes small enough to train inside a test."""

import numpy as np
import pytest
import torch

from supernets.data.splits import Dataset, Split
from supernets.spaces.choices import Choice
from supernets.spaces.space import Space, Stage, pictures
from supernets.training.recipe import Augmentation, Phase, Recipe

OPTIONS = tuple(Choice(kernel=k, expand=e) for k in (3, 5) for e in (2, 3))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def space():
    stages = (
        Stage(
            "stem",
            "conv",
            (8,),
            choices=((Choice(kernel=3),),),
            settings={"activation": "hswish", "residual": False},
        ),
        Stage(
            "body",
            "mbconv",
            (8,),
            depths=(1, 2),
            choices=(OPTIONS, OPTIONS),
            settings={"stride": 2, "squeeze_excite": True},
        ),
        Stage(
            "last",
            "mbconv",
            (16,),
            depths=(1, 2),
            choices=(OPTIONS, OPTIONS),
            settings={"stride": 2, "activation": "hswish"},
        ),
        Stage("head", "head", (4,), settings={"activation": "hswish", "feature_channels": 16}),
    )
    return Space("tiny", "for tests", (8, 12), pictures(1), 4, stages, "none")


@pytest.fixture(scope="session")
def dataset():
    """Four classes: a bright quarter of the image each, under noise."""
    generator = np.random.default_rng(0)

    def split(size):
        labels = np.arange(size) % 4
        images = generator.integers(0, 120, size=(size, 1, 8, 8))
        for image, label in zip(images, labels, strict=True):
            row, column = divmod(int(label), 2)
            image[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 90
        return Split(images.astype(np.uint8), labels.astype(np.int64))

    return Dataset("quarters", ("a", "b", "c", "d"), split(96), split(40), split(40))


@pytest.fixture
def sandwich():
    phase = Phase("sandwich", 3, 5e-3, warmup_epochs=1, networks=3, sampling="sandwich", teacher="largest")
    return Recipe(
        "short", "for tests", (phase,), batch_size=32, optimiser="adamw", augmentation=Augmentation(shift=0.1)
    )


@pytest.fixture
def progressive():
    closed = {"depth": 1, "expand": 1, "width": 1}
    phases = (
        Phase("full", 2, 0.05, limits={**closed, "kernel": 1}),
        Phase("kernel", 1, 0.02, teacher="frozen", limits=closed),
        Phase("depth 1", 1, 0.02, networks=2, teacher="frozen", limits={**closed, "depth": 2}),
        Phase("width 1", 2, 0.02, networks=2, teacher="frozen", sort_channels=True),
    )
    return Recipe("short progressive", "for tests", phases, batch_size=32, dropout=0.1)
