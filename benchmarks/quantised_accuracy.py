"""What a search over precisions gains in speed and costs in accuracy, and how well that is predicted.

    python -m benchmarks.quantised_accuracy --space cifar-mbv3 --dataset glyphs --share 0.3 --seeds 3

All rows of the space in both precisions, and `--calibration` whole networks in turn in float32, in int8 and
half of each, are measured once by the agent's own code. Each seed trains a supernet (or takes `--folder`'s),
scores `--scored` sub-networks in float32 and `--rounded` of others with random blocks in int8. At `--budgets`
latencies four networks are chosen by exact search, the best of a few candidates by validation:

`float32`: the best in float32. `mixed`: the best in any precisions that is predicted to be `--faster` times
as fast. `same`: that network in float32. `control`: the best in float32 that is as fast as the mixed one. All
of them, and the mixed one all in int8 (`int8`), are timed in the same rounds as files and run over the test
split.

`gain`, `loss_points`: mixed against float32, in measured time and in points of test accuracy.
`control_gain`, `control_loss_points`: the control against float32. `same_gain`, `same_loss_points`: mixed
against the same network in float32. Medians and means over budgets and seeds; `worst_`, `least_`: over all.
`kendall_tau`: of predicted and measured qualities of rounded networks, held out. `ranking`: what predicts
them in float32 (`additive`, or what was better held out); `additive_kendall_tau`: with the additive score.

`--likelihoods` ranks networks by the log-likelihood of right answers instead of counting them, as
supernets are that were trained from given weights.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.controls import scaled
from benchmarks.environment import environment
from benchmarks.lut_error import CONTEXT, Bench
from benchmarks.mixed_precision import files_of
from benchmarks.trained import clock, mean_likelihoods, options, seeded
from latency_tables.dense import Array, DenseTable, Genes
from latency_tables.measurement import Measurement
from latency_tables.prediction.calibration import Calibration
from latency_tables.prediction.refine import refine as corrected
from latency_tables.table import LatencyTable
from supernets.accuracy.choice import draw, score_in_rounds
from supernets.accuracy.likelihood import LIKELIHOOD, Scale
from supernets.accuracy.precision import PrecisionPredictor
from supernets.accuracy.predictor import QualityPredictor
from supernets.accuracy.refinement import refine, summary
from supernets.data.catalog import load_dataset
from supernets.delivery.export import export_operators, onnx_session
from supernets.delivery.feeding import OnnxFile
from supernets.delivery.format import Delivery
from supernets.delivery.passes import Source
from supernets.delivery.pipeline import deliver
from supernets.delivery.precision import FLOAT32, INT8, USUAL, plan_of
from supernets.delivery.rounded_scores import (
    LEARN_ROUNDING,
    LEARN_SAMPLES,
    RoundedEvaluator,
    block_names,
    mean_sensitivity,
    random_precisions,
    score_rounded,
)
from supernets.delivery.testing import tested
from supernets.experiments.controls import train_quietly
from supernets.network import Supernet
from supernets.search.exact import strategy as exact
from supernets.search.pareto import Front
from supernets.search.restriction import added, excluded
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import all_operators, known_latency, lower
from supernets.spaces.mixes import in_precisions, mixed_in_turn
from supernets.spaces.space import Space
from supernets.tasks.catalog import task_of
from supernets.tasks.data import Data
from supernets.training.catalog import recipe_named
from supernets.training.evaluation import Evaluator, score

CANDIDATES = 4


def scored(
    supernet: Supernet, data: Data, networks: int, generator: np.random.Generator, *, likelihoods: bool
) -> QualityPredictor:
    """In float32, by counted answers or by log-likelihood."""
    if not likelihoods:
        return score(task_of(data).evaluator(supernet, data, "validation"), networks, generator)
    space, evaluator = supernet.space, Evaluator(supernet, data, likelihoods=True)

    def values(genes: Genes) -> Array:
        return mean_likelihoods(evaluator, [space.architecture(row) for row in genes])

    return score_in_rounds(space, networks, generator, values, metric=LIKELIHOOD)


@dataclass(frozen=True)
class Prices:
    """Milliseconds of every network of a space in any precisions, calibrated as a device's table is."""

    space: Space
    cost: DenseTable
    calibration: Calibration
    rows: int

    def in_float(self) -> DenseTable:
        """Infinite where a block is in int8."""
        return added(self.cost, excluded(self.space, {"precision": [INT8]}))


def priced(bench: Bench, mixed: Space, networks: int, seed: int) -> Prices:
    """Rows and whole networks with random weights, measured in common sessions."""
    generator = np.random.default_rng(seed)
    rows = sorted({op for resolution in mixed.resolutions for op in all_operators(mixed, resolution)})
    drawn = [mixed.architecture(row) for row in mixed.chain.sample(generator, networks)]
    whole = {f"network {i}": one for i, one in enumerate(mixed_in_turn(mixed, drawn, generator))}
    files = {op.text: file for op, file in export_operators(rows).items()} | files_of(mixed, whole)
    found = {name: m.latency_ms for name, m in bench.profile(files).measured.items()}
    table = LatencyTable(CONTEXT, {op: Measurement(found[op.text]) for op in rows})
    lowered = [lower(mixed, one) for one in whole.values()]
    times = [found[name] for name in whole]
    refined = corrected(table, lowered, [one.resolution for one in whole.values()], times)
    cost = refined.calibration.apply(known_latency(mixed, refined.table), mixed.resolutions)
    return Prices(mixed, cost, refined.calibration, len(rows))


