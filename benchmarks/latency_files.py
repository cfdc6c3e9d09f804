"""Files of measured latencies: one row a network, one column a device. NAS-Bench-201, FBNet and once-for-all
forms."""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from latency_tables.dense import Array
from latency_tables.prediction.transfer import Prior

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Latencies:
    """Measured networks as use of cells (networks, cells), the groups of cells, and latencies in ms by
    device."""

    form: str
    uses: Array
    groups: list[Labels]
    devices: dict[str, Array]

    def table_of(self, device: str) -> Array:
        """The additive table that fits all networks of a known device best, shape (cells,)."""
        latencies = self.devices[device]
        centre = self.uses.mean(axis=0)
        off = self.uses - centre
        gram = off.T @ off
        gram += 1e-5 * len(off) * np.eye(len(gram))
        cells = np.linalg.solve(gram, off.T @ (latencies - latencies.mean()))
        cells[-1] = latencies.mean() - centre @ cells  # the last cell is used by every network
        return np.asarray(cells)

    def prior(self, sources: Sequence[str]) -> Prior:
        return Prior.of(np.stack([self.table_of(s) for s in sources], axis=1), self.uses, self.groups)

    def synthetic(self, device: str) -> bool:
        """Whether a device's latencies are exact sums of blocks, so never measured on whole networks."""
        residual = self.devices[device] - self.uses @ self.table_of(device)
        return bool(np.std(residual) < 2e-3 * np.std(self.devices[device]))


def read(paths: Sequence[Path]) -> Latencies:
    """Read files and join them on their architecture columns. Raises ValueError that says what was
    expected."""
    tables = [_read_one(path) for path in paths]
    keys = tables[0][0]
    if any(k != keys for k, _ in tables):
        raise ValueError("the files have different architecture columns")
    rows: dict[tuple[str, ...], dict[str, float]] = {}
    for _, table in tables:
        for architecture, values in table.items():
            rows.setdefault(architecture, {}).update(values)
    names = sorted({name for values in rows.values() for name in values})
    complete = {a: v for a, v in rows.items() if len(v) == len(names)}
    if not complete:
        raise ValueError("no network is in all files")
    form, encode = _form(keys, next(iter(complete)))
    uses, groups = encode(list(complete))
    devices = {name: np.array([v[name] for v in complete.values()]) for name in names}
    return Latencies(form, uses, groups, devices)


_ARCHITECTURE = ("architecture", "depth", "kernel", "expand", "resolution")


def _read_one(path: Path) -> tuple[tuple[str, ...], dict[tuple[str, ...], dict[str, float]]]:
    data = path.read_bytes()
    lines = csv.reader(io.StringIO((gzip.decompress(data) if path.suffix == ".gz" else data).decode()))
    header = next(lines)
    keys = tuple(name for name in header if name in _ARCHITECTURE)
    if keys not in (("architecture",), ("depth", "kernel", "expand", "resolution")):
        raise ValueError(
            f"{path.name}: the first columns must be `architecture`, or `depth,kernel,expand,resolution`"
        )
    devices = header[len(keys) :]
    return keys, {
        tuple(row[: len(keys)]): dict(zip(devices, map(float, row[len(keys) :]), strict=True))
        for row in lines
    }


Encoder = Callable[[Sequence[tuple[str, ...]]], tuple[Array, list[Labels]]]


def _form(keys: tuple[str, ...], example: tuple[str, ...]) -> tuple[str, Encoder]:
    if len(keys) > 1:
        return "once-for-all", _encode_once_for_all
    if "~" in example[0]:
        return "nas-bench-201", lambda rows: _encode_slots(
            [re.findall(r"([a-z_0-9]+)~\d", row[0]) for row in rows], slots=False
        )
    return "fbnet", lambda rows: _encode_slots([row[0].split() for row in rows], slots=True)


def _encode_slots(networks: Sequence[Sequence[str]], slots: bool) -> tuple[Array, list[Labels]]:
    """One cell for each choice at each place. slots: places differ in size, so they are a group of their
    own."""
    choices = {name: i for i, name in enumerate(sorted({c for network in networks for c in network}))}
    places = len(networks[0])
    index = np.array([[choices[c] + p * len(choices) for p, c in enumerate(network)] for network in networks])
    uses = np.zeros((len(networks), places * len(choices) + 1))
    np.put_along_axis(uses, index, 1.0, axis=1)
    uses[:, -1] = 1.0
    groups = [np.append(np.tile(np.arange(len(choices)), places), -1)]
    if slots:
        groups.append(np.append(np.repeat(np.arange(places), len(choices)), -1))
    return uses, groups


def _encode_once_for_all(rows: Sequence[tuple[str, ...]]) -> tuple[Array, list[Labels]]:
    """A cell for each kernel x expand of each block, one more that grows with the pixels, and the pixels
    themselves."""
    depth, kernel, expand = (np.array([[int(v) for v in row[i].split()] for row in rows]) for i in range(3))
    pixels = np.array([(int(row[3]) / 224) ** 2 for row in rows])[:, None]
    blocks = kernel.shape[1]
    each = blocks // depth.shape[1]
    used = np.tile(np.arange(each), depth.shape[1]) < np.repeat(depth, each, axis=1)
    choice = np.searchsorted([3, 5, 7], kernel) * 3 + np.searchsorted([3, 4, 6], expand)
    one_hot = np.zeros((len(rows), blocks, 9))
    np.put_along_axis(one_hot, choice[:, :, None], used[:, :, None].astype(float), axis=2)
    flat = one_hot.reshape(len(rows), -1)
    uses = np.hstack([flat, flat * pixels, pixels, np.ones((len(rows), 1))])
    choices, places = np.tile(np.arange(9), blocks), np.repeat(np.arange(blocks), 9)
    tail = np.array([-1, -2])
    return uses, [
        np.concatenate([choices, 9 + choices, tail]),
        np.concatenate([places, blocks + places, tail]),
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that choose files and devices."""
    parser.add_argument(
        "--latencies",
        nargs="+",
        type=Path,
        required=True,
        metavar="FILE",
        help="csv or csv.gz, joined on architecture",
    )
    parser.add_argument(
        "--sources", default=None, help="known devices, separated by commas (default: every other device)"
    )
    parser.add_argument(
        "--target",
        required=True,
        help="the new device; several separated by commas, or `all` for every other",
    )
    parser.add_argument("--seed", type=int, default=0)


def chosen(args: argparse.Namespace, data: Latencies) -> tuple[list[str], list[str]]:
    """(sources, targets) that were asked for. Raises SystemExit naming the devices there are."""
    sources = args.sources.split(",") if args.sources else []
    targets = (
        [d for d in data.devices if d not in sources] if args.target == "all" else args.target.split(",")
    )
    unknown = [d for d in [*sources, *targets] if d not in data.devices]
    if unknown:
        raise SystemExit(f"no such device: {', '.join(unknown)}; the files hold {', '.join(data.devices)}")
    return sources, targets
