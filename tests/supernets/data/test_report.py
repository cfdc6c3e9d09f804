"""The report of a data set before it is trained on: what is in it, what is left out, what is odd, what is
refused."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from service.cli.app import run
from supernets.data.report import check_dataset


def write_class(folder, count, shade=128, seed=0, ending="png"):
    generator = np.random.default_rng([seed, shade])
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.clip(generator.normal(shade, 30, size=(24, 20, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.{ending}")


@pytest.fixture
def folder(tmp_path):
    for title, shade in (("left", 80), ("top", 170)):
        write_class(tmp_path / "parts" / title, 30, shade)
    return tmp_path / "parts"


def test_a_good_folder_has_no_warnings(folder):
    report = check_dataset("parts", folder)
    assert report.to_json() == {
        "name": "parts",
        "form": "picture folders",
        "classes": ["left", "top"],
        "splits": {"train": 48, "validation": 6, "test": 6},
        "per_class": {
            split: {"left": n, "top": n} for split, n in (("train", 24), ("validation", 3), ("test", 3))
        },
        "sizes": {"width": [20, 20, 20], "height": [24, 24, 24]},
        "modes": {"RGB": 60},
        "duplicates": 0,
        "skipped": (),
        "warnings": [],
        "refused": None,
        "across_splits": 0,
        "groups": 0,
    }


def test_splits_are_those_of_the_training(folder):
    from supernets.data.catalog import load_dataset

    shutil.copytree(folder, folder.parent / "two" / "train")
    for title in ("left", "top"):
        write_class(folder.parent / "two" / "test" / title, 5, seed=2)
    for place in (folder, folder.parent / "two"):
        data, report = load_dataset("parts", None, {"parts": str(place)}), check_dataset("parts", place)
        for split, said in report.per_class.items():
            assert list(said.values()) == np.bincount(data.split(split).labels).tolist()


def test_a_rare_class_is_warned_of(folder):
    write_class(folder / "right", 12, 40)
    (said,) = check_dataset("parts", folder).warnings
    assert said.startswith("class 'right' has 12 sample(s), 1 of them to test")


def test_what_is_left_out_is_counted_by_reason(folder):
    (folder / "left" / ".DS_Store").write_text("x")
    for number in range(5):
        (folder / "left" / f"{number}.cr3").write_text("raw")
    report = json.loads(json.dumps(check_dataset("parts", folder).to_json()))
    assert report["skipped"][0]["count"] == 5 and report["skipped"][0]["reason"].endswith("ending .cr3")
    assert len(report["skipped"][0]["examples"]) == 3
    assert sum("left out" in said for said in report["warnings"]) == 2


def test_copies_in_several_splits_are_found(folder):
    shutil.copy(folder / "left" / "000.png", folder / "left" / "copy.png")
    report = check_dataset("parts", folder)
    assert report.duplicates == 1 and "may lie in train and test" in report.warnings[0]
    two = folder.parent / "two"
    for part in ("train", "test"):
        shutil.copytree(folder, two / part)
    assert check_dataset("two", two).duplicates == 60


def test_copies_between_arrays_are_found(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, size=(60, 8, 8)).astype(np.uint8)
    labels = np.arange(60) % 2
    np.savez(
        tmp_path / "a.npz",
        train_images=images,
        train_labels=labels,
        test_images=images[:9],
        test_labels=labels[:9],
    )
    report = check_dataset("a", tmp_path / "a.npz")
    assert report.duplicates == 9 and report.splits["test"] == 9 and report.sizes["width"] == [8, 8, 8]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("torn", "left/003.png cannot be read"),
        ("tiny", "40 x 2"),
        ("empty class", "'right' has no pictures"),
        ("few", "split lacks 1 class(es): right; add samples"),
        ("flat", "every pixel"),
        ("nothing", "nothing known"),
    ],
)
def test_a_set_that_cannot_be_trained_on_is_refused_with_the_reason(folder, harm, said):
    if harm == "torn":
        place = folder / "left" / "003.png"
        place.write_bytes(place.read_bytes()[:-200])
    elif harm == "tiny":
        Image.new("RGB", (40, 2)).save(folder / "left" / "003.png")
    elif harm == "empty class":
        (folder / "right").mkdir()
    elif harm == "few":
        write_class(folder / "right", 2)
    elif harm == "flat":
        for place in folder.rglob("*.png"):
            Image.new("RGB", (24, 24), (255, 255, 255)).save(place)
    else:
        shutil.rmtree(folder)
    report = check_dataset("parts", folder)
    assert said in report.refused and str(folder.parent) not in report.refused


def test_the_command_says_it_in_words_and_as_json(folder, capsys):
    write_class(folder / "right", 12, 40)
    assert run(["datasets", "check", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "3 classes" in shown and "'right' has 12" in shown
    assert run(["datasets", "check", str(folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (
        said["classes"] == ["left", "right", "top"]
        and said["splits"]["train"] == 58
        and said["refused"] is None
    )


def test_the_command_ends_with_an_error_for_a_set_that_is_refused(folder, capsys):
    (folder / "right").mkdir()
    assert run(["datasets", "check", str(folder)]) == 1
    assert "'right' has no pictures" in capsys.readouterr().err
    assert run(["datasets", "check", str(folder), "--json"]) == 1
    assert "'right'" in json.loads(capsys.readouterr().out)["refused"]
    assert run(["datasets", "check", str(folder / "absent")]) == 1
    assert "nothing known" in capsys.readouterr().err
