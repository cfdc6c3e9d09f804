"""Augmentation: seeded, sized, and nothing where nothing is asked for."""

import pytest
import torch

from supernets.data.steps import Interpolate
from supernets.training.augment import augmented, resized
from supernets.training.recipe import Augmentation

FULL = Augmentation(
    shift=0.1, rotate=10, scale=0.1, contrast=0.2, brightness=0.2, noise=0.1, flip=True, cutout=0.3
)


def _images():
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_seeded():
    one, two, other = (augmented(_images(), 12, FULL, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert one.shape == (6, 3, 12, 12) and torch.equal(one, two) and not torch.equal(one, other)


def test_nothing_asked_is_plain_resizing():
    plain = augmented(_images(), 12, Augmentation(), torch.Generator())
    assert torch.equal(plain, resized(_images(), 12))
    assert plain.numpy() == pytest.approx(Interpolate(12, 12)(_images().numpy()), abs=1e-5)


def test_flip_alone_mirrors_half():
    images = _images().repeat(40, 1, 1, 1)
    out = augmented(images, 8, Augmentation(flip=True), torch.Generator().manual_seed(0))
    mirrored = torch.isclose(out, images.flip(3), atol=1e-4).flatten(1).all(1)
    same = torch.isclose(out, images, atol=1e-4).flatten(1).all(1)
    assert (mirrored ^ same).all() and 80 < mirrored.sum() < 160


def test_cutout_blanks_a_square():
    out = augmented(torch.ones(20, 1, 16, 16), 16, Augmentation(cutout=0.5), torch.Generator().manual_seed(0))
    blank = (out == 0).flatten(1).sum(1)
    assert (blank > 0).all() and (blank <= 64).all()
