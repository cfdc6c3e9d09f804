"""The front of a network's precisions is the one that trying every plan finds."""

from itertools import product

import numpy as np
import pytest

from supernets.errors import InvalidSearch
from supernets.search.precisions import BlockCosts, Planned, plans


def drawn(seed, blocks=8):
    rng = np.random.default_rng(seed)
    return [
        BlockCosts(*rng.uniform(0.1, 2.0, 2), *rng.uniform(0.0, 0.6, 2), float(rng.uniform(-0.01, 0.1)))
        if rng.random() < 0.9
        else BlockCosts(float(rng.uniform(0.1, 2.0)), None, 0.1, 0.1)
        for _ in range(blocks)
    ]


def slow(blocks, closing_ms):
    found = []
    for int8 in product([False, True], repeat=len(blocks)):
        if any(i and b.int8_ms is None for i, b in zip(int8, blocks, strict=True)):
            continue
        latency, before = 0.0, False
        for here, block in zip(int8, blocks, strict=True):
            latency += block.int8_ms if here else block.float32_ms
            latency += (block.quantize_ms if here else block.dequantize_ms) if here != before else 0.0
            before = here
        latency += closing_ms if before else 0.0
        found.append((latency, sum(b.lost for i, b in zip(int8, blocks, strict=True) if i), int8))
    return [
        one
        for one in sorted(found)
        if not any(o[0] <= one[0] and o[1] <= one[1] and o[:2] != one[:2] for o in found)
    ]


@pytest.mark.parametrize("seed", range(6))
def test_the_front_is_that_of_all_plans(seed):
    blocks = drawn(seed)
    found, wanted = plans(blocks, 0.2), slow(blocks, 0.2)
    assert np.allclose([(p.latency_ms, p.lost) for p in found], [w[:2] for w in wanted])
    assert [p.int8 for p in found] == [w[2] for w in wanted]


def test_a_conversion_that_costs_more_than_int8_gains_is_not_made():
    cheap = BlockCosts(1.0, 0.8, 0.3, 0.3)
    assert plans([cheap])[0].int8 == (False,)
    assert plans([cheap, cheap, cheap])[0].int8 == (True,) * 3
    assert plans([cheap] * 3, closing_ms=0.5)[0] == Planned(3.0, 0.0, (False,) * 3)


def test_nothing_to_choose_is_refused():
    with pytest.raises(InvalidSearch, match="without blocks"):
        plans([])
