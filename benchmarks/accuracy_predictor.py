"""Held-out error of the accuracy predictor on measured sub-networks of a space.

The file is a (gzipped) CSV with the columns depth, kernel, expand, resolution and top1_percent, as in
DyNAS-T's once-for-all data. Each repeat fits on `--train` networks drawn at random and is judged on all
others. With `--active` a third of the rows is never scored, and both designs, random and active, take their
networks from the rest and are judged on that third.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import NamedTuple

import numpy as np

from benchmarks.environment import environment
from latency_tables.dense import Array, Genes
from supernets.accuracy.choice import score_in_rounds
from supernets.accuracy.predictor import QualityPredictor, kendall_tau, rmse
from supernets.accuracy.refinement import refine
from supernets.accuracy.scores import read_scores
from supernets.spaces.catalog import space_named
from supernets.spaces.space import Space


class Active(NamedTuple):
    """Of one actively chosen set of networks: error and rank on the unseen rows, and what cross-validation
    said of both."""

    rmse: float
    kendall_tau: float
    held_out_rmse: float
    held_out_kendall_tau: float


def active(
    space: Space,
    genes: Genes,
    values: Array,
    pool: Genes,
    unseen: Genes,
    networks: int,
    generator: np.random.Generator,
) -> Active:
    """Choose from the rows `pool` as the worker does, and judge on the rows `unseen`."""
    known = {row.tobytes(): value for row, value in zip(genes, values, strict=True)}

    def evaluate(wanted: Genes) -> Array:
        return np.array([known[row.tobytes()] for row in wanted])

    fitted = score_in_rounds(space, networks, generator, evaluate, extremes=False, pool=genes[pool])
    predicted, held_out = fitted.predict(genes[unseen]), fitted.held_out or fitted.cross_validate(5)
    measured = values[unseen]
    return Active(
        rmse(predicted, measured), kendall_tau(predicted, measured), held_out.rmse, held_out.kendall_tau
    )


def summary(chosen: list[Active], errors: list[float], ranks: list[float]) -> dict[str, float]:
    """Means, and how often the active choice was better than the random one on the same rows."""
    found = np.array(chosen)
    names = [f"active_{name}" for name in Active._fields]
    gained = np.array(errors) - found[:, 0]
    return {
        **dict(zip(names, found.mean(axis=0).tolist(), strict=True)),
        "active_rmse_gain": float(gained.mean()),
        "active_rmse_gain_error": float(gained.std(ddof=1) / np.sqrt(len(gained)))
        if len(gained) > 1
        else 0.0,
        "active_wins": float(np.mean(gained > 0)),
        "active_kendall_tau_gain": float(np.mean(found[:, 1] - ranks)),
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="CSV of measured sub-networks, .gz allowed")
    parser.add_argument("--space", default="ofa-mbv3")
    parser.add_argument("--train", type=int, default=200, help="networks to fit on")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--refine",
        action="store_true",
        help="judge stage pairs and a perceptron too, where they win held out",
    )
    parser.add_argument(
        "--active",
        action="store_true",
        help="compare with as many networks of which most are chosen actively",
    )
    arguments = parser.parse_args()
    genes, values = read_scores(space_named(arguments.space), arguments.data)
    space = space_named(arguments.space)
    errors, ranks, covered, seconds = [], [], [], []
    refined: list[tuple[str, float, float]] = []
    chosen: list[Active] = []
    for repeat in range(arguments.repeats):
        order = np.random.default_rng([arguments.seed, repeat]).permutation(len(genes))
        unseen = len(genes) // 3 if arguments.active else len(genes) - arguments.train
        seen, kept = order[: arguments.train], order[-unseen:]
        start = time.perf_counter()
        predictor = QualityPredictor.fit(space, genes[seen], values[seen], folds=0)
        seconds.append(time.perf_counter() - start)
        predicted = predictor.predict(genes[kept])
        errors.append(rmse(predicted, values[kept]))
        ranks.append(kendall_tau(predicted, values[kept]))
        if arguments.refine:
            found = refine(predictor)
            better = predicted if found is None else found.predict(genes[kept])
            name = "none" if found is None else found.name
            refined.append((name, rmse(better, values[kept]), kendall_tau(better, values[kept])))
        if arguments.active:
            generator = np.random.default_rng([arguments.seed, repeat, 1])
            chosen.append(active(space, genes, values, order[:-unseen], kept, arguments.train, generator))
        covered.append(
            float(np.mean(np.abs(predicted - values[kept]) <= 1.96 * predictor.deviation(genes[kept])))
        )
    result = {
        "rmse": float(np.mean(errors)),
        "kendall_tau": float(np.mean(ranks)),
        "rmse_spread": float(np.std(errors)),
        "kendall_tau_spread": float(np.std(ranks)),
        "within_95_percent_interval": float(np.mean(covered)),
        "refined_rmse": float(np.mean([r[1] for r in refined])) if refined else None,
        "refined_kendall_tau": float(np.mean([r[2] for r in refined])) if refined else None,
        "refinements": [r[0] for r in refined],
        **(summary(chosen, errors, ranks) if chosen else {}),
        "fit_seconds": float(np.median(seconds)),
        "networks": len(genes),
        "train": arguments.train,
        "repeats": arguments.repeats,
        "seed": arguments.seed,
        "environment": environment(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
