"""One contract for every search space of the catalog; a new space inherits these tests by being in it.

Small spaces go through everything. The large ones run, cut out and export one network at their least
resolution; what takes longer is marked slow.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_tables.operators import Operator
from supernets.cut_out import cut_out, fold_batch_norm
from supernets.data.splits import Dataset, Split
from supernets.delivery.export import export_networks, export_onnx, export_operators, parity, random_network
from supernets.errors import InvalidArchitecture, InvalidCheckpoint, UnknownSpace
from supernets.network import Supernet
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import SPACES, ref_in, space_at, space_named
from supernets.spaces.choices import Choice
from supernets.spaces.lowering import all_operators, block_choices, dense_from, input_shapes, lower
from supernets.spaces.space import Space, alike
from supernets.training.start import begin_with

OF_BLOCKS = [name for name, space in SPACES.items() if space.generation is None]
"""Those whose networks run once; of those that write sentences see `test_sentence_spaces`."""
SMALL = [name for name in OF_BLOCKS if max(SPACES[name].resolutions) <= 32]
LARGE = [name for name in OF_BLOCKS if name not in SMALL]
every_space = pytest.mark.parametrize("name", SPACES)
of_blocks = pytest.mark.parametrize("name", OF_BLOCKS)


@cache
def least(name: str) -> Space:
    """The space at its least resolution."""
    space = SPACES[name]
    return space.at(space.resolutions[:1])


@cache
def supernet_of(name: str) -> Supernet:
    """A supernet in evaluation mode whose batch-norms and kernel transforms are not the identity."""
    generator = torch.Generator().manual_seed(0)
    supernet = Supernet(SPACES[name], generator=generator)
    with torch.no_grad():
        for key, value in supernet.state_dict().items():
            if ".transforms." in key:
                value.add_(0.02 * torch.randn(value.shape, generator=generator))
            elif value.dim() == 1 and value.is_floating_point():
                noise = torch.rand(value.shape, generator=generator) - 0.5
                value.copy_(1 + 0.2 * noise if key.endswith(("running_var", "norm.weight")) else 0.1 * noise)
    return supernet.eval()


def draw(space: Space, seed: int, networks: int = 1) -> list[Architecture]:
    return space.sample(np.random.default_rng(seed), networks)


@every_space
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_encode_and_decode(name: str, seed: int) -> None:
    space = SPACES[name]
    for architecture in draw(space, seed, 4):
        genes = space.genes(architecture)
        assert space.architecture(genes) == architecture
        assert (space.chain.canonical(genes[None])[0] == genes).all()


@every_space
def test_json_says_which_space_and_how_many_classes(name: str) -> None:
    space = SPACES[name]
    other = space.with_classes(space.classes + 52)
    for found in (space, other):
        architecture = found.largest()
        told = json.loads(json.dumps(found.to_json(architecture)))
        assert ref_in(told) == found.ref == (name, found.classes) and space_at(found.ref) == found
        assert space_at(ref_in(told)).from_json(told) == architecture
    assert other.largest().digest != space.largest().digest
    with pytest.raises(InvalidArchitecture, match=f"has {space.classes} here"):
        space.from_json(other.to_json(other.largest()))


@every_space
def test_an_older_architecture_without_classes_is_of_the_space_it_is_given_to(name: str) -> None:
    other = SPACES[name].with_classes(7)
    told = other.to_json(other.smallest())
    del told["classes"]
    assert ref_in(told) is None and other.from_json(told).digest == other.smallest().digest


@pytest.mark.parametrize("classes", [0, -1, 2.0, "10", True, 10**9, [10]])
def test_a_class_count_that_is_none_is_refused(classes: object) -> None:
    with pytest.raises(InvalidArchitecture, match="classes from 1 to"):
        ref_in({"space": "digits-mbv3", "classes": classes})


@every_space
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_genes_of_inactive_blocks_do_not_count(name: str, seed: int) -> None:
    space, generator = SPACES[name], np.random.default_rng(seed)
    raw = generator.integers(0, space.chain.gene_sizes, size=(2, space.chain.genes))
    inactive = ~space.chain.active(raw)
    other = np.where(inactive, generator.integers(0, space.chain.gene_sizes, size=raw.shape), raw)
    for one, two in zip(raw, other, strict=True):
        assert space.architecture(one).digest == space.architecture(two).digest


@every_space
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_mutants_are_networks_of_the_space(name: str, seed: int) -> None:
    """Mutation works on genes: any gene may take any of its values."""
    space, generator = SPACES[name], np.random.default_rng(seed)
    genes = space.chain.sample(generator, 8)
    flipped = generator.random(genes.shape) < 0.2
    mutants = space.chain.canonical(
        np.where(flipped, generator.integers(0, space.chain.gene_sizes, size=genes.shape), genes)
    )
    for row in mutants:
        architecture = space.architecture(row)
        assert (space.genes(architecture) == row).all()
        assert lower(space, architecture)


@every_space
def test_equal_digests_mean_equal_genes(name: str) -> None:
    space = SPACES[name]
    architectures = [*draw(space, 0, 300), space.largest(), space.smallest()]
    assert len({a.digest for a in architectures}) == len({space.genes(a).tobytes() for a in architectures})


@every_space
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_json_round_trip(name: str, seed: int) -> None:
    space = SPACES[name]
    (architecture,) = draw(space, seed)
    text = json.dumps(space.to_json(architecture))
    again = space.from_json(json.loads(text))
    assert again == architecture
    assert again.digest == architecture.digest


@every_space
def test_json_of_something_else_is_refused(name: str) -> None:
    space = SPACES[name]
    good = space.to_json(space.largest())
    stage = good["stages"][0]
    for bad in (
        {},
        {**good, "space": "other"},
        {**good, "resolution": 7},
        {**good, "resolution": str(space.resolutions[0])},
        {**good, "stages": good["stages"][1:]},
        {**good, "stages": [{**stage, "width": 7}, *good["stages"][1:]]},
        {**good, "stages": [{**stage, "blocks": [{"kernel": 4, "expand": 1}]}, *good["stages"][1:]]},
        {**good, "stages": [{**stage, "blocks": [{"kernel": [], "expand": {}}]}, *good["stages"][1:]]},
    ):
        with pytest.raises(InvalidArchitecture):
            space.from_json(bad)


@every_space
def test_architectures_of_other_spaces_are_refused(name: str) -> None:
    other = next(space for space in SPACES.values() if space.name != name)
    with pytest.raises(InvalidArchitecture):
        SPACES[name].genes(other.largest())
    with pytest.raises(InvalidArchitecture):
        lower(SPACES[name], replace(other.largest(), space=name))


@every_space
def test_operators_follow_each_other(name: str) -> None:
    """Each operator takes what the one before gives, from the picture to the classes."""
    space = SPACES[name]
    for architecture in [space.largest(), space.smallest(), *draw(space, 1, 20)]:
        operators = lower(space, architecture)
        first, last = operators[0], operators[-1]
        assert first.inputs == space.inputs_at(architecture.resolution)
        assert last.closes and last.output_shape[-1] == space.classes
        for before, after in zip(operators, operators[1:], strict=False):
            # What is written begins with words again, and its layers read the encoder's output.
            assert after.inputs[0].shape == before.output_shape or space.generation is not None
        assert all(Operator.parse(op.text) == op for op in operators)


@every_space
def test_every_operator_of_a_network_is_in_the_list_to_measure(name: str) -> None:
    space = SPACES[name]
    for resolution in (space.resolutions[0], space.resolutions[-1]):
        listed = set(all_operators(space, resolution))
        for architecture in [
            *draw(space.at((resolution,)), 2, 30),
            space.largest(resolution),
            space.smallest(resolution),
        ]:
            assert listed.issuperset(lower(space, architecture))
        assert len(input_shapes(space, resolution)) == len(space.stages)


@every_space
def test_dense_price_is_the_slow_sum(name: str) -> None:
    space = SPACES[name]
    if len(space.resolutions) > 4:
        space = space.at(space.resolutions[::8])
    price = {op: 0.5 + hash_unit(op) for r in space.resolutions for op in all_operators(space, r)}
    genes = space.chain.sample(np.random.default_rng(3), 50)
    slow = [sum(price[op] for op in lower(space, space.architecture(row))) for row in genes]
    np.testing.assert_allclose(dense_from(space, price.__getitem__).price(genes), slow, rtol=1e-12)
    macs = [sum(op.macs for op in lower(space, space.architecture(row))) for row in genes]
    np.testing.assert_allclose(dense_from(space, lambda op: op.macs).price(genes), macs, rtol=1e-12)


@of_blocks
def test_pruned_networks_keep_the_contract(name: str) -> None:
    space = least(name)
    pruned = space.with_pruning()
    price = {op: 0.5 + hash_unit(op) for op in all_operators(pruned, space.resolutions[0])}
    genes = pruned.chain.sample(np.random.default_rng(8), 20)
    networks = [pruned.architecture(row) for row in genes]
    slow = [sum(price[op] for op in lower(pruned, one)) for one in networks]
    np.testing.assert_allclose(dense_from(pruned, price.__getitem__).price(genes), slow, rtol=1e-12)
    for row, one in zip(genes, networks, strict=True):
        assert (pruned.genes(one) == row).all()
        told = json.loads(json.dumps(pruned.to_json(one)))
        assert SPACES[name].from_json(told) == one and one.digest == pruned.from_json(told).digest
    assert len({one.digest for one in networks}) == len({row.tobytes() for row in genes})


def hash_unit(op: Operator) -> float:
    """A number in [0, 1) that is different for every operator."""
    return (op.macs * 31 + op.parameters * 17 + op.bytes_moved) % 9973 / 9973


@every_space
def test_largest_and_smallest_are_the_ends(name: str) -> None:
    space = least(name)
    macs = dense_from(space, lambda op: op.macs)
    low, high = (macs.price(space.genes(a)[None])[0] for a in (space.smallest(), space.largest()))
    prices = macs.price(space.chain.sample(np.random.default_rng(4), 500))
    assert low <= prices.min() <= prices.max() <= high


@of_blocks
def test_supernet_has_every_block_and_runs_its_sub_networks(name: str) -> None:
    space, supernet = least(name), supernet_of(name)
    assert len(supernet.blocks) == len(block_choices(space))
    x = torch.randn(2, *space.input_shape(space.resolutions[0]), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for architecture in [space.smallest(), *draw(space, 5, 2)]:
            logits = supernet(x, architecture)
            assert logits.shape == (2, space.classes)
            assert torch.isfinite(logits).all()


@of_blocks
def test_cut_out_and_folded_networks_give_the_logits_of_the_supernet(name: str) -> None:
    space, supernet = least(name), supernet_of(name)
    x = torch.randn(2, *space.input_shape(space.resolutions[0]), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for architecture in [space.largest(), *draw(space, 6, 2)]:
            logits = supernet(x, architecture)
            network = cut_out(supernet, architecture)
            scale = float(logits.std())
            assert float((network(x) - logits).abs().max()) <= 1e-5 * scale
            assert float((fold_batch_norm(network)(x) - logits).abs().max()) <= 1e-4 * scale
            assert sum(p.numel() for p in fold_batch_norm(network).parameters()) == sum(
                op.parameters for op in lower(space, architecture)
            )


@of_blocks
def test_every_weight_of_the_supernet_can_learn(name: str) -> None:
    """Some sub-network uses each weight: gradients reach all of them over a few draws."""
    space = least(name)
    supernet = Supernet(space, generator=torch.Generator().manual_seed(0))
    x = torch.randn(2, *space.input_shape(space.resolutions[0]), generator=torch.Generator().manual_seed(1))
    architectures = [space.largest(), space.smallest(), *covering(space)]
    for architecture in architectures:
        supernet(x, architecture).square().sum().backward()
    assert [key for key, p in supernet.named_parameters() if p.grad is None] == []


def covering(space: Space) -> list[Architecture]:
    """For each choice number, the deepest network that takes this choice everywhere it exists."""
    most = max(max(shape.choices) for shape in space.chain.stages)
    rows = []
    for number in range(most):
        row = [0]
        for shape in space.chain.stages:
            row += [shape.states - 1, len(shape.depths) - 1, *(min(number, n - 1) for n in shape.choices)]
        rows.append(row)
    return [space.architecture(row) for row in rows]


def check_export(name: str, architecture: Architecture) -> None:
    space = SPACES[name]
    network = cut_out(supernet_of(name), architecture)
    file = export_onnx(network, network.inputs)
    assert parity(network, file, samples=4, generator=torch.Generator().manual_seed(2)).holds
    operators = lower(space, architecture)
    parts = export_operators(operators)
    nodes = [n.op_type for op in operators for n in onnx.load_from_string(parts[op]).graph.node]
    assert [n.op_type for n in onnx.load_from_string(file).graph.node] == nodes


@pytest.mark.parametrize("name", SMALL)
def test_export_and_parity(name: str) -> None:
    check_export(name, least(name).largest())


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_export_and_parity_of_large_spaces(name: str) -> None:
    (architecture,) = draw(least(name), 7)
    check_export(name, architecture)


@pytest.mark.slow
@of_blocks
def test_networks_joined_for_calibration_are_those_exported_whole(name: str) -> None:
    space = least(name)
    architecture = space.smallest()
    (joined,) = export_networks(space, [architecture])
    network = random_network(space, architecture)
    assert joined == export_onnx(network, network.inputs)


@of_blocks
def test_another_number_of_classes_changes_the_head_only(name: str) -> None:
    space = SPACES[name].with_classes(7)
    before, after = (lower(s, s.smallest()) for s in (SPACES[name], space))
    assert before[:-1] == after[:-1]
    assert after[-1].output_shape == (7,)
    assert space.count() == SPACES[name].count()


def test_unknown_space_lists_the_known_ones() -> None:
    with pytest.raises(UnknownSpace, match="digits-mbv3"):
        space_named("nothing")


def test_a_choice_is_written_without_what_does_not_matter() -> None:
    assert Choice(kernel=3, expand=4.0).as_dict() == {"kernel": 3, "expand": 4}
    assert Choice(zero=True).as_dict() == {"zero": True}


def few_pictures(space: Space, side: int) -> Dataset:
    """Three classes, four pictures of each in every split."""
    generator = np.random.default_rng(0)

    def split() -> Split:
        images = generator.integers(0, 255, size=(12, space.image_channels or 0, side, side))
        return Split(images.astype(np.uint8), np.arange(12) % 3)

    return Dataset("few", ("a", "b", "c"), split(), split(), split())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in SPACES]
)
def test_weights_of_other_classes_are_a_beginning(name: str) -> None:
    """`from` takes them all but the last layer, which is fitted to the data; another space's are refused."""
    space = least(name)
    if space.image_channels is None:
        return
    given = supernet_of(name).state_dict()
    own = Supernet(space.with_classes(3)).eval()
    assert begin_with(own, given, few_pictures(space, space.resolutions[0])) is True
    changed = [key for key, value in own.state_dict().items() if not torch.equal(value, given[key])]
    assert changed == [key for key in own.state_dict() if key.split(".")[-2] == "linear"]
    with pytest.raises(InvalidCheckpoint, match=name):
        begin_with(own, {**given, "unknown": torch.zeros(1)}, None)
    for other in SPACES.values():
        assert alike(space, other.at(other.resolutions[:1])) == (other.name == name)
