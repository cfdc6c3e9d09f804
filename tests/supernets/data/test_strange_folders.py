"""More of what people bring, kind by kind: nothing is taken for something else without a word."""

import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from supernets.data.catalog import load_dataset
from supernets.data.index import BACK, HIDDEN, index_folder
from supernets.data.report import check_dataset
from supernets.errors import InvalidDataset
from tests.supernets.data.test_folders import write, write_class


@pytest.fixture
def two(tmp_path):
    """A good folder: classes left and top of 12 pictures each."""
    write_class(tmp_path / "left", shade=80)
    write_class(tmp_path / "top", shade=170)
    return tmp_path


def splits_in(folder, *names, classes=("left", "top"), count=4):
    for part in names:
        for number, title in enumerate(classes):
            write_class(folder / part / title, count, shade=80 + 40 * number)
    return folder


def refused(folder):
    """Why a folder is refused: by the check, and by the training for the same reason."""
    with pytest.raises(InvalidDataset) as caught:
        load_dataset("mine", None, {"mine": str(folder)})
    said = check_dataset("mine", folder).refused
    reason = str(caught.value).partition("; repair")[0]
    assert reason in said and str(folder.parent) not in said
    return said


# --- names of splits


@pytest.mark.parametrize(
    "names", ["training_set test_set", "Train-Images Test-Images", "trainset testset", "TRAIN TEST"]
)
def test_splits_are_known_by_every_name_that_says_so(tmp_path, names):
    index = index_folder("mine", splits_in(tmp_path, *names.split()))
    assert index.classes == ("left", "top") and sorted(index.splits) == ["test", "train"]


def test_a_class_may_be_called_train_or_test(tmp_path):
    for title in ("bus", "train", "test"):
        write_class(tmp_path / title, 3)
    write_class(tmp_path / "train", 3)
    with pytest.raises(InvalidDataset, match="no folders of classes"):
        index_folder("mine", tmp_path)  # train and test, both with pictures: nobody can say
    for picture in (tmp_path / "test").iterdir():
        picture.unlink()
    (tmp_path / "test").rmdir()
    assert index_folder("mine", tmp_path).classes == ("bus", "train")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(
            lambda p: splits_in(p, "train", "val", "valid", "test"),
            "'val', 'valid' are all",
            id="two validations",
        ),
        pytest.param(
            lambda p: splits_in(p, "train", "eval", "test"), "eval beside the splits holds classes", id="eval"
        ),
        pytest.param(
            lambda p: splits_in(p, "train", "valid", "eval"), "if it is the test, call it test", id="no test"
        ),
        pytest.param(
            lambda p: splits_in(p, "left", "top", classes=("train", "test")), "train/left", id="inside out"
        ),
        pytest.param(
            lambda p: write_class(splits_in(p, "train") / "test", 3), "test has no folders", id="no labels"
        ),
    ],
)
def test_half_a_set_of_splits_is_refused_with_the_way_out(tmp_path, make, said):
    make(tmp_path)
    assert said in refused(tmp_path)


def test_a_folder_beside_the_splits_is_counted_with_its_files(tmp_path):
    write_class(splits_in(tmp_path, "train", "test") / "unlabelled", 7)
    assert [(one.count, one.examples) for one in index_folder("mine", tmp_path).skipped] == [
        (7, ("unlabelled",))
    ]


# --- names of classes


def test_umlauts_of_macos_and_of_others_are_one_class(tmp_path):
    for part, form in (("train", "NFD"), ("test", "NFC")):
        for title in ("größe", "x"):
            write_class(tmp_path / part / unicodedata.normalize(form, title), 12)
    assert load_dataset("mine", None, {"mine": str(tmp_path)}).class_names == ("größe", "x")
    write_class(tmp_path / "train" / "größe", 4)
    assert "two folders are called 'größe'" in refused(tmp_path)


def test_names_with_blanks_umlauts_emoji_and_signs_are_classes(tmp_path):
    titles = (" lead", "größe 1", "o'brien & co", "trail ", "😀 cat", "👩‍🚀", "猫")
    for title in titles:
        write_class(tmp_path / title, 3)
    assert index_folder("mine", tmp_path).classes == tuple(sorted(titles))


@pytest.mark.parametrize("name", ["new\nline", "red\x1b[31m", "turned\u202ename", os.fsdecode(b"gr\xf6sse")])
def test_a_class_name_that_cannot_be_shown_is_refused(two, name):
    write_class(two / name, 3)
    said = refused(two)
    assert "rename it" in said and said.encode().isascii()


def test_names_that_differ_in_case_are_warned_of_or_named(two):
    write_class(two / "Left", 12)
    assert "classes 'Left', 'left' differ so little" in " ".join(check_dataset("mine", two).warnings)


def test_a_split_whose_classes_are_written_otherwise_is_refused_by_both_names(tmp_path):
    splits_in(tmp_path, "train")
    splits_in(tmp_path, "test", classes=("Left", "top"))
    assert "'left' has no folder in test ('Left' is there" in refused(tmp_path)


# --- links


