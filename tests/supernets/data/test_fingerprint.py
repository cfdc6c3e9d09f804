"""A data set is its contents, classes and order: what changes is another set, what does not is the same."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from supernets.data import fingerprint
from supernets.data.catalog import DATASETS, load_dataset, load_for
from supernets.data.fingerprint import check_unchanged, facts_of
from supernets.errors import InvalidDataset
from supernets.spaces.catalog import space_named


@pytest.fixture(autouse=True)
def another_process():
    fingerprint._known.clear()


@pytest.fixture
def pets(tmp_path):
    generator = np.random.default_rng(0)
    for title in ("cat", "dog"):
        (tmp_path / "pets" / title).mkdir(parents=True)
        for number in range(12):
            pixels = generator.integers(0, 256, size=(9, 9, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / title / f"{number:02}.png")
    return tmp_path / "pets"


def found(path, folder=None):
    fingerprint._known.clear()
    return facts_of("pets", path, folder).fingerprint


def test_a_copy_of_the_same_files_is_the_same_set(pets, tmp_path):
    copy = shutil.copytree(pets, tmp_path / "copy", copy_function=shutil.copy)  # other times
    (copy / ".DS_Store").write_text("companion")
    (copy / "cat" / "notes.txt").write_text("not a picture")
    assert found(copy) == found(pets)


def swap(path):
    first, second = path / "cat" / "00.png", path / "cat" / "01.png"
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)


CHANGES = {
    "a picture replaced": lambda path: shutil.copy(path / "cat" / "01.png", path / "cat" / "00.png"),
    "a picture removed": lambda path: (path / "cat" / "00.png").unlink(),
    "a picture of another class": lambda path: (path / "cat" / "00.png").rename(path / "dog" / "zz.png"),
    "another order": swap,
    "a class renamed": lambda path: (path / "cat").rename(path / "ant"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_makes_another_set(pets, tmp_path, change):
    kept = tmp_path / "kept"
    before = facts_of("pets", pets, kept)
    CHANGES[change](pets)
    assert facts_of("pets", pets, kept).fingerprint != before.fingerprint
    with pytest.raises(InvalidDataset, match="has changed since"):
        check_unchanged("pets", facts_of("pets", pets, kept), before.fingerprint)


def test_a_change_with_size_and_time_set_back_is_seen(pets, tmp_path):
    place = pets / "cat" / "00.png"
    before, held = found(pets, tmp_path / "kept"), place.stat()
    data = bytearray(place.read_bytes())
    data[-20] ^= 1
    place.write_bytes(data)
    os.utime(place, ns=(held.st_atime_ns, held.st_mtime_ns))
    assert found(pets, tmp_path / "kept") != before


def test_what_nobody_touched_is_not_read_again(pets, tmp_path, monkeypatch):
    kept, read = tmp_path / "kept", []
    before = found(pets, kept)
    real = fingerprint.hashlib.file_digest
    monkeypatch.setattr(
        fingerprint.hashlib, "file_digest", lambda file, name: read.append(file.name) or real(file, name)
    )
    assert found(pets, kept) == before and not read
    shutil.copy(pets / "dog" / "01.png", pets / "dog" / "00.png")
    assert found(pets, kept) != before and read == [str(pets / "dog" / "00.png")]


@pytest.mark.parametrize("harm", ["", "[]", "{", '{"facts": {}}'])
def test_a_damaged_memory_is_made_again(pets, tmp_path, harm):
    kept = tmp_path / "kept"
    before = found(pets, kept)
    (kept / "facts-pets.json").write_text(harm)
    assert found(pets, kept) == before


def test_facts_hold_classes_and_shape(pets):
    facts = facts_of("pets", pets)
    assert (facts.classes, facts.shape.channels, facts.form) == (("cat", "dog"), 3, "picture folders")


@pytest.mark.parametrize("name", DATASETS)
def test_built_in_sets_have_one_too(name, tmp_path):
    """What is here now is what supernets were trained on before their fingerprints were noted, where there were any."""
    info = DATASETS[name]
    facts = info.facts(tmp_path)
    assert info.before in (None, facts.fingerprint) and facts.classes == info.class_names
    fingerprint._known.clear()
    assert info.facts(tmp_path) == facts and (tmp_path / f"facts-{name}.json").exists()


def test_a_built_in_set_of_other_files_is_another_set(tmp_path, monkeypatch):
    """As when scikit-learn changes its digits, or matplotlib a font."""
    space, before = space_named("digits-mbv3"), DATASETS["digits"].facts().fingerprint
    assert load_for(space, "digits", fingerprint=before).class_names == load_dataset("digits").class_names
    other = tmp_path / "digits.csv.gz"
    other.write_bytes(DATASETS["digits"].files()["digits.csv.gz"].read_bytes() + b" ")
    monkeypatch.setitem(DATASETS, "digits", replace(DATASETS["digits"], files=lambda: {other.name: other}))
    with pytest.raises(InvalidDataset, match="has changed since"):
        load_for(space, "digits", fingerprint=before)
    newer = replace(DATASETS["digits"], version="2")
    assert newer.facts().fingerprint not in (before, DATASETS["digits"].facts().fingerprint)
