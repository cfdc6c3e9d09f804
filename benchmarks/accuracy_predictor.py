"""Held-out error of the accuracy predictor on measured sub-networks of a space.

The file is a (gzipped) CSV with the columns depth, kernel, expand, resolution and top1_percent, as in
DyNAS-T's once-for-all data. Each repeat fits on `--train` networks drawn at random and is judged on all others.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from benchmarks.environment import environment
from supernets.accuracy import AccuracyPredictor, kendall_tau, rmse
from supernets.accuracy_refinement import refine
from supernets.scores import read_scores
from supernets.spaces.catalog import space_named


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CSV of measured sub-networks, .gz allowed")
    parser.add_argument("--space", default="ofa-mbv3")
    parser.add_argument("--train", type=int, default=200, help="networks to fit on")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--refine", action="store_true", help="judge stage pairs and a perceptron too, where they win held out")
    arguments = parser.parse_args()
    genes, values = read_scores(space_named(arguments.space), arguments.data)
    space = space_named(arguments.space)
    errors, ranks, covered, seconds = [], [], [], []
    refined: list[tuple[str, float, float]] = []
    for repeat in range(arguments.repeats):
        order = np.random.default_rng([arguments.seed, repeat]).permutation(len(genes))
        seen, kept = order[: arguments.train], order[arguments.train :]
        start = time.perf_counter()
        predictor = AccuracyPredictor.fit(space, genes[seen], values[seen], folds=0)
        seconds.append(time.perf_counter() - start)
        predicted = predictor.predict(genes[kept])
        errors.append(rmse(predicted, values[kept]))
        ranks.append(kendall_tau(predicted, values[kept]))
        if arguments.refine:
            found = refine(predictor)
            better = predicted if found is None else found.predict(genes[kept])
            name = "none" if found is None else found.name
            refined.append((name, rmse(better, values[kept]), kendall_tau(better, values[kept])))
        covered.append(float(np.mean(np.abs(predicted - values[kept]) <= 1.96 * predictor.deviation(genes[kept]))))
    result = {
        "rmse": float(np.mean(errors)),
        "kendall_tau": float(np.mean(ranks)),
        "rmse_spread": float(np.std(errors)),
        "kendall_tau_spread": float(np.std(ranks)),
        "within_95_percent_interval": float(np.mean(covered)),
        "refined_rmse": float(np.mean([r[1] for r in refined])) if refined else None,
        "refined_kendall_tau": float(np.mean([r[2] for r in refined])) if refined else None,
        "refinements": [r[0] for r in refined],
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
