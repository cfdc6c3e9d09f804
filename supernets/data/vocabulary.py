"""Vocabularies of translation as fairseq writes them: words and parts of words, and numbers for them.

A dictionary is one file `dict.LANGUAGE.txt` for a language, or the same one for both: a token and how often
it was seen in a line. Parts of words end in `@@` (sub-word units of Sennrich et al., ACL 2016); cutting words
into parts is done before, by whatever made the dictionary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from latency_tables.generation import BEGIN, END, PADDING, UNKNOWN
from supernets.errors import InvalidDataset

SYMBOLS: Final = ("<s>", "<pad>", "</s>", "<unk>")
"""What the first numbers stand for: BEGIN, PADDING, END, UNKNOWN."""
CONTINUES: Final = "@@"
MOST_TOKENS: Final = 1_000_000
_LONGEST: Final = 10_000


@dataclass(frozen=True)
class Vocabulary:
    """tokens: in the order of their numbers, `SYMBOLS` first. name: of the file, for messages."""

    tokens: tuple[str, ...]
    name: str = "the vocabulary"

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Token -> number."""
        return {token: number for number, token in enumerate(self.tokens)}

    def encode(self, text: str) -> list[int]:
        """Numbers of a sentence whose words are cut into parts already, END last. Raises InvalidDataset for
        one that is empty or endless."""
        words = text.split()
        if not 0 < len(words) <= _LONGEST:
            raise InvalidDataset(f"a sentence has 1 to {_LONGEST} tokens, this one {len(words)}")
        return [*(self.numbers.get(word, UNKNOWN) for word in words), END]

    def decode(self, numbers: Iterable[int]) -> str:
        """The sentence up to END, parts of words put together. Raises InvalidDataset for a number that the
        vocabulary does not have."""
        words = []
        for number in numbers:
            if not 0 <= number < len(self.tokens):
                raise InvalidDataset(
                    f"{self.name} has {len(self.tokens)} tokens, none with the number {number}"
                )
            if number == END:
                break
            if number not in (BEGIN, PADDING):
                words.append(self.tokens[number])
        return joined(words)

    def unknown(self, numbers: Sequence[int]) -> float:
        """Share of a sentence's tokens, END left out, that the vocabulary does not have."""
        return sum(number == UNKNOWN for number in numbers) / max(1, len(numbers) - 1)

    def check(self, tokens: int, side: str) -> None:
        """Raises InvalidDataset where a network's embedding is of another number of tokens. side: source or
        target."""
        if len(self.tokens) != tokens:
            raise InvalidDataset(
                f"{self.name} has {len(self.tokens)} tokens with the four symbols, the network's {side} has "
                f"{tokens}: it is the vocabulary of another model"
            )


def joined(words: Iterable[str]) -> str:
    """Words in a line, parts put together: `low@@ er` is `lower`."""
    text = " ".join(words) + " "
    return text.replace(f"{CONTINUES} ", "").rstrip()


def read_vocabulary(path: Path) -> Vocabulary:
    """A dictionary file. Raises InvalidDataset that names the line."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise InvalidDataset(f"there is no file {path.name}; give the model's dict.LANGUAGE.txt") from None
    except UnicodeDecodeError as error:
        raise InvalidDataset(f"{path.name} is not UTF-8 (byte {error.start})") from None
    if lines[-1] == "":
        lines.pop()
    if not 0 < len(lines) <= MOST_TOKENS:
        raise InvalidDataset(f"{path.name} has {len(lines)} lines; a dictionary has 1 to {MOST_TOKENS}")
    found = dict.fromkeys(SYMBOLS, 0)
    for number, line in enumerate(lines, 1):
        token, space, count = line.rstrip("\r").rpartition(" ")
        if not space or not token or not count.isascii() or not count.isdigit():
            raise InvalidDataset(f"{path.name}, line {number}: wanted a token, a space and a count")
        if found.setdefault(token, number) != number:
            before = (
                f"line {found[token]}" if found[token] else "one of the symbols that every vocabulary has"
            )
            raise InvalidDataset(f"{path.name}, line {number}: {token[:40]!r} is there already ({before})")
    return Vocabulary(tuple(found), path.name)
