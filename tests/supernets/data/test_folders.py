"""Folders of pictures as people really bring them: what is taken, what is left out and said, what is
refused."""

import os

import numpy as np
import pytest
from PIL import Image

from supernets.data.catalog import load_dataset
from supernets.data.index import HIDDEN, OUTSIDE, index_folder
from supernets.data.loaders import folder as folder_form
from supernets.data.loaders.catalog import shape_of
from supernets.errors import InvalidDataset


def write(place, shade=None, *, size=(24, 24), mode="RGB", **options):
    """A picture of noise around a shade."""
    place.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(sum(map(ord, str(place.name))) + (shade or 0))
    shape = (*size[::-1], 3) if mode == "RGB" else size[::-1]
    pixels = np.clip(generator.normal(shade or 128, 30, size=shape), 0, 255)
    Image.fromarray(pixels.astype(np.uint8)).save(place, **options)


def write_class(folder, count=12, ending="png", **options):
    for number in range(count):
        write(folder / f"{number:03}.{ending}", **options)


@pytest.fixture
def two(tmp_path):
    """A good folder: classes left and top of 12 pictures each."""
    write_class(tmp_path / "left", shade=80)
    write_class(tmp_path / "top", shade=170)
    return tmp_path


def load(path, **wanted):
    return load_dataset("mine", None, {"mine": str(path)}, **wanted)


def said(index):
    return {one.reason: one.count for one in index.skipped}


def test_hidden_folders_are_no_classes(two):
    write_class(two / ".ipynb_checkpoints")
    write_class(two / "__MACOSX")
    assert load(two).class_names == ("left", "top")
    assert said(index_folder("mine", two)) == {HIDDEN: 24}


@pytest.mark.parametrize("name", ["._000.png", ".DS_Store", "Thumbs.db", "desktop.ini", "@eaDir/000.png"])
def test_companions_of_other_systems_are_left_out_and_counted(two, name):
    (two / "left" / name).parent.mkdir(exist_ok=True)
    (two / "left" / name).write_bytes(b"not a picture")
    assert len(index_folder("mine", two).names) == 24
    assert said(index_folder("mine", two)) == {HIDDEN: 1}


@pytest.mark.parametrize("ending", ["tif", "TIFF", "gif", "ppm", "jpeg", "JPG", "webp", "bmp"])
def test_every_picture_that_pillow_reads_is_used(two, ending):
    write_class(two / "left", 5, ending=ending)
    assert len(index_folder("mine", two).names) == 29


def test_files_that_are_no_pictures_are_named_and_counted(two):
    for name in ("notes.txt", "more.txt", "left/labels.csv", "left/raw.CR3", "left/also.cr3"):
        (two / name).write_text("text")
    (two / "left" / "empty.png").touch()
    found = {one.reason: one for one in index_folder("mine", two).skipped}
    assert {reason: one.count for reason, one in found.items()} == {
        OUTSIDE: 2,
        "not a picture that can be read: ending .cr3": 2,
        "not a picture that can be read: ending .csv": 1,
        "empty file": 1,
    }
    assert set(found["not a picture that can be read: ending .cr3"].examples) == {
        "left/raw.CR3",
        "left/also.cr3",
    }


def test_a_class_without_pictures_is_refused_by_name(two):
    (two / "right").mkdir()
    with pytest.raises(InvalidDataset, match="'right' has no pictures"):
        load(two)
    (two / "right" / "a.cr3").write_text("raw")
    with pytest.raises(InvalidDataset, match=r"1 with ending \.cr3"):
        shape_of("mine", two)


def test_one_class_is_refused(tmp_path):
    write_class(tmp_path / "left")
    with pytest.raises(InvalidDataset, match="one class only, 'left'"):
        load(tmp_path)


def test_folders_inside_a_class_belong_to_it(two):
    write_class(two / "left" / "monday" / "early", 3, shade=80)
    index = index_folder("mine", two)
    assert index.classes == ("left", "top") and index.nested == 3 and len(index.names) == 27


