"""Several constraints at once: mixed-integer programming with HiGHS, one small model a resolution.

A network is a path through the states and lanes of the chain: a flow of 1 through every block, whose choices
lead from lane to lane, until the stage is left at one of its depths. Resolutions are taken in the order of a
Lagrangian bound and left out once the answer beats their bound; the K best come from cuts that exclude what
was found. Puzzle (NVIDIA, 2024) searches networks by such programs.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latency_tables.dense import Array, DenseTable, Genes
from supernets.search.problem import Problem

if (
    TYPE_CHECKING
):  # scipy is imported where a program is built: the API reads fronts without it and must stay small
    from scipy.optimize import OptimizeResult
    from scipy.sparse import csr_array

TIME_LIMIT_S = 30.0
_FEASIBILITY = 1e-7  # share of a limit that HiGHS may overstep; such networks are cut off afterwards


@dataclass(frozen=True, eq=False)
class Proven:
    """genes (K, genes), best first; bound: no network scores more. finished: within the time limit."""

    genes: Genes
    bound: float
    finished: bool


@dataclass(frozen=True, eq=False)
class _Model:
    """The program of one resolution. Columns are binary decisions; column j writes gene `writes[j]`."""

    resolution: int
    writes: tuple[tuple[tuple[int, int], ...], ...]  # per column: (gene, value) pairs
    score: Array  # (columns,)
    cost: Array  # (constraints, columns)
    equal: csr_array  # equal @ x = right
    right: Array
    limits: Array  # what the constant leaves
    constant: float


class _Builder:
    """Collects columns and the rows that tie them together."""

    def __init__(self, problem: Problem, resolution: int) -> None:
        self.problem, self.r = problem, resolution
        self.writes: list[tuple[tuple[int, int], ...]] = []
        self.score: list[float] = []
        self.cost: list[list[float]] = []
        self.rows: list[tuple[list[tuple[int, float]], float]] = []

    def column(self, writes: tuple[tuple[int, int], ...], score: float, costs: list[float]) -> int | None:
        """Index of a new decision; None where it is forbidden."""
        if score == -np.inf or any(c == np.inf for c in costs):
            return None
        self.writes.append(writes)
        self.score.append(score)
        self.cost.append(costs)
        return len(self.writes) - 1

    def stage(self, stage: int) -> tuple[list[list[int]], list[list[int]]]:
        """Columns that enter the stage, by state read and lane, and that leave it, by state written and lane
        (which changes faster)."""
        chain, lanes = self.problem.chain, self.problem.chain.lanes
        ins = self.problem.score.blocks[stage].shape[1]
        reads: list[list[int]] = [[] for _ in range(ins * lanes)]
        writes: list[list[int]] = [[] for _ in range(chain.stages[stage].states * lanes)]
        for i in range(ins):
            for o in range(chain.stages[stage].states):
                entered, left = self._path(stage, i, o)
                for lane in range(lanes):
                    reads[i * lanes + lane] += entered[lane]
                    writes[o * lanes + lane] += left[lane]
        return reads, writes

    def _path(self, stage: int, i: int, o: int) -> tuple[list[list[int]], list[list[int]]]:
        """Columns of a stage that reads state i and writes state o: those of its first block by the lane
        before it, and those that leave it by the lane then."""
        chain, lanes = self.problem.chain, self.problem.chain.lanes
        shape = chain.stages[stage]
        came: list[list[int]] = [[] for _ in range(lanes)]
        entered: list[list[int]] = [[] for _ in range(lanes)]
        left: list[list[int]] = [[] for _ in range(lanes)]
        for block in range(shape.blocks + 1):
            goes: list[list[int]] = [[] for _ in range(lanes)]
            follow: list[list[int]] = [[] for _ in range(lanes)]
            for lane in range(lanes):
                if block < shape.blocks:
                    for choice, to in enumerate(chain.after(stage, block)[lane]):
                        made = self._choice(stage, (i, o), block, lane, choice)
                        if made is not None:
                            goes[lane].append(made)
                            follow[to].append(made)
                if block == 0:
                    entered[lane] += goes[lane]
                    continue
                leaves = self._leave(stage, o, block) if block in shape.depths else None
                left[lane] += [leaves] if leaves is not None else []
                out = [*goes[lane], *([leaves] if leaves is not None else [])]
                self.rows.append(([(j, 1.0) for j in came[lane]] + [(j, -1.0) for j in out], 0.0))
            came = follow
        return entered, left

    def _leave(self, stage: int, o: int, depth: int) -> int | None:
        """The column of leaving a stage at a depth."""
        problem, column = self.problem, self.problem.chain.offsets[stage]
        index = problem.chain.stages[stage].depths.index(depth)
        costs = [float(c.table.depth[stage][self.r, index]) for c in problem.constraints]
        gained = float(problem.score.depth[stage][self.r, index])
        return self.column(((column, o), (column + 1, index)), gained, costs)

    def _choice(self, stage: int, states: tuple[int, int], block: int, lane: int, choice: int) -> int | None:
        """The column of a choice of a block that is given that lane."""
        column = self.problem.chain.offsets[stage]

        def price(table: DenseTable) -> float:
            found = float(table.blocks[stage][(self.r, *states, block, choice)])
            more = table.switch[stage][(self.r, *states, block, lane, choice)] if table.switch else 0.0
            return found + float(more)

        costs = [price(c.table) for c in self.problem.constraints]
        return self.column(((column + 2 + block, choice),), price(self.problem.score), costs)

    def build(self) -> _Model:
        from scipy.sparse import csr_array  # noqa: PLC0415 - see above

        before: list[list[int]] | None = None
        for stage in range(len(self.problem.chain.stages)):
            reads, writes = self.stage(stage)
            if before is None:
                # A network begins in lane 0.
                self.rows.append(([(j, 1.0) for j in reads[0]], 1.0))
                self.rows.append(([(j, 1.0) for column in reads[1:] for j in column], 0.0))
            else:
                for came, goes in zip(before, reads, strict=True):
                    self.rows.append(([(j, 1.0) for j in came] + [(j, -1.0) for j in goes], 0.0))
            before = writes
        entries = [(row, j, value) for row, (terms, _) in enumerate(self.rows) for j, value in terms]
        rows, columns, values = (
            (list(part) for part in zip(*entries, strict=True)) if entries else ([], [], [])
        )
        equal = csr_array((values, (rows, columns)), shape=(len(self.rows), len(self.writes)))
        constraints = self.problem.constraints
        limits = np.array([c.limit - c.table.constant[self.r] for c in constraints])
        cost = np.array(self.cost).reshape(len(self.cost), len(constraints)).T
        right = np.array([value for _, value in self.rows])
        constant = float(self.problem.score.constant[self.r])
        return _Model(self.r, tuple(self.writes), np.array(self.score), cost, equal, right, limits, constant)


def best_networks(
    problem: Problem,
    bound: Array,
    time_limit_s: float = TIME_LIMIT_S,
    clock: Callable[[], float] = time.monotonic,
) -> Proven:
    """The K best networks within all limits. bound (resolutions,): an upper bound of the score of each."""
    deadline = clock() + time_limit_s
    heap = [_Open(-float(b), r, (), False) for r, b in enumerate(bound) if b > -np.inf]
    heapq.heapify(heap)
    models: dict[int, _Model] = {}
    cuts: dict[int, list[list[int]]] = {}
    found: list[tuple[int, ...]] = []
    ceiling, finished = -np.inf, True
    while heap and len(found) < problem.candidates:
        item = heapq.heappop(heap)
        if item.row:
            ceiling = max(ceiling, -item.upper)
            finished &= item.closed
            found.append(item.row)
            if len(found) == problem.candidates:
                break
        left = deadline - clock()
        if left <= 0:
            ceiling, finished = max(ceiling, -item.upper), False
            # Other resolutions may hold a network already; the best of those is an answer, though not a
            # proven one.
            found += [other.row for other in sorted(heap) if other.row][: problem.candidates - len(found)]
            break
        r = item.resolution
        if r not in models:
            models[r], cuts[r] = _Builder(problem, r).build(), []
        best = _solve(problem, models[r], cuts[r], left, -item.upper)
        if best is not None:
            heapq.heappush(heap, best)
    return Proven(np.array(found, dtype=np.int64).reshape(len(found), problem.chain.genes), ceiling, finished)


class _Open(NamedTuple):
    """A resolution with its next best network, or without one where it is not solved yet."""

    upper: float  # minus an upper bound of every network left at this resolution
    resolution: int
    row: tuple[int, ...]
    closed: bool  # the bound is the network's own score


def _solve(
    problem: Problem, model: _Model, cuts: list[list[int]], time_limit_s: float, bound: float
) -> _Open | None:
    """The best network that is not cut off; None where there is none. bound: no network left scores more."""
    if not len(model.score) or not np.all(np.isfinite(model.limits) | (model.limits == np.inf)):
        return None
    scale = np.maximum(np.abs(model.limits), np.abs(model.cost).max(axis=1, initial=1e-300))
    scale = np.where(np.isfinite(scale), scale, 1.0)
    while True:
        answer = _ask(model, scale, cuts, time_limit_s)
        if answer.x is None:
            # Out of time is not the same as infeasible: the resolution stays open, and nothing is proven.
            if answer.status == 2:
                return None
            dual = answer.get("mip_dual_bound")
            known = (
                bound if dual is None or not np.isfinite(dual) else min(bound, model.constant - float(dual))
            )
            return _Open(-known, model.resolution, (), False)
        chosen = np.flatnonzero(answer.x > 0.5).tolist()
        cuts.append(chosen)
        genes = np.zeros((1, problem.chain.genes), dtype=np.int64)
        genes[0, 0] = model.resolution
        for j in chosen:
            for gene, value in model.writes[j]:
                genes[0, gene] = value
        if problem.feasible(problem.costs(genes))[0]:
            closed = answer.status == 0
            upper = (
                float(problem.score.price(genes)[0])
                if closed
                else model.constant - float(answer.mip_dual_bound)
            )
            return _Open(-upper, model.resolution, tuple(genes[0].tolist()), closed)


def _ask(model: _Model, scale: Array, cuts: list[list[int]], time_limit_s: float) -> OptimizeResult:
    """HiGHS's answer for one resolution, without the networks that are cut off."""
    from scipy.optimize import Bounds, LinearConstraint, milp  # noqa: PLC0415 - see above
    from scipy.sparse import csr_array  # noqa: PLC0415

    ties = [LinearConstraint(model.equal, model.right, model.right)]
    if len(model.limits):
        ties.append(
            LinearConstraint(model.cost / scale[:, None], -np.inf, model.limits / scale + _FEASIBILITY)
        )
    if cuts:
        excluded = np.zeros((len(cuts), len(model.score)))
        for row, columns in enumerate(cuts):
            excluded[row, columns] = 1.0
        ties.append(LinearConstraint(csr_array(excluded), -np.inf, np.array([len(c) - 1.0 for c in cuts])))
    return milp(
        -model.score,
        integrality=np.ones(len(model.score), dtype=np.int64),
        bounds=Bounds(0, 1),
        constraints=ties,
        options={"time_limit": max(time_limit_s, 0.01), "mip_rel_gap": 0.0},
    )