def test_links_upwards_and_in_circles_add_nothing(two):
    os.symlink(two, two / "left" / "set")
    os.symlink(two.parent, two / "left" / "above")
    os.symlink(two / "left", two / "left" / "again")
    os.symlink(two, two / "set")
    index = index_folder("mine", two)
    assert index.classes == ("left", "top") and len(index.names) == 24 and index.nested == 0
    assert {one.reason for one in index.skipped} == {BACK}


def test_a_folder_that_two_classes_or_splits_share_is_refused(two, tmp_path_factory):
    os.symlink(two / "left", two / "right")
    assert "left and right are one folder" in refused(two)
    home = splits_in(tmp_path_factory.mktemp("shared"), "train")
    os.symlink(home / "train", home / "test")
    assert "one folder" in refused(home)


# --- files


@pytest.mark.parametrize(
    "name",
    [
        "~$000.png",
        "../#recycle/000.png",
        "../#snapshot/left/0.png",
        ".Trash-1000/0.png",
        ".AppleDouble/0.png",
    ],
)
def test_more_companions_are_left_out_and_counted(two, name):
    place = two / "left" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"no picture")
    assert {one.reason: one.count for one in index_folder("mine", two).skipped} == {HIDDEN: 1}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"\0\0\0\x18ftypheic" + bytes(99), "a HEIC picture", id="heic"),
        pytest.param(b"<!DOCTYPE html><html>404</html>", "a web page", id="html"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1\noid x", "git lfs pull", id="lfs"),
        pytest.param(b"PK\x03\x04" + bytes(99), "a zip archive", id="zip"),
        pytest.param(b"hello", "cannot identify", id="text"),
    ],
)
def test_what_goes_under_the_name_of_a_picture_is_said(two, data, said):
    (two / "left" / "000.jpg").write_bytes(data)
    assert said in refused(two) and "left/000.jpg" in refused(two)


def test_a_large_picture_is_taken_and_nobody_is_warned_of_bombs(two, recwarn):
    Image.new("1", (10_000, 10_000)).save(two / "left" / "scan.tif", compression="group4")
    assert check_dataset("mine", two).refused is None and not recwarn.list


def test_frames_and_depths_that_are_not_read_are_said(two):
    frames = [Image.new("RGB", (20, 20), (30 * n, 9, 9)) for n in range(3)]
    frames[0].save(two / "left" / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(two / "top" / "pages.tif", save_all=True, append_images=frames[1:])
    for number in range(3):
        deep = np.random.default_rng(number).integers(0, 4096, size=(20, 20)).astype(np.uint16)
        Image.fromarray(deep).save(two / "left" / f"deep{number}.png")
    said = check_dataset("mine", two).warnings
    assert "2 picture(s) have several frames or pages: the first one is taken" in said
    assert any(one.startswith("3 picture(s) of more than 8 bits and 26 of 8 bits") for one in said)


def test_modes_are_grey_or_colour_by_what_they_hold(two):
    Image.fromarray(np.full((20, 20, 3), 90, np.uint8)).convert("YCbCr").save(two / "left" / "a.tif")
    Image.frombytes("LAB", (20, 20), bytes(1200)).save(two / "left" / "b.tif")
    assert "grey" not in " ".join(check_dataset("mine", two).warnings)
    write(two / "left" / "grey.png", mode="L")
    assert "1 grey and 26 colour pictures" in " ".join(check_dataset("mine", two).warnings)


def test_one_picture_in_two_classes_is_named(two):
    write(two / "left" / "same.png", shade=9)
    (two / "top" / "same.png").write_bytes((two / "left" / "same.png").read_bytes())
    said = " ".join(check_dataset("mine", two).warnings)
    assert "1 picture(s) have several classes" in said and "left/same.png = top/same.png" in said


# --- what is no folder of pictures


def table(p):
    p.joinpath("labels.csv").write_text("\ufefffile;label\n0.png;a\n")
    write_class(p / "images", 3)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(table, "Labels in a table ('labels.csv') are not read", id="table beside"),
        pytest.param(lambda p: write_class(p, 3), "into a folder that is named like its class", id="flat"),
        pytest.param(lambda p: (p / "data.zip").write_bytes(b"PK"), "unpack the archive", id="archive"),
        pytest.param(lambda p: (p / "x_train.npy").write_bytes(b""), "numpy.savez", id="npy"),
        pytest.param(lambda p: np.savez(p / "d.npz", a=1), "name the .npz file itself", id="npz inside"),
        pytest.param(
            lambda p: (p / "data_batch_1").write_bytes(b""), "fetch the binary version", id="pickled CIFAR"
        ),
        pytest.param(
            lambda p: [(p / c).mkdir() or (p / c / "1.dcm").write_bytes(b"") for c in "ab"],
            "2 with ending .dcm",
            id="dicom",
        ),
        pytest.param(lambda p: (p / ".git").mkdir(), "an empty folder", id="empty"),
    ],
)
def test_what_is_there_instead_is_named_with_what_to_do(tmp_path, make, said):
    make(tmp_path)
    assert said in refused(tmp_path)


@pytest.mark.parametrize("name", ["data.zip", "data.tar.gz", "x.npy", "table.parquet"])
def test_a_file_that_is_no_data_set_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK")
    said = refused(tmp_path / name)
    assert ("unpack it" in said) == name.startswith("data") and ".npz" in said
