"""Gradient search: expectations, gates and updates against their definitions; a real search on digits."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch.nn import functional as F

from benchmarks.gradient_memory import peaks
from supernets.data.catalog import load_dataset
from supernets.errors import InfeasibleBudget, InvalidSearch, TrainingDiverged
from supernets.network import Supernet
from supernets.search.exact import strategy as exact
from supernets.search.gradient import strategy as gradient
from supernets.search.gradient.architecture_updates import ArchitectureSearch, rescale
from supernets.search.gradient.distribution import Distribution, Expectation
from supernets.search.gradient.gates import GatedPath
from supernets.search.gradient.strategy import GateTraining, Samples, Settings
from supernets.search.likely import log_table
from supernets.search.problem import Constraint, Problem
from supernets.spaces.catalog import SPACES
from supernets.spaces.choices import Choice
from supernets.spaces.lowering import dense_from
from supernets.spaces.space import Space, Stage, pictures
from tests.supernets.search.chains import chains, every_network, random_table, seeds


def torch_generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_space(resolutions=(8,), widths=(8, 12)) -> Space:
    """Everything that can be gated: paths of their own with Zero, two depths, two widths, shared kernels."""
    paths = (
        Choice(kernel=3, expand=3),
        Choice(kernel=5, expand=3),
        Choice(kernel=3, expand=6),
        Choice(zero=True),
    )
    stages = (
        Stage("stem", "conv", (8,), choices=((Choice(kernel=3),),), settings={"activation": "relu6"}),
        Stage("own", "mbconv", (8,), (3,), (paths,) * 3, settings={"activation": "relu6"}, shared=False),
        Stage(
            "wide",
            "mbconv",
            widths,
            (1, 2),
            ((Choice(kernel=3, expand=3), Choice(kernel=5, expand=3)),) * 2,
            settings={"stride": 2},
        ),
        Stage("head", "head", (10,)),
    )
    return Space("small", "for tests", resolutions, pictures(1), 10, stages, "tests")


@settings(max_examples=60, deadline=None)
@given(chains, seeds)
def test_expected_cost_equals_the_expectation_by_enumeration(chain, seed):
    table = random_table(chain, np.random.default_rng(seed))
    choices = Distribution(chain, torch_generator(seed), deviation=1.0)
    genes = every_network(chain)
    probabilities = choices.log_probability(genes).exp().detach().double().numpy()
    assert probabilities.sum() == pytest.approx(1, abs=1e-4)
    expected = float(Expectation(table)(choices.probabilities()).detach())
    assert expected == pytest.approx(float(probabilities @ table.price(genes)), rel=1e-4, abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(chains, seeds)
def test_the_log_table_prices_log_probabilities(chain, seed):
    choices = Distribution(chain, torch_generator(seed), deviation=2.0)
    genes = every_network(chain)
    assert np.allclose(
        log_table(chain, choices.logs()).price(genes),
        choices.log_probability(genes).detach().numpy(),
        atol=1e-4,
    )


def test_samples_follow_the_probabilities():
    chain = small_space().chain
    choices = Distribution(chain, torch_generator(), deviation=1.0)
    genes = choices.sample(torch_generator(1), 20_000)
    counts = np.bincount(genes[:, chain.offsets[1] + 2], minlength=4) / len(genes)
    assert np.allclose(counts, choices.probabilities().detach()[chain.offsets[1] + 2, :4], atol=0.02)
    pairs = [choices.sample_pair(torch_generator(s)) for s in range(50)]
    free = choices.sizes > 1
    assert all(
        (p.values[free, 0] != p.values[free, 1]).all() and (p.values < choices.sizes[:, None]).all()
        for p in pairs
    )


@settings(max_examples=40, deadline=None)
@given(chains, seeds)
def test_rescaling_leaves_the_other_paths_alone(chain, seed):
    choices = Distribution(chain, torch_generator(seed), deviation=1.0)
    pair = choices.sample_pair(torch_generator(seed))
    before, p = choices.alphas.detach().clone(), choices.probabilities().detach()
    with torch.no_grad():
        free = (choices.sizes > 1)[:, None]
        choices.alphas.scatter_add_(1, pair.values, torch.where(free, torch.tensor([0.7, -0.4]), 0.0))
    rescale(choices.alphas, before, pair.values)
    after = choices.probabilities().detach()
    others = torch.ones_like(p, dtype=torch.bool).scatter_(1, pair.values, False)
    assert torch.allclose(p[others], after[others], atol=1e-6)
    assert torch.allclose(p.gather(1, pair.values).sum(1), after.gather(1, pair.values).sum(1), atol=1e-6)
    assert (after.gather(1, pair.values[:, :1]) >= p.gather(1, pair.values[:, :1]) - 1e-6).all()


class Mixed(GatedPath):
    """The definition: both outputs, multiplied by gates that are real numbers."""

    def _gate(self, gene, output, other):
        active = self.active[gene]
        with torch.no_grad():
            second = other()
        return self.gates[gene, active] * output + self.gates[gene, 1 - active] * second


@pytest.mark.parametrize("seed", range(4))
def test_gate_gradients_equal_those_of_the_mixture(seed):
    space = small_space()
    supernet = Supernet(space, generator=torch_generator()).eval()
    pair = Distribution(space.chain, torch_generator(seed)).sample_pair(torch_generator(seed))
    x, y = torch.randn(6, 1, 8, 8, generator=torch_generator(9)), torch.arange(6)
    path, mixed = GatedPath(supernet, space, pair), Mixed(supernet, space, pair)
    mixed.gates = F.one_hot(pair.active, 2).float().requires_grad_(True)
    for gated in (path, mixed):
        F.cross_entropy(gated(x), y).backward()
    assert torch.allclose(path.gates.grad, mixed.gates.grad, atol=1e-5)
    assert (path.gates.grad[:, 0] != path.gates.grad[:, 1]).sum() >= 4
    plain = supernet(x, space.architecture(space.chain.canonical(pair.path[None].numpy())[0]))
    assert torch.allclose(path(x), plain, atol=1e-5)


def test_one_architecture_step_moves_only_its_pairs_and_no_weight():
    space = small_space()
    problem = problem_of(space, 0.4)
    supernet = Supernet(space, generator=torch_generator())
    x, y = torch.randn(6, 1, 8, 8, generator=torch_generator(1)), torch.arange(6)
    data = samples([(x, y)])
    run = GateTraining(
        problem, supernet, data, data, np.random.default_rng(0), Settings(architecture_rate=0.1)
    )
    search = run.search
    weights = {name: p.detach().clone() for name, p in supernet.named_parameters()}
    state = search.generator.get_state()
    pair = search.choices.sample_pair(search.generator)
    search.generator.set_state(state)
    p = search.choices.probabilities().detach()
    run.pair_step(x, y)
    after = search.choices.probabilities().detach()
    others = torch.ones_like(p, dtype=torch.bool).scatter_(1, pair.values, False)
    assert torch.allclose(p[others], after[others], atol=1e-6) and not torch.allclose(p, after, atol=1e-3)
    assert all(torch.equal(weights[name], q) and q.grad is None for name, q in supernet.named_parameters())
    assert all(q.requires_grad for q in supernet.parameters())


@pytest.mark.parametrize("latency_loss", gradient.LATENCY_LOSSES)
@pytest.mark.parametrize("limit", [0.3, 80.0])
def test_both_latency_losses_pull_towards_the_limit(latency_loss, limit):
    """The loss grows with E[latency], whatever the unit of the limit."""
    space = small_space()
    cost = dense_from(space, lambda op: op.macs / 1e6)
    scale = limit / exact.bounds(cost)[1] * 2
    cost = cost.affine(np.zeros(1), np.full(1, scale))
    problem = Problem(space.chain, cost, (Constraint("latency_ms", cost, limit),))
    search = ArchitectureSearch(problem, np.random.default_rng(0), Settings(latency_loss=latency_loss))
    search.with_latency(torch.tensor(1.0)).backward()
    descent = search.choices.alphas.detach() - 10 * search.choices.alphas.grad
    before = float(search.expected_costs()[0].detach())
    with torch.no_grad():
        search.choices.alphas.copy_(descent)
    assert float(search.expected_costs()[0].detach()) < before


def test_reinforce_finds_what_is_rewarded():
    space = small_space()
    problem = problem_of(space, 1.0)
    search = ArchitectureSearch(
        problem, np.random.default_rng(0), Settings(architecture_rate=0.1, baseline_decay=0.9)
    )
    wanted = space.chain.offsets[1] + 2
    for _ in range(150):
        genes = search.choices.sample(search.generator, 10)
        search.step_reinforce(genes, (genes[:, wanted] == 3).astype(float))
    assert float(search.choices.probabilities()[wanted, 3].detach()) > 0.9


def problem_of(space: Space, share: float, candidates: int = 3) -> Problem:
    cost = dense_from(space, lambda op: op.macs / 1e6)
    score = dense_from(space, lambda op: math.log1p(op.macs))
    least, largest = exact.bounds(cost)
    return Problem(
        space.chain, score, (Constraint("latency_ms", cost, least + share * (largest - least)),), candidates
    )


def samples(batches: list[tuple[torch.Tensor, torch.Tensor]]) -> Samples:
    return Samples(lambda epoch: batches)


def digits(split: str, count: int, batch: int) -> Samples:
    data = load_dataset("digits")
    chosen = data.split(split)
    x = torch.from_numpy(np.asarray(chosen.images[:count], dtype=np.float32))
    x = (x - float(data.mean[0])) / float(data.deviation[0])
    y = torch.from_numpy(np.asarray(chosen.labels[:count], dtype=np.int64))
    return samples(list(zip(x.split(batch), y.split(batch), strict=True)))


@pytest.mark.filterwarnings("ignore")
def test_an_architecture_step_takes_the_memory_of_one_path():
    """Against one weight step on the largest path; eight paths a block would take several times as much."""
    one_path, architecture = peaks(pixels=64, batch=8, seed=0)
    assert one_path > 10 * 8 * 3 * 64 * 64 * 4
    assert architecture <= 1.3 * one_path


@pytest.mark.parametrize("update", gradient.UPDATES)
def test_a_search_on_digits_keeps_its_budget(update):
    space = small_space(resolutions=(8, 12))
    problem = problem_of(space, 0.3)
    chosen = Settings(warmup_epochs=3, epochs=4, update=update, architecture_rate=0.05, every=2)
    supernet = Supernet(space, generator=torch_generator())
    train, held_out = digits("train", 256, 32), digits("validation", 64, 32)
    steps = []
    found = gradient.search(
        problem, supernet, train, held_out, np.random.default_rng(0), chosen, progress=steps.append
    )
    assert steps == list(found.history) and [s.phase for s in steps] == ["warm-up"] * 3 + ["search"] * 4
    assert steps[-1].loss < steps[0].loss and steps[-1].entropy < steps[0].entropy
    assert found.result.strategy == "gradient" and len(found.result.candidates) == 3
    assert all(c.costs[0] <= problem.constraints[0].limit for c in found.result.candidates)
    assert np.allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    again = gradient.search(
        problem,
        Supernet(space, generator=torch_generator()),
        train,
        held_out,
        np.random.default_rng(0),
        chosen,
    )
    assert [c.genes.tolist() for c in again.result.candidates] == [
        c.genes.tolist() for c in found.result.candidates
    ]


def test_the_built_in_proxyless_space_takes_a_step():
    space = SPACES["proxyless"].with_classes(10)
    small = replace(space, resolutions=(32,))
    supernet = Supernet(small, generator=torch_generator())
    x, y = torch.randn(4, 3, 32, 32, generator=torch_generator(1)), torch.arange(4)
    found = gradient.search(
        problem_of(small, 0.3),
        supernet,
        samples([(x, y)]),
        samples([(x, y)]),
        np.random.default_rng(0),
        Settings(warmup_epochs=1, epochs=2, every=1),
    )
    assert found.result.candidates[0].costs[0] <= problem_of(small, 0.3).constraints[0].limit


def test_what_cannot_be_searched_is_refused_before_training():
    space = small_space()
    supernet = Supernet(space, generator=torch_generator())
    batches = digits("train", 64, 32)
    generator = np.random.default_rng(0)
    with pytest.raises(InfeasibleBudget):
        gradient.search(problem_of(space, -0.1), supernet, batches, batches, generator)
    with pytest.raises(InvalidSearch, match="another space"):
        gradient.search(
            problem_of(small_space(widths=(8, 16, 24)), 0.5), supernet, batches, batches, generator
        )
    with pytest.raises(InvalidSearch, match="latency_loss"):
        Settings(latency_loss="cubic")
    with pytest.raises(InvalidSearch, match="no batches"):
        gradient.search(problem_of(space, 0.5), supernet, samples([]), batches, generator)


def test_a_loss_that_is_not_a_number_stops():
    space = small_space()
    x, y = digits("train", 32, 32).batches(0)[0]
    with pytest.raises(TrainingDiverged, match="warm-up"):
        gradient.search(
            problem_of(space, 0.5),
            Supernet(space, generator=torch_generator()),
            samples([(x * math.nan, y)]),
            samples([(x, y)]),
            np.random.default_rng(0),
        )
