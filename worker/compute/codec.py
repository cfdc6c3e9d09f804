"""Requests, answers and results of steps as JSON: where typed values of the worker become text, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from latency_tables.operators import Operator
from latency_tables.typed_json import Codec, Form
from supernets.accuracy import refinement
from supernets.accuracy.predictor import QualityPredictor
from supernets.accuracy.refinement import RefinedScore
from supernets.errors import InvalidPredictor, InvalidSearch
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import architecture_from, described


def _score_to_json(evaluate: object) -> dict[str, Any]:
    # A function has no JSON. The one that jobs search with is the price of a predictor, and that one has.
    if not isinstance(evaluate, RefinedScore):
        raise InvalidSearch("only the score of a stored predictor can be sent to a child")
    used = evaluate.refinement
    return {"predictor": refinement.to_json(used.predictor, used), "resolutions": list(evaluate.resolutions)}


def _score_from_json(data: dict[str, Any]) -> RefinedScore:
    _, found = refinement.from_json(data["predictor"])
    if found is None:
        raise InvalidPredictor("the predictor that was sent has no refinement")
    return RefinedScore(found, tuple(data["resolutions"]))


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
