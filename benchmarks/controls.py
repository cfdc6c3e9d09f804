"""Sub-networks against the same networks trained alone with equal steps, and the recipe against no shrinking.

`loss_points`: mean over seeds and budgets of stand-alone minus sub-network test accuracy, in points.
`tuned_loss_points`: the same for sub-networks trained on for `--tune-epochs`; networks alone have as many
epochs more.
`shrinking_gain_points`: the recipe minus uniform sampling from the start; of networks that write sentences
minus HAT's published sampling and schedule, with as many batches passed. Each with the standard error over
all networks of all seeds. Checkpoints in `--folder` let it go on.

    python -m benchmarks.controls --space hat-small --tune-epochs 2       sentences: points of phoneme error
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.environment import environment
from supernets.data.catalog import load_dataset
from supernets.data.text.sentences import Sentences, Split
from supernets.experiments.controls import run_controls
from supernets.experiments.report import as_json, write_report
from supernets.spaces.catalog import space_named
from supernets.training.catalog import recipe_named, recipe_names
from supernets.training.recipe import Recipe


def scaled(recipe: Recipe, share: float) -> Recipe:
    """The recipe with that share of its epochs."""
    phases = tuple(replace(p, epochs=max(1, p.warmup_epochs, round(p.epochs * share))) for p in recipe.phases)
    return replace(recipe, phases=phases)


def with_samples(dataset: Any, samples: int) -> Any:
    """The data set with that many of its training samples, evenly spread."""
    kept = np.linspace(0, len(dataset.split("train")) - 1, samples).round().astype(int)
    if isinstance(dataset, Sentences):
        whole = dataset.splits["train"]
        texts = tuple(whole.texts[row] for row in kept.tolist())
        some = Split(whole.source.take(kept), whole.target.take(kept), texts)
        return replace(dataset, splits={**dataset.splits, "train": some})
    train = replace(dataset.train, images=dataset.train.images[kept], labels=dataset.train.labels[kept])
    return replace(dataset, train=train)


def mean_and_error(differences: Iterable[float], scale: int) -> tuple[float | None, float | None]:
    """(mean, standard error) in points of differences in [0, 1], or in the metric's unit; None where there
    are too few to tell."""
    points = scale * np.array(list(differences))
    mean = float(points.mean()) if len(points) else None
    return mean, float(points.std(ddof=1) / np.sqrt(len(points))) if len(points) > 1 else None


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="digits-mbv3")
    parser.add_argument("--dataset", help="left out: digits, for sentences pronunciations")
    parser.add_argument(
        "--recipe", choices=recipe_names(), help="left out: progressive, for sentences standard"
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--networks", type=int, default=5, help="budgets on the front")
    parser.add_argument("--scored", type=int, default=120, help="sub-networks scored for the predictor")
    parser.add_argument("--share", type=float, default=1.0, help="share of the recipe's epochs")
    parser.add_argument("--train-samples", type=int, help="use that many training samples only")
    parser.add_argument("--no-uniform", action="store_true", help="leave out the training without shrinking")
    parser.add_argument(
        "--tune-epochs",
        type=int,
        default=0,
        help="train sub-networks on for so many; networks alone get them too",
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--folder", help="keep checkpoints and reports here")
    arguments = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = Path(arguments.folder or temporary)
        space = space_named(arguments.space)
        names = ("digits", "progressive") if space.generation is None else ("pronunciations", "standard")
        dataset = load_dataset(arguments.dataset or names[0], folder / "data")
        if arguments.train_samples:
            dataset = with_samples(dataset, arguments.train_samples)
        space = space.with_classes(len(dataset.classes))
        recipe = scaled(recipe_named(arguments.recipe or names[1], space), arguments.share)
        found = []
        for seed in range(arguments.seed, arguments.seed + arguments.seeds):
            controls = run_controls(
                space,
                dataset,
                recipe,
                seed,
                folder / f"seed-{seed}",
                networks=arguments.networks,
                scored=arguments.scored,
                without_shrinking=not arguments.no_uniform,
                tune_epochs=arguments.tune_epochs,
                device=arguments.device,
                progress=lambda message, seed=seed: print(
                    f"seed {seed}: {message}", file=sys.stderr, flush=True
                ),
            )
            write_report(controls, folder / f"seed-{seed}")
            found.append(controls)
    compared, scale = [network for controls in found for network in controls.networks], found[0].metric.scale
    loss, loss_error = mean_and_error((c.alone - c.supernet for c in compared), scale)
    tuned, tuned_error = mean_and_error((c.alone - c.tuned for c in compared if c.tuned is not None), scale)
    gain, gain_error = mean_and_error(
        (c.supernet - c.without_shrinking for c in compared if c.without_shrinking is not None), scale
    )
    result = {
        "loss_points": loss,
        "loss_points_error": loss_error,
        "tuned_loss_points": tuned,
        "tuned_loss_points_error": tuned_error,
        "shrinking_gain_points": gain,
        "shrinking_gain_points_error": gain_error,
        "loss_points_by_seed": [c.loss_points for c in found],
        "tuned_loss_points_by_seed": [c.tuned_loss_points for c in found],
        "shrinking_gain_points_by_seed": [c.shrinking_gain_points for c in found],
        "predictor_rmse": float(np.mean([c.predictor.rmse for c in found])),
        "predictor_kendall_tau": float(np.mean([c.predictor.kendall_tau for c in found])),
        "one_more_target_seconds": float(np.median([c.target_seconds for c in found])),
        "against": found[0].against,
        "metric": found[0].metric.name,
        "epochs": recipe.epochs,
        "train_samples": len(dataset.split("train")),
        "test_samples": len(dataset.split("test")),
        "seed": arguments.seed,
        "threads": torch.get_num_threads(),
        "reports": [as_json(c) for c in found],
        "environment": environment(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
