"""Every best way to finish a network: Pareto fronts of the rest of the chain, from the last block to the
first.

What the rest depends on is the stage, the state it reads, the state it writes, how many of its blocks are
done and the lane that the last one left. One merge a block and lane, so the work grows with the number of
choices and the size of the front, not with the number of networks. This is the min-plus convolution of a
multiple-choice knapsack (Kellerer, Pferschy, Pisinger, "Knapsack Problems", chapter 11) over a layered graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from latency_tables.dense import Array, DenseTable, Genes
from supernets.search.pareto import Indices, nondominated

EXIT = -1


@dataclass(frozen=True, eq=False)
class Level:
    """A front of completions. costs and scores (P,) ascend strictly.

    step (P,): the choice taken (a state, or the choice of a block, or EXIT to leave the stage); child (P,):
    index of the completion that follows it.
    """

    costs: Array
    scores: Array
    step: Indices
    child: Indices

    def within(self, limits: Array) -> Array:
        """Best score of a completion that costs at most each limit; minus infinity where there is none."""
        return self._padded[self.costs.searchsorted(limits, side="right")]

    @cached_property
    def _padded(self) -> Array:
        return np.concatenate(([-np.inf], self.scores))


def _merge(options: list[tuple[int, float, float, Level]]) -> Level:
    """The front over options (step, cost, score, what follows)."""
    usable = [o for o in options if o[1] < np.inf and o[2] > -np.inf and len(o[3].costs)]
    if len(usable) == 1:
        step, cost, score, child = usable[0]
        size = len(child.costs)
        return Level(child.costs + cost, child.scores + score, np.full(size, step), np.arange(size))
    if not usable:
        return Level(np.empty(0), np.empty(0), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
    costs = np.concatenate([child.costs + cost for _, cost, _, child in usable])
    scores = np.concatenate([child.scores + score for _, _, score, child in usable])
    sizes = np.array([len(child.costs) for _, _, _, child in usable])
    kept = nondominated(costs, scores)
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    part = np.searchsorted(starts, kept, side="right") - 1
    steps = np.array([step for step, _, _, _ in usable])
    return Level(costs[kept], scores[kept], steps[part], kept - starts[part])


class Completions:
    """The fronts of all completions of a chain at one resolution, for one score and one cost."""

    def __init__(self, score: DenseTable, cost: DenseTable, resolution: int) -> None:
        self.chain, self.resolution = score.chain, resolution
        self.lanes = self.chain.lanes
        self.score, self.cost = _Prices(score, resolution), _Prices(cost, resolution)
        self._after: list[list[Level]] = [[] for _ in self.chain.stages]  # [stage][state read x lane]
        self._levels: list[dict[tuple[int, int, int, int], Level]] = [{} for _ in self.chain.stages]
        zero = np.zeros(1)
        none = np.zeros(1, dtype=np.int64)
        after = [Level(zero, zero, none, none)] * (self.chain.stages[-1].states * self.lanes)
        self._end = after
        for stage in reversed(range(len(self.chain.stages))):
            self._after[stage] = after = self._solve_stage(stage, after)
        constant = (float(cost.constant[resolution]), float(score.constant[resolution]))
        self.whole = _merge([(resolution, *constant, after[0])])

    def _solve_stage(self, stage: int, after: list[Level]) -> list[Level]:
        """Fronts from the start of the stage, one per state it reads and lane it is given, which changes
        faster."""
        shape, levels = self.chain.stages[stage], self._levels[stage]
        repeats = self.score.repeat(stage) and self.cost.repeat(stage)
        fronts = []
        for i in range(len(self.cost.blocks[stage])):
            for o, done in product(range(shape.states), reversed(range(shape.depths[-1] + 1))):
                # Blocks after the first read the stage's own state, so their completions are shared.
                shared = repeats and done > 0 and i > 0
                for lane in range(self.lanes):
                    levels[i, o, done, lane] = (
                        levels[0, o, done, lane]
                        if shared
                        else self._solve_block(stage, i, o, done, lane, after[o * self.lanes + lane])
                    )
            fronts += [
                _merge([(o, 0.0, 0.0, levels[i, o, 0, lane]) for o in range(shape.states)])
                for lane in range(self.lanes)
            ]
        return fronts

    def _solve_block(self, stage: int, i: int, o: int, done: int, lane: int, after: Level) -> Level:
        """Completions once `done` blocks of the stage are chosen and the last one left `lane`."""
        shape = self.chain.stages[stage]
        options = []
        if done < shape.depths[-1]:
            cost, score = self.options(stage, i, o, done, lane)
            for left, choices in self.chain.ways(stage, done, lane):
                follow = self._levels[stage][i, o, done + 1, left]
                # Where there is one lane, all choices leave it.
                every = len(choices) == len(cost)
                kept = (
                    nondominated(cost, score)
                    if every
                    else choices[nondominated(cost[choices], score[choices])]
                )
                options += [(int(c), float(cost[c]), float(score[c]), follow) for c in kept]
        if done in shape.depths:
            options.append((EXIT, *self.exit(stage, done), after))
        return _merge(options)

    def options(self, stage: int, i: int, o: int, block: int, lane: int) -> tuple[Array, Array]:
        """(costs, scores) of every choice of a block that is given that lane."""
        choices = self.chain.stages[stage].choices[block]
        at = (stage, i, o, block, lane, choices)
        return self.cost.of_choices(*at), self.score.of_choices(*at)

    def exit(self, stage: int, done: int) -> tuple[float, float]:
        """(cost, score) that the depth itself adds."""
        index = self.chain.stages[stage].depths.index(done)
        return float(self.cost.depth[stage][index]), float(self.score.depth[stage][index])

    def level(self, stage: int, i: int, o: int, done: int, lane: int) -> Level:
        """Completions once `done` blocks are chosen, the last of which left `lane`, in a stage that reads
        state i and writes state o."""
        return self._levels[stage][i, o, done, lane]

    def after(self, stage: int, state: int, lane: int) -> Level:
        """Completions from the start of a stage that reads that state and lane; of the end after the last
        stage."""
        levels = self._after[stage] if stage < len(self._after) else self._end
        return levels[state * self.lanes + lane]

    def genes(self, points: Indices) -> Genes:
        """Canonical genes of points of `whole`, followed along the stored steps."""
        rows = np.zeros((len(points), self.chain.genes), dtype=np.int64)
        rows[:, 0] = self.resolution
        at, read = self.whole.child[points], np.zeros(len(points), dtype=np.int64)
        lane = np.zeros_like(read)
        for stage, column in enumerate(self.chain.offsets):
            states = np.zeros_like(read)
            for number, front in enumerate(self._after[stage]):
                here = np.flatnonzero(read * self.lanes + lane == number)
                states[here], at[here] = front.step[at[here]], front.child[at[here]]
            rows[:, column] = states
            for i, o in {*zip(read.tolist(), states.tolist(), strict=True)}:
                here = np.flatnonzero((read == i) & (states == o))
                at[here], lane[here] = self._walk(rows, here, at[here], lane[here], (stage, i, o))
            read = states
        return rows

    def _walk(
        self, rows: Genes, here: Indices, at: Indices, lane: Indices, where: tuple[int, int, int]
    ) -> tuple[Indices, Indices]:
        """Write the depth and the blocks of a stage for the points `here`; gives their index in the next
        stage and the lane they leave. where: stage, state read, state written."""
        stage, i, o = where
        column, depths = self.chain.offsets[stage], self.chain.stages[stage].depths
        found, left = np.zeros_like(at), lane.copy()
        alive = np.arange(len(here))
        for done in range(depths[-1] + 1):
            step, child = np.empty_like(at), np.empty_like(at)
            for one in range(self.lanes):
                level = self._levels[stage][i, o, done, one]
                if self.lanes == 1:
                    step, child = level.step[at], level.child[at]
                    break
                those = left[alive] == one
                step[those], child[those] = level.step[at[those]], level.child[at[those]]
            leaves = step == EXIT
            if leaves.any():
                rows[here[alive[leaves]], column + 1] = depths.index(done)
                found[alive[leaves]] = child[leaves]
            alive, at, step = alive[~leaves], child[~leaves], step[~leaves]
            if not len(alive):
                break
            rows[here[alive], column + 2 + done] = step
            if self.lanes > 1:
                left[alive] = self.chain.after(stage, done)[left[alive], step]
        return found, left


class _Prices:
    """A dense table at one resolution."""

    def __init__(self, table: DenseTable, resolution: int) -> None:
        self.blocks = [values[resolution] for values in table.blocks]
        self.depth = [values[resolution] for values in table.depth]
        self.switch = [values[resolution] for values in table.switch]

    def of_choices(self, stage: int, i: int, o: int, block: int, lane: int, choices: int) -> Array:
        """(choices,)"""
        found: Array = self.blocks[stage][i, o, block, :choices]
        return found + self.switch[stage][i, o, block, lane, :choices] if self.switch else found

    def repeat(self, stage: int) -> bool:
        """Whether blocks after the first cost the same whatever state the stage reads."""
        return _rest_repeats(self.blocks[stage]) and (not self.switch or _rest_repeats(self.switch[stage]))


def _rest_repeats(blocks: Array) -> bool:
    """Whether blocks after the first cost the same whatever state the stage reads, as DenseTable says they
    do."""
    return len(blocks) == 1 or bool(np.array_equal(blocks[:-1, :, 1:], blocks[1:, :, 1:]))
