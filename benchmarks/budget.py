"""How often is a budget broken by networks chosen as closest under it, with and without the upper bound?

    python -m benchmarks.budget --latencies ../shared/data/fbnet_latency_ms.csv.gz --target titanxp_1 \
        --samples 20 --confidence 0.95 --seed 0

With `--measured-candidates 3` the networks are chosen as a search job does it where an agent is there: the
best few below the budget by prediction are measured (the recorded latency with noise), and the best that
keeps it is delivered. Each of the searches sees a random half of all networks, for another task has other
networks on its front.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from benchmarks.environment import environment
from benchmarks.latency_files import Latencies, add_arguments, chosen, read
from benchmarks.new_device import pick
from latency_tables.dense import Array
from latency_tables.prediction.transfer import transfer
from supernets.search.measured import ROUNDS, Choice, Measured, Reading, Readings, settle

BUDGETS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Quantiles of the target's latencies."""
KEYS = ("broken_naive", "broken_bound", "budget_used_bound")
DELIVERED = ("broken_measured", "budget_used_measured")
SHARE = 0.5
"""Of all networks, those that one search chooses from."""
Indices = npt.NDArray[np.int64]


def closest_under(predicted: Array, budget: float, picks: int) -> Indices:
    """Indices of the networks whose prediction is closest under the budget."""
    feasible: Indices = np.flatnonzero(predicted <= budget)
    order: Indices = np.argsort(-predicted[feasible])
    return feasible[order[:picks]]


def one_seed(
    how: str, data: Latencies, prior: Any, latencies: Array, args: argparse.Namespace, seed: int
) -> list[list[float]]:
    """[broken naive, broken with the bound, share of the budget used with it] for each budget that can be
    met.

    Where networks are measured: also [broken, share used] of those that are delivered then.
    """
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
            if args.measured_candidates:
                found[-1] += by_measurement(predicted, measured, float(budget), args, seed)
    return found


def deliver(
    predicted: Array, latencies: Array, budget: float, count: int, noise: float, generator: Generator
) -> int:
    """Index of the network that a search delivers which measures `count` networks at a time; the slower, the
    better."""
    left = np.where(generator.random(len(predicted)) < SHARE, predicted, np.inf)
    choice = Choice[int]((budget,), (1.0,))
    for _ in range(ROUNDS):
        picked = closest_under(left, choice.limits_ms()[0], count)
        if not len(picked):
            picked = np.argsort(left)[
                :count
            ]  # nothing is that fast by prediction: what comes closest decides

        def measure(asked: list[int], times: int, picked: Indices = picked) -> list[Readings]:
            noisy = latencies[picked[asked], None] * np.exp(generator.normal(0, noise, (len(asked), times)))
            return [[[Reading(float(ms), noise) for ms in row]] for row in noisy]

        for index, latencies_ in zip(picked.tolist(), settle(len(picked), measure, (budget,)), strict=True):
            assert latencies_ is not None
            choice.found.append(Measured(index, (float(predicted[index]),), latencies_[0].ms, latencies_))
        left[picked] = np.inf
        if choice.enough():
            break
    chosen_ = choice.chosen()
    return min(choice.found, key=lambda m: m.quality).key if chosen_ is None else chosen_.key


def by_measurement(
    predicted: Array, latencies: Array, budget: float, args: argparse.Namespace, seed: int
) -> list[float]:
    """[broken, share of the budget used] of as many searches as networks are picked for a budget
    elsewhere."""
    generator = np.random.default_rng([args.seed, seed, round(1e6 * budget)])
    found = [
        deliver(predicted, latencies, budget, args.measured_candidates, args.noise, generator)
        for _ in range(args.picks)
    ]
    used = latencies[found] / budget
    return [float((used > 1).mean()), float(used.mean())]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--picks", type=int, default=20, help="networks chosen for each budget")
    parser.add_argument(
        "--pick", choices=("design", "random"), default="random", help="how the measured networks are chosen"
    )
    parser.add_argument(
        "--measured-candidates",
        type=int,
        default=0,
        help="networks measured at a time for each budget; 0: chosen by the bound",
    )
    parser.add_argument(
        "--noise", type=float, default=0.02, help="relative standard deviation added to each measurement"
    )
    args = parser.parse_args()
    data = read(args.latencies)
    sources, targets = chosen(args, data)
    keys = [*KEYS, *(DELIVERED if args.measured_candidates else ())]
    results = []
    for target in targets:
        prior = data.prior([s for s in (sources or data.devices) if s != target])
        rows = [
            row
            for seed in range(args.seeds)
            for row in one_seed(args.pick, data, prior, data.devices[target], args, seed)
        ]
        means = dict(zip(keys, np.mean(rows, axis=0).round(5).tolist(), strict=True))
        # Of what is delivered: by measurement where networks are measured, else by the bound.
        means |= {
            name: means.get(f"{name}_measured", means[f"{name}_bound"]) for name in ("broken", "budget_used")
        }
        results.append({"device": target, **means})
    report = {
        **{
            key: round(float(np.mean([r[key] for r in results])), 5)
            for key in [*keys, "broken", "budget_used"]
        },
        "worst_broken": max(r["broken"] for r in results),
        "worst_budget_used": min(r["budget_used"] for r in results),
        "devices": results,
        "form": data.form,
        "samples": args.samples,
        "confidence": args.confidence,
        "pick": args.pick,
        "measured_candidates": args.measured_candidates,
        "noise": args.noise if args.measured_candidates else None,
        "seed": args.seed,
        **environment(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
