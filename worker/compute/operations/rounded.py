"""Sub-networks with blocks in int8, or pruned: scored, and what that costs each block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from latency_tables.dense import Array
from supernets.accuracy import refinement
from supernets.accuracy.choice import draw
from supernets.accuracy.likelihood import Scale
from supernets.accuracy.precision import PrecisionPredictor
from supernets.accuracy.pruning import PruningPredictor
from supernets.accuracy.refinement import Ranking
from supernets.delivery.passes import Source
from supernets.delivery.precision import USUAL, Rounding, plan_of
from supernets.delivery.pruned_scores import losses_alone, of_one_width, random_pruned
from supernets.delivery.rounded_scores import (
    LEARN_ROUNDING,
    LEARN_SAMPLES,
    RoundedEvaluator,
    block_names,
    mean_sensitivity,
    random_precisions,
    score_rounded,
)
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import space_at
from supernets.spaces.lowering import lower
from worker.compute.operations.loading import dataset_of, supernet_of
from worker.compute.operations.score import accuracies
from worker.compute.requests import (
    Accuracies,
    BlockLosses,
    LearnCosts,
    LearnPrecision,
    LearnPruning,
    LearntCosts,
    Places,
    Progress,
    ScoreRounded,
    Sensitivity,
    SupernetRef,
)

_VALIDATION: Final = "validation"
_PLANS: Final = 2  # of each network: cut out and calibrated once
_ALONE: Final = 2  # random networks whose blocks are rounded one by one, beside the largest and the smallest


def score_in_int8(places: Places, asked: ScoreRounded, report: Callable[[Progress], None]) -> Accuracies:
    """Raises InvalidPrecision for a network whose blocks have no int8 form, InvalidPruning, and for too few
    samples either."""
    space = space_at(asked.supernet.space)
    evaluator = _evaluator(places, asked.supernet, asked.architectures, asked.split)
    found: dict[int, tuple[float, Array | None]] = {}
    # Plans of one network after each other: it is cut out and calibrated once.
    order = sorted(
        range(len(asked.architectures)), key=lambda i: space.in_float(asked.architectures[i]).digest
    )
    for number in order:
        one = asked.architectures[number]
        plan = plan_of(lower(space.holding(one), one))
        found[number] = evaluator.counted(space.in_float(one), plan)
        report(Progress(len(found), len(order)))
    return accuracies([found[number] for number in range(len(order))], likelihoods=asked.likelihoods)


def learn_precision(places: Places, asked: LearnPrecision, report: Callable[[Progress], None]) -> LearntCosts:
    """Raises InvalidPrecision, TooFewNetworks."""
    ranking = _ranking(asked)
    space, generator = ranking.space, np.random.default_rng(asked.seed)
    evaluator = _evaluator(
        places, asked.supernet, [space.smallest()], _VALIDATION, LEARN_SAMPLES, LEARN_ROUNDING, asked.scale
    )
    names = block_names(space)
    alone = [space.largest(), space.smallest(), *map(space.architecture, draw(space, _ALONE, generator))]
    total = len(alone) + _PLANS * -(-asked.networks // _PLANS)
    sensitivity: dict[str, float] = mean_sensitivity(evaluator, alone, names)
    report(Progress(len(alone), total))
    genes = np.repeat(draw(space, -(-asked.networks // _PLANS), generator), _PLANS, axis=0)
    chosen = random_precisions(len(genes), len(names), generator)
    scores = score_rounded(
        evaluator, genes, chosen, names, lambda done, of: report(Progress(len(alone) + done, total))
    )
    return LearntCosts(PrecisionPredictor.fit(ranking, sensitivity, scores).to_json())


def learn_pruning(places: Places, asked: LearnPruning, report: Callable[[Progress], None]) -> LearntCosts:
    """Raises InvalidPruning, TooFewNetworks."""
    ranking = _ranking(asked)
    plain, generator = ranking.space, np.random.default_rng(asked.seed)
    space = plain.with_pruning()
    evaluator = _evaluator(
        places, asked.supernet, [plain.smallest()], _VALIDATION, LEARN_SAMPLES, scale=asked.scale
    )
    wholes = len(of_one_width(space))
    total = wholes + asked.networks
    cells = losses_alone(evaluator.source, space, _VALIDATION, lambda done, of: report(Progress(done, total)))
    networks, qualities = random_pruned(space, asked.networks, generator), list[float]()
    for one in networks:
        qualities.append(evaluator.value(one))
        report(Progress(wholes + len(qualities), total))
    return LearntCosts(PruningPredictor.fit(ranking, cells, networks, qualities).to_json())


def sensitivity(places: Places, asked: Sensitivity, report: Callable[[Progress], None]) -> BlockLosses:
    """Raises InvalidPrecision."""
    plain = space_at(asked.supernet.space).in_float(asked.architecture)
    return BlockLosses(_evaluator(places, asked.supernet, [plain], asked.split).sensitivity(plain))


def _ranking(asked: LearnCosts) -> Ranking:
    predictor, refined = refinement.from_json(asked.predictor.predictor)
    return refined or predictor


def _evaluator(
    places: Places,
    supernet: SupernetRef,
    architectures: Sequence[Architecture],
    split: str,
    limit: int | None = None,
    rounding: Rounding = USUAL,
    scale: Scale | None = None,
) -> RoundedEvaluator:
    space = space_at(supernet.space)
    plain = space.in_float(architectures[0])
    source = Source(supernet_of(places, supernet), plain, dataset_of(places, supernet), rounding=rounding)
    return RoundedEvaluator(source, split, limit, scale=scale)
