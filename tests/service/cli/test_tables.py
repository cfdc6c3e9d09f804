"""`bespoke tables`: versions, and what an import says."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import all_operators
from tests.service.cli.conftest import Bespoke
from tests.service.cli.test_commands import add_device, table_file


def test_versions_are_listed_used_and_deleted(bespoke: Bespoke, tmp_path: Path) -> None:
    add_device(bespoke, "versions")
    good = table_file(tmp_path)
    assert "version 1 is in use" in bespoke("tables", "import", "versions", good).out
    assert (
        "version 2 is in use"
        in bespoke("tables", "import", "versions", table_file(tmp_path, "b.csv", 1.2)).out
    )
    assert "version 1 is in use again" in bespoke("tables", "import", "versions", good).out
    assert "version 2 is in use" in bespoke("tables", "use", "versions", "2").out
    listed = json.loads(bespoke("tables", "list", "versions", "--json").out)
    assert [(t["version"], t["in_use"], t["created_by"]) for t in listed] == [
        (2, True, "owner"),
        (1, False, "owner"),
    ]
    shown = bespoke("tables", "list", "versions").out
    assert "in use" in shown and "owner" in shown and listed[0]["id"] in shown
    deleted = bespoke("tables", "delete", "versions", "2", "--yes")
    assert "version 2 is deleted; version 1 is in use" in deleted.out, deleted.err
    missing = bespoke("tables", "use", "versions", "7")
    assert missing.status == 1 and "there are: 1" in missing.err


def test_a_doubtful_table_is_accepted_by_name_with_a_reason(bespoke: Bespoke, tmp_path: Path) -> None:
    add_device(bespoke, "doubtful")
    file = table_file(tmp_path)
    lines = file.read_text().splitlines()
    lines[5] = lines[5].split(",")[0] + ",1e-9,,,"
    file.write_text("\n".join(lines) + "\n")
    imported = bespoke("tables", "import", "doubtful", file)
    assert "needs review" in imported.out and "bespoke tables accept doubtful 1" in imported.out
    refused = bespoke("tables", "use", "doubtful", "1")
    assert refused.status == 1 and "accept" in refused.err
    accepted = bespoke("tables", "accept", "doubtful", "1", "--note", "measured twice")
    assert "accepted by owner and in use" in accepted.out, accepted.err
    assert "measured twice" in bespoke("tables", "list", "doubtful").out
    assert "accepted by owner" in bespoke("devices", "show", "doubtful").out


def test_an_import_that_loses_coverage_says_so_and_add_keeps_both(bespoke: Bespoke, tmp_path: Path) -> None:
    add_device(bespoke, "narrow")
    file = table_file(tmp_path)
    rows = file.read_text().splitlines()
    sizes = {"8": tmp_path / "8.csv", "rest": tmp_path / "rest.csv"}
    bespoke("tables", "import", "narrow", file)
    no_seven = [row for row in rows if "/kernel=7/" not in row]
    sizes["8"].write_text("\n".join(no_seven) + "\n")
    lost = bespoke("tables", "import", "narrow", sizes["8"])
    assert lost.status == 0 and "does not cover digits-mbv3" in lost.err and "--add" in lost.err
    assert "covers no space" in lost.err and "lacks 15 of 48" in lost.err
    sizes["rest"].write_text("\n".join([rows[0], *(row for row in rows if "/kernel=7/" in row)]) + "\n")
    added = bespoke("tables", "import", "narrow", sizes["rest"], "--add")
    assert "every resolution" in added.out, added.err


def once_for_all_folder(folder: Path, sizes: tuple[int, ...] = (160, 176, 192)) -> Path:
    """A folder of tables as once-for-all writes them: one file for each resolution, the later sizes share the
    last stage."""
    folder.mkdir()
    for size in sizes:
        rows: dict[str, float] = {}
        for op in all_operators(SPACES["ofa-mbv3-w1.2"], size):
            h, c, o, out = op.in_height, op.in_channels, op.out_channels, op.out_height
            ms = 0.05 + op.macs / 4e6
            if op.family == "mbconv":
                tail = f"expand:{op.mid_channels}-kernel:{op.kernel}-stride:{op.stride}-idskip:{int(op.residual)}"
                flags = f"se:{int(op.squeeze_excite)}-hs:{int(op.activation == 'hswish')}"
                rows[f"expanded_conv-input:{h}x{h}x{c}-output:{out}x{out}x{o}-{tail}-{flags}"] = ms
            elif op.family == "conv":
                name = "Conv" if op.kernel == 3 else "Conv_1"
                rows[f"{name}-input:{h}x{h}x{c}-output:{out}x{out}x{o}"] = ms
            else:
                rows[f"AvgPool2D-input:{h}x{h}x{c}-output:1x1x{c}"] = 0.01
                rows[f"Conv_2-input:1x1x{c}-output:1x1x{op.mid_channels}"] = 0.3
                rows[f"Logits-input:1x1x{op.mid_channels}-output:{o}"] = 0.2
        text = json.dumps({key: {"count": 499, "mean": ms, "std": 0.01} for key, ms in rows.items()})
        (folder / f"{size}_lookup_table.json").write_text(text)
    (folder / "README").write_text("measured in May")
    return folder


def test_a_folder_of_once_for_all_tables_is_one_table(bespoke: Bespoke, tmp_path: Path) -> None:
    add_device(bespoke, "jetson")
    folder = once_for_all_folder(tmp_path / "latency_table@jetson")
    done = bespoke("tables", "convert", folder, "--device", "jetson", "-o", tmp_path / "jetson.csv")
    assert done.status == 0, done.err
    assert "are in several files; the median" in done.err and "means only" in done.err
    imported = bespoke("tables", "import", "jetson", tmp_path / "jetson.csv")
    assert "ofa-mbv3-w1.2 with 1000 classes: 3 of 25 resolutions (160, 176, 192)" in imported.out, (
        imported.out + imported.err
    )


def test_tables_of_other_projects_are_recognised_on_import_file_by_file_or_all_at_once(
    bespoke: Bespoke, tmp_path: Path
) -> None:
    add_device(bespoke, "xavier")
    files = sorted(once_for_all_folder(tmp_path / "tables", (160, 224)).glob("*.json"))
    for file in files:
        assert bespoke("tables", "import", "xavier", file, "--add").status == 0
    assert json.loads(bespoke("devices", "show", "xavier", "--json").out)["coverage"][0]["resolutions"] == [
        160,
        224,
    ]
    lost = bespoke("tables", "import", "xavier", files[1])
    assert "does not cover ofa-mbv3-w1.2 with 1000 classes at 160 px" in lost.err and "--add" in lost.err
    both = bespoke("tables", "import", "xavier", *files)
    assert "2 of 25 resolutions (160, 224)" in both.out, both.err


def test_a_packed_table_is_imported(bespoke: Bespoke, tmp_path: Path) -> None:
    add_device(bespoke, "packed")
    packed = tmp_path / "table.csv.gz"
    packed.write_bytes(gzip.compress(table_file(tmp_path).read_bytes()))
    done = bespoke("tables", "import", "packed", packed)
    assert done.status == 0 and "version 1 is in use" in done.out, done.err
    packed.write_bytes(packed.read_bytes()[:-9])
    damaged = bespoke("tables", "import", "packed", packed)
    assert damaged.status == 1 and "gzip" in damaged.err


def test_a_unit_is_given_on_the_command_line(bespoke: Bespoke, tmp_path: Path) -> None:
    add_device(bespoke, "micro")
    file = table_file(tmp_path, factor=1e3)
    wrong = bespoke("tables", "import", "micro", file)
    assert "needs review" in wrong.out and "--unit us" in wrong.err, "the factor and the remedy are named"
    right = bespoke("tables", "import", "micro", file, "--unit", "us")
    assert "version 2 is in use" in right.out, right.err
    assert bespoke("tables", "import", "micro", file, "--unit", "hours").status == 2
    ofa = once_for_all_folder(tmp_path / "us", (160,))
    assert bespoke("tables", "import", "micro", ofa, "--unit", "us", "--add").status == 0
    assert (
        bespoke(
            "tables", "convert", file, "--device", "micro", "--unit", "us", "-o", tmp_path / "ms.csv"
        ).status
        == 0
    )
    assert (tmp_path / "ms.csv").read_text() != file.read_text()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("PK\x03\x04 an archive", "no form of a table that is recognised"),
        ("", "no form of a table that is recognised"),
        ("a,b\n1,2\n", "`operator` and `median_ms`"),
        ("operator;median\nx;1\n", "separated by a semicolon"),
    ],
)
def test_a_file_that_is_no_table_says_what_it_is(
    bespoke: Bespoke, tmp_path: Path, content: str, says: str
) -> None:
    add_device(bespoke, f"bad-{abs(hash(content))}")
    (tmp_path / "x.csv").write_text(content)
    for command in (
        ("import", f"bad-{abs(hash(content))}"),
        ("convert", "-o", tmp_path / "o.csv", "--device", "micro"),
    ):
        done = bespoke("tables", command[0], *command[1:], tmp_path / "x.csv")
        assert done.status == 1 and says in " ".join(done.err.split()), done.err


def test_a_folder_without_tables_says_which_endings_are_read(bespoke: Bespoke, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = bespoke("tables", "import", "nobody", tmp_path / "empty")
    assert done.status == 1 and ".json, .csv" in done.err


def test_measured_networks_that_do_not_fit_end_with_status_1_and_are_kept(
    bespoke: Bespoke, tmp_path: Path
) -> None:
    add_device(bespoke, "pipelined")
    bespoke("tables", "import", "pipelined", table_file(tmp_path))
    generator = np.random.default_rng(0)
    space = SPACES["digits-mbv3"]
    samples = [
        {
            "space": space.name,
            "architecture": space.to_json(a),
            "latency_ms": float(generator.uniform(0.2, 3.0)),
        }
        for a in space.sample(generator, 20)
    ]
    (tmp_path / "measured.json").write_text(json.dumps(samples))
    done = bespoke("devices", "probe", "pipelined", tmp_path / "measured.json")
    assert done.status == 1 and "held out" in done.err and "kept" in done.err
    assert "refused" in bespoke("devices", "show", "pipelined").out
    session = done.out.split("--forget ")[1].split("`")[0]
    assert bespoke("devices", "probe", "pipelined", "--forget", session).status == 0
    assert "refused" not in bespoke("devices", "show", "pipelined").out
    assert bespoke("devices", "probe", "pipelined", "--forget", session).status == 1
