"""What fine-tuning keeps: the sum over operators is what autograd is seen to hold, and searches keep a limit on
it exactly."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from latency_tables.operators import Operator
from supernets.errors import InfeasibleBudget
from supernets.layers.norm import stand
from supernets.network import Supernet
from supernets.search.catalog import solve
from supernets.search.limits import ADAPTATION, costs_of, limited, reachable
from supernets.search.problem import Problem
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import dense_from, lower

SPACES = {"digits-mbv3": 16, "proxyless": 32, "ofa-resnet50": 32}


def kept_bytes(supernet, architecture):
    """What is held from the forward to the backward pass of one sample, parameters left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in supernet.parameters()}
    held = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = torch.randn(1, *supernet.space.input_shape(architecture.resolution))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = supernet(x, architecture)
    del output
    return sum(held.values())


@pytest.mark.parametrize("name", SPACES)
def test_the_sum_over_operators_is_what_training_holds(name):
    space = replace(space_named(name).with_classes(10), resolutions=(SPACES[name],))
    supernet = Supernet(space)
    stand(supernet.train())
    network = space.architecture(space.chain.sample(np.random.default_rng(0), 1)[0])
    wanted = 4 * sum(op.kept_values for op in lower(space, network))
    # Weights that are computed for a step (small kernels, one tensor for all resolutions) are held as well.
    assert kept_bytes(supernet, network) == pytest.approx(wanted, rel=0.15)


def test_the_best_network_within_a_limit_is_found_exactly_and_less_than_the_least_is_refused():
    space = space_named("digits-mbv3").at([8])
    score = dense_from(space, lambda op: float(op.macs) ** 0.5)
    least, most = reachable(space, ADAPTATION)
    limit = (least + most) / 2
    problem = limited(space, Problem(space.chain, score), {ADAPTATION: limit})
    best = solve(problem, "exact", np.random.default_rng(0)).candidates[0]
    found = space.architecture(best.genes)
    assert costs_of(space, found)[ADAPTATION] <= limit
    rows = space.chain.sample(np.random.default_rng(1), 300)
    kept = [row for row in rows if costs_of(space, space.architecture(row))[ADAPTATION] <= limit]
    assert kept and max(score.price(np.array(kept))) <= best.score + 1e-9
    with pytest.raises(InfeasibleBudget) as refused:
        limited(space, Problem(space.chain, score), {ADAPTATION: 0.9 * least})
    assert refused.value.constraint == ADAPTATION and refused.value.minimum == pytest.approx(least)


def test_a_family_that_does_not_say_what_it_keeps_is_taken_to_keep_much():
    (op, *_) = lower(space_named("digits-mbv3"), space_named("digits-mbv3").smallest())
    assert Operator.kept_values.fget(op) == 3 * op.peak_values >= op.kept_values
