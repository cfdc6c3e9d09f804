"""Photos of one origin never sit in two splits, whether a table or folders say what belongs together."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from supernets.data.catalog import facts_for, load_dataset
from supernets.data.groups import parts_by_group
from supernets.data.index import index_folder
from supernets.data.loaders.folder import pool_parts, train_parts
from supernets.data.report import check_dataset
from supernets.data.splits import SPLITS
from supernets.errors import InvalidDataset

CLASSES = ("cat", "dog")


def picture(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((8, 8), shade, dtype=np.uint8)
    pixels[0] = (np.arange(8) * (shade + 3)) % 251
    Image.fromarray(pixels).save(path)


def pictures(root, groups=6, each=5, folders=False, split=""):
    """Both classes photographed by several cameras, in folders of theirs or side by side."""
    lines = ["file,group"]
    for group in range(groups):
        for number in range(each):
            for label, title in enumerate(CLASSES):
                inside = f"group-{group}/" if folders else ""
                name = f"{split}{title}/{inside}{group}-{number}.png"
                picture(root / name, 10 * group + 2 * number + label)
                lines.append(f"{name},camera {group}")
    return lines


def groups_by_split(root):
    index = index_folder("d", root)
    parts = pool_parts("d", index)
    names = np.array(index.splits["pool"].names)
    return [{name.split("/")[-1].split("-")[0] for name in names[rows]} for rows in parts], parts


@pytest.mark.parametrize("folders", [False, True], ids=["groups.csv", "folders"])
def test_no_group_is_in_two_splits(tmp_path, folders):
    lines = pictures(tmp_path, folders=folders)
    if not folders:
        (tmp_path / "groups.csv").write_text("\n".join(lines))
    found, parts = groups_by_split(tmp_path)
    assert all(found) and sum(map(len, found)) == len(set.union(*found)) == 6
    assert sum(map(len, parts)) == 60 and len(parts[0]) > len(parts[1])
    report = check_dataset("d", tmp_path)
    assert (
        report.refused is None
        and report.groups == 6
        and not any("groups.csv" in s.examples for s in report.skipped)
    )
    assert report.splits == dict(zip(SPLITS, map(len, parts), strict=True))
    data = load_dataset("d", None, {"d": str(tmp_path)}, size=8)
    assert [len(data.split(s)) for s in SPLITS] == [len(rows) for rows in parts]


def test_without_groups_the_splits_are_those_of_before(tmp_path):
    pictures(tmp_path)
    found, _ = groups_by_split(tmp_path)
    assert len(set.union(*found)) < sum(map(len, found)), "which is why groups matter"
    assert check_dataset("d", tmp_path).groups == 0


def test_validation_is_cut_from_train_by_groups_too(tmp_path):
    lines = pictures(tmp_path, groups=4, split="train/")
    for title in CLASSES:
        picture(tmp_path / f"test/{title}/9-0.png", 99)
        lines.append(f"test/{title}/9-0.png,camera 9")
    (tmp_path / "groups.csv").write_text("\n".join(lines))
    index = index_folder("d", tmp_path)
    names = index.splits["train"].names
    kept, held = ({names[row].split("/")[-1][0] for row in rows} for rows in train_parts("d", index))
    assert kept and held and not kept & held
    lines[-1] = lines[-1].replace("camera 9", "camera 0")
    (tmp_path / "groups.csv").write_text("\n".join(lines))
    with pytest.raises(InvalidDataset, match="group 'camera 0' has pictures in train and in test"):
        index_folder("d", tmp_path)


def test_the_table_is_part_of_what_the_data_set_is(tmp_path):
    lines = pictures(tmp_path)
    before = facts_for("d", None, {"d": str(tmp_path)}).fingerprint
    (tmp_path / "groups.csv").write_text("\n".join(lines))
    assert facts_for("d", None, {"d": str(tmp_path)}).fingerprint != before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("picture,camera\n", "begins with the line `file,group`"),
        ("", "begins with the line `file,group`"),
        ("file,group\ncat/0-0.png,\n", "line 2 lacks a file or a group"),
        ("file,group\ncat/0-0.png\n", "line 2 lacks a file or a group"),
        ("file,group\ncat/0-0.png,a\ncat/0-0.png,b\n", "line 3: the file is in another group too"),
        ("file,group\ncat/0-0.png,a\n", r"leaves 59 picture\(s\) out: 'cat/0-1.png'"),
    ],
    ids=["other columns", "empty", "no group", "short line", "two groups", "left out"],
)
def test_a_table_that_is_none_is_refused_with_the_line(tmp_path, text, said):
    pictures(tmp_path)
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(InvalidDataset, match=said):
        index_folder("d", tmp_path)
    assert "groups.csv" in str(check_dataset("d", tmp_path).refused)


def test_a_table_in_another_encoding_is_refused(tmp_path):
    pictures(tmp_path)
    (tmp_path / "groups.csv").write_bytes("file,group\ncat/0-0.png,Köln\n".encode("latin-1"))
    with pytest.raises(InvalidDataset, match="no CSV in UTF-8"):
        index_folder("d", tmp_path)


def test_two_origins_make_no_three_splits(tmp_path):
    pictures(tmp_path, groups=2, folders=True)
    with pytest.raises(
        InvalidDataset, match=r"class 'cat' has pictures of 2 group\(s\), and 3 splits need one each"
    ):
        load_dataset("d", None, {"d": str(tmp_path)}, size=8)
    assert "2 group(s)" in str(check_dataset("d", tmp_path).refused)


def test_pictures_in_no_group_are_groups_of_their_own(tmp_path):
    pictures(tmp_path, groups=1, each=4, folders=True)
    pictures(tmp_path, groups=3, each=6)
    index = index_folder("d", tmp_path)
    assert len(set(index.groups["pool"])) == 1 + 36


def test_copies_that_will_lie_in_several_splits_are_counted(tmp_path):
    pictures(tmp_path)
    copied = (tmp_path / "cat" / "0-0.png").read_bytes()
    for number in range(12):
        (tmp_path / "cat" / f"copy{number}.png").write_bytes(copied)
    report = check_dataset("d", tmp_path)
    assert report.duplicates == 1 == report.across_splits
    assert any("lie in several splits as these are made here" in text for text in report.warnings)
    assert json.loads(json.dumps(report.to_json()))["across_splits"] == 1


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_parts_share_no_group_and_have_every_class(data):
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    groups = data.draw(st.integers(8, 30))
    labels = np.concatenate([np.arange(2).repeat(groups), generator.integers(0, 2, 50)])
    owners = np.concatenate([np.tile(np.arange(groups), 2), generator.integers(0, groups, 50)])
    names = tuple(f"g{one}" for one in owners)
    size = max(2, len(labels) // 10)
    parts = parts_by_group("d", CLASSES, labels, names, (size, size), 0)
    found = [{names[row] for row in rows} for rows in parts]
    assert sum(map(len, found)) == len(set.union(*found)) and sum(map(len, parts)) == len(labels)
    assert all(set(labels[rows].tolist()) == {0, 1} for rows in parts)
    assert all(len(rows) <= 2 * size + 6 for rows in parts[:2])
