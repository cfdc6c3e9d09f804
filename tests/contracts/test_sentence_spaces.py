"""One contract for every space of the catalog whose networks write sentences, beside that of all spaces."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from latency_tables.generation import PADDING
from latency_tables.measurement import Context
from latency_tables.text_network import TextNetwork, files_of, on_cpu
from supernets.data.catalog import load_digits
from supernets.delivery.archive_format import ARCHIVE
from supernets.delivery.catalog import FORMATS, Delivery, common_delivery, delivery_of, format_of
from supernets.delivery.transformer_folder import transformer_archive
from supernets.encoder_decoder import begun
from supernets.errors import ExportFailed, InvalidArchitecture, UnknownSpace, UnservableContext
from supernets.networks import build_supernet
from supernets.sentence_supernet import SentenceSupernet
from supernets.spaces.catalog import SPACES, is_space, space_at, space_named
from supernets.spaces.lowering import all_operators, lower
from supernets.spaces.transformer_space import SentenceSpace
from supernets.training.tuning import alone, specialised

NAMES = [name for name, space in SPACES.items() if space.generation is not None]
every_space = pytest.mark.parametrize("name", NAMES)
WORDS = 12


def space_of(name: str) -> SentenceSpace:
    found = space_named(name, WORDS)
    assert isinstance(found, SentenceSpace)
    return found


@cache
def supernet_of(name: str) -> SentenceSupernet:
    made = build_supernet(space_of(name), generator=torch.Generator().manual_seed(0))
    assert isinstance(made, SentenceSupernet)
    return made.eval()


def batch() -> torch.Tensor:
    """Three pairs (3, 2, 9), with padding at the end of some."""
    drawn = torch.randint(4, WORDS, (3, 9), generator=torch.Generator().manual_seed(0))
    drawn[:, 7:] = PADDING
    drawn[1, 4:] = PADDING
    return torch.stack((drawn, begun(drawn)), dim=1)


@every_space
def test_sub_networks_run_and_are_what_is_cut_out(name: str) -> None:
    space, supernet, x = space_of(name), supernet_of(name), batch()
    architectures = [space.smallest()]
    if space.described.qkv_width <= 128:  # the others are of some hundred megabytes, and the same module
        architectures += [space.largest(), *space.sample(np.random.default_rng(0), 2)]
    with torch.no_grad():
        for architecture in architectures:
            logits = supernet(x, architecture)
            assert logits.shape == (3, 7, WORDS) and torch.isfinite(logits).all()
            module, network = supernet.cut(architecture)
            own = module(x[:, 0, :7], x[:, 1, :7], network)
            real = x[:, 1, :7] != PADDING
            assert torch.allclose(own[real], logits[real], atol=1e-5)
            one = specialised(supernet, architecture).eval()
            assert one.space == alone(space, architecture) and torch.allclose(
                one(x, architecture), logits, atol=1e-5
            )
            assert sum(p.numel() for p in one.parameters()) == sum(p.numel() for p in module.parameters())


@every_space
def test_every_weight_of_the_supernet_can_learn(name: str) -> None:
    space, supernet = space_of(name), build_supernet(space_of(name))
    for architecture in [space.largest(), space.smallest()]:
        supernet(batch(), architecture).square().sum().backward()
    assert [key for key, p in supernet.named_parameters() if p.grad is None] == []


@every_space
def test_parameters_of_the_rows_are_those_of_the_network(name: str) -> None:
    """Embeddings, layers and output: the limits of a search on size rest on them."""
    space, supernet = space_of(name), supernet_of(name)
    for architecture in [space.largest(), space.smallest()]:
        module, _ = supernet.cut(architecture)
        tied = 0 if module.output is not None else space.classes * module.sizes.decoder_width
        joined = space.classes * module.sizes.decoder_width if module.sizes.joined else 0
        counted = sum(op.parameters for op in lower(space, architecture)) - tied - joined
        assert counted == sum(p.numel() for p in module.parameters())


@every_space
def test_another_number_of_words_changes_embeddings_and_output_only(name: str) -> None:
    before, after = (lower(s, s.smallest()) for s in (SPACES[name], space_of(name)))
    changed = {one.family for one, two in zip(before, after, strict=True) if one != two}
    assert changed == {"source_embed", "step_embed", "step_output"}
    assert after[-1].output_shape[-1] == WORDS and space_of(name).count() == SPACES[name].count()


@every_space
def test_another_sentence_is_another_space_with_rows_of_its_own(name: str) -> None:
    space = space_of(name)
    other = space.generating({"source_tokens": 7, "target_tokens": None, "beam": 2})
    assert other.generation.to_json() == {**space.generation.to_json(), "source_tokens": 7, "beam": 2}
    assert other.name == f"{name}.{other.generation.text}" and is_space(other.name)
    assert space_at(other.ref) == other and other.generating(space.generation.to_json()) == space
    rows, others = (set(all_operators(s, s.resolutions[0])) for s in (space, other))
    alike = {op.family for op in rows & others}
    assert not alike & {"step_attend", "step_cross", "step_output", "encoder_attend", "source_embed"}
    architecture = other.largest()
    assert space_at(other.ref).from_json(other.to_json(architecture)) == architecture
    with pytest.raises(InvalidArchitecture):
        space.from_json(other.to_json(architecture))
    assert (space.genes(space.largest()) == other.genes(architecture)).all()


@pytest.mark.parametrize("text", ["s0.t3.b1", "s3.t2000.b1", "s3.t3.b65", "x", "s3.t3", "s03.t3.b1"])
def test_a_sentence_that_cannot_be_is_no_space(text: str) -> None:
    assert not is_space(f"{NAMES[0]}.{text}")
    with pytest.raises(UnknownSpace):
        space_named(f"{NAMES[0]}.{text}")


def test_spaces_of_pictures_write_no_sentences() -> None:
    with pytest.raises(InvalidArchitecture, match="leave `generation` out"):
        SPACES["digits-mbv3"].generating({"beam": 2})


@pytest.mark.parametrize("name", NAMES[:1])
def test_a_network_is_delivered_as_an_archive_that_writes_what_it_does(name: str) -> None:
    space, supernet = space_of(name), supernet_of(name)
    module, network = supernet.cut(space.smallest())
    opened = TextNetwork(files_of(transformer_archive(module, network)), on_cpu())
    sources, rows = [[5, 6, 7, 2]], np.arange(1)
    found = opened.stepper(sources)(np.array([2]), rows)
    wanted = supernet.stepper(torch.tensor(sources), space.smallest())(np.array([2]), rows)
    assert np.allclose(found, wanted, atol=1e-4)


@every_space
def test_networks_are_archives_and_what_opens_none_is_refused(name: str) -> None:
    space, usual = SPACES[name], Context("onnxruntime", "1.31", "CPUExecutionProvider", 1, "float32", 1)
    found = delivery_of(usual, space)
    assert found.format == ARCHIVE and found == common_delivery([usual], space)
    assert common_delivery([], space).format == ARCHIVE and delivery_of(usual).format == "onnx"
    assert format_of(found, space) is FORMATS[ARCHIVE]
    assert format_of(Delivery(), space) is FORMATS[ARCHIVE], "deliveries of before did not say it"
    assert not FORMATS[ARCHIVE].holds(SPACES["digits-mbv3"]) and not FORMATS["onnx"].holds(space)
    elsewhere = replace(usual, runtime="pytorch", runtime_version="2.9")
    assert delivery_of(elsewhere, space).format == ARCHIVE, "tables alone are enough to search"
    for changed in ({"precision": "float16"}, {"batch_size": 4}, {"runtime": "openvino"}):
        with pytest.raises(UnservableContext, match="one sentence at a time"):
            delivery_of(replace(usual, **changed), space)
    with pytest.raises(UnservableContext, match="update it"):
        delivery_of(replace(usual, runtime_version="1.16"), space)


def test_operators_are_the_files_that_they_are_in_any_format() -> None:
    op = next(op for op in all_operators(SPACES["hat-small"], 30) if op.family == "step_attend")
    form = delivery_of(
        Context("onnxruntime", "1.31", "CPUExecutionProvider", 1, "float32", 1), SPACES["hat-small"]
    )
    assert FORMATS[ARCHIVE].operators([op], form) == FORMATS["onnx"].operators([op], Delivery())


def test_an_archive_is_no_single_graph_and_holds_no_pictures() -> None:
    form = FORMATS[ARCHIVE]
    with pytest.raises(ExportFailed, match="text_network"):
        form.open(b"")
    with pytest.raises(ExportFailed, match="write no sentences"):
        form.networks(SPACES["digits-mbv3"], [], {}, Delivery())
    with pytest.raises(ExportFailed, match="not made of sentences"):
        form.tested(b"", load_digits(), 8)
