"""Scores of sub-networks in int8 are those of their simulated networks; blocks alone and together."""

from functools import cache

import numpy as np
import pytest
import torch

from supernets.accuracy.likelihood import Scale
from supernets.data.catalog import load_digits
from supernets.delivery.passes import ROUNDED, Source, passed
from supernets.delivery.precision import Rounding
from supernets.delivery.rounded_scores import (
    RoundedEvaluator,
    block_names,
    mean_sensitivity,
    random_precisions,
    score_rounded,
)
from supernets.network import Supernet
from supernets.spaces.catalog import SPACES
from supernets.tasks.catalog import task_of

SPACE = SPACES["digits-mbv3"]


@cache
def evaluator() -> RoundedEvaluator:
    supernet = Supernet(SPACE, generator=torch.Generator().manual_seed(0)).eval()
    source = Source(supernet, SPACE.smallest(), load_digits(), rounding=Rounding("minmax", samples=32))
    return RoundedEvaluator(source, limit=48)


def test_a_score_is_what_the_delivered_network_does_simulated():
    found, smallest = evaluator(), SPACE.smallest()
    ready = found.ready(smallest)
    plan = ready.plan(dict.fromkeys(block_names(SPACE), True))
    assert set(plan.precisions) == {"int8"} and found.ready(smallest) is ready
    source = found.source
    network = passed(Source(source.supernet, smallest, source.data, plan, source.rounding), ROUNDED)
    x, targets = task_of(source.data).examples(source.data, "validation", smallest.resolution, found.rows)
    with torch.no_grad():
        wanted = found.task.quality(found.task.tally(network(x), targets))
    assert found.quality(smallest, plan) == wanted


def test_networks_are_ranked_by_likelihood_where_their_supernet_is():
    plain, smallest = evaluator(), SPACE.smallest()
    read = RoundedEvaluator(plain.source, limit=48, scale=Scale(0.9, 0.1))
    plan = plain.ready(smallest).plan({block_names(SPACE)[1]: True})
    quality, groups = read.counted(smallest, plan)
    assert quality == plain.value(smallest, plan) == read.quality(smallest, plan)
    x, targets = task_of(read.source.data).examples(read.source.data, "validation", 8, read.rows)
    ready = read.ready(smallest)
    with torch.no_grad():
        outputs = ready.calibrated.at(plan, ready.method)(x)
    right = torch.log_softmax(outputs, 1)[torch.arange(48), targets].numpy()
    assert groups is not None and np.allclose(groups, right, atol=1e-5), "48 samples, a group for each"
    assert read.value(smallest, plan) == pytest.approx(0.9 + 0.1 * right.mean(), abs=1e-6)


def test_networks_of_several_depths_are_scored_by_the_blocks_that_they_have():
    found, names, rng = evaluator(), block_names(SPACE), np.random.default_rng(0)
    genes = np.array([SPACE.genes(SPACE.smallest()), SPACE.genes(SPACE.largest(8))])
    wanted = random_precisions(2, len(names), rng)
    scores = score_rounded(found, genes, wanted, names)
    assert (scores.int8 <= wanted).all() and scores.qualities.min() >= 0 and scores.qualities.max() <= 1
    lost = mean_sensitivity(found, [SPACE.smallest()], names)
    assert list(lost) == list(names) and any(value != 0 for value in lost.values())
    assert lost[names[-2]] != 0 or lost[names[0]] != 0