def best_of(
    evaluator: RoundedEvaluator, space: Space, front: Front, limit_ms: float
) -> tuple[Architecture, float] | None:
    """(of the last networks of a front that keep a limit, the best by validation; its cost)."""
    last = front.within(limit_ms * (1 + 1e-9))
    if last is None:
        return None
    indices = range(max(0, last - CANDIDATES + 1), last + 1)
    candidates = [space.architecture(front.genes[i]) for i in indices]
    qualities = [evaluator.value(space.in_float(one), plan_of(lower(space, one))) for one in candidates]
    best = int(np.argmax(qualities))
    return candidates[best], float(front.costs[indices[best]])


def chosen_at(
    evaluator: RoundedEvaluator, prices: Prices, fronts: tuple[Front, Front], limit_ms: float, faster: float
) -> dict[str, tuple[Architecture, float]]:
    """Name -> (network, predicted ms) at one budget; without the names of what does not exist."""
    (plain, joint), space = fronts, prices.space
    best = best_of(evaluator, space, plain, limit_ms)
    if best is None:
        return {}
    found = {
        FLOAT32: best,
        "mixed": best_of(evaluator, space, joint, best[1] / faster),
        "control": best_of(evaluator, space, plain, best[1] / faster),
    }
    chosen = {name: one for name, one in found.items() if one is not None}
    if "mixed" in chosen:
        for name, precision in (("same", FLOAT32), (INT8, INT8)):
            other = in_precisions(space, chosen["mixed"][0], repeat(precision).__next__)
            chosen[name] = other, float(prices.cost.price(space.genes(other)[None])[0])
    return chosen


def at_budgets(
    bench: Bench, evaluator: RoundedEvaluator, prices: Prices, score: DenseTable, asked: argparse.Namespace
) -> list[dict[str, Any]]:
    """What was found at each budget, its files measured side by side."""
    space = prices.space
    plain, joint = (exact.front(score, cost) for cost in (prices.in_float(), prices.cost))
    # Not the least one: nothing is quicker than the quickest.
    limits_ms = np.geomspace(plain.costs[0], plain.costs[-1], asked.budgets + 1)[1:]
    found = [chosen_at(evaluator, prices, (plain, joint), ms, asked.faster) for ms in limits_ms]
    networks = {f"{i} {name}": one for i, all_of in enumerate(found) for name, (one, _) in all_of.items()}
    source = evaluator.source
    plans = {name: plan_of(lower(space, one)) for name, one in networks.items()}
    written = {
        name: deliver(
            Source(
                source.supernet,
                space.in_float(one),
                source.data,
                plans[name] if plans[name].int8 else None,
            ),
            Delivery(),
        )
        for name, one in networks.items()
    }
    measured = bench.profile({name: one.file for name, one in written.items()}).measured

    def told(name: str, predicted_ms: float) -> dict[str, Any]:
        file, network = written[name], networks[name]
        counted = tested(OnnxFile(onnx_session(file.file)), source.data, network.resolution)
        rounded = file.parity.rounded
        return {
            "ms": measured[name].latency_ms,
            "predicted_ms": predicted_ms,
            "accuracy": counted.quality,
            "bytes": len(file.file),
            "resolution": network.resolution,
            "int8_share": len(plans[name].int8) / len(plans[name].precisions),
            "parity": None if rounded is None else [rounded.relative_error, rounded.top1_agreement],
        }

    return [
        {"limit_ms": float(limit), **{name: told(f"{i} {name}", ms) for name, (_, ms) in all_of.items()}}
        for i, (limit, all_of) in enumerate(zip(limits_ms, found, strict=True))
    ]


