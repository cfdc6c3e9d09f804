"""How often is a budget broken by networks chosen as closest under it, with and without the upper bound?

    python -m benchmarks.budget --latencies ../shared/data/fbnet_latency_ms.csv.gz --target titanxp_1 --samples 20 \
        --confidence 0.95 --seed 0
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from benchmarks.environment import environment
from benchmarks.latency_files import Latencies, add_arguments, chosen, read
from benchmarks.new_device import pick
from latency_tables.dense import Array
from latency_tables.transfer import transfer

BUDGETS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Quantiles of the target's latencies."""


def closest_under(predicted: Array, budget: float, picks: int) -> Array:
    """Indices of the networks whose prediction is closest under the budget."""
    feasible = np.flatnonzero(predicted <= budget)
    return feasible[np.argsort(-predicted[feasible])[:picks]]


def one_seed(how: str, data: Latencies, prior: Any, latencies: Array, args: argparse.Namespace, seed: int) -> list[list[float]]:
    """[broken naive, broken with the bound, share of the budget used with it] for each budget that can be met."""
    index = pick(how, prior, data, args.samples, np.random.default_rng([args.seed, seed]))
    fit = transfer(prior, data.uses[index], latencies[index])
    rest = np.setdiff1d(np.arange(len(latencies)), index)
    predicted, measured = fit.predict(data.uses[rest]), latencies[rest]
    upper = fit.margin(args.confidence) * predicted
    found = []
    for budget in np.quantile(latencies, BUDGETS):
        naive, bound = closest_under(predicted, budget, args.picks), closest_under(upper, budget, args.picks)
        if len(naive) and len(bound):
            broken = [float((measured[chosen_] > budget).mean()) for chosen_ in (naive, bound)]
            found.append([*broken, float((measured[bound] / budget).mean())])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--picks", type=int, default=20, help="networks chosen for each budget")
    parser.add_argument("--pick", choices=("design", "random"), default="random", help="how the measured networks are chosen")
    args = parser.parse_args()
    data = read(args.latencies)
    sources, targets = chosen(args, data)
    results = []
    for target in targets:
        prior = data.prior([s for s in (sources or data.devices) if s != target])
        rows = [row for seed in range(args.seeds) for row in one_seed(args.pick, data, prior, data.devices[target], args, seed)]
        means = np.mean(rows, axis=0).round(5).tolist()
        results.append({"device": target, **dict(zip(("broken_naive", "broken_bound", "budget_used"), means, strict=True))})
    keys = ("broken_naive", "broken_bound", "budget_used")
    report = {
        **{key: round(float(np.mean([r[key] for r in results])), 5) for key in keys},
        "devices": results,
        "form": data.form,
        "samples": args.samples,
        "confidence": args.confidence,
        "pick": args.pick,
        "seed": args.seed,
        **environment(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
