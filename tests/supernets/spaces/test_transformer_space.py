"""Spaces of transformers: every space's count, canonical form, prices, and its exact front against all
networks."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import search, search_transformers
from latency_tables.operators import Operator
from supernets.errors import InvalidArchitecture, UnknownSpace
from supernets.search.exact import strategy as exact
from supernets.search.problem import Constraint, Problem
from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import all_operators, dense_from, lower
from supernets.spaces.transformer import DecoderLayer, EncoderLayer, Transformer, from_hat, to_hat
from supernets.spaces.transformer_space import (
    HAT_IWSLT,
    HAT_SMALL,
    HAT_WMT,
    TRANSFORMER_SPACES,
    Sentence,
    TransformerSpace,
    transformer_space_named,
)

every_space = pytest.mark.parametrize("name", TRANSFORMER_SPACES)
TINY = replace(
    HAT_SMALL,
    name="tiny",
    encoder_layers=(1, 2),
    decoder_layers=(1, 2),
    feed_forward=(8, 16),
    heads=(2,),
    attended=(1, 2),
)


def encoder_value(width: int, layer: EncoderLayer) -> float:
    return np.sin(width * 1.7 + layer.feed_forward * 0.31 + layer.heads) + 2.5


def decoder_value(read: int, width: int, layer: DecoderLayer) -> float:
    numbers = (read * 0.9, width * 1.3, layer.feed_forward * 0.17, layer.heads, layer.cross_heads * 2.1)
    return np.cos(sum(numbers) + layer.attended * 0.7) + 2.5


def slow(network: Transformer) -> float:
    total = sum(encoder_value(network.encoder_width, layer) for layer in network.encoder)
    return total + sum(
        decoder_value(network.encoder_width, network.decoder_width, layer) for layer in network.decoder
    )


def test_counts_are_the_published_ones() -> None:
    per_layer = sum((3 * 2 * 2 * 3) ** n for n in range(1, 7))
    assert HAT_WMT.count() == HAT_IWSLT.count() == 4 * 6**6 * per_layer
    assert f"{HAT_WMT.count():.2e}" == "4.18e+14"
    assert TINY.count() == sum(1 for _ in every_network(TINY))


def every_network(space: TransformerSpace) -> Any:
    for e, d in product(space.encoder_widths, space.decoder_widths):
        for n, m in product(space.encoder_layers, space.decoder_layers):
            for encoder in product(space.encoder_choices, repeat=n):
                for decoder in product(space.decoder_choices, repeat=m):
                    yield Transformer(e, encoder, d, decoder)


@every_space
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_encode_and_decode(name: str, seed: int) -> None:
    space = TRANSFORMER_SPACES[name]
    for network in space.sample(np.random.default_rng(seed), 4):
        genes = space.genes(network)
        assert space.network(genes) == network
        assert (space.chain.canonical(genes[None])[0] == genes).all()
        assert from_hat(to_hat(network)) == network
        space.sizes(50, 50).check(network)


@every_space
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_genes_of_layers_beyond_the_depth_do_not_count(name: str, seed: int) -> None:
    space, generator = TRANSFORMER_SPACES[name], np.random.default_rng(seed)
    raw = generator.integers(0, space.chain.gene_sizes, size=(2, space.chain.genes))
    drawn = generator.integers(0, space.chain.gene_sizes, size=raw.shape)
    other = np.where(space.chain.active(raw), raw, drawn)
    for one, two in zip(raw, other, strict=True):
        assert space.network(one) == space.network(two)


@every_space
def test_dense_price_is_the_slow_sum(name: str) -> None:
    space = TRANSFORMER_SPACES[name]
    genes = space.chain.sample(np.random.default_rng(3), 50)
    wanted = [slow(space.network(row)) for row in genes]
    np.testing.assert_allclose(space.dense(encoder_value, decoder_value).price(genes), wanted, rtol=1e-12)


@every_space
def test_largest_and_smallest_are_the_ends(name: str) -> None:
    space = TRANSFORMER_SPACES[name]
    least, most = (n.parameters(space.qkv_width) for n in (space.smallest(), space.largest()))
    assert all(
        least <= n.parameters(space.qkv_width) <= most for n in space.sample(np.random.default_rng(0), 200)
    )


@every_space
def test_what_is_offered_is_the_description_priced(name: str) -> None:
    assert SPACES.get(name) in (None, TRANSFORMER_SPACES[name].priced())


def test_the_exact_front_is_that_of_all_networks() -> None:
    score = TINY.dense(encoder_value, decoder_value)
    cost = TINY.dense(
        lambda width, layer: width * layer.feed_forward / 100,
        lambda read, width, layer: (read * layer.attended + width * layer.feed_forward) / 100,
    )
    genes = np.array([TINY.genes(network) for network in every_network(TINY)])
    scores, costs = score.price(genes), cost.price(genes)
    found = exact.front(score, cost)
    prices, values = cost.price(found.genes), score.price(found.genes)
    for price, value in zip(prices, values, strict=True):
        assert value == pytest.approx(scores[costs <= price + 1e-9].max())
    order = np.lexsort((-scores, np.round(costs, 6)))
    best = np.maximum.accumulate(scores[order])
    assert len(found.genes) == 1 + np.count_nonzero(np.diff(best) > 1e-9)
    limit = float(np.median(costs))
    result = exact.solve(Problem(TINY.chain, score, (Constraint("cost", cost, limit),), 3))
    assert score.price(result.candidates[0].genes[None])[0] == pytest.approx(scores[costs <= limit].max())


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (replace(HAT_WMT.largest(), encoder_width=576), r"encoder width must be one of \[512, 640\]"),
        (replace(HAT_WMT.largest(), encoder=HAT_WMT.largest().encoder[:5]), r"its layers one of \[6\]"),
        (replace(HAT_WMT.largest(), decoder=()), "decoder width must be"),
        (HAT_IWSLT.smallest(), "is no encoder layer of this space"),
        (replace(HAT_WMT.largest(), decoder=(DecoderLayer(512, 4, 4, 1),)), "is no decoder layer"),
    ],
    ids=["width", "depth", "no decoder", "encoder layer", "decoder layer"],
)
def test_a_network_of_another_space_is_refused(network: Transformer, says: str) -> None:
    with pytest.raises(InvalidArchitecture, match=says):
        HAT_WMT.genes(network)


def test_genes_of_another_form_are_refused() -> None:
    for bad in ([0], [0] * (HAT_WMT.chain.genes - 1) + [36]):
        with pytest.raises(InvalidArchitecture, match="not a row of genes of hat-wmt"):
            HAT_WMT.network(bad)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"heads": (3,)}, "heads must divide"),
        ({"attended": (1, 4)}, "more layers than there are"),
        ({"feed_forward": (512, 256)}, "ascending"),
        ({"decoder_layers": ()}, "whole numbers from 1"),
        ({"decoder_layers": (0, 1)}, "whole numbers from 1"),
    ],
)
def test_a_space_that_cannot_be_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(HAT_SMALL, **change)


def test_an_unknown_space_lists_the_known_ones() -> None:
    assert transformer_space_named("hat-wmt") is HAT_WMT
    with pytest.raises(UnknownSpace, match="hat-wmt, hat-iwslt, hat-small"):
        transformer_space_named("hat")


@every_space
def test_hats_genes_are_the_chains(name: str) -> None:
    """HAT mutates widths, heads and layers read one by one; each of its rows is one network of the space."""
    space = TRANSFORMER_SPACES[name]
    genes = search_transformers.HatGenes(space)
    assert (genes.rows(genes.sizes[None] - 1)[0] == space.genes(space.largest())).all()
    drawn = np.random.default_rng(0).integers(0, genes.sizes, (200, len(genes.sizes)))
    networks = [space.network(row) for row in genes.rows(drawn)]
    first = 3  # after what stands for the resolution, the encoder's width and its layers
    assert [n.encoder[0].feed_forward for n in networks] == [space.feed_forward[i] for i in drawn[:, first]]
    assert [n.encoder[0].heads for n in networks] == [space.heads[i] for i in drawn[:, first + 1]]
    decoder = first + 2 * space.encoder_layers[-1] + 2
    assert [n.decoder[0].cross_heads for n in networks] == [space.heads[i] for i in drawn[:, decoder + 2]]
    assert [n.decoder[0].attended for n in networks] == [space.attended[i] for i in drawn[:, decoder + 3]]


def test_the_benchmark_finds_no_better_network_than_the_exact_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["search", "--space", "hat-small", "--repeats", "1"])
    search.main()
    result = json.loads(capsys.readouterr().out)
    assert result["networks"] == HAT_SMALL.count() and len(result["hat_evolution_gap_percent"]) == 10
    assert min(result["hat_evolution_gap_percent"]) >= -1e-6
    assert result["front_points"] > 50 and result["front_ms"] > 0


PRICED = Sentence(source_tokens=7, target_tokens=4, beam=2)


@every_space
def test_priced_by_operators_it_is_the_same_space(name: str) -> None:
    """Genes, count and networks are the description's; a table of rows gives what adding them up does."""
    described = TRANSFORMER_SPACES[name]
    space = described.priced(PRICED, 40)
    assert space.count() == described.count() and space.resolutions == (7,)
    genes = space.chain.sample(np.random.default_rng(0), 20)
    columns = described.chain.genes
    listed = set(all_operators(space, 7))
    for row in genes:
        architecture = space.architecture(row)
        assert (described.genes(described.of(architecture)) == row[:columns]).all()
        assert space.from_json(json.loads(json.dumps(space.to_json(architecture)))) == architecture
        operators = lower(space, architecture)
        assert listed.issuperset(operators) and all(Operator.parse(op.text) == op for op in operators)
        assert operators[0].inputs == space.inputs_at(7)[:1] or operators[0].inputs[0].shape == (7,)
        assert operators[-1].closes and operators[-1].output_shape == (2, 40)
    slow = [sum(len(op.text) + op.macs for op in lower(space, space.architecture(row))) for row in genes]
    np.testing.assert_allclose(dense_from(space, lambda op: len(op.text) + op.macs).price(genes), slow)


