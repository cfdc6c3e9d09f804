"""Data sets: splits that never leak, and the resizing that networks are fed with."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from supernets.data.catalog import DATASETS, load_dataset
from supernets.data.splits import Dataset, Split, stratified
from supernets.errors import InvalidDataset, UnknownDataset


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def test_digits_are_split_once_and_for_all(digits):
    assert (len(digits.train), len(digits.validation), len(digits.test)) == (1077, 360, 360)
    again = load_dataset("digits")
    assert np.array_equal(again.test.images, digits.test.images)
    info = DATASETS["digits"]
    assert (info.classes, info.channels, info.size) == (len(digits.classes), digits.channels, digits.size)


def test_every_class_in_proportion(digits):
    for name in ("train", "validation", "test"):
        shares = np.bincount(digits.split(name).labels) / len(digits.split(name))
        assert np.all(np.abs(shares - 0.1) < 0.01)


@given(
    labels=st.lists(st.integers(0, 4), min_size=30, max_size=80),
    sizes=st.tuples(st.integers(0, 10), st.integers(0, 10)),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_splits_never_share_a_sample(labels, sizes, seed):
    parts = stratified(np.array(labels), sizes, seed)
    assert [len(p) for p in parts[:2]] == list(sizes)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))


def test_inputs_are_normalised(digits):
    inputs = digits.inputs("train", 8)
    assert inputs.mean() == pytest.approx(0, abs=1e-4) and inputs.std() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("resolution", [8, 12, 16])
def test_inputs_are_what_the_preprocessing_makes_of_each_picture(digits, resolution):
    made = digits.preprocessing(resolution)
    assert made.size == (resolution, resolution) and made.channel_order == "L"
    raw = digits.test.images[5]
    for picture in (raw[0], Image.fromarray(raw[0])):
        assert np.array_equal(made.apply(picture), digits.inputs("test", resolution)[5])


def test_class_names_are_in_the_order_of_the_outputs(digits):
    assert digits.class_names == tuple("0123456789")


def test_broken_data_is_named():
    images, labels = np.zeros((4, 1, 8, 8), np.uint8), np.array([0, 1, 0, 1])
    whole = Split(images, labels)
    with pytest.raises(InvalidDataset, match="lacks 1 class"):
        Dataset("d", ("a", "b", "c"), whole, whole, whole)
    with pytest.raises(InvalidDataset, match="outside"):
        Dataset("d", ("a",), whole, whole, whole)
    with pytest.raises(InvalidDataset, match="another size"):
        Dataset("d", ("a", "b"), whole, Split(np.zeros((4, 1, 9, 9), np.uint8), labels), whole)
    with pytest.raises(InvalidDataset):
        Split(images.astype(np.float32), labels)
    with pytest.raises(UnknownDataset, match="digits"):
        load_dataset("no-such-data")
