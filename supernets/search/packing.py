"""Search problems and their answers as JSON, on the way to a child and back. Arrays travel as base64 of their
bytes."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

from latency_tables.dense import Array, Chain, DenseTable, Genes, StageShape
from supernets.accuracy import refinement as accuracy_refinement
from supernets.accuracy.refinement import RefinedScore
from supernets.errors import InvalidSearch
from supernets.search.problem import Candidate, Constraint, Problem, SearchResult


def packed_problem(problem: Problem) -> dict[str, Any]:
    """A problem whose score is additive or that of a stored predictor; `unpacked_problem` reads it back."""
    stages = [
        {"widths": s.widths, "depths": list(s.depths), "choices": list(s.choices)}
        for s in problem.chain.stages
    ]
    return {
        "chain": {"resolutions": problem.chain.resolutions, "stages": stages},
        "score": _packed_table(problem.score),
        "constraints": [
            {"name": c.name, "limit": c.limit, "table": _packed_table(c.table)} for c in problem.constraints
        ],
        "candidates": problem.candidates,
        "evaluate": None if problem.evaluate is None else _packed_evaluate(problem.evaluate),
        "costly": problem.costly,
    }


def _packed_evaluate(evaluate: Callable[[Genes], Array]) -> dict[str, Any]:
    if not isinstance(evaluate, RefinedScore):
        raise InvalidSearch("only the score of a stored predictor can be sent to a child")
    stored = accuracy_refinement.to_json(evaluate.refinement.predictor, evaluate.refinement)
    return {"predictor": stored, "resolutions": list(evaluate.resolutions)}


def _unpacked_evaluate(data: dict[str, Any]) -> RefinedScore:
    _, refinement = accuracy_refinement.from_json(data["predictor"])
    if refinement is None:
        raise InvalidSearch("the predictor that was sent has no refinement")
    return RefinedScore(refinement, tuple(data["resolutions"]))


def unpacked_problem(data: dict[str, Any]) -> Problem:
    stages = tuple(
        StageShape(s["widths"], tuple(s["depths"]), tuple(s["choices"])) for s in data["chain"]["stages"]
    )
    chain = Chain(data["chain"]["resolutions"], stages)
    constraints = tuple(
        Constraint(c["name"], _unpacked_table(chain, c["table"]), c["limit"]) for c in data["constraints"]
    )
    evaluate = None if data["evaluate"] is None else _unpacked_evaluate(data["evaluate"])
    return Problem(
        chain,
        _unpacked_table(chain, data["score"]),
        constraints,
        data["candidates"],
        evaluate,
        data["costly"],
    )


def packed_result(result: SearchResult) -> dict[str, Any]:
    """The answer; `unpacked_result` reads it back."""
    candidates = [
        {"genes": c.genes.tolist(), "score": c.score, "costs": list(c.costs)} for c in result.candidates
    ]
    return {
        "strategy": result.strategy,
        "candidates": candidates,
        "optimal": result.optimal,
        "gap": result.gap,
        "evaluations": result.evaluations,
    }


def unpacked_result(data: dict[str, Any]) -> SearchResult:
    candidates = tuple(
        Candidate(np.array(c["genes"], dtype=np.int64), c["score"], tuple(c["costs"]))
        for c in data["candidates"]
    )
    return SearchResult(data["strategy"], candidates, data["optimal"], data["gap"], data["evaluations"])


def _packed_table(table: DenseTable) -> dict[str, Any]:
    return {
        "constant": _packed(table.constant),
        "blocks": [_packed(b) for b in table.blocks],
        "depth": [_packed(d) for d in table.depth],
    }


def _unpacked_table(chain: Chain, data: dict[str, Any]) -> DenseTable:
    blocks, depth = (tuple(_unpacked(a) for a in data[name]) for name in ("blocks", "depth"))
    return DenseTable(chain, _unpacked(data["constant"]), blocks, depth)


def _packed(array: Array) -> dict[str, Any]:
    return {
        "shape": list(array.shape),
        "data": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode(),
    }


def _unpacked(data: dict[str, Any]) -> Array:
    return np.frombuffer(base64.b64decode(data["data"]), dtype=np.float64).reshape(data["shape"]).copy()
