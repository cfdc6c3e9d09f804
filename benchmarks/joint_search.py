"""The exact front of architecture x precision, beside a chain: the best network in float32, then its best
precision.

    python -m benchmarks.joint_search --space ofa-mbv3 --resolution 192 [--table ROWS.json] [--prune]

Rows: of a latency table (the service's own JSON) with rows in both precisions, else
modelled from work with gains as they were measured on a processor without VNNI (docs/compression.md): large
pictures lose in 8 bit, small ones and the head gain. Scores are modelled in both cases: they grow with the
work of a block, and each block in 8 bit loses a random share of what a block is worth, drawn once.

The chain is given every advantage: for each budget it tries networks that in float32 are up to `CHAIN` times
over it, takes the best precision of each exactly, and the best of all that keep the budget.

`lines`: the front and the chains at the budgets, in percent of the front's range of scores; `python -m
benchmarks.pictures` draws them.

With `--prune` the joint search has the widths inside blocks too, and the chain is three searches: the
network, its channels (in float32, up to as much over the budget), its precisions. Cutting out channels is
modelled to lose a random share of a block's worth, drawn once: about as much per channel as a narrower whole
block loses.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.environment import environment
from benchmarks.search import milliseconds, noisy
from latency_tables.dense import DenseTable, Genes
from latency_tables.formats import native_json
from latency_tables.operators import Operator
from supernets.errors import InfeasibleBudget
from supernets.search import evolution
from supernets.search.exact import strategy as exact
from supernets.search.problem import Candidate, Constraint, Problem
from supernets.search.restriction import added, excluded, named_values, precisions_alone, restricted
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import dense_from, dense_latency, lifted
from supernets.spaces.space import Space

PRECISIONS = ("float32", "int8")
BUDGETS = 10
EVOLVED_EVERY = 4
CHANNELS = 0.06  # of a block's worth, for all of its channels
CHAIN = (1.0, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4)


def modelled(generator: np.random.Generator) -> Callable[[Operator], float]:
    """Milliseconds of an operator: work with noise, over the gain that 8 bit has on maps of that size."""
    noise: dict[str, float] = {}

    def latency(op: Operator) -> float:
        own = noise.setdefault(op.text, float(np.exp(generator.normal(0, 0.05))))
        if op.family in ("quantize", "dequantize"):
            return own * (0.003 + op.light_operations / 2e6)
        side = op.inputs[0].shape[-1]
        gain = 0.75 if side > 90 else 1.0 if side > 40 else 1.3 if side > 12 else 1.45
        return own * (0.01 + op.macs / 2e7) / (gain if op.precision == "int8" else 1.0)

    return latency


def scores(space: Space, mixed: Space, generator: np.random.Generator) -> DenseTable:
    """Worth of every network of `mixed`; the best block of a network is worth about 1."""
    plain = noisy(dense_from(space, lambda op: np.log1p(op.macs) / 20), generator, 0.05)
    found = lifted(plain, mixed)
    for stage, blocks in zip(mixed.stages, found.blocks, strict=True):
        for number, options in enumerate(stage.choices):
            loss = 0.02 * generator.exponential()
            for c, choice in enumerate(options):
                if choice.precision == "int8":
                    blocks[..., number, c] -= loss
        if stage.pruned:
            for number, options in enumerate(stage.choices):
                lost = CHANNELS * generator.exponential()
                for c, choice in enumerate(options):
                    blocks[..., number, c] -= lost * (1 - choice.kept)
    return found


def chain(
    plain: Space, mixed: Space, score: DenseTable, cost: DenseTable, budget: float, over: tuple[float, ...]
) -> float:
    """Best score of a network that was found in float32 and then given its best precision within the budget;
    minus infinity where none keeps it."""
    # In float32 a choice has the number that it has among both precisions.
    floats = DenseTable(
        plain.chain,
        cost.constant,
        tuple(b[..., :a] for b, a in zip(cost.blocks, _choices(plain), strict=True)),
        cost.depth,
    )
    worth = replace(
        floats, blocks=tuple(b[..., :a] for b, a in zip(score.blocks, _choices(plain), strict=True))
    )
    best = -np.inf
    for factor in over:
        try:
            limit = Constraint("ms", floats, budget * factor)
            genes = exact.solve(Problem(plain.chain, worth, (limit,))).candidates[0].genes
            own = precisions_alone(mixed, mixed.architecture(genes))
            joint = Problem(mixed.chain, score, (Constraint("ms", cost, budget),))
            best = max(best, exact.solve(restricted(joint, own)).candidates[0].score)
        except InfeasibleBudget:
            continue
    return best


def three_steps(
    joint: Space, score: DenseTable, cost: DenseTable, budget: float, over: tuple[float, ...]
) -> float:
    """Best score of a network that was found whole and in float32, then pruned, then given its best
    precisions within the budget; minus infinity where none keeps it."""
    plain = excluded(joint, {"precision": ["int8"]})
    cut = [value for value in named_values(joint)["kept"] if value != 1]
    best = -np.inf

    def solved(limit: float, mask: DenseTable) -> Candidate | None:
        problem = Problem(joint.chain, score, (Constraint("ms", cost, limit),))
        try:
            return exact.solve(restricted(problem, mask)).candidates[0]
        except InfeasibleBudget:
            return None

    for number, factor in enumerate(over):
        first = solved(budget * factor, excluded(joint, {"precision": ["int8"], "kept": cut}))
        if first is None:
            continue
        own = precisions_alone(joint, joint.architecture(first.genes), widths=True)
        for narrower in over[: number + 1]:
            second = solved(budget * narrower, added(plain, own))
            if second is None:
                continue
            alone = precisions_alone(joint, joint.architecture(second.genes))
            third = solved(budget, alone)
            best = max(best, -np.inf if third is None else third.score)
    return best


def _choices(space: Space) -> list[int]:
    return [max(len(options) for options in stage.choices) for stage in space.stages]


def measure(
    space_name: str, resolution: int, table: Path | None, seed: int, repeats: int, prune: bool = False
) -> dict[str, object]:
    """All figures. Gains in percent of the range of scores on the front."""

    def chain_of(over: tuple[float, ...]) -> float:
        if prune:
            return three_steps(mixed, score, cost, budget, over)
        return chain(plain, mixed, score, cost, budget, over)

    generator = np.random.default_rng(seed)
    plain = space_named(space_name).at([resolution])
    mixed = (plain.with_pruning() if prune else plain).with_precisions(PRECISIONS)
    score = scores(plain, mixed, generator)
    if table is None:
        cost = dense_from(mixed, modelled(generator))
    else:
        cost = dense_latency(mixed, native_json.read(table.read_bytes()))
    front = exact.front(score, cost)
    spread = float(front.scores[-1] - front.scores[0])
    least, most = float(front.costs[0]), float(front.costs[-1])
    gains, float_gains = list[float | None](), list[float | None]()
    faster, evolved = list[float](), list[float]()
    lines: dict[str, list[float | None]] = {"budget_ms": [], "chain": [], "float_first": []}

    def share_of(score: float) -> float | None:
        """Of the front's range of scores, percent."""
        return 100 * (score - float(front.scores[0])) / spread if np.isfinite(score) else None

    for number, share in enumerate(np.linspace(0.05, 0.8, BUDGETS)):
        budget = least + share * (most - least)
        joint = float(front.scores[front.within(budget)])
        sequence, strict = chain_of(CHAIN), chain_of((1.0,))
        gains.append(_gain(joint, sequence, spread))
        float_gains.append(_gain(joint, strict, spread))
        for name, value in (
            ("budget_ms", budget),
            ("chain", share_of(sequence)),
            ("float_first", share_of(strict)),
        ):
            lines[name].append(value)
        # The least time in which the joint search has what the chain has at the budget.
        cheapest = (
            front.costs[np.searchsorted(front.scores, sequence - 1e-9)] if sequence > -np.inf else budget
        )
        faster.append(budget / float(cheapest))
        if number % EVOLVED_EVERY:
            continue
        problem = Problem(mixed.chain, score, (Constraint("ms", cost, budget),))
        rival = evolution.solve(problem, np.random.default_rng([seed, number]))
        evolved.append(100 * (joint - rival.candidates[0].score) / spread)
    return {
        "space": space_name,
        "resolution": resolution,
        "rows": "modelled" if table is None else table.name,
        "networks": float(mixed.count()),
        "front_points": len(front),
        "front_ms": milliseconds(lambda: exact.front(score, cost), repeats),
        "front_processor_ms": milliseconds(lambda: exact.front(score, cost), repeats, time.process_time),
        "budgets": BUDGETS,
        "joint_below_the_chain": sum(gain is not None and gain < -1e-9 for gain in gains),
        "gain_over_the_chain_percent": gains,
        "gain_over_float_first_percent": float_gains,
        "faster_at_the_chains_score": faster,
        "evolution_gap_percent": evolved,
        "precisions_on_the_front": _share(mixed, front.genes),
        "pruned_on_the_front": _pruned_share(mixed, front.genes),
        "lines": {
            **lines,
            "front_at_ms": front.costs.tolist(),
            "front": [share_of(float(one)) for one in front.scores],
        },
    }


