"""Published lists become architectures and back; the published figures of 1,081 networks are ours."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from latency_tables.operators import Operator
from supernets.errors import InvalidArchitecture
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import lower
from supernets.spaces.published import architecture_from_lists, lists_of

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
MBV3 = SPACES["ofa-mbv3"]
LISTED = ["digits-mbv3", "cifar-mbv3", "ofa-mbv3", "ofa-mbv3-w1.2", "ofa-proxyless", "ofa-resnet50"]


@pytest.mark.parametrize("name", LISTED)
def test_lists_there_and_back(name: str) -> None:
    space = SPACES[name]
    for architecture in [space.largest(), space.smallest(), *space.sample(np.random.default_rng(0), 20)]:
        lists = lists_of(space, architecture)
        again = architecture_from_lists(
            space, lists.depth, lists.kernel, lists.expand, architecture.resolution, lists.width
        )
        assert again == architecture
        assert again.digest == architecture.digest


def rows(name: str) -> list[dict[str, str]]:
    path = DATA / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"published data (../shared/data/{name}.csv.gz) are not here")
    with gzip.open(path, "rt") as file:
        return list(csv.DictReader(file))


def read(row: dict[str, str]) -> Architecture:
    depth, kernel, expand = ([float(v) for v in row[key].split()] for key in ("depth", "kernel", "expand"))
    return architecture_from_lists(
        MBV3, [int(d) for d in depth], [int(k) for k in kernel], expand, int(row["resolution"])
    )


def batch_norm_vectors(op: Operator) -> int:
    """Channels of the operator's batch-norms: they are two parameters each, of which folding leaves one."""
    if op.family == "conv":
        return op.out_channels
    return (
        op.out_channels + op.mid_channels * (1 + (op.mid_channels != op.in_channels))
        if op.family == "mbconv"
        else 0
    )


def test_published_macs_and_parameters_are_ours() -> None:
    for row in rows("ofa_mbv3_imagenet_top1"):
        operators = lower(MBV3, read(row))
        assert sum(op.macs for op in operators) == int(row["macs"])
        assert sum(op.parameters + batch_norm_vectors(op) for op in operators) == int(row["parameters"])


def test_published_latencies_are_of_networks_of_the_space() -> None:
    found = [read(row) for row in rows("ofa_mbv3_latency_ms")]
    assert len(found) == 5000
    assert len({a.digest for a in found}) == len({MBV3.genes(a).tobytes() for a in found})


def test_resnet_widths_that_round_to_one_are_one_network() -> None:
    space = SPACES["ofa-resnet50"]
    one, two = (
        architecture_from_lists(space, [1, 0, 0, 0, 0], None, [0.2] * 18, 128, [w, 0, 0, 0, 0, 0])
        for w in (0, 1)
    )
    assert one == two
    assert lower(space, one)[0].out_channels == 24


@pytest.mark.parametrize(
    ("depth", "kernel", "expand", "resolution", "width"),
    [
        ([2] * 4, [3] * 20, [3] * 20, 224, ()),
        ([2] * 5, [3] * 19, [3] * 20, 224, ()),
        ([2] * 5, [3] * 20, [3] * 20, 225, ()),
        ([5] * 5, [3] * 20, [3] * 20, 224, ()),
        ([-1] * 5, [3] * 20, [3] * 20, 224, ()),
        ([2] * 5, [4] * 20, [3] * 20, 224, ()),
        ([2] * 5, [3] * 20, [float("nan")] * 20, 224, ()),
        ([2] * 5, [3] * 20, [3] * 20, 224, [0]),
    ],
)
def test_lists_outside_the_space_are_refused(depth, kernel, expand, resolution, width) -> None:
    with pytest.raises(InvalidArchitecture):
        architecture_from_lists(MBV3, depth, kernel, expand, resolution, width)


@pytest.mark.parametrize(
    "change",
    [{"depth": [3, 0, 0, 0, 0]}, {"depth": [0, 3, 0, 0, 0]}, {"width": [3] + [0] * 5}, {"width": ()}],
)
def test_resnet_lists_outside_the_space_are_refused(change) -> None:
    given = {
        "depth": [0] * 5,
        "kernel": None,
        "expand": [0.2] * 18,
        "resolution": 128,
        "width": [0] * 6,
        **change,
    }
    with pytest.raises(InvalidArchitecture):
        architecture_from_lists(SPACES["ofa-resnet50"], **given)


def test_a_space_with_zero_has_no_such_lists() -> None:
    with pytest.raises(InvalidArchitecture, match="lists"):
        lists_of(SPACES["proxyless"], SPACES["proxyless"].largest())
