"""What is refused of a transformer's files, and its words; generation itself is tested where graphs are made
(tests/supernets/delivery/test_transformer_folder.py)."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from latency_tables.errors import InvalidTextNetwork
from latency_tables.generation import END, PADDING, UNKNOWN
from latency_tables.text_network import (
    CONFIG,
    GRAPHS,
    Generation,
    TextNetwork,
    archived,
    files_of,
    on_cpu,
    read_files,
)
from latency_tables.text_tokens import Tokenizer, tokenizer_of

SYMBOLS = ("<s>", "<pad>", "</s>", "<unk>")
CONFIGURED = {"decoder_start_token_id": END, "eos_token_id": END, "pad_token_id": PADDING}
FILES = {**dict.fromkeys(GRAPHS, b"no graph"), CONFIG: json.dumps(CONFIGURED).encode()}


def test_words_and_parts_of_words_read_back() -> None:
    words = Tokenizer([*SYMBOLS, "ih@@", "nen", "gut"])
    files = {"tokenizer.json": json.dumps(words.to_json()).encode()}
    for tokenizer in (words, tokenizer_of(files, "tokenizer.json")):
        assert tokenizer.encode(" ih@@ nen  nie gut") == [4, 5, UNKNOWN, 6, END]
        assert tokenizer.decode([4, 5, 6, PADDING, END, 6]) == "ihnen gut"
        with pytest.raises(InvalidTextNetwork, match="no words"):
            tokenizer.encode("  ")


def test_an_archive_is_the_same_bytes_and_reads_back(tmp_path: Path) -> None:
    assert archived(FILES) == archived(dict(reversed(FILES.items())))
    assert files_of(archived(FILES)) == FILES
    (tmp_path / "network.zip").write_bytes(archived(FILES))
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    assert read_files(tmp_path / "network.zip") == {
        k: v for k, v in read_files(tmp_path).items() if k in FILES
    }


def packed() -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in FILES.items():
            made.writestr(name, data)
    return written.getvalue()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"no archive", "no archive"),
        (archived(FILES)[:-30], "no archive"),
        (archived({**FILES, **{str(n): b"" for n in range(40)}}), "more than 32 files"),
        (archived({name: data for name, data in FILES.items() if name != GRAPHS[1]}), GRAPHS[1]),
        (archived({f"in/{name}": data for name, data in FILES.items()}), "folders"),
        (packed(), "packed"),
    ],
    ids=["text", "cut off", "many files", "no decoder", "folders", "packed"],
)
def test_what_is_no_archive_of_a_transformer_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(InvalidTextNetwork, match=why):
        files_of(data)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({CONFIG: b"[]"}, "one object"),
        ({CONFIG: b"{"}, "not JSON"),
        ({CONFIG: json.dumps({**CONFIGURED, "eos_token_id": 0}).encode()}, "eos_token_id must be 2"),
        ({"generation_config.json": b'{"num_beams": "5"}'}, "whole numbers"),
        ({"generation_config.json": b'{"max_new_tokens": 0}'}, "1 <= min_new_tokens"),
        ({}, "does not open a graph"),
    ],
    ids=["a list", "no JSON", "other symbols", "beams as text", "no tokens", "no graphs"],
)
def test_files_that_cannot_be_run_say_why(changed: dict[str, bytes], why: str) -> None:
    with pytest.raises(InvalidTextNetwork, match=why):
        TextNetwork({**FILES, **changed}, on_cpu())
    with pytest.raises(InvalidTextNetwork, match="no file or folder"):
        TextNetwork.open("nowhere.zip")


def test_a_vocabulary_with_gaps_is_none() -> None:
    data = Tokenizer([*SYMBOLS, "a"]).to_json()
    data["model"]["vocab"]["a"] = 9
    with pytest.raises(InvalidTextNetwork, match="every number once"):
        tokenizer_of({"tokenizer.json": json.dumps(data).encode()}, "tokenizer.json")
    with pytest.raises(InvalidTextNetwork, match="give tokens"):
        tokenizer_of({}, "tokenizer.json")


def test_numbers_of_a_generation_read_back() -> None:
    generation = Generation(beam=5, length_penalty=0.6, longest=29, shortest=29)
    assert Generation.of(generation.to_json()) == generation and Generation.of({}) == Generation()
