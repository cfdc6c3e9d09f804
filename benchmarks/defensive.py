"""What defensive fine-tuning does to a network in int8: accuracy on test pictures as they are, and moved by
2 and 8 of 255 steps in the direction in which the loss grows.

    python -m benchmarks.defensive --space digits-mbv3 --dataset digits --resolution 12

Each seed trains the smallest network at that resolution from random weights for `--epochs` of the recipe,
twice with everything else equal: without and with the pull towards orthogonal layers. Keys: of `int8` and
`float32`, percent by steps `without` and `defensive`, means over seeds; `change_points`, `standard_error`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.environment import environment
from benchmarks.trained import options, seeded
from supernets.data.catalog import load_dataset
from supernets.delivery.export import onnx_session
from supernets.delivery.feeding import OnnxFile
from supernets.delivery.format import Delivery
from supernets.delivery.passes import PLAIN, Source, passed
from supernets.delivery.pipeline import deliver
from supernets.delivery.precision import plan_of
from supernets.delivery.robustness import robustness
from supernets.network import Supernet
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import lower
from supernets.spaces.mixes import in_precisions
from supernets.training.catalog import recipe_named
from supernets.training.recipe import DEFENSIVE
from supernets.training.tuning import tuned

WAYS = {"without": 0.0, "defensive": DEFENSIVE}


def one(arguments: argparse.Namespace, seed: int, beta: float, folder: Path) -> dict[str, dict[int, float]]:
    """Accuracy of the file in int8 and of the network in float32 by steps, percent."""
    data = load_dataset(arguments.dataset)
    space = space_named(arguments.space).with_classes(len(data.classes))
    architecture = space.smallest(arguments.resolution)
    recipe = replace(recipe_named(arguments.recipe), orthogonality=beta)
    start = Supernet(space, generator=torch.Generator().manual_seed(seed))
    own, _, _ = tuned(start, architecture, data, recipe, arguments.epochs, seed, folder)
    mixed, source = space.with_precisions(("float32", "int8")), Source(own, architecture, data)
    plan = plan_of(lower(mixed, in_precisions(mixed, architecture, lambda: "int8")))
    written = deliver(replace(source, plan=plan), Delivery())
    attacked = passed(source, PLAIN).cpu().eval()
    found = robustness(OnnxFile(onnx_session(written.file)), attacked, data, arguments.resolution)
    return {
        name: {steps: 100 * value for steps, value in values.items()}
        for name, values in (("int8", found.file), ("float32", found.float32))
    }


def summary(seeds: list[dict[str, dict[str, dict[int, float]]]]) -> dict[str, Any]:
    """Means over seeds, and what the pull changes with its standard error."""
    found: dict[str, Any] = {}
    for kind in ("int8", "float32"):
        steps = seeds[0]["without"][kind]
        table = {way: np.array([[s[way][kind][n] for n in steps] for s in seeds]) for way in WAYS}
        change = table["defensive"] - table["without"]
        deviation = change.std(0, ddof=1) / np.sqrt(len(seeds)) if len(seeds) > 1 else [None] * len(steps)
        found[kind] = {
            **{way: dict(zip(steps, values.mean(0).round(2), strict=True)) for way, values in table.items()},
            "change_points": dict(zip(steps, change.mean(0).round(2), strict=True)),
            "standard_error": dict(zip(steps, deviation, strict=True)),
        }
    return found


def main() -> None:
    """Print one JSON object."""
    parser = options(__doc__, recipe="standard", resolution=12)
    parser.add_argument("--epochs", type=int, default=6)
    asked = parser.parse_args()
    seeds = [
        {way: one(asked, seed, beta, folder / way) for way, beta in WAYS.items()}
        for seed, folder, _ in seeded(asked)
    ]
    print(json.dumps({**summary(seeds), "beta": DEFENSIVE, "seeds": seeds, "environment": environment()}))


if __name__ == "__main__":
    main()
