"""One contract for every operator family; a family that a distribution adds inherits it, by way of a space that uses it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cache
from itertools import pairwise

import onnx
import pytest
import torch

from latency_tables.errors import InvalidOperator
from latency_tables.operators import Operator
from latency_tables.operators.catalog import FAMILIES, family_named, register_family
from latency_tables.operators.dequantize import Dequantize
from latency_tables.operators.quantize import Quantize
from supernets.cut_out import fold_batch_norm
from supernets.delivery.export import export_operators, settled_operator
from supernets.delivery.parity import random_input
from supernets.layers.block import LayerSettings, Prunable, StartsAsIdentity, initialise, start_as_identity
from supernets.layers.catalog import LAYERS, build_block, build_operator
from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import all_operators, block_choices
from supernets.spaces.transformer_space import TRANSFORMER_SPACES, Sentence

every_family = pytest.mark.parametrize("name", FAMILIES)


@cache
def operators_of(name: str) -> list[Operator]:
    """The smallest, the largest and one in between, of all spaces at their least resolution."""
    spaces = [
        *(space for space in SPACES.values() if space.generation is None),
        *(space.priced(Sentence(6, 4, 2), 40) for space in TRANSFORMER_SPACES.values()),
    ]
    every = {op for space in spaces for op in all_operators(space, space.resolutions[0])}
    found = {op for op in every | boundaries_of(every) if op.family == name}
    ordered = sorted(found, key=lambda op: (op.parameters + op.macs, op.text))
    assert ordered, f"no space has an operator of the family {name}"
    return list(dict.fromkeys([ordered[0], ordered[len(ordered) // 3]]))


def boundaries_of(operators: set[Operator]) -> set[Operator]:
    """What stands between blocks of two precisions."""
    shapes = sorted({op.output_shape for op in operators}, key=math.prod)[:3]
    return {made.of(shape) for made in (Quantize, Dequantize) for shape in shapes}


def inputs_of(op: Operator, samples: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [random_input(spec.of_batch(samples), generator) for spec in op.inputs]


def test_every_family_has_layers_and_the_other_way_round() -> None:
    assert FAMILIES.keys() == LAYERS.keys()
    assert all(name == family.family == LAYERS[name].family for name, family in FAMILIES.items())


@every_family
def test_a_family_that_prunes_has_a_layer_that_can_be_narrowed(name: str) -> None:
    family = family_named(name)
    for op in operators_of(name):
        layer = build_operator(op)
        assert isinstance(layer, Prunable) == family.prunes
        if not isinstance(layer, Prunable) or op.prunable_channels <= 8:
            continue
        layer.eval()
        (x,) = inputs_of(op)
        with torch.no_grad():
            whole = layer.after(layer.closing(layer.inside(x)) + layer.beside(x))
            assert torch.allclose(whole, layer(x), atol=1e-5)
        wide = {key: value.shape for key, value in layer.state_dict().items()}
        narrow = {key: value.shape for key, value in layer.narrowed(op.prunable_channels - 8).items()}
        assert narrow.keys() == wide.keys() and narrow != wide
        same = layer.narrowed(op.prunable_channels)
        assert {key: value.shape for key, value in same.items()} == wide


@every_family
def test_texts_read_back_and_nothing_near_them_does(name: str) -> None:
    for op in operators_of(name):
        assert Operator.parse(op.text) == op and hash(Operator.parse(op.text)) == hash(op)
        assert family_named(name).read(op.text) == op
        for damaged in (op.text + "/", op.text.replace("=", "=0", 1), op.text[:-1] + "x", name, f"{name}/"):
            with pytest.raises(InvalidOperator):
                Operator.parse(damaged)


@every_family
def test_a_precision_is_a_suffix_of_the_text_and_float32_is_none(name: str) -> None:
    for op in operators_of(name):
        assert op.precision == "float32" and "precision" not in op.text
        kinds, last = [op], family_named(name).precisions
        kinds += [op.at(precision) for precision in last if precision != "float32"]
        for one in kinds[1:]:
            assert one.text == f"{op.text}/precision={one.precision}" and Operator.parse(one.text) == one
            assert one.at("float32") == op and one.path == op.path and one.macs == op.macs
            assert one.row_kind != op.row_kind and one.parameters == op.parameters
            assert not set(one.row_alike.values()) & set(op.row_alike.values())
        assert len({one.text for one in kinds}) == len({hash(one) for one in kinds}) == len(kinds)
        assert all(one < other for one, other in pairwise(sorted(kinds)))
        for damaged in ("float32", "int4", "INT8", "int8 ", ""):
            with pytest.raises(InvalidOperator):
                Operator.parse(f"{op.text}/precision={damaged}")
        with pytest.raises(InvalidOperator, match="is computed in"):
            op.at("int4")


@every_family
def test_eight_bit_moves_fewer_bytes(name: str) -> None:
    for op in operators_of(name):
        if "int8" not in op.precisions:
            continue
        small, half = op.at("int8"), op.at("float16")
        assert half.weight_bytes * 2 == op.weight_bytes == 4 * op.parameters
        assert small.weight_bytes == op.parameters + 16 * op.biases
        assert {spec.dtype for spec in small.fed} == {"uint8"}
        assert small.stored == ("float32" if op.closes else "uint8")
        if op.parameters > 64 * max(1, op.biases):
            assert 3 * small.bytes_moved < op.bytes_moved


@every_family
def test_operators_are_ordered_whatever_their_family(name: str) -> None:
    mixed = [op for family in FAMILIES for op in operators_of(family)]
    assert sorted(set(mixed)) == sorted(dict.fromkeys(mixed))


@every_family
def test_rows_can_be_compared(name: str) -> None:
    for op in operators_of(name):
        known = {field.name for field in fields(op)}
        assert {name for axis, others in op.axes.items() for name in (axis, *others)} <= known
        assert isinstance(op.kind, str) and all(isinstance(v, str) for v in op.traits.values())
        assert op.alike and {hash(label) for label in op.alike.values()} != {}
        assert op.bytes_moved >= 4 * op.parameters and op.peak_values >= math.prod(op.output_shape)
        assert "." not in op.path and op.light_operations >= 0


@every_family
def test_the_layer_is_what_the_operator_says(name: str) -> None:
    for op in operators_of(name):
        module = fold_batch_norm(settled_operator(op))
        with torch.no_grad():
            outputs = module(*inputs_of(op))
        assert tuple(outputs.shape[1:]) == op.output_shape and torch.isfinite(outputs).all()
        assert sum(p.numel() for p in module.parameters()) == op.parameters


@every_family
def test_folding_keeps_the_outputs(name: str) -> None:
    for op in operators_of(name):
        module = settled_operator(op)
        with torch.no_grad():
            before, after = module(*inputs_of(op)), fold_batch_norm(module)(*inputs_of(op))
        assert torch.allclose(before, after, atol=1e-4)
        assert not any(
            part for part in fold_batch_norm(module).modules() if "BatchNorm" in type(part).__name__
        )


@every_family
def test_the_same_seed_gives_the_same_file(name: str) -> None:
    (op,) = operators_of(name)[:1]
    files = [export_operators([op])[op] for _ in range(2)]
    assert files[0] == files[1]
    graph = onnx.load_model_from_string(files[0]).graph
    assert [value.name for value in graph.input] == [spec.name for spec in op.timed]


@every_family
def test_an_elastic_block_is_each_of_its_operators(name: str) -> None:
    """Its output, and that of the plain layer with the state that it gives, agree; nothing is kept between calls."""
    layer = LAYERS[name]
    for space in (space for space in SPACES.values() if space.generation is None):
        for operators in block_choices(space).values():
            some = [op for op in operators if op.family == name]
            if not some or layer.elastic is None or max(op.macs for op in some) > 3e6:
                continue
            block = build_block(some, shared=True, settings=LayerSettings())
            assert block is not None
            initialise(block, torch.Generator().manual_seed(0))
            block.eval()
            for op in some[:: max(1, len(some) // 3)]:
                plain = build_operator(op).eval()
                plain.load_state_dict(block.state(op))
                with torch.no_grad():
                    outputs = block(*inputs_of(op), op)
                    assert torch.allclose(outputs, plain(*inputs_of(op)), atol=1e-4)
            largest = max(some, key=lambda op: op.macs)
            with torch.no_grad():
                before = block(*inputs_of(largest), largest)
                block.sort_channels(some)
                assert torch.allclose(block(*inputs_of(largest), largest), before, atol=1e-4)
            return


@every_family
def test_what_begins_as_the_identity_does(name: str) -> None:
    for op in operators_of(name):
        module = build_operator(op).eval()
        if not isinstance(module, StartsAsIdentity) or op.inputs[0].shape != op.output_shape:
            continue
        start_as_identity(module)
        (x,) = inputs_of(op)
        with torch.no_grad():
            kept = module(x)
        assert torch.allclose(kept, x) or torch.allclose(kept, torch.relu(x))


def test_a_family_that_is_there_already_is_refused() -> None:
    conv = FAMILIES["conv"]
    assert register_family(conv) is conv
    with pytest.raises(ValueError, match="exists already"):
        register_family(type("Other", (conv,), {}))
    for nothing in ("conv", object, Operator):
        with pytest.raises(TypeError, match="is no operator family"):
            register_family(nothing)


def test_an_unknown_family_names_the_known_ones() -> None:
    with pytest.raises(InvalidOperator, match="known are conv"):
        Operator.parse("conv9d/in=1")


@pytest.mark.parametrize(
    ("field", "form", "refusal"),
    [
        (("kind", "int"), "kind={kind}", "not be named as"),
        (("share", "float"), "share={share}", "annotated int, bool or str"),
        (("size", "int"), "other={other}", "must name every field once"),
    ],
    ids=["a name of every operator", "a float", "a form without it"],
)
def test_a_class_that_cannot_be_a_family_says_why(field: tuple[str, str], form: str, refusal: str) -> None:
    name, kind = field
    parts = dict.fromkeys(Operator.__abstractmethods__)
    body = {**parts, "family": "odd", "form": form, "__annotations__": {name: kind}}
    with pytest.raises(TypeError, match=refusal):
        register_family(dataclass(frozen=True)(type("Odd", (Operator,), body)))
    assert "odd" not in FAMILIES
