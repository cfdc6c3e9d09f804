"""Largest network of a space, trained alone from random weights and from residual branches at zero, with
equal steps.

`accuracy`: on the validation split, by start. Neither run sees anything that the other does not.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.environment import environment
from supernets.data.catalog import load_dataset
from supernets.network import Supernet
from supernets.spaces.catalog import space_named
from supernets.training.catalog import RECIPES, recipe_named
from supernets.training.evaluation import Evaluator
from supernets.training.loop import Trainer
from supernets.training.recipe import Phase
from supernets.training.tuning import alone

STARTS = ("random", "identity")


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="cifar-mbv3")
    parser.add_argument("--dataset", default="glyphs")
    parser.add_argument(
        "--recipe",
        default="standard",
        choices=sorted(RECIPES),
        help="whose optimiser and highest learning rate",
    )
    parser.add_argument("--resolution", type=int, help="in pixels; the smallest of the space without it")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--folder", help="keep the rendered data set here")
    arguments = parser.parse_args()
    with TemporaryDirectory() as temporary:
        found = {start: _trained(arguments, start, Path(temporary) / start) for start in STARTS}
    result = {
        "accuracy": {start: one["accuracy"] for start, one in found.items()},
        "loss_by_epoch": {start: one["losses"] for start, one in found.items()},
        "steps": found["identity"]["steps"],
        "seconds": {start: one["seconds"] for start, one in found.items()},
        "space": arguments.space,
        "dataset": arguments.dataset,
        "seed": arguments.seed,
        "threads": torch.get_num_threads(),
        "environment": environment(),
    }
    print(json.dumps(result))


def _trained(arguments: argparse.Namespace, start: str, folder: Path) -> dict[str, Any]:
    dataset = load_dataset(
        arguments.dataset, Path(arguments.folder) if arguments.folder else folder.parent / "data"
    )
    whole = space_named(arguments.space).with_classes(len(dataset.classes))
    architecture = whole.largest(arguments.resolution or min(whole.resolutions))
    space = alone(whole, architecture)
    recipe = recipe_named(arguments.recipe)
    rate = max(phase.learning_rate for phase in recipe.phases)
    phase = Phase(start, arguments.epochs, rate, warmup_epochs=min(1, arguments.epochs))
    trainer = Trainer(
        space, dataset, replace(recipe, phases=(phase,)), arguments.seed, device=arguments.device
    )
    if start == "random":
        supernet = Supernet(space, generator=torch.Generator().manual_seed(arguments.seed))
        trainer.supernet.load_state_dict(supernet.state_dict())
    losses: dict[int, float] = {}
    begun = time.perf_counter()
    trainer.run(folder, lambda progress: losses.update({progress.epoch: round(progress.loss, 4)}))
    seconds = time.perf_counter() - begun
    print(f"{start}: {arguments.epochs} epochs in {seconds:.0f} s", file=sys.stderr, flush=True)
    accuracy = float(Evaluator(trainer.supernet.eval(), dataset).qualities([architecture])[0])
    steps = trainer.steps_per_epoch * arguments.epochs
    return {
        "accuracy": accuracy,
        "losses": list(losses.values()),
        "steps": steps,
        "seconds": round(seconds, 1),
    }


if __name__ == "__main__":
    main()
