"""Dictionaries of published translation models: numbers, parts of words, and files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_tables.generation import END, PADDING, UNKNOWN
from supernets.data.vocabulary import SYMBOLS, Vocabulary, joined, read_vocabulary
from supernets.errors import InvalidDataset

TOKENS = ("der", "low@@", "er", "e@@", "st", "\u2581", "x@y")


@pytest.fixture
def vocabulary(tmp_path: Path) -> Vocabulary:
    file = tmp_path / "dict.de.txt"
    file.write_text("".join(f"{token} {100 - i}\n" for i, token in enumerate(TOKENS)), encoding="utf-8")
    return read_vocabulary(file)


def test_numbers_follow_the_symbols(vocabulary: Vocabulary) -> None:
    assert vocabulary.tokens == (*SYMBOLS, *TOKENS) and len(vocabulary) == 11
    assert vocabulary.tokens[END] == "</s>" and vocabulary.tokens[PADDING] == "<pad>"
    assert vocabulary.encode("der low@@ er ever") == [4, 5, 6, UNKNOWN, END]
    assert vocabulary.unknown(vocabulary.encode("der ever")) == 0.5


def test_parts_are_put_together_up_to_the_end(vocabulary: Vocabulary) -> None:
    numbers = [END - 2, *vocabulary.encode("der low@@ e@@ st"), 4, 4]
    assert vocabulary.decode(numbers) == "der lowest"
    assert vocabulary.decode([5, END]) == "low"  # a sentence that breaks off within a word
    assert vocabulary.decode([10, PADDING]) == "x@y"


@given(st.lists(st.text("abc", min_size=1, max_size=6), min_size=1, max_size=8), st.integers(1, 3))
def test_words_survive_being_cut(words: list[str], size: int) -> None:
    parts = []
    for word in words:
        pieces = [word[i : i + size] for i in range(0, len(word), size)]
        parts += [*(f"{piece}@@" for piece in pieces[:-1]), pieces[-1]]
    assert joined(parts) == " ".join(words)


def test_the_vocabulary_of_another_model_is_named(vocabulary: Vocabulary) -> None:
    vocabulary.check(11, "source")
    with pytest.raises(
        InvalidDataset, match="dict.de.txt has 11 tokens .* source has 32768: .* another model"
    ):
        vocabulary.check(32768, "source")
    with pytest.raises(InvalidDataset, match="none with the number 11"):
        vocabulary.decode([11])


@pytest.mark.parametrize("text", ["", "  ", "a " * 10_001], ids=["empty", "blank", "endless"])
def test_sentences_that_are_none_are_refused(vocabulary: Vocabulary, text: str) -> None:
    with pytest.raises(InvalidDataset, match="1 to 10000 tokens"):
        vocabulary.encode(text)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"der 5\nein\n", "line 2: wanted a token, a space and a count"),
        (b"der five\n", "line 1: wanted"),
        (b" 5\n", "line 1: wanted"),
        (b"der 5\n\nein 3\n", "line 2: wanted"),
        (b"der 5\nein 4\nder 3\n", r"line 3: 'der' is there already \(line 1\)"),
        (b"</s> 5\n", "one of the symbols"),
        ("grün 3\n".encode("latin-1"), r"not UTF-8 \(byte 2\)"),
        (b"", "has 0 lines"),
    ],
    ids=["no count", "count", "no token", "blank", "twice", "symbol", "encoding", "empty"],
)
def test_a_file_that_is_none_is_refused_by_line(tmp_path: Path, data: bytes, says: str) -> None:
    file = tmp_path / "dict.en.txt"
    file.write_bytes(data)
    with pytest.raises(InvalidDataset, match=says):
        read_vocabulary(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match=r"give the model's dict\.LANGUAGE\.txt"):
        read_vocabulary(tmp_path / "dict.fr.txt")
