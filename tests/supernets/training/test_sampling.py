"""Sampling of sub-networks: seeded by the step, inside the phase."""

import numpy as np
import pytest

from supernets.spaces.catalog import SPACES, space_named
from supernets.training.catalog import RECIPES
from supernets.training.recipe import Phase
from supernets.training.sampling import allowed_values, smallest_of, step_networks

SPACE = space_named("digits-mbv3")


def test_the_same_step_draws_the_same():
    phase = RECIPES["quick"].phases[0]
    assert step_networks(SPACE, phase, 3, 17) == step_networks(SPACE, phase, 3, 17)
    assert len({tuple(step_networks(SPACE, phase, 3, step)) for step in range(20)}) == 20


def test_one_resolution_a_step_and_all_of_them_in_time():
    drawn = [step_networks(SPACE, RECIPES["quick"].phases[0], 0, step) for step in range(60)]
    assert all(len({a.resolution for a in networks}) == 1 for networks in drawn)
    assert {networks[0].resolution for networks in drawn} == set(SPACE.resolutions)


def test_the_sandwich_has_both_ends():
    networks = step_networks(SPACE, RECIPES["quick"].phases[0], 0, 5)
    size = networks[0].resolution
    assert networks[0] == SPACE.largest(size) and networks[-1] == SPACE.smallest(size) and len(networks) == 4


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("phase", RECIPES["progressive"].phases, ids=lambda p: p.name)
def test_phases_open_one_dimension_after_another(name, phase):
    space = space_named(name)
    values = allowed_values(space, phase)
    for networks in (step_networks(space, phase, 0, step) for step in range(5)):
        for row in (space.genes(a) for a in networks):
            active = space.chain.active(row[None])[0]
            assert all(gene in allowed for gene, allowed, on in zip(row, values, active, strict=True) if on)
    assert space.genes(smallest_of(space, phase, space.resolutions[0])) is not None


def test_the_first_phase_trains_the_largest_network_alone_the_last_everything():
    first, last = RECIPES["progressive"].phases[0], RECIPES["progressive"].phases[-1]
    for step in range(5):
        (only,) = step_networks(SPACE, first, 0, step)
        assert only == SPACE.largest(only.resolution)
    assert [len(v) for v in allowed_values(SPACE, last)] == SPACE.chain.gene_sizes.tolist()
    assert smallest_of(SPACE, last, 8) == SPACE.smallest(8)


def test_draws_are_uniform():
    phase = Phase("all", 1, 0.1, networks=4)
    rows = np.array([SPACE.genes(a) for step in range(300) for a in step_networks(SPACE, phase, 1, step)])
    first_block = SPACE.chain.offsets[1] + 2
    counts = np.bincount(rows[:, first_block], minlength=9)
    assert counts.min() > 0.6 * 1200 / 9 and counts.max() < 1.5 * 1200 / 9
