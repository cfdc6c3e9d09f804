"""What blocks in int8 cost in accuracy and gain in speed, and how well that is predicted.

Each seed trains a supernet (or takes `--folder`'s), scores `--scored` sub-networks in float32 and `--rounded`
of others with random blocks in int8. At `--budgets` networks along the front of MACs, every block is timed in
both precisions with its boundaries by the agent's own code, the exact front of precisions is taken, the
best candidates are scored rounded, and three files are timed in the same rounds and run over the test split:
float32, all-int8, mixed.

`--likelihoods` ranks networks by the log-likelihood of right answers instead of counting them, as
supernets are that were trained from given weights.

`loss_points`: float32 minus mixed test accuracy, in points; `gain`: float32 over mixed milliseconds;
`kendall_tau`: of predicted and measured qualities of rounded networks, held out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.controls import scaled
from benchmarks.environment import environment
from benchmarks.lut_error import Bench
from benchmarks.precision_rows import rows_of
from benchmarks.trained import mean_likelihoods, options, seeded
from latency_tables.dense import Array, DenseTable, Genes
from supernets.accuracy.choice import draw, score_in_rounds
from supernets.accuracy.likelihood import LIKELIHOOD, Scale
from supernets.accuracy.precision import PrecisionPredictor
from supernets.accuracy.predictor import QualityPredictor
from supernets.data.catalog import load_dataset
from supernets.delivery.export import export_operators, onnx_session
from supernets.delivery.feeding import OnnxFile
from supernets.delivery.format import Delivery
from supernets.delivery.passes import Source
from supernets.delivery.pipeline import deliver
from supernets.delivery.precision import FLOAT32, INT8, PrecisionPlan, plan_of
from supernets.delivery.rounded_scores import (
    RoundedEvaluator,
    block_names,
    mean_sensitivity,
    random_precisions,
    score_rounded,
)
from supernets.delivery.testing import tested
from supernets.experiments.controls import budget_networks, train_quietly
from supernets.network import Supernet
from supernets.search.exact import strategy as exact
from supernets.search.problem import Constraint, Problem
from supernets.search.restriction import precisions_alone, restricted
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import dense_from, lower
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


def measured(bench: Bench, mixed: Space, architecture: Architecture) -> DenseTable:
    """Milliseconds of what the network may be in any precisions; infinite for the rest of the space."""
    files = {op.text: file for op, file in export_operators(rows_of(mixed, [architecture])).items()}
    ms = {name: m.latency_ms for name, m in bench.profile(files).measured.items()}
    return dense_from(mixed, lambda op: ms.get(op.text, np.inf))


def one_network(
    bench: Bench, evaluator: RoundedEvaluator, found: PrecisionPredictor, architecture: Architecture
) -> dict[str, Any]:
    """Accuracy of the three files on test, and their milliseconds."""
    source = evaluator.source
    mixed = found.predictor.space.at([architecture.resolution]).with_precisions((FLOAT32, INT8))
    cost = measured(bench, mixed, architecture)
    unlimited = Problem(mixed.chain, found.dense(mixed), (Constraint("latency_ms", cost, np.inf),))
    only = restricted(unlimited, precisions_alone(mixed, architecture))
    front = exact.front(only.score, only.constraints[0].table)
    operators = evaluator.ready(architecture).calibrated.plain.operators
    # Quick enough to be worth it, of those the least lost; they are scored rounded before one is taken.
    quick = front.genes[: 4 * CANDIDATES]
    chosen = [mixed.architecture(row) for row in quick[-CANDIDATES:]]
    candidates = [plan_of(lower(mixed, one)) for one in chosen]
    qualities = [evaluator.value(architecture, plan) for plan in candidates]
    best = int(np.argmax(qualities))
    every = PrecisionPlan.uniform(INT8, len(operators))
    planned = {FLOAT32: None, INT8: every, "mixed": candidates[best]}
    sources = {
        name: Source(source.supernet, architecture, source.data, plan) for name, plan in planned.items()
    }
    written = {name: deliver(one, Delivery()) for name, one in sources.items()}
    accuracy = {
        name: tested(OnnxFile(onnx_session(one.file)), source.data, architecture.resolution).quality
        for name, one in written.items()
    }
    whole = bench.profile({name: one.file for name, one in written.items()}).measured
    ms = {name: m.latency_ms for name, m in whole.items()}
    return {
        "int8_blocks": len(candidates[best].int8),
        "blocks": len(operators),
        "predicted_ms": float(cost.price(mixed.genes(chosen[best])[None])[0]),
        "predicted_float32_ms": float(cost.price(mixed.genes(mixed.in_float(architecture))[None])[0]),
        "ms": ms,
        "accuracy": accuracy,
        "bytes": {name: len(one.file) for name, one in written.items()},
        "parity": {
            name: [one.parity.rounded.relative_error, one.parity.rounded.top1_agreement]
            for name, one in written.items()
            if one.parity.rounded is not None
        },
        "method": getattr(written["mixed"].network, "method", None),
    }


def one_seed(
    arguments: argparse.Namespace, seed: int, folder: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """All of it with one supernet."""
    data = load_dataset(arguments.dataset)
    space = space_named(arguments.space).with_classes(len(data.classes))
    recipe = scaled(recipe_named(arguments.recipe), arguments.share)
    supernet: Supernet = train_quietly(space, data, recipe, seed, folder, "cpu")[0]
    say("trained")
    generator = np.random.default_rng(seed)
    predictor = scored(supernet, data, arguments.scored, generator, likelihoods=arguments.likelihoods)
    say("scored in float32")
    scale = Scale(0.0, 1.0) if arguments.likelihoods else None
    evaluator = RoundedEvaluator(Source(supernet, space.smallest(), data), "validation", scale=scale)
    names = block_names(space)
    sample = [space.largest(), space.smallest(), *map(space.architecture, draw(space, 2, generator))]
    sensitivity = mean_sensitivity(evaluator, sample, names)
    genes: Genes = draw(space, arguments.rounded, generator)
    chosen = random_precisions(len(genes), len(names), generator)
    found = PrecisionPredictor.fit(predictor, sensitivity, score_rounded(evaluator, genes, chosen, names))
    say("scored in int8")
    chosen_networks = budget_networks(space, predictor, arguments.budgets)[0] if arguments.budgets else []
    sentinel = export_operators(lower(space, space.largest())[:1])
    with TemporaryDirectory() as place:
        bench = Bench(Path(place), *sentinel.values(), seed)
        networks = [one_network(bench, evaluator, found, one) for one in chosen_networks]
    return {
        "seed": seed,
        "kendall_tau": found.held_out.kendall_tau if found.held_out else None,
        "rmse": found.held_out.rmse if found.held_out else None,
        "float32_kendall_tau": predictor.held_out.kendall_tau if predictor.held_out else None,
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
    parser.add_argument("--likelihoods", action="store_true", help="what ranks networks")
    arguments = parser.parse_args()
    seeds = [one_seed(arguments, seed, folder, say) for seed, folder, say in seeded(arguments)]
    every = [network for one in seeds for network in one["networks"]]
    result = {
        "kendall_tau": [one["kendall_tau"] for one in seeds],
        "float32_kendall_tau": [one["float32_kendall_tau"] for one in seeds],
        **(figures(every) if every else {}),
        "ranked_by": "likelihoods" if arguments.likelihoods else "counted answers",
        "seeds": seeds,
        "environment": environment(),
    }
    print(json.dumps(result))


def figures(every: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the timed networks of all seeds."""
    losses = [100 * (n["accuracy"][FLOAT32] - n["accuracy"]["mixed"]) for n in every]
    gains = [n["ms"][FLOAT32] / n["ms"]["mixed"] for n in every]
    return {
        "loss_points": float(np.mean(losses)),
        "worst_loss_points": float(np.max(losses)),
        "int8_loss_points": float(
            np.mean([100 * (n["accuracy"][FLOAT32] - n["accuracy"][INT8]) for n in every])
        ),
        "gain": float(np.median(gains)),
        "least_gain": float(np.min(gains)),
        "int8_gain": float(np.median([n["ms"][FLOAT32] / n["ms"][INT8] for n in every])),
    }


if __name__ == "__main__":
    main()
