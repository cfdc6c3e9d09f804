"""Fine-tuning that leaves channels small (DeepHoyer), then pruning, against the same without.

    python -m benchmarks.hoyer --space digits-mbv3 --dataset digits --seeds 3 --folder trained

Each seed trains a supernet (or takes `--folder`'s) and fine-tunes its largest network at that resolution for
`--epochs`, once plain and once for each of `--strengths` with the channels that blocks use as a part of the
loss: a block weighs as many milliseconds as one of its channels takes, by rows that the agent's own code
measures, and all of them together are `strength` at the start. Every block of each is then pruned to at most
`--shares` of its channels, refitted, and tested; also tuned on for `--epochs`. Files of one share have the
same shapes, so they take the same time.

`by_share`: test accuracy in percent and its loss by strength (0: plain); `gain_points` over plain with the
standard error over seeds. Share 1: the network before it is pruned.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.controls import mean_and_error, scaled
from benchmarks.environment import environment
from benchmarks.lut_error import Bench
from benchmarks.pruning import on_test
from benchmarks.trained import options, seeded
from latency_tables.dense import Array
from supernets.data.catalog import load_dataset
from supernets.delivery.export import export_operators
from supernets.delivery.passes import PLAIN, Source, passed, supernet_of_pruned
from supernets.experiments.controls import train_quietly
from supernets.layers.block import ElasticPrunable
from supernets.network import Supernet
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import space_named
from supernets.spaces.choices import Choice
from supernets.spaces.lowering import lower
from supernets.spaces.space import Space
from supernets.training.catalog import recipe_named
from supernets.training.sparsity import channels_used
from supernets.training.tuning import specialised, tuned

WAYS = ("refitted", "tuned_on")


def pruned_to(space: Space, whole: Architecture, share: float) -> Architecture:
    """Every block with at most that share of its channels. space: with pruning."""

    def narrow(stage: int, block: int, choice: Choice) -> Choice:
        options = [one for one in space.stages[stage].choices[block] if one.whole == choice]
        kept = [one for one in options if one.kept <= share] or [min(options, key=lambda one: one.kept)]
        return max(kept, key=lambda one: one.kept)

    stages = tuple(
        replace(chosen, blocks=tuple(narrow(s, b, c) for b, c in enumerate(chosen.blocks)))
        for s, chosen in enumerate(whole.stages)
    )
    return replace(whole, stages=stages)


def channel_ms(plain: Space, whole: Architecture, ms: dict[str, float]) -> dict[str, float]:
    """Milliseconds of one channel inside each block that channels can be cut out of, by its name."""
    plan = Supernet(plain).plan(whole)
    least = lower(plain.with_pruning(), pruned_to(plain.with_pruning(), whole, 0.0))
    found = {}
    for (name, _), wide, narrow in zip(plan, lower(plain, whole), least, strict=True):
        if name and wide != narrow:
            channels = wide.prunable_channels - narrow.prunable_channels
            found[name] = max(1e-9, (ms[wide.text] - ms[narrow.text]) / channels)
    return found


def one_seed(asked: argparse.Namespace, seed: int, folder: Path, ms: dict[str, float]) -> dict[str, Any]:
    """Accuracy and loss of every strength and share."""
    data = load_dataset(asked.dataset)
    space = space_named(asked.space).with_classes(len(data.classes))
    recipe = recipe_named(asked.recipe)
    supernet = train_quietly(space, data, scaled(recipe, asked.share), seed, folder, "cpu")[0]
    plain = space.at([asked.resolution])
    whole = space.largest(asked.resolution)
    start = specialised(supernet, whole)
    # Of this network alone: half of its own channels is the least, not half of the supernet's narrowest.
    pruned = start.space.with_pruning()
    prices = channel_ms(plain, whole, ms)
    assert all(isinstance(start.blocks[name], ElasticPrunable) for name in prices)
    at_start = channels_used(start, prices).item()
    found: dict[str, Any] = {}
    for strength in (0.0, *asked.strengths):
        weights = tuple((name, strength * price / at_start) for name, price in prices.items())
        place = folder / f"hoyer-{strength:g}"
        own, *_ = tuned(
            supernet,
            whole,
            data,
            replace(recipe, sparsity=weights if strength else ()),
            asked.epochs,
            seed,
            place,
        )
        told: dict[str, Any] = {"channels_ms": channels_used(own, prices).item() / at_start}
        for share in (1.0, *asked.shares):
            one = whole if share == 1 else pruned_to(pruned, whole, share)
            source = Source(own, one, data)
            made = {"refitted": source}
            if share < 1:
                base = supernet_of_pruned(source)
                further, *_ = tuned(base, one, data, recipe, asked.epochs, seed, place / f"{share:g}")
                made["tuned_on"] = Source(further, one, data)
            told[f"{share:g}"] = {
                way: on_test(passed(this, PLAIN), data, asked.resolution) for way, this in made.items()
            }
        found[f"{strength:g}"] = told
    return found


def summary(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """By share and way: means over seeds, and what each strength gains over plain training."""
    found: dict[str, Any] = {}
    for share, ways in seeds[0]["0"].items():
        if share == "channels_ms":
            continue
        for way in ways:
            values: dict[str, Array] = {
                strength: np.array([one[strength][share][way]["accuracy"] for one in seeds])
                for strength in seeds[0]
            }
            found.setdefault(share, {})[way] = {
                "accuracy": {name: round(100 * float(each.mean()), 2) for name, each in values.items()},
                "gain_points": {
                    name: mean_and_error(each - values["0"], 100)
                    for name, each in values.items()
                    if name != "0"
                },
                "loss": {
                    strength: float(np.mean([one[strength][share][way]["loss"] for one in seeds]))
                    for strength in seeds[0]
                },
            }
    return found


def measured(asked: argparse.Namespace, place: Path) -> dict[str, float]:
    """Rows of the widest and the narrowest blocks."""
    classes = len(load_dataset(asked.dataset).classes)
    plain = space_named(asked.space).with_classes(classes).at([asked.resolution])
    whole, pruned = plain.largest(), plain.with_pruning()
    operators = [*lower(plain, whole), *lower(pruned, pruned_to(pruned, whole, 0.0))]
    files = {op.text: file for op, file in export_operators(operators).items()}
    rows = Bench(place, *export_operators(operators[:1]).values(), asked.seed).profile(files).measured
    return {name: one.latency_ms for name, one in rows.items()}


def main() -> None:
    """Print one JSON object."""
    parser = options(__doc__, recipe="quick")
    parser.add_argument("--share", type=float, default=1.0, help="share of the recipe's epochs")
    parser.add_argument("--epochs", type=int, default=4, help="of each fine-tuning")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.3, 1.0, 3.0])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.84, 0.67, 0.5])
    asked = parser.parse_args()
    with TemporaryDirectory() as place:
        ms = measured(asked, Path(place))
    seeds = [one_seed(asked, seed, folder, ms) for seed, folder, _ in seeded(asked)]
    said = {
        "space": asked.space,
        "dataset": asked.dataset,
        "resolution": asked.resolution,
        "seed": asked.seed,
    }
    print(json.dumps({**said, "by_share": summary(seeds), "seeds": seeds, "environment": environment()}))


if __name__ == "__main__":
    main()
