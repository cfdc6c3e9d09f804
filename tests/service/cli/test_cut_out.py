"""`bespoke supernets cut`: from a published checkpoint and an architecture to one file, without a service."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import torch

from service.cli.app import run
from supernets.published_transformers import from_published_transformer
from supernets.spaces.transformer import to_hat
from supernets.transformer_files import load_transformer
from tests.supernets.test_published_transformers import NETWORK, published


def cut(folder: Path, *more: str) -> int:
    files = [str(folder / name) for name in ("super.pt", "sub.json")]
    return run(["supernets", "cut", *files, "-o", str(folder / "sub.safetensors"), *more])


def test_one_network_becomes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": published(half=True)}, tmp_path / "super.pt")
    (tmp_path / "sub.json").write_text(json.dumps(to_hat(NETWORK)))
    assert cut(tmp_path) == 0
    said = capsys.readouterr().out
    assert "read model" in said and f"{NETWORK.parameters(8):,} parameters" in said
    module, network = load_transformer(tmp_path / "sub.safetensors")
    assert network == NETWORK and {p.dtype for p in module.parameters()} == {torch.float32}
    assert cut(tmp_path, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["parameters"] == NETWORK.parameters(8)
    assert told["size_bytes"] == (tmp_path / "sub.safetensors").stat().st_size


def test_what_does_not_fit_is_said_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"model": published()}, tmp_path / "super.pt")
    config = to_hat(NETWORK)
    config["encoder"]["encoder_embed_dim"] = 640
    for text, says in (
        (json.dumps(config), "a width of 640 is not in 1 to 16"),
        ("[", "neither YAML nor JSON"),
    ):
        (tmp_path / "sub.json").write_text(text)
        assert cut(tmp_path) == 1
        assert says in " ".join(capsys.readouterr().err.split())
    (tmp_path / "sub.json").write_text(json.dumps(to_hat(NETWORK)))
    (tmp_path / "super.pt").write_bytes(b"no checkpoint")
    assert cut(tmp_path) == 1
    assert "damaged" in capsys.readouterr().err
    assert not (tmp_path / "sub.safetensors").exists()


def test_the_files_must_be_there(tmp_path: Path) -> None:
    assert cut(tmp_path) == 2


def test_an_archive_translates_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"model": published()}, tmp_path / "super.pt")
    (tmp_path / "sub.json").write_text(json.dumps(to_hat(NETWORK)))
    module = from_published_transformer(published())
    for name, tokens in (("s", module.sizes.source_tokens), ("t", module.sizes.target_tokens)):
        (tmp_path / f"{name}.txt").write_text("".join(f"{name}{n} 1\n" for n in range(tokens - 4)))
    archive = tmp_path / "sub.zip"
    words = ["--source-dictionary", str(tmp_path / "s.txt"), "--target-dictionary", str(tmp_path / "t.txt")]
    assert cut(tmp_path, "-o", str(archive), *words, "--merged-decoder") == 0
    assert "decoder_model_merged.onnx" in zipfile.ZipFile(archive).namelist()
    capsys.readouterr()
    told = ["models", "run", str(archive), "--text", "s0 s1", "--text", "unknown", "--longest", "5"]
    assert run([*told, "--beam", "2", "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [one["text"] for one in answers] == ["s0 s1", "unknown"]
    assert all(len(one["answer"].split()) <= 5 for one in answers)
    assert run(["models", "run", str(archive), str(archive)]) == 1
    assert "--text" in capsys.readouterr().err
    assert run(["models", "run", str(archive)]) == 2
    assert run([*told[:3], "--text", " "]) == 1
    assert "no words" in capsys.readouterr().err
    assert cut(tmp_path, "--uniform-caches") == 2