def test_the_folder_that_an_archive_wraps_around_everything_is_looked_through(tmp_path):
    write_class(tmp_path / "data" / "left")
    write_class(tmp_path / "data" / "top")
    assert index_folder("mine", tmp_path).classes == ("left", "top")


def test_a_folder_linked_into_itself_is_walked_once(two):
    os.symlink(two / "left", two / "left" / "again")
    assert len(index_folder("mine", two).names) == 24


def split_folder(folder, validation="val", classes=("left", "top")):
    for part, count in (("train", 24), (validation, 6), ("test", 5)):
        for number, title in enumerate(classes):
            write_class(folder / part / title, count, shade=80 + 40 * number)
    return folder


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val"])
def test_the_users_own_validation_split_is_used(tmp_path, name):
    found = load(split_folder(tmp_path, name))
    assert [len(found.split(s)) for s in ("train", "validation", "test")] == [48, 12, 10]


def test_a_class_that_a_split_lost_or_alone_has_is_refused(tmp_path):
    split_folder(tmp_path)
    (tmp_path / "val" / "top").rename(tmp_path / "val" / "down")
    with pytest.raises(InvalidDataset, match="'top' has no folder in val"):
        load(tmp_path)
    write_class(tmp_path / "val" / "top", 3)
    with pytest.raises(InvalidDataset, match="'down' of val is not in train"):
        load(tmp_path)


@pytest.mark.parametrize("left_out", ["test", "train"])
def test_a_missing_split_is_named(tmp_path, left_out):
    split_folder(tmp_path)
    (tmp_path / left_out).rename(tmp_path.parent / f"away-{tmp_path.name}")
    with pytest.raises(InvalidDataset, match=f"no {left_out} folder"):
        load(tmp_path)


def test_grey_folders_have_one_channel_or_three_as_the_space_needs(tmp_path):
    for title, shade in (("left", 80), ("top", 170)):
        write_class(tmp_path / title, mode="L", shade=shade)
    assert shape_of("mine", tmp_path).channels == 1 and shape_of("mine", tmp_path).also == (3,)
    assert load(tmp_path).channels == 1
    three = load(tmp_path, channels=3).train.images
    assert three.shape[1] == 3 and np.array_equal(three[:, 0], three[:, 2])
    write(tmp_path / "left" / "colour.png")
    assert shape_of("mine", tmp_path).channels == 3 and load(tmp_path, channels=1).channels == 3


def test_16_bit_pictures_have_their_shades(tmp_path):
    for title, low in (("left", 5140), ("top", 30000)):
        (tmp_path / title).mkdir()
        for number in range(12):
            ramp = np.linspace(low, low + 26000, 24 * 24).reshape(24, 24) + number
            Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / title / f"{number}.png")
    found = load(tmp_path)
    assert 60 < found.mean[0] < 180 and found.deviation[0] > 30


def test_a_12_bit_camera_uses_the_whole_range(tmp_path):
    for title in ("left", "top"):
        (tmp_path / title).mkdir()
        for number in range(12):
            ramp = np.linspace(0, 3900, 24 * 24).reshape(24, 24)
            Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / title / f"{number}.png")
    assert folder_form.look(index_folder("mine", tmp_path)).depth.integers == (0, 4095)
    assert load(tmp_path).train.images.max() > 240


def test_a_set_of_one_shade_is_refused(tmp_path):
    for title in ("left", "top"):
        (tmp_path / title).mkdir()
        for number in range(12):
            Image.new("L", (24, 24), 255).save(tmp_path / title / f"{number}.png")
    with pytest.raises(InvalidDataset, match="every pixel of channel 1 of 1 is 255"):
        load(tmp_path)


