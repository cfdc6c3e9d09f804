"""One network with the precision of each block open: the exact front is the one that trying every plan finds."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from supernets.errors import InvalidArchitecture
from supernets.search.exact import strategy as exact
from supernets.search.problem import Constraint, Problem
from supernets.search.restriction import precisions_alone, restricted
from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import dense_from, lower

BOTH = ("float32", "int8")
MIXED = SPACES["digits-mbv3"].at([8]).with_precisions(BOTH)


def costs(seed):
    """(a latency for every operator, int8 about half; what int8 loses), random."""
    drawn: dict[str, float] = {}
    rng = np.random.default_rng(seed)

    def latency(op):
        share = 0.5 if op.precision == "int8" else 1.0
        return drawn.setdefault(op.text, share * float(rng.uniform(0.1, 2.0)))

    cost = dense_from(MIXED, latency)
    return cost, dense_from(MIXED, lambda op: drawn[op.text] if op.precision == "int8" else 0.0)


def plans(architecture):
    """Every mix of precisions of a network."""
    blocks = [c for stage in architecture.stages for c in stage.blocks]
    for precisions in product(BOTH, repeat=len(blocks)):
        mixed = iter([c.at(p) for c, p in zip(blocks, precisions, strict=True)])
        stages = tuple(replace(s, blocks=tuple(next(mixed) for _ in s.blocks)) for s in architecture.stages)
        yield replace(architecture, stages=stages)


@pytest.mark.parametrize("seed", range(3))
def test_the_front_is_that_of_all_plans(seed):
    network, (cost, lost) = MIXED.in_float(MIXED.smallest()), costs(seed)
    score = lost.each(np.negative)
    problem = Problem(MIXED.chain, score, (Constraint("ms", cost, np.inf),))
    only = restricted(problem, precisions_alone(MIXED, network))
    found = exact.front(only.score, only.constraints[0].table)
    every = np.array([MIXED.genes(one) for one in plans(network)])
    priced, scored = cost.price(every), score.price(every)
    kept = [
        i
        for i in range(len(every))
        if not (
            (priced <= priced[i]) & (scored >= scored[i]) & ((priced < priced[i]) | (scored > scored[i]))
        ).any()
    ]
    assert len(found) > 1
    assert sorted(found.costs) == pytest.approx(sorted(set(priced[kept])))
    assert all(MIXED.in_float(MIXED.architecture(row)) == network for row in found.genes)


def test_a_network_has_one_resolution_and_is_of_the_space():
    wide = SPACES["digits-mbv3"].with_precisions(BOTH)
    with pytest.raises(InvalidArchitecture, match="one resolution"):
        precisions_alone(wide, wide.smallest())
    with pytest.raises(InvalidArchitecture):
        precisions_alone(MIXED, SPACES["cifar-mbv3"].smallest())
    assert lower(MIXED, MIXED.smallest())