def one_seed(
    arguments: argparse.Namespace,
    data: Data,
    timing: tuple[Bench, Prices] | None,
    seed: int,
    folder: Path,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """All of it with one supernet. timing: None where nothing is timed."""
    space = space_named(arguments.space).with_classes(len(data.classes))
    recipe = scaled(recipe_named(arguments.recipe), arguments.share)
    supernet: Supernet = train_quietly(space, data, recipe, seed, folder, "cpu")[0]
    say("trained")
    generator = np.random.default_rng(seed)
    additive = scored(supernet, data, arguments.scored, generator, likelihoods=arguments.likelihoods)
    ranking = refine(additive, seed=seed) or additive
    say("scored in float32")
    scale = Scale(0.0, 1.0) if arguments.likelihoods else None
    # As a job learns it: with one method of finding ranges, and part of a large split.
    source = Source(supernet, space.smallest(), data, rounding=LEARN_ROUNDING)
    learning = RoundedEvaluator(source, "validation", LEARN_SAMPLES, scale=scale)
    names = block_names(space)
    sample = [space.largest(), space.smallest(), *map(space.architecture, draw(space, 2, generator))]
    sensitivity = mean_sensitivity(learning, sample, names)
    genes: Genes = draw(space, arguments.rounded, generator)
    chosen = random_precisions(len(genes), len(names), generator)
    rounded = score_rounded(learning, genes, chosen, names)
    found = PrecisionPredictor.fit(ranking, sensitivity, rounded)
    plain = found if ranking is additive else PrecisionPredictor.fit(additive, sensitivity, rounded)
    say("scored in int8")
    networks = []
    if timing is not None:
        bench, prices = timing
        evaluator = RoundedEvaluator(replace(source, rounding=USUAL), "validation", scale=scale)
        networks = at_budgets(bench, evaluator, prices, found.dense(prices.space), arguments)
    return {
        "seed": seed,
        "kendall_tau": found.held_out.kendall_tau if found.held_out else None,
        "rmse": found.held_out.rmse if found.held_out else None,
        "additive_kendall_tau": plain.held_out.kendall_tau if plain.held_out else None,
        "float32_kendall_tau": ranking.held_out.kendall_tau if ranking.held_out else None,
        "ranking": summary(ranking)["name"],
        "sensitivity": sensitivity,
        "costs": dict(zip(found.blocks, found.costs.tolist(), strict=True)),
        "networks": networks,
    }


def main() -> None:
    """Print one JSON object."""
    parser = options(__doc__, recipe="quick", resolution=None)
    parser.add_argument("--share", type=float, default=1.0, help="share of the recipe's epochs")
    parser.add_argument("--scored", type=int, default=160, help="sub-networks scored in float32")
    parser.add_argument("--rounded", type=int, default=60, help="sub-networks scored in int8")
    parser.add_argument("--budgets", type=int, default=5, help="0: nothing is timed")
    parser.add_argument("--faster", type=float, default=1.2, help="asked of mixed networks, by prediction")
    parser.add_argument("--calibration", type=int, default=24, help="whole networks measured with the rows")
    parser.add_argument("--likelihoods", action="store_true", help="what ranks networks")
    arguments = parser.parse_args()
    data = load_dataset(arguments.dataset)
    mixed = space_named(arguments.space).with_classes(len(data.classes)).with_precisions((FLOAT32, INT8))
    with TemporaryDirectory() as place:
        timing = None
        if arguments.budgets:
            middle = sorted(lower(mixed, mixed.largest()), key=lambda op: op.macs)
            (sentinel,) = export_operators([middle[len(middle) // 2]]).values()
            bench = Bench(Path(place), sentinel, arguments.seed)
            say = clock()
            timing = bench, priced(bench, mixed, arguments.calibration, arguments.seed)
            say(f"{timing[1].rows} rows measured")
        seeds = [
            one_seed(arguments, data, timing, seed, folder, say) for seed, folder, say in seeded(arguments)
        ]
    every = [network for one in seeds for network in one["networks"]]
    result = {
        "kendall_tau": [one["kendall_tau"] for one in seeds],
        "additive_kendall_tau": [one["additive_kendall_tau"] for one in seeds],
        "float32_kendall_tau": [one["float32_kendall_tau"] for one in seeds],
        "ranking": [one["ranking"] for one in seeds],
        **(figures(every) if every else {}),
        "faster": arguments.faster,
        "ranked_by": "likelihoods" if arguments.likelihoods else "counted answers",
        **({} if timing is None else {"rows": timing[1].rows, "held_out_error": timing[1].calibration.error}),
        "seeds": seeds,
        "environment": environment(),
    }
    print(json.dumps(result))


def figures(every: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the budgets of all seeds at which a mixed network was found."""
    both = [one for one in every if "mixed" in one]
    if not both:
        return {"budgets": len(every), "found": 0}
    mixed, same = compared(both, FLOAT32, "mixed"), compared(both, "same", "mixed")
    controls = [one for one in both if "control" in one]
    control = compared(controls, FLOAT32, "control") if controls else {}
    return {
        "budgets": len(every),
        "found": len(both),
        **mixed,
        **{f"same_{name}": value for name, value in same.items()},
        **{f"control_{name}": value for name, value in control.items()},
        "int8_gain": compared(both, "same", INT8)["gain"],
        "predicted_error": float(
            np.mean([abs(one["mixed"]["predicted_ms"] / one["mixed"]["ms"] - 1) for one in both])
        ),
    }


def compared(every: list[dict[str, Any]], plain: str, other: str) -> dict[str, float]:
    """How much faster one kind of network is than another one, and what it loses."""
    gains = [one[plain]["ms"] / one[other]["ms"] for one in every]
    losses = [100 * (one[plain]["accuracy"] - one[other]["accuracy"]) for one in every]
    return {
        "gain": float(np.median(gains)),
        "least_gain": float(np.min(gains)),
        "loss_points": float(np.mean(losses)),
        "worst_loss_points": float(np.max(losses)),
    }


if __name__ == "__main__":
    main()
