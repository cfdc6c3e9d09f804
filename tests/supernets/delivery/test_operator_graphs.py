"""Graphs of operators built directly have the bytes that torch's exporter makes of the same modules."""

from __future__ import annotations

import pytest
from torch import nn

from latency_tables.operators import Operator
from supernets.cut_out import fold_batch_norm
from supernets.delivery.export import _canonical, _export, _finished, export_operators, settled_operator
from supernets.delivery.operator_graphs import operator_model
from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import all_operators


def kinds() -> list[Operator]:
    """The smallest operator of every kind there is in the catalog's spaces: kinds differ in the nodes of
    their graphs."""
    smallest: dict[tuple[object, ...], Operator] = {}
    for space in (space for space in SPACES.values() if space.generation is None):
        for resolution in (space.resolutions[0], space.resolutions[-1]):
            for op in all_operators(space, resolution):
                widths = (
                    op.mid_channels == op.in_channels,
                    op.mid_channels == 0,
                    op.in_channels == op.out_channels,
                )
                form = (
                    op.family,
                    op.residual,
                    op.squeeze_excite,
                    op.activation,
                    op.groups > 1,
                    op.kernel,
                    op.stride,
                )
                known = smallest.get((*form, *widths))
                if known is None or op.parameters < known.parameters:
                    smallest[(*form, *widths)] = op
    return list(smallest.values())


def exported(operators: list[Operator]) -> list[bytes]:
    """By way of torch's exporter, many at once."""
    modules = [fold_batch_norm(settled_operator(op)) for op in operators]
    model = _export(modules, [op.inputs for op in operators], 1)
    return [_finished(_canonical(model, index)) for index in range(len(operators))]


def one_of_each(of: str) -> list[Operator]:
    found: dict[object, Operator] = {}
    for op in kinds():
        found.setdefault(getattr(op, of), op)
    return list(found.values())


def test_every_family_and_activation_has_the_exporters_bytes() -> None:
    some = list(
        dict.fromkeys([*one_of_each("family"), *one_of_each("activation"), *one_of_each("squeeze_excite")])
    )
    assert {op.family for op in some} == {"conv", "mbconv", "bottleneck", "maxpool", "head"}
    assert [export_operators([op])[op] for op in some] == exported(some)


@pytest.mark.slow
def test_every_kind_of_operator_has_the_exporters_bytes() -> None:
    every = kinds()
    direct = export_operators(every)
    for start in range(0, len(every), 20):
        part = every[start : start + 20]
        assert [direct[op] for op in part] == exported(part)


def test_a_module_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(KeyError):
        operator_model(nn.GELU(), (1, 3), (1, 3), 20)
