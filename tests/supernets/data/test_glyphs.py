"""Glyphs: seeded, of fonts that the splits do not share, kept on disk."""

import numpy as np
import pytest

from supernets.data import glyphs
from supernets.data.catalog import DATASETS, load_dataset


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(glyphs, "PER_CLASS", {"train": 2, "validation": 1, "test": 1})


def test_no_font_is_in_two_splits():
    fonts = [font for name in glyphs.FONTS for font in glyphs.FONTS[name]]
    assert len(fonts) == len(set(fonts))


def test_rendered_kept_and_read_back(small, tmp_path):
    rendered = load_dataset("glyphs", tmp_path)
    (file,) = tmp_path.glob("glyphs-*.npz")
    stamp = file.stat().st_mtime_ns
    again = load_dataset("glyphs", tmp_path)
    assert file.stat().st_mtime_ns == stamp
    assert all(
        np.array_equal(rendered.split(s).images, again.split(s).images)
        for s in ("train", "validation", "test")
    )
    info = DATASETS["glyphs"]
    assert (
        (info.classes, info.channels, info.size)
        == (len(again.classes), again.channels, again.size)
        == (62, 3, 32)
    )


def test_a_damaged_file_is_rendered_again(small, tmp_path):
    wanted = load_dataset("glyphs", tmp_path).test.images
    (file,) = tmp_path.glob("glyphs-*.npz")
    file.write_bytes(file.read_bytes()[:1000])
    assert np.array_equal(load_dataset("glyphs", tmp_path).test.images, wanted)


def test_seeded_and_different_from_each_other():
    labels, fonts = np.array([10, 10, 40]), glyphs.FONTS["test"]
    one, two = (glyphs.render(labels, fonts, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one, two) and not np.array_equal(one[0], one[1])
    assert one.shape == (3, 3, 32, 32) and all(image.std() > 5 for image in one)
