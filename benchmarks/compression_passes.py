"""What each compression pass costs in accuracy and gains in size and speed, at each of its strengths.

    python -m benchmarks.compression_passes --space digits-mbv3 --dataset digits --resolution 16

Each seed trains one network (the largest at that resolution) for `--epochs` of the recipe. Of every pass and
strength: test accuracy of the file less that without the pass (points, the control's beside it), size of the
file and deflated, and milliseconds without over with it (above 1: faster), from all files of a seed timed in
the same rounds by the agent's own code. Medians over seeds.
"""

from __future__ import annotations

import argparse
import json
import zlib
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.environment import environment
from benchmarks.lut_error import Bench
from benchmarks.trained import options, seeded
from supernets.data.catalog import load_dataset
from supernets.delivery.compression.catalog import PASSES, AppliedPass
from supernets.delivery.compression.compressed import CompressedNetwork
from supernets.delivery.compression.trial import quality_of
from supernets.delivery.export import export_operators, onnx_session
from supernets.delivery.feeding import OnnxFile
from supernets.delivery.format import Delivery
from supernets.delivery.passes import PLAIN, Source, passed
from supernets.delivery.pipeline import Written, deliver
from supernets.delivery.testing import tested
from supernets.network import Supernet
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import lower
from supernets.training.catalog import recipe_named
from supernets.training.tuning import tuned


def network_of(arguments: argparse.Namespace, seed: int, folder: Path) -> Source:
    """A trained network."""
    data = load_dataset(arguments.dataset)
    space = space_named(arguments.space).with_classes(len(data.classes))
    architecture = space.largest(arguments.resolution)
    start = Supernet(space, generator=torch.Generator().manual_seed(seed))
    recipe = recipe_named(arguments.recipe)
    own, _, _ = tuned(start, architecture, data, recipe, arguments.epochs, seed, folder)
    return Source(own, architecture, data)


def one_file(source: Source, written: Written) -> dict[str, Any]:
    """Test and validation accuracy, and sizes."""
    opened = OnnxFile(onnx_session(written.file))
    found: dict[str, Any] = {
        split: tested(opened, source.data, source.architecture.resolution, split).quality
        for split in ("validation", "test")
    }
    return {
        **found,
        "size_bytes": len(written.file),
        "deflated_bytes": len(zlib.compress(written.file, 9)),
        "parity_max_abs_error": written.parity.max_abs_error,
    }


def one_seed(arguments: argparse.Namespace, seed: int, folder: Path) -> dict[str, Any]:
    """All passes of one network."""
    source = network_of(arguments, seed, folder)
    plain = deliver(source, Delivery())
    files, found = {"float32": plain.file}, {"float32": one_file(source, plain)}
    for name, described in PASSES.items():
        for strength in described.strengths:
            key = f"{name} {strength:g}"
            written = deliver(replace(source, compression=(AppliedPass(name, strength),)), Delivery())
            reports = written.network.reports if isinstance(written.network, CompressedNetwork) else ()
            control = replace(source, compression=(AppliedPass(name, strength, control=True),))
            files[key] = written.file
            found[key] = {
                **one_file(source, written),
                "control_test": quality_of(passed(control, PLAIN), control, "test"),
                "said": reports[0],
            }
    sentinel = export_operators(lower(source.supernet.space, source.architecture)[:1])
    with TemporaryDirectory() as place:
        measured = Bench(Path(place), *sentinel.values(), seed).profile(files).measured
    for key, one in measured.items():
        found[key]["ms"] = one.latency_ms
    return found


def summary(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over seeds of every pass and strength against float32."""

    def median(values: list[float]) -> float:
        return float(np.median(values))

    return {
        key: {
            "points": median([100 * (one[key]["test"] - one["float32"]["test"]) for one in seeds]),
            "control_points": median(
                [100 * (one[key]["control_test"] - one["float32"]["test"]) for one in seeds]
            ),
            "size_ratio": median([one["float32"]["size_bytes"] / one[key]["size_bytes"] for one in seeds]),
            "deflated_ratio": median(
                [one["float32"]["deflated_bytes"] / one[key]["deflated_bytes"] for one in seeds]
            ),
            "ms_ratio": median([one["float32"]["ms"] / one[key]["ms"] for one in seeds]),
        }
        for key in seeds[0]
        if key != "float32"
    }


def main() -> None:
    """Print one JSON object."""
    parser = options(__doc__, recipe="standard")
    parser.add_argument("--epochs", type=int, default=6)
    asked = parser.parse_args()
    seeds = [one_seed(asked, seed, folder) for seed, folder, _ in seeded(asked)]
    result = {"passes": summary(seeds), "seeds": seeds, "environment": environment()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
