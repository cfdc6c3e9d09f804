"""Choices that may not be taken: excluded by name, or because a table lacks their latency. Every solver stays
exact.

A restriction is a dense table of zeros with infinity where a choice is forbidden; added to a problem, it
takes the networks that make such a choice out of the search.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from latency_tables.dense import Array, DenseTable
from latency_tables.named import Named, Value
from latency_tables.operators.operator import FLOAT
from latency_tables.table import LatencyTable
from supernets.errors import InfeasibleBudget, InvalidArchitecture, InvalidSearch
from supernets.search.exact.bounds import bounds
from supernets.search.problem import Constraint, Problem
from supernets.spaces.architecture import Architecture
from supernets.spaces.choices import KEPT, PRECISION, Choice
from supernets.spaces.lowering import dense_from, known_latency
from supernets.spaces.space import Space, Stage

DEPTH: Final = "depth"


def values_of(stage: Stage, state: Named, choice: Choice) -> dict[str, Value]:
    """The named values of one block: what `exclude` may forbid. A block that is left out has `zero` alone."""
    if choice.zero:
        return {"zero": True}
    named = {**choice, **stage.settings}
    allowed = {name: named[name] for name in stage.operators.excludable}
    if len(stage.precisions) > 1:
        allowed[PRECISION] = choice.precision
    if stage.pruned:
        allowed[KEPT] = Choice(kept=choice.kept)[KEPT]
    return {**allowed, **state, "family": stage.family}


def named_values(space: Space) -> dict[str, list[Value]]:
    """Every name that `exclude` may hold, with the values that some block of the space has."""
    found: dict[str, set[Value]] = {DEPTH: {depth for stage in space.stages for depth in stage.depths}}
    for stage in space.stages:
        for state in stage.states:
            for choice in (c for options in stage.choices for c in options):
                for name, value in values_of(stage, state, choice).items():
                    found.setdefault(name, set()).add(value)
    return {name: sorted(values, key=lambda v: (str(type(v)), v)) for name, values in sorted(found.items())}


def excluded(space: Space, exclude: Mapping[str, Sequence[Value]]) -> DenseTable:
    """The restriction that forbids every block with one of these values, by name; `STAGE.NAME` for one stage
    alone.

    Raises InvalidSearch for a name or value that the space does not have, InfeasibleBudget where no network
    is left.
    """
    wanted = {name: list(values) for name, values in exclude.items()}
    used: set[tuple[str, int]] = set()
    mask = _nothing(space)
    for index, stage in enumerate(space.stages):
        for name, position, value in _of_stage(wanted, stage.name):
            if name == DEPTH and type(value) is int and value in stage.depths:
                mask.depth[index][:, stage.depths.index(value)] = np.inf
                used.add(position)
        for o, state in enumerate(stage.states):
            for block, options in enumerate(stage.choices):
                for c, choice in enumerate(options):
                    own = values_of(stage, state, choice)
                    for name, position, value in _of_stage(wanted, stage.name):
                        # True == 1 in Python, but `"kernel": [true]` names no kernel.
                        if (
                            name in own
                            and isinstance(own[name], bool) == isinstance(value, bool)
                            and own[name] == value
                        ):
                            mask.blocks[index][:, :, o, block, c] = np.inf
                            used.add(position)
    if used != {(name, i) for name, values in wanted.items() for i in range(len(values))}:
        known = "; ".join(
            f"{name}: {', '.join(_shown(v) for v in values)}" for name, values in named_values(space).items()
        )
        stages = ", ".join(stage.name for stage in space.stages)
        raise InvalidSearch(
            f"exclude names a choice that {space.name} does not have. It has {known}. A name may be one "
            "stage's own, such as "
            f"`{space.stages[1].name}.kernel`; stages are {stages}"
        )
    _some_left(space, mask)
    return mask


def precisions_alone(space: Space, architecture: Architecture, *, widths: bool = False) -> DenseTable:
    """The restriction to one network of a space with several precisions: only those of its blocks are open.

    widths: what is pruned from it is open too. space: at the resolution of the network alone (`space.at`).
    architecture: in any precision. Raises InvalidArchitecture where it is not in the space.
    """
    plain = space.in_float(architecture)
    space.holding(plain).genes(plain)
    if len(space.resolutions) > 1:
        raise InvalidArchitecture("one network has one resolution: take the space at that one alone")
    mask = _nothing(space)
    for values in (*mask.blocks, *mask.depth):
        values.fill(np.inf)
    for index, (stage, chosen) in enumerate(zip(space.stages, plain.stages, strict=True)):
        mask.depth[index][:, stage.depths.index(chosen.depth)] = 0.0
        for block, choice in enumerate(chosen.blocks):
            for c, option in enumerate(stage.choices[block]):
                if (option.whole if widths else option).at(FLOAT) == choice:
                    mask.blocks[index][:, :, stage.number_of(chosen), block, c] = 0.0
    return mask


def mask_of(
    space: Space, exclude: Mapping[str, Sequence[Value]], only: Architecture | None = None
) -> DenseTable | None:
    """The restriction that forbids what is excluded, and, where a network is given, all others than itself in
    other precisions; None where nothing is forbidden. Raises as `excluded` and `precisions_alone` do.

    In a space of pruned networks a whole one may be pruned; one that was pruned keeps its channels: those
    that were cut out of it are not in its weights.
    """
    masks = [excluded(space, exclude)] if exclude else []
    if only is not None:
        widths = space.pruned and space.unpruned(only) == only
        masks.append(precisions_alone(space, only, widths=widths))
    if len(masks) < 2:
        return masks[0] if masks else None
    both = added(*masks)
    _some_left(space, both)
    return both


def lacking(table: DenseTable) -> DenseTable:
    """The restriction to what a table prices: forbidden is whatever it has no finite number for."""

    def forbidden(values: Array) -> Array:
        return np.where(np.isfinite(values), 0.0, np.inf)

    return table.each(forbidden)


def possible_resolutions(space: Space, table: LatencyTable) -> tuple[int, ...]:
    """Resolutions at which the table prices every operator of some network at least."""
    found = []
    for resolution in space.resolutions:
        try:
            bounds(known_latency(space.at([resolution]), table))
        except InfeasibleBudget:
            continue
        found.append(resolution)
    return tuple(found)


def restricted(problem: Problem, mask: DenseTable) -> Problem:
    """The problem without the networks that make a forbidden choice. Raises InfeasibleBudget naming what they
    cannot keep."""

    def possible(score: Array, forbidden: Array) -> Array:
        # Infinite costs alone would not do: a problem without constraints has no costs to look at.
        return np.where(np.isinf(forbidden), -np.inf, score)

    score = problem.score.each(possible, mask)
    constraints = tuple(Constraint(c.name, added(c.table, mask), c.limit) for c in problem.constraints)
    for constraint in constraints:
        low, high = bounds(constraint.table)
        if constraint.limit < low:
            raise InfeasibleBudget(
                f"no network that may be chosen keeps {constraint.name} <= {constraint.limit:.12g}; from "
                f"{low:.12g} to "
                f"{high:.12g} can be reached: raise the limit or exclude less",
                low,
                high,
                constraint.name.split(" ")[0],
            )
    return replace(problem, score=score, constraints=constraints)


def added(one: DenseTable, other: DenseTable) -> DenseTable:
    """The sum of two tables of a chain."""
    return one.each(np.add, other)


def _nothing(space: Space) -> DenseTable:
    """The restriction that forbids nothing."""
    return dense_from(space, lambda op: 0.0).each(np.zeros_like)


def _of_stage(
    wanted: Mapping[str, Sequence[Value]], stage: str
) -> Iterator[tuple[str, tuple[str, int], Value]]:
    """(name, where it stands in the request, value) of all that holds for a stage."""
    for key, values in wanted.items():
        owner, _, name = key.rpartition(".")
        if owner in ("", stage):
            for i, value in enumerate(values):
                yield name, (key, i), value


def _some_left(space: Space, mask: DenseTable) -> None:
    try:
        bounds(added(dense_from(space, lambda op: 0.0), mask))
    except InfeasibleBudget as error:
        blocked = [
            stage.name
            for stage, blocks, depth in zip(space.stages, mask.blocks, mask.depth, strict=True)
            if np.isinf(depth).all() or any(_always(blocks, stage, b) for b in range(min(stage.depths)))
        ]
        where = f": stage {', '.join(blocked)} has no other choice" if blocked else ""
        raise InfeasibleBudget(
            f"with what is excluded no network of {space.name} is left{where}; exclude less, or from one "
            "stage "
            f"alone (`{space.stages[1].name}.kernel`)",
            error.minimum,
            error.maximum,
        ) from None


def _always(blocks: Array, stage: Stage, block: int) -> bool:
    """Whether every choice of a block that each network has is forbidden."""
    return bool(np.isinf(blocks[:, :, :, block, : len(stage.choices[block])]).all())


def _shown(value: Value) -> str:
    return (
        str(value).lower()
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def at_resolutions(dense: DenseTable, space: Space, kept: Space) -> DenseTable:
    """A dense table of `space` for the fewer resolutions of `kept`."""
    indices = [space.resolutions.index(r) for r in kept.resolutions]
    return DenseTable(
        kept.chain,
        dense.constant[indices],
        tuple(b[indices] for b in dense.blocks),
        tuple(d[indices] for d in dense.depth),
        tuple(s[indices] for s in dense.switch),
    )
