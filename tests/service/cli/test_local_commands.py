"""Commands that work on the service's own machine or on files: import, scores, convert."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from supernets.network import Supernet
from supernets.published_weights import published_keys
from supernets.spaces.catalog import SPACES
from tests.service.cli.conftest import Bespoke, Server
from tests.service.cli.test_commands import table_file

SPACE = SPACES["digits-mbv3"]


def checkpoint(folder: Path) -> Path:
    """A supernet's weights under the keys in which once-for-all published its own."""
    torch.manual_seed(0)
    network = Supernet(SPACE)
    state = network.state_dict()
    published = {theirs: state[ours] for ours, theirs in published_keys(network)}
    torch.save({"state_dict": published}, folder / "net.pth")
    return folder / "net.pth"


def scores(folder: Path, networks: int = 60) -> Path:
    """Measured accuracies in the published form; better with depth and resolution."""
    genes = SPACE.chain.sample(np.random.default_rng(0), networks)
    with (folder / "scores.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("depth", "kernel", "expand", "resolution", "top1_percent"))
        for row in genes:
            architecture = SPACE.architecture(row)
            elastic = [s for s, stage in zip(architecture.stages, SPACE.stages, strict=True) if stage.elastic]
            depth = [len(s.blocks) for s in elastic]
            kernel, expand = [], []
            for stage in elastic:
                padded = [*stage.blocks, *[stage.blocks[0]] * (3 - len(stage.blocks))]
                kernel += [b["kernel"] for b in padded]
                expand += [b["expand"] for b in padded]
            top1 = 60 + 3 * sum(depth) + architecture.resolution / 2
            rows.writerow(
                [" ".join(map(str, v)) for v in (depth, kernel, expand)] + [architecture.resolution, top1]
            )
    return folder / "scores.csv"


def test_a_published_checkpoint_with_scores_is_ready_for_fronts(bespoke: Bespoke, tmp_path: Path) -> None:
    file = checkpoint(tmp_path)
    done = bespoke("supernets", "import", file, "--space", SPACE.name, "--dataset", "digits")
    assert done.status == 0, done.err
    supernet = done.out.split(":")[0]
    assert f"--supernet {supernet}" in done.out
    assert json.loads(bespoke("supernets", "show", supernet, "--json").out)["state"] != "ready"

    scored = bespoke("supernets", "scores", scores(tmp_path), "--supernet", supernet)
    assert scored.status == 0, scored.err
    assert "fitted to 60 networks" in scored.out
    shown = json.loads(bespoke("supernets", "show", supernet, "--json").out)
    assert shown["state"] == "ready" and shown["recipe"] == "imported"
    assert shown["largest"]["accuracy"] > shown["smallest"]["accuracy"]

    assert bespoke("devices", "add", "fronts", "--runtime-version", "1.31").status == 0
    given = table_file(tmp_path)
    assert bespoke("tables", "import", "fronts", given).status == 0
    picture = tmp_path / "front.png"
    front = bespoke("front", "--device", "fronts", "--supernet", supernet, "-o", picture)
    assert front.status == 0, front.err
    assert "proven optimal" in front.out
    assert picture.read_bytes().startswith(b"\x89PNG")
    device = tmp_path / "device.png"
    assert bespoke("devices", "plot", "fronts", "-o", device, "--other", "fronts").status == 0
    assert device.read_bytes().startswith(b"\x89PNG")


def test_the_same_checkpoint_twice_is_one_supernet(bespoke: Bespoke, tmp_path: Path) -> None:
    file = checkpoint(tmp_path)
    ids = {
        bespoke("supernets", "import", file, "--space", SPACE.name, "--dataset", "twice").out.split(":")[0]
        for _ in "ab"
    }
    assert len(ids) == 1


def test_weights_with_a_prefix_and_an_average_are_imported_and_what_was_read_is_said(
    bespoke: Bespoke, tmp_path: Path
) -> None:
    state = torch.load(checkpoint(tmp_path), weights_only=True)["state_dict"]
    wrapped = {f"module.{key}": value for key, value in state.items()}
    torch.save(
        {"state_dict": wrapped, "state_dict_ema": {k: v.clone() for k, v in wrapped.items()}},
        tmp_path / "own.pth",
    )
    done = bespoke(
        "supernets",
        "import",
        tmp_path / "own.pth",
        "--space",
        SPACE.name,
        "--dataset",
        "mine",
        "--weights",
        "ema",
    )
    assert done.status == 0, done.err
    assert "read state_dict_ema; module. taken off every name; not read: state_dict" in done.out
    assert "mine is not registered here" in done.out


def test_a_head_that_is_not_for_the_data_set_is_refused_at_import(bespoke: Bespoke, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Supernet(SPACE.with_classes(7))
    state = network.state_dict()
    torch.save({theirs: state[ours] for ours, theirs in published_keys(network)}, tmp_path / "seven.pth")
    wanted = ("supernets", "import", tmp_path / "seven.pth", "--space", SPACE.name)
    done = bespoke(*wanted, "--dataset", "digits", "--classes", "7")
    assert done.status == 1 and "data set 'digits' has 1 and 10" in done.err and "--dataset" in done.err
    done = bespoke(*wanted, "--dataset", "digits")
    assert done.status == 1 and "--classes 7" in done.err
    done = bespoke(*wanted, "--dataset", "sevens", "--classes", "7")
    assert done.status == 0, done.err
    shown = json.loads(bespoke("supernets", "show", done.out.split(":")[0], "--json").out)
    assert shown["dataset"] == "sevens"
    assert bespoke(*wanted, "--dataset", "sevens", "--classes", "1").status == 2


@pytest.mark.parametrize(
    ("content", "space", "says"),
    [
        (b"nothing", "digits-mbv3", "download it again"),
        (b"", "digits-mbv3", "damaged"),
        (b"x", "no-such-space", "unknown search space"),
    ],
)
def test_a_checkpoint_that_is_none_is_refused(
    bespoke: Bespoke, tmp_path: Path, content: bytes, space: str, says: str
) -> None:
    (tmp_path / "bad.pth").write_bytes(content)
    done = bespoke("supernets", "import", tmp_path / "bad.pth", "--space", space)
    assert done.status == 1 and says in done.err


def test_a_checkpoint_of_another_space_or_cut_short_is_refused(bespoke: Bespoke, tmp_path: Path) -> None:
    file = checkpoint(tmp_path)
    done = bespoke("supernets", "import", file, "--space", "cifar-mbv3", "--dataset", "elsewhere")
    assert done.status == 1 and "cifar-mbv3" in done.err and "Traceback" not in done.err, done.err
    file.write_bytes(file.read_bytes()[:-1000])
    done = bespoke("supernets", "import", file, "--space", SPACE.name, "--dataset", "elsewhere")
    assert done.status == 1 and "download it again" in done.err, done.err
    assert "elsewhere" not in bespoke("supernets", "list").out, "nothing of them is kept"


def test_scores_of_an_unknown_supernet_or_in_another_form_are_refused(
    bespoke: Bespoke, tmp_path: Path
) -> None:
    done = bespoke("supernets", "scores", scores(tmp_path), "--supernet", "sup_unknown")
    assert done.status == 1 and "bespoke supernets list" in done.err
    done = bespoke("supernets", "report", "sup_unknown")
    assert done.status == 1 and "bespoke supernets list" in done.err
    done = bespoke("supernets", "report", "sup_unknown", "--tune-epochs", "-1")
    assert done.status == 2 and "--tune-epochs" in done.err


def test_tables_are_converted_without_a_service(bespoke: Bespoke, server: Server, tmp_path: Path) -> None:
    given = table_file(tmp_path, "given.json")
    assert (
        bespoke("--url", "http://127.0.0.1:9", "tables", "convert", given, "-o", tmp_path / "out.csv").status
        == 0
    )
    assert (tmp_path / "out.csv").read_bytes() == table_file(tmp_path, "wanted.csv").read_bytes()
    for arguments, says in (
        ((tmp_path / "out.csv", "-o", tmp_path / "back.json"), "--device"),
        ((given, "-o", tmp_path / "out.txt"), "a .json or a .csv file"),
        ((given, "-o", tmp_path / "out.csv", "--format", "magic"), "unknown table format"),
    ):
        done = bespoke("tables", "convert", *arguments)
        assert done.status == 1 and (says in done.err or "say which device" in done.err), done.err


HAT_DATA = Path(__file__).parents[4] / "shared" / "data" / "hat"


@pytest.mark.skipif(
    not HAT_DATA.is_dir(),
    reason="HAT's measurements lie beside the checkout, in ../shared/data/hat, and are not there",
)
def test_measured_transformers_are_checked_and_written_again(bespoke: Bespoke, tmp_path: Path) -> None:
    source = sorted(HAT_DATA.rglob("*.csv.gz"))[0]
    done = bespoke("tables", "convert", source, "--format", "hat", "-o", tmp_path / "probes.csv")
    assert done.status == 0, done.err
    assert "measured transformers" in done.out
    again = bespoke(
        "tables", "convert", tmp_path / "probes.csv", "--format", "hat", "-o", tmp_path / "again.csv"
    )
    assert again.status == 0, again.err
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "probes.csv").read_bytes()
    refused = bespoke("devices", "probe", "a-board", source)
    assert refused.status == 1 and "probe --format hat" in " ".join(refused.err.split())
    context = ("--runtime", "pytorch", "--runtime-version", "1.1", "--provider", "cpu", "--threads", "8")
    assert bespoke("devices", "add", "hat-board", *context).status == 0
    made = bespoke("devices", "probe", "hat-board", source, "--format", "hat", "--rows", "50")
    assert made.status == 0, made.err
    assert "from 50 of 2,000 transformers, tested on 1,950 others" in " ".join(made.out.split())
    for arguments, says in (
        ((source, "--format", "magic"), "--format is hat"),
        (("--format", "hat"), "takes a file"),
        ((tmp_path / "again.csv", "--format", "hat", "--space", "hat-small"), "encoder layers"),
    ):
        done = bespoke("devices", "probe", "hat-board", *arguments)
        assert done.status == 1 and says in " ".join(done.err.split()), done.err
