"""docs/transformers.md: its program runs on a network of a few thousand weights."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from supernets.encoder_decoder import EncoderDecoder, cut_out_transformer
from supernets.spaces.transformer_space import HAT_SMALL
from supernets.transformer_files import save_transformer

PAGE = Path(__file__).resolve().parents[2] / "docs" / "transformers.md"


def test_the_program_of_the_page_translates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {"de": "wie geht es ih@@ nen ? gut .", "en": "how are you ? well ."}
    sizes = []
    for language, tokens in words.items():
        listed = tokens.split()
        (tmp_path / f"dict.{language}.txt").write_text("".join(f"{token} 1\n" for token in listed))
        sizes.append(4 + len(listed))
    network = HAT_SMALL.smallest()
    module = EncoderDecoder(HAT_SMALL.sizes(*sizes), generator=torch.Generator().manual_seed(0)).eval()
    save_transformer(tmp_path / "network.safetensors", cut_out_transformer(module, network), network)
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    monkeypatch.chdir(tmp_path)
    exec(compile(program.replace("longest=100", "longest=6"), str(PAGE), "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(float(line.split()[0]) < 0 and len(line.split()) > 1 for line in lines)
