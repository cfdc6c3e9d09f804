"""A transformer alone in a file: it opens by itself, computes the same, and says what is wrong with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from latency_tables.generation import END, beam_search
from supernets.encoder_decoder import EncoderDecoder, cut_out_transformer, padded, stepper
from supernets.errors import InvalidArchitecture, InvalidCheckpoint
from supernets.spaces.transformer import Transformer, to_hat
from supernets.spaces.transformer_space import HAT_SMALL
from supernets.transformer_files import load_transformer, read_architecture, save_transformer
from tests.supernets.spaces.test_transformer import RELEASED

NETWORK = replace(HAT_SMALL.smallest(), encoder_width=128)
SOURCES = padded([[5, 9, 17, END], [4, END]])


def module_of(*, joined: bool = False) -> EncoderDecoder:
    space = replace(HAT_SMALL, joined=joined)
    return EncoderDecoder(space.sizes(40, 40), generator=torch.Generator().manual_seed(0)).eval()


def written(
    folder: Path, *, joined: bool = False, network: Transformer = NETWORK
) -> tuple[EncoderDecoder, Path]:
    cut, path = cut_out_transformer(module_of(joined=joined), network), folder / "network.safetensors"
    save_transformer(path, cut, network)
    return cut, path


@pytest.mark.parametrize("joined", [True, False], ids=["joined", "separate"])
def test_a_file_is_the_network(tmp_path: Path, joined: bool) -> None:
    cut, path = written(tmp_path, joined=joined)
    module, network = load_transformer(path)
    assert (network, module.sizes, module.training) == (NETWORK, cut.sizes, False)
    target = padded([[END, 8], [END, 5]])
    with torch.no_grad():
        assert torch.equal(module(SOURCES, target, network), cut(SOURCES, target, network))
    found = beam_search(stepper(module, SOURCES, network), 2, beam=2, longest=5)
    assert found == beam_search(stepper(cut, SOURCES, network), 2, beam=2, longest=5)
    # As large as the network: each weight once, in four bytes, and a header.
    weights = sum(p.numel() for p in cut.parameters())
    assert 4 * weights < path.stat().st_size < 4 * weights + 20_000
    assert [p.name for p in tmp_path.iterdir()] == ["network.safetensors"]


def test_a_super_network_is_no_network(tmp_path: Path) -> None:
    with pytest.raises(InvalidArchitecture, match="cut it out first"):
        save_transformer(tmp_path / "whole.safetensors", module_of(), NETWORK)
    assert list(tmp_path.iterdir()) == []


def changed(path: Path, **about: str) -> Path:
    with safe_open(path, framework="pt") as file:
        header, state = {**file.metadata(), **about}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    save_file(state, path, {key: value for key, value in header.items() if value})
    return path


def test_files_that_are_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidCheckpoint, match="there is no file none"):
        load_transformer(tmp_path / "none.safetensors")
    other = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, other)
    with pytest.raises(InvalidCheckpoint, match="no transformer cut out"):
        load_transformer(other)
    _, path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InvalidCheckpoint, match="damaged"):
        load_transformer(path)
    path.write_text("no file of this kind")
    with pytest.raises(InvalidCheckpoint, match="damaged"):
        load_transformer(path)


@pytest.mark.parametrize(
    ("about", "says"),
    [
        ({"network": json.dumps(to_hat(HAT_SMALL.largest()))}, "contradicts its header"),
        ({"network": "{}"}, "encoder is missing"),
        ({"network": "["}, "contradicts its header"),
        ({"sizes": "{}"}, "contradicts its header"),
        ({"sizes": ""}, "contradicts its header"),
    ],
    ids=["another network", "no network", "no JSON", "empty", "missing"],
)
def test_a_header_that_lies_is_found(tmp_path: Path, about: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidCheckpoint, match=says):
        load_transformer(changed(written(tmp_path)[1], **about))


def yaml_of(config: dict[str, dict[str, Any]]) -> str:
    """As HAT's releases have it."""
    lines = ["arch: transformersuper_wmt_en_de", "share-all-embeddings: True"]
    for part, entries in config.items():
        for name, value in entries.items():
            ours = name.removeprefix(f"{part}_").replace("_", "-")
            lines.append(f"{part}-{ours}{'-all' if isinstance(value, list) else ''}-subtransformer: {value}")
    return "\n".join(lines)


def test_both_of_hats_forms_are_read(tmp_path: Path) -> None:
    file = tmp_path / "architecture"
    for text in (json.dumps(RELEASED), yaml_of(RELEASED)):
        file.write_text(text)
        assert to_hat(read_architecture(file)) == RELEASED


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"encoder: [", "neither YAML nor JSON"),
        (b"\xff\xfe", "neither YAML nor JSON"),
        (b"- 1", "no entries"),
        (b"", "no entries"),
        (b"!!python/object/apply:os.system ['true']", "neither YAML nor JSON"),
        (b"arch: other", "the YAML has no encoder-embed-dim-subtransformer"),
    ],
    ids=["broken", "encoding", "list", "empty", "code", "other"],
)
def test_an_architecture_that_is_none_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    file = tmp_path / "architecture.yml"
    file.write_bytes(data)
    with pytest.raises(InvalidArchitecture, match=says):
        read_architecture(file)
