"""Pruned networks beside smaller sub-networks of the same supernet, at equal predicted and equal measured
time.

    python -m benchmarks.pruning --space digits-mbv3 --dataset digits --seeds 3

Each seed trains a supernet (or takes `--folder`'s), scores `--scored` sub-networks, and learns what pruning
costs from `--pruned` others. Rows of all widths are measured once by the agent's own code. At each of
`--budgets` shares of the range of predicted latencies the exact search takes its best `--candidates` in the
pruned space, and in the supernet's own; of each the best on validation is tested. All files of a seed are
timed in the same rounds, and the pruned network is held against the straight line between the sub-networks
to both sides of its measured time.

`gain_points`: test accuracy over the sub-network's, mean and standard error over budgets and seeds;
`gain_loss`: how much lower its mean loss on test is. `refit_points`: over the same network without the
refit. `chain_score`: predicted score of the joint search less that of the best sub-network pruned
afterwards, at the same budget.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.controls import mean_and_error, scaled
from benchmarks.environment import environment
from benchmarks.lut_error import Bench
from benchmarks.trained import clock, options, seeded
from latency_tables.dense import DenseTable
from supernets.accuracy.predictor import QualityPredictor
from supernets.accuracy.pruning import PruningPredictor
from supernets.accuracy.reduced import reduced_score
from supernets.data.catalog import load_dataset
from supernets.delivery.export import export_operators
from supernets.delivery.format import Delivery
from supernets.delivery.passes import PLAIN, Source, passed
from supernets.delivery.pipeline import deliver
from supernets.delivery.pruned_scores import losses_alone, random_pruned
from supernets.delivery.rounded_scores import RoundedEvaluator
from supernets.errors import InfeasibleBudget
from supernets.experiments.controls import train_quietly
from supernets.search.exact import strategy as exact
from supernets.search.problem import Constraint, Problem
from supernets.search.restriction import at_resolutions, precisions_alone, restricted
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import all_operators, dense_from, lower
from supernets.spaces.space import Space
from supernets.tasks.catalog import task_of
from supernets.tasks.data import Data
from supernets.training.catalog import recipe_named
from supernets.training.evaluation import score

BETWEEN = 2  # sub-networks for each budget, so that lines between them are short
CHAIN = (1.0, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4)
SHARES = (0.08, 0.6)
_AT_A_TIME = 500


def on_test(network: nn.Module, data: Data, condition: int) -> dict[str, float]:
    """Accuracy and mean loss."""
    task, rows = task_of(data), np.arange(len(data.split("test")))
    total, losses = np.zeros(()), 0.0
    for start in range(0, len(rows), _AT_A_TIME):
        x, y = task.examples(data, "test", condition, rows[start : start + _AT_A_TIME])
        with torch.no_grad():
            logits = network(x)
        total = total + task.tally(logits, y)
        losses += float(task.loss(logits, y)) * len(x)
    return {"accuracy": task.quality(total), "loss": losses / len(rows)}


def best_of(
    evaluator: RoundedEvaluator, space: Space, score: DenseTable, cost: DenseTable, budget: float, wanted: int
) -> tuple[Architecture, float]:
    """(of the best few by predicted score the best on validation, predicted milliseconds)."""
    problem = Problem(space.chain, score, (Constraint("latency_ms", cost, budget),), wanted)
    found = exact.solve(problem).candidates
    networks = [space.architecture(one.genes) for one in found]
    best = int(np.argmax([evaluator.quality(one) for one in networks]))
    return networks[best], float(found[best].costs[0])


def chained(
    pruned: Space, plain: Space, scores: tuple[DenseTable, ...], costs: tuple[DenseTable, ...], budget: float
) -> float:
    """Best score of a sub-network that was found up to 1.4 times over the budget and then pruned into it."""
    best = -np.inf
    for factor in CHAIN:
        try:
            first = Problem(plain.chain, scores[1], (Constraint("ms", costs[1], factor * budget),))
            whole = plain.architecture(exact.solve(first).candidates[0].genes)
            then = Problem(pruned.chain, scores[0], (Constraint("ms", costs[0], budget),))
            only = restricted(then, precisions_alone(pruned, whole, widths=True))
            best = max(best, exact.solve(only).candidates[0].score)
        except InfeasibleBudget:
            continue
    return float(best)


def one_seed(
    asked: argparse.Namespace,
    seed: int,
    folder: Path,
    ms: dict[str, float],
    bench: Bench,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """All of it with one supernet. ms: of rows, by operator."""
    data = load_dataset(asked.dataset)
    space = space_named(asked.space).with_classes(len(data.classes))
    recipe = scaled(recipe_named(asked.recipe), asked.share)
    supernet = train_quietly(space, data, recipe, seed, folder, "cpu")[0]
    say("trained")
    generator = np.random.default_rng(seed)
    predictor = score(task_of(data).evaluator(supernet, data, "validation"), asked.scored, generator)
    say("scored")
    plain = space.at([asked.resolution])
    pruned = plain.with_pruning()
    evaluator = RoundedEvaluator(Source(supernet, plain.smallest(), data), "validation")
    found = learnt(evaluator, predictor, pruned, asked.pruned, generator)
    say("learnt what pruning costs")
    scores = (reduced_score(predictor, [found], pruned), at_resolutions(predictor.dense(), space, plain))
    costs = tuple(dense_from(one, lambda op: ms[op.text]) for one in (pruned, plain))
    low, high = exact.bounds(costs[1])
    shares = np.linspace(*SHARES, BETWEEN * (asked.budgets - 1) + 1)
    budgets = [float(low + share * (high - low)) for share in shares]
    chosen: dict[str, tuple[Architecture, float]] = {}
    for number, budget in enumerate(budgets):
        chosen[f"sub {number}"] = best_of(evaluator, plain, scores[1], costs[1], budget, asked.candidates)
        if number % BETWEEN == 0:
            taken = best_of(evaluator, pruned, scores[0], costs[0], budget, asked.candidates)
            chosen[f"pruned {number}"] = taken
    sources = {name: replace(evaluator.source, architecture=one) for name, (one, _) in chosen.items()}
    written = {name: deliver(one, Delivery()) for name, one in sources.items()}
    say("delivered")
    timed = bench.profile({name: one.file for name, one in written.items()}).measured
    told = {
        name: {
            "predicted_ms": chosen[name][1],
            "measured_ms": timed[name].latency_ms,
            "blocks_pruned": len((getattr(one.network, "refit", None) or {"blocks": ()})["blocks"]),
            **on_test(one.network, data, asked.resolution),
        }
        for name, one in written.items()
    }
    subs = sorted((told[f"sub {n}"] for n in range(len(budgets))), key=lambda one: one["measured_ms"])
    rows = []
    for number in range(0, len(budgets), BETWEEN):
        one, name = told[f"pruned {number}"], f"pruned {number}"
        raw = passed(replace(sources[name], refit=False), PLAIN)
        joint = float(scores[0].price(pruned.genes(chosen[name][0])[None])[0])
        best = exact.solve(Problem(pruned.chain, scores[0], (Constraint("ms", costs[0], budgets[number]),)))
        rows.append(
            {
                "budget_ms": budgets[number],
                "pruned": one,
                "same_budget": told[f"sub {number}"],
                "at_measured": {
                    key: interpolated(subs, one["measured_ms"], key) for key in ("accuracy", "loss")
                },
                "unfitted": on_test(raw, data, asked.resolution),
                "score": joint,
                "chain_score": best.candidates[0].score
                - chained(pruned, plain, scores, costs, budgets[number]),
            }
        )
    held_out = found.held_out
    return {
        "seed": seed,
        "kendall_tau": None if held_out is None else held_out.kendall_tau,
        "rmse": None if held_out is None else held_out.rmse,
        "subs": subs,
        "rows": rows,
    }


def learnt(
    evaluator: RoundedEvaluator,
    predictor: QualityPredictor,
    space: Space,
    networks: int,
    generator: np.random.Generator,
) -> PruningPredictor:
    """What pruning costs, as a job learns it."""
    alone = losses_alone(evaluator.source, space, "validation")
    drawn = random_pruned(space, networks, generator)
    return PruningPredictor.fit(predictor, alone, drawn, [evaluator.quality(one) for one in drawn])


def interpolated(networks: Sequence[dict[str, float]], ms: float, name: str) -> float:
    """A value of the sub-networks at that measured time."""
    times = [one["measured_ms"] for one in networks]
    return float(np.interp(ms, times, [one[name] for one in networks]))


def summary(seeds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means and standard errors over budgets and seeds."""
    rows = [row for one in seeds for row in one["rows"]]

    def gain(told: str, beside: str) -> tuple[float | None, float | None]:
        sign = 1 if told == "accuracy" else -1
        return mean_and_error((sign * (row["pruned"][told] - row[beside][told]) for row in rows), 100)

    return {
        "gain_points": {
            "at equal predicted": gain("accuracy", "same_budget"),
            "at equal measured": gain("accuracy", "at_measured"),
        },
        "gain_loss_percent": {
            "at equal predicted": gain("loss", "same_budget"),
            "at equal measured": gain("loss", "at_measured"),
        },
        "refit_points": gain("accuracy", "unfitted"),
        "refit_loss_percent": gain("loss", "unfitted"),
        "chain_score": [row["chain_score"] for row in rows],
        "by_budget": [
            mean_and_error(
                (
                    one["rows"][n]["pruned"]["accuracy"] - one["rows"][n]["at_measured"]["accuracy"]
                    for one in seeds
                ),
                100,
            )
            for n in range(len(seeds[0]["rows"]))
        ],
        "measured_over_predicted": float(
            np.median([row["pruned"]["measured_ms"] / row["pruned"]["predicted_ms"] for row in rows])
        ),
    }