def test_pictures_that_the_camera_turned_are_put_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    for title, half in (("bottom", slice(12, 24)), ("top", slice(0, 12))):
        (tmp_path / title).mkdir()
        for number in range(12):
            scene = np.full((24, 24, 3), 60 + number, np.uint8)
            scene[half] = 200
            picture = Image.fromarray(scene if number % 2 else scene[::-1, ::-1].copy())
            picture.save(tmp_path / title / f"{number}.png", **({} if number % 2 else {"exif": exif}))
    found = load(tmp_path, size=24).train
    upper, lower = found.images[:, 0, :12].mean(axis=(1, 2)), found.images[:, 0, 12:].mean(axis=(1, 2))
    assert np.array_equal(upper > lower, found.labels == 1)


def test_pictures_are_kept_at_the_size_that_the_space_needs(tmp_path):
    for title, period in (("weave4", 4), ("weave6", 6)):
        (tmp_path / title).mkdir()
        for number in range(6):
            weave = np.tile(np.where(np.arange(448) % period < period // 2, 60, 190), (448, 1)).astype(
                np.uint8
            )
            Image.fromarray(np.roll(weave, 2 * number, axis=1)).save(tmp_path / title / f"{number}.png")
    found = load(tmp_path, size=224)
    assert found.size == 224 and found.preprocessing(192).kept_size == (224, 224)
    assert min(image.std() for image in found.train.images) > 25


@pytest.fixture
def lazily(monkeypatch):
    monkeypatch.setattr(folder_form, "EAGER_BYTES", 0)


def test_a_large_set_is_converted_when_asked_for_and_only_once(two, tmp_path_factory, monkeypatch, lazily):
    kept = tmp_path_factory.mktemp("kept")
    wanted = load(two, size=20).test.images[:]
    opened = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda path, *rest: opened.append(path) or real(path, *rest))
    found = load_dataset("mine", kept, {"mine": str(two)}, size=20)
    before = len(opened)
    assert np.array_equal(found.test.images[:], wanted)
    assert len(opened) == before + len(found.test)
    again = load_dataset("mine", kept, {"mine": str(two)}, size=20)
    before = len(opened)
    assert np.array_equal(again.test.images[:], wanted) and len(opened) == before
    assert sorted(path.suffix for path in kept.iterdir()) == [".bytes", ".crc32"]


def test_a_damaged_or_changed_file_of_converted_pictures_is_never_used(two, tmp_path_factory, lazily):
    kept = tmp_path_factory.mktemp("kept")
    wanted = load_dataset("mine", kept, {"mine": str(two)}, size=20).test.images[:]
    (bytes_file,) = kept.glob("*.bytes")
    bytes_file.write_bytes(bytes(len(bytes_file.read_bytes())))
    assert np.array_equal(load_dataset("mine", kept, {"mine": str(two)}, size=20).test.images[:], wanted)
    for number in range(12):
        write(two / "left" / f"{number:03}.png", shade=20)
    fresh = load_dataset("mine", kept, {"mine": str(two)}, size=20)
    assert np.array_equal(fresh.train.images[:], load(two, size=20).train.images[:])
    assert len(list(kept.glob("*.bytes"))) == 1


def test_without_room_on_the_disk_pictures_are_converted_each_time(
    two, tmp_path_factory, monkeypatch, lazily
):
    kept = tmp_path_factory.mktemp("kept")
    monkeypatch.setattr("supernets.data.pictures._FREE_SHARE", 0.0)
    found = load_dataset("mine", kept, {"mine": str(two)}, size=20)
    assert len(found.test.images[:]) == len(found.test) and not list(kept.iterdir())


def test_lazy_and_eager_sets_agree_in_splits_and_labels(two, monkeypatch):
    eager = load(two, size=20)
    monkeypatch.setattr(folder_form, "EAGER_BYTES", 0)
    lazy = load(two, size=20)
    for name in ("train", "validation", "test"):
        assert np.array_equal(eager.split(name).labels, lazy.split(name).labels)
        assert np.array_equal(eager.split(name).images[::2], lazy.split(name).images[::2])
    assert np.array_equal(lazy.train.images[3], eager.train.images[3])
    assert np.array_equal(lazy.mean, eager.mean) and np.array_equal(lazy.deviation, eager.deviation)