def test_a_decoder_layer_reads_the_encoders_width_in_every_block() -> None:
    space = HAT_SMALL.priced(PRICED, 40)
    for width in HAT_SMALL.encoder_widths:
        network = replace(HAT_SMALL.largest(), encoder_width=width)
        row = np.concatenate((HAT_SMALL.genes(network), [0, 0, 0]))
        operators = lower(space, space.architecture(row))
        memories = [op for op in operators if op.family == "cross_memory"]
        assert [(op.tokens, op.width) for op in memories] == [(21, width)] * 3
        layers = [op.family for op in operators]
        assert (
            layers.count("encoder_attend") == layers.count("step_attend") == layers.count("step_cross") == 3
        )
        assert layers.count("source_embed") == layers.count("step_embed") == layers.count("step_output") == 1


def test_the_exact_front_of_hat_is_found_on_rows() -> None:
    space = HAT_WMT.priced(Sentence(30, 30, 5))
    cost, worth = dense_from(space, lambda op: op.macs), dense_from(space, lambda op: op.parameters)
    least, most = exact.bounds(cost)
    budget = Constraint("macs", cost, (least + most) / 2)
    best = exact.solve(Problem(space.chain, worth, (budget,))).candidates[0]
    assert best.costs[0] <= budget.limit
    rest = worth.price(space.chain.sample(np.random.default_rng(1), 3000))
    allowed = cost.price(space.chain.sample(np.random.default_rng(1), 3000)) <= budget.limit
    assert worth.price(np.array([best.genes]))[0] >= rest[allowed].max()


@pytest.mark.parametrize(
    ("sentence", "why"),
    [((0, 3, 1), "1 to 1024 tokens"), ((3, 2000, 1), "1 to 1024 tokens"), ((3, 3, 65), "1 to 64 beams")],
    ids=["no source", "too long", "too many beams"],
)
def test_a_sentence_that_cannot_be_is_refused(sentence: tuple[int, int, int], why: str) -> None:
    with pytest.raises(InvalidArchitecture, match=why):
        Sentence(*sentence)