def _gain(joint: float, sequence: float, spread: float) -> float | None:
    """In percent; None where the chain finds nothing within the budget."""
    return 100 * (joint - sequence) / spread if np.isfinite(sequence) else None


def _share(mixed: Space, genes: Genes) -> float:
    """Blocks in 8 bit among all of the front's networks."""
    chosen = [c.precision for row in genes for s in mixed.architecture(row).stages for c in s.blocks]
    return chosen.count("int8") / len(chosen)


def _pruned_share(mixed: Space, genes: Genes) -> float:
    """Pruned blocks among all of the front's networks."""
    chosen = [c.kept for row in genes for s in mixed.architecture(row).stages for c in s.blocks]
    return sum(kept < 1 for kept in chosen) / len(chosen)


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="ofa-mbv3")
    parser.add_argument("--resolution", type=int, default=192)
    parser.add_argument("--table", type=Path, help="a latency table with rows in both precisions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=20, help="of the front; the median is reported")
    parser.add_argument("--prune", action="store_true", help="the widths inside blocks are to choose, too")
    asked = parser.parse_args()
    found = measure(asked.space, asked.resolution, asked.table, asked.seed, asked.repeats, prune=asked.prune)
    print(json.dumps({**found, "seed": asked.seed, "environment": environment()}))


if __name__ == "__main__":
    main()