def main() -> None:
    """Print one JSON object."""
    parser = options(__doc__, recipe="quick")
    parser.add_argument("--share", type=float, default=1.0, help="share of the recipe's epochs")
    parser.add_argument("--scored", type=int, default=160, help="sub-networks scored whole")
    parser.add_argument("--pruned", type=int, default=60, help="sub-networks scored pruned")
    parser.add_argument("--budgets", type=int, default=5)
    parser.add_argument("--candidates", type=int, default=4)
    asked = parser.parse_args()
    say = clock()
    classes = len(load_dataset(asked.dataset).classes)
    space = space_named(asked.space).with_classes(classes).at([asked.resolution])
    operators = all_operators(space.with_pruning(), asked.resolution)
    with TemporaryDirectory() as temporary:
        place = Path(temporary)
        sentinel = export_operators(lower(space, space.largest())[:1])
        bench = Bench(place, *sentinel.values(), asked.seed)
        files = {op.text: file for op, file in export_operators(operators).items()}
        say(f"{len(files)} rows are files")
        ms = {name: m.latency_ms for name, m in bench.profile(files).measured.items()}
        say("measured")
        seeds = [one_seed(asked, seed, folder, ms, bench, say) for seed, folder, _ in seeded(asked)]
    said = {"space": asked.space, "dataset": asked.dataset, "resolution": asked.resolution}
    print(json.dumps({**said, **summary(seeds), "seeds": seeds, "environment": environment()}))


if __name__ == "__main__":
    main()
