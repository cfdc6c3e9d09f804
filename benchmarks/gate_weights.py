"""Whether the weights that a gate training leaves are better than the supernet's, for the networks that it
finds.

For each budget: validation accuracy of the most probable networks with both sets of weights, and of the exact
search's.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environment import environment
from supernets.data.catalog import load_dataset
from supernets.data.splits import Dataset
from supernets.network import Supernet
from supernets.search.exact import strategy as exact
from supernets.search.gradient.gate_job import gate_settings, steps_per_epoch, train_gates
from supernets.search.likely import most_probable
from supernets.search.problem import Constraint, Problem
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import dense_from
from supernets.training.catalog import recipe_named
from supernets.training.evaluation import Evaluator, score
from supernets.training.job import WEIGHTS, Job, load_supernet, train


def compared(
    supernet: Supernet, dataset: Dataset, recipe_name: str, shares: list[float], seed: int
) -> list[dict[str, Any]]:
    """One entry for each budget, a share of the range of multiply-adds."""
    space, recipe = supernet.space, recipe_named(recipe_name)
    settings = gate_settings(recipe, steps_per_epoch(dataset, recipe))
    own = Evaluator(supernet, dataset)
    score_table = score(own, 160, np.random.default_rng(seed)).dense()
    cost = dense_from(space, lambda op: op.macs / 1e6)
    least, largest = exact.bounds(cost)
    found = []
    for share in shares:
        limit = Constraint("macs", cost, least + share * (largest - least))
        problem = Problem(space.chain, score_table, (limit,), 5)
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            training = train_gates(
                problem,
                supernet,
                space,
                dataset,
                recipe,
                settings,
                seed=seed,
                folder=Path(folder),
                inputs="benchmark",
            )
        seconds = time.perf_counter() - started
        gates = [
            space.architecture(c.genes)
            for c in most_probable(problem, training.search.choices.logs()).candidates
        ]
        best = [space.architecture(c.genes) for c in exact.solve(problem).candidates]
        trained = Evaluator(training.supernet.eval(), dataset)
        found.append(
            {
                "budget_share": share,
                "supernet_weights": float(own.qualities(gates).mean()),
                "gate_trained_weights": float(trained.qualities(gates).mean()),
                "exact_search": float(own.qualities(best).mean()),
                "entropy": training.history[-1].entropy,
                "epochs": [settings.warmup_epochs, settings.epochs],
                "seconds": seconds,
            }
        )
    return found


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="digits-mbv3")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.3])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keeps the supernet between runs")
    arguments = parser.parse_args()
    dataset = load_dataset(arguments.dataset)
    space = space_named(arguments.space).with_classes(len(dataset.classes))
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        train(Job(arguments.space, arguments.dataset, str(folder), arguments.recipe, arguments.seed))
        supernet = load_supernet(folder / WEIGHTS, space)
    budgets = compared(supernet, dataset, arguments.recipe, arguments.shares, arguments.seed)
    keys = ("supernet_weights", "gate_trained_weights", "exact_search")
    means = {key: float(np.mean([b[key] for b in budgets])) for key in keys}
    named = {key: getattr(arguments, key) for key in ("space", "dataset", "recipe", "seed")}
    print(json.dumps({**means, **named, "budgets": budgets, "environment": environment()}))


if __name__ == "__main__":
    main()
