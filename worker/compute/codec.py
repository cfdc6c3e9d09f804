"""Requests, answers and results of steps as JSON: where typed values of the worker become text, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from latency_tables.operators import Operator
from latency_tables.typed_json import Codec, Form
from supernets.accuracy import refinement
from supernets.accuracy.precision import PrecisionPredictor
from supernets.accuracy.predictor import QualityPredictor
from supernets.accuracy.pruning import PruningPredictor
from supernets.accuracy.reduced import ReducedRanking
from supernets.accuracy.refinement import RefinedScore, Refinement
from supernets.errors import InvalidPredictor, InvalidSearch
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import architecture_from, described

REDUCTIONS: Final[Mapping[str, type[PrecisionPredictor | PruningPredictor]]] = {
    "rounded": PrecisionPredictor,
    "pruned": PruningPredictor,
}
"""By the names that rankings give them."""


def _score_to_json(evaluate: object) -> dict[str, Any]:
    ranking = evaluate.refinement if isinstance(evaluate, RefinedScore) else None
    reduced = ranking if isinstance(ranking, ReducedRanking) else None
    whole = ranking if reduced is None else reduced.predictor
    # A function has no JSON. The one that jobs search with is the price of a predictor, and that one has.
    if not isinstance(evaluate, RefinedScore) or not isinstance(whole, Refinement):
        raise InvalidSearch("only the score of a stored predictor can be sent to a child")
    return {
        "predictor": refinement.to_json(whole.predictor, whole),
        "resolutions": list(evaluate.resolutions),
        **({} if reduced is None else {"reduced": _reduced_to_json(reduced)}),
    }


def _reduced_to_json(ranking: ReducedRanking) -> dict[str, Any]:
    return {
        "resolutions": list(ranking.space.resolutions),
        "precisions": list(ranking.space.precisions),
        "pruned": ranking.space.pruned,
        "reductions": {name: one.to_json() for name, one in ranking.reductions.items()},
    }


def _reduced_from_json(whole: Refinement, data: dict[str, Any]) -> ReducedRanking:
    reductions = {name: REDUCTIONS[name].from_json(whole, one) for name, one in data["reductions"].items()}
    space = whole.space.at(data["resolutions"]).with_precisions(data["precisions"])
    return ReducedRanking(whole, reductions, space.with_pruning() if data["pruned"] else space)


def _score_from_json(data: dict[str, Any]) -> RefinedScore:
    _, found = refinement.from_json(data["predictor"])
    if found is None:
        raise InvalidPredictor("the predictor that was sent has no refinement")
    ranking = _reduced_from_json(found, data["reduced"]) if "reduced" in data else found
    return RefinedScore(ranking, tuple(data["resolutions"]))


CODEC: Final = Codec(
    {
        # Checked against its space on the way in: a gene row or a choice of another space never gets
        # further.
        Architecture: Form(described, architecture_from),
        Operator: Form(lambda operator: operator.text, Operator.parse),
        QualityPredictor: Form(QualityPredictor.to_json, QualityPredictor.from_json),
        Callable: Form(_score_to_json, _score_from_json),
    }
)
