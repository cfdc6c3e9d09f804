"""A state that is more than a width: every solver, JSON and digest take it, and the block that changes it pays."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from latency_tables.inputs import InputSpec
from latency_tables.operators import Block, Dimension, Operator, catalog
from supernets.errors import InvalidArchitecture
from supernets.search.exact import strategy as exact
from supernets.search.problem import Constraint, Problem
from supernets.search.restriction import excluded
from supernets.spaces.choices import grid
from supernets.spaces.lowering import dense_from, lower
from supernets.spaces.space import Space, Stage


@dataclass(frozen=True)
class Mixed(Operator):
    """A layer in float or in 8 bit; where its input is of the other kind it converts it first."""

    family: ClassVar[str] = "mixed"
    form: ClassVar[str] = "in={channels}/out={width}/size={size}/converts={converts}"
    dimensions: ClassVar[tuple[Dimension, ...]] = (Dimension("size", 1, opens="expand"),)
    boundaries: ClassVar[tuple[str, ...]] = ("precision",)
    excludable: ClassVar[tuple[str, ...]] = ("size",)
    closes: ClassVar[bool] = True

    channels: int
    width: int
    size: int
    converts: bool

    @classmethod
    def of_block(cls, block: Block) -> tuple[Operator, ...]:
        read = str(block.given.get("precision", "float32"))
        precision = str(block.state.get("precision", "float32"))
        size = block.values["size"]
        assert isinstance(size, int)
        return (cls(block.shape[0], block.width, size, read != precision, precision=precision),)

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        return (InputSpec("input", (self.channels,)),)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.width,)

    @property
    def macs(self) -> int:
        return self.channels * self.width * self.size

    @property
    def parameters(self) -> int:
        return self.macs


BOTH = (("precision", ("float32", "int8")),)


def cost(op: Operator) -> float:
    assert isinstance(op, Mixed)
    return op.macs * (0.6 if op.precision == "int8" else 1.0) + 40 * op.converts


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch) -> Space:
    monkeypatch.setitem(catalog.FAMILIES, "mixed", Mixed)
    stages = (
        Stage("one", "mixed", (4, 8), (1, 2), grid(2, size=(1, 2)), boundary=BOTH),
        Stage("two", "mixed", (8,), (1,), grid(1, size=(1, 3)), boundary=BOTH),
        Stage("head", "mixed", (3,)),
    )
    return Space("mixed", "for tests", (8,), (InputSpec("input", (4,)),), 3, stages, "none")


def all_genes(space: Space) -> np.ndarray:
    rows = np.array(list(itertools.product(*(range(n) for n in space.chain.gene_sizes))))
    return np.unique(space.chain.canonical(rows), axis=0)


def test_states_are_widths_with_every_value(space: Space) -> None:
    assert [dict(state) for state in space.stages[0].states] == [
        {"width": width, "precision": precision} for width in (4, 8) for precision in ("float32", "int8")
    ]
    assert space.chain.stages[0].states == 4 and len(all_genes(space)) == space.count() == 4 * 6 * 2 * 2


def test_json_genes_and_digests_hold_the_whole_state(space: Space) -> None:
    networks = [space.architecture(row) for row in all_genes(space)]
    assert len({network.digest for network in networks}) == len(networks)
    for network, row in zip(networks, all_genes(space), strict=True):
        told = json.loads(json.dumps(space.to_json(network)))
        assert set(told["stages"][0]) == {"name", "width", "precision", "blocks"}
        assert space.from_json(told) == network and (space.genes(network) == row).all()
    told["stages"][0]["precision"] = "int4"
    with pytest.raises(InvalidArchitecture, match=r"precision of \['float32', 'int8'\]"):
        space.from_json(told)
    del told["stages"][0]["precision"]
    with pytest.raises(InvalidArchitecture, match='"precision"'):
        space.from_json(told)


def test_prices_are_the_sums_of_the_operators_boundaries_included(space: Space) -> None:
    genes = all_genes(space)
    slow = [sum(cost(op) for op in lower(space, space.architecture(row))) for row in genes]
    assert np.allclose(dense_from(space, cost).price(genes), slow)
    mixed = space.architecture([0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    assert [op.converts for op in lower(space, mixed) if isinstance(op, Mixed)] == [True, True, False]


def test_the_best_network_is_found_where_a_change_of_state_costs(space: Space) -> None:
    genes, prices, worth = all_genes(space), dense_from(space, cost), dense_from(space, lambda op: op.macs)
    for limit in np.quantile(prices.price(genes), [0.1, 0.4, 0.8]):
        within = prices.price(genes) <= limit
        problem = Problem(space.chain, worth, (Constraint("cost", prices, float(limit)),))
        assert exact.solve(problem).candidates[0].score == worth.price(genes)[within].max()


def test_a_state_can_be_excluded_and_the_ends_are_the_ends(space: Space) -> None:
    mask = excluded(space, {"one.precision": ["int8"]})
    kept = [space.architecture(row) for row in all_genes(space) if np.isfinite(mask.price(row[None]))[0]]
    assert {network.stages[0].boundary["precision"] for network in kept} == {"float32"}
    assert dict(space.smallest().stages[0].state) == {"width": 4, "precision": "float32"}
    assert dict(space.largest().stages[0].state) == {"width": 8, "precision": "int8"}


def test_what_a_family_does_not_know_is_refused(space: Space) -> None:
    with pytest.raises(ValueError, match="beside the width, a block of conv leaves nothing"):
        Stage("conv", "conv", (8,), boundary=BOTH)
    head = Stage("head", "head", (3,))
    with pytest.raises(ValueError, match="a block of head does not know precision of the stage before"):
        Space("odd", "", (8,), space.inputs, 3, (*space.stages[:2], head), "none")


def test_settings_and_choices_of_another_family_are_refused() -> None:
    with pytest.raises(ValueError, match="settings of head are activation, feature_channels"):
        Stage("head", "head", (3,), settings={"stride": 2})
    with pytest.raises(ValueError, match="choices of conv are of kernel, expand"):
        Stage("conv", "conv", (8,), choices=grid(1, heads=(2, 4)))
