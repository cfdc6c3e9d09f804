"""How a text becomes tokens and is put together again: letter by letter, word by word, or in parts of words.

Every vocabulary begins with the four symbols of `supernets.data.vocabulary`; an encoded sentence ends with
END. Parts of words are those of a `tokenizer.json` (Hugging Face's `tokenizers`), which is what runs a
delivered network in a browser or on a device too; only who encodes or learns one loads that library.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Protocol

from latency_tables import strict_json
from latency_tables.generation import BEGIN, END, PADDING, UNKNOWN
from latency_tables.text_tokens import Tokenizer
from supernets.data.vocabulary import SYMBOLS, Vocabulary
from supernets.errors import InvalidDataset

LEAST_TOKENS: Final = 100
MOST_TOKENS: Final = 100_000
_RARE: Final = 0.9995  # share of all characters that get a token; the others are unknown
_MARK: Final = "▁"


class Writing(Protocol):
    """A vocabulary with its way of cutting text."""

    @property
    def name(self) -> str: ...

    @property
    def tokens(self) -> tuple[str, ...]: ...

    @property
    def tokenizer_json(self) -> str:
        """A `tokenizer.json` of it, for who runs a delivered network."""
        ...

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Numbers of each text, END last."""
        ...

    def decode(self, numbers: Iterable[int]) -> str:
        """The text up to END. Raises InvalidDataset for a number that the vocabulary does not have."""
        ...


@dataclass(frozen=True)
class Letters:
    """Every character is a token."""

    letters: str
    name: str = "letters"

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        return (*SYMBOLS, *self.letters)

    @property
    def tokenizer_json(self) -> str:
        """Small letters, where there are no others."""
        lower = self.letters == self.letters.lower()
        return json.dumps(Tokenizer(self.tokens, letters=True, lower=lower).to_json(), ensure_ascii=False)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {letter: number for number, letter in enumerate(self.letters, len(SYMBOLS))}

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Numbers of each text, END last."""
        numbers = self._numbers
        return [[*(numbers.get(letter, UNKNOWN) for letter in text), END] for text in texts]

    def decode(self, numbers: Iterable[int]) -> str:
        """The text up to END."""
        return "".join(self.tokens[n] for n in _up_to_end(numbers, len(self.tokens), self.name))


@dataclass(frozen=True)
class Words:
    """Every word, or part of a word that was cut before, is a token."""

    vocabulary: Vocabulary

    @classmethod
    def of(cls, words: Iterable[str], name: str) -> Words:
        """Those words, in that order."""
        return cls(Vocabulary((*SYMBOLS, *words), name))

    @property
    def name(self) -> str:
        return self.vocabulary.name

    @property
    def tokens(self) -> tuple[str, ...]:
        return self.vocabulary.tokens

    @property
    def tokenizer_json(self) -> str:
        """Words between spaces."""
        return json.dumps(Tokenizer(self.tokens).to_json(), ensure_ascii=False)

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Numbers of each text, END last."""
        numbers = self.vocabulary.numbers
        return [[*(numbers.get(word, UNKNOWN) for word in text.split()), END] for text in texts]

    def decode(self, numbers: Iterable[int]) -> str:
        """The text up to END."""
        return self.vocabulary.decode(numbers)


@dataclass(frozen=True)
class Parts:
    """Parts of words. text: a `tokenizer.json`. Raises InvalidDataset where its first tokens are not the four
    symbols, or its numbers have gaps."""

    text: str = field(repr=False)
    name: str = "tokenizer.json"

    def __post_init__(self) -> None:
        _ = self.tokens

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """Read without the library: the API asks for them too."""
        try:
            data = strict_json.loads(self.text)
            numbers: dict[str, int] = dict(data["model"]["vocab"])
            numbers |= {one["content"]: one["id"] for one in data.get("added_tokens", [])}
            found = tuple(sorted(numbers, key=numbers.__getitem__))
            whole = [numbers[token] for token in found] == list(range(len(found)))
        except (ValueError, TypeError, KeyError):
            raise InvalidDataset(f"{self.name} is no tokenizer.json with a vocabulary of its own") from None
        if not whole or found[: len(SYMBOLS)] != SYMBOLS:
            raise InvalidDataset(
                f"{self.name}: numbers 0 to 3 must be {', '.join(SYMBOLS)} and no number may be left "
                "out; it is the vocabulary of another kind of model"
            )
        return found

    @property
    def tokenizer_json(self) -> str:
        """As it is."""
        return self.text

    @cached_property
    def _tokenizer(self) -> Any:
        return _library().Tokenizer.from_str(self.text)

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Numbers of each text, END last."""
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [[*one.ids, END] for one in encoded]

    def decode(self, numbers: Iterable[int]) -> str:
        """The text up to END."""
        kept = _up_to_end(numbers, len(self.tokens), self.name)
        return str(self._tokenizer.decode(kept, skip_special_tokens=False))


def learn_parts(texts: Sequence[str], size: int, name: str) -> Parts:
    """Parts of words that occur together most often (byte-pair encoding: Sennrich et al., ACL 2016), at most
    `size` with the symbols.

    The same texts give the same parts. Characters that hardly occur have none and are unknown. Raises
    InvalidDataset for a size out of range, or texts of more letters than it.
    """
    if not LEAST_TOKENS <= size <= MOST_TOKENS:
        raise InvalidDataset(f"a vocabulary has {LEAST_TOKENS} to {MOST_TOKENS} tokens, not {size}")
    alphabet = _alphabet(texts)
    if len(alphabet) + len(SYMBOLS) >= size:
        raise InvalidDataset(
            f"the texts have {len(alphabet)} characters that are not rare: a vocabulary of {size} tokens is "
            "too small"
        )
    tk = _library()
    tokenizer = tk.Tokenizer(tk.models.BPE(unk_token=SYMBOLS[UNKNOWN]))
    tokenizer.normalizer = tk.normalizers.NFC()
    tokenizer.pre_tokenizer = tk.pre_tokenizers.Metaspace(replacement=_MARK)
    tokenizer.decoder = tk.decoders.Metaspace(replacement=_MARK)
    trainer = tk.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SYMBOLS),
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return Parts(tokenizer.to_str(), name)


def _alphabet(texts: Iterable[str]) -> list[str]:
    """The characters that nearly all of the text is made of, most frequent first."""
    counts: dict[str, int] = {}
    for text in texts:
        for letter in text:
            counts[letter] = counts.get(letter, 0) + 1
    counts.pop(" ", None)
    wanted, seen = _RARE * sum(counts.values()), 0
    found = [_MARK]
    for letter, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if seen >= wanted:
            break
        seen += count
        found.append(letter)
    return found


def _up_to_end(numbers: Iterable[int], tokens: int, name: str) -> list[int]:
    kept = []
    for number in map(int, numbers):
        if not 0 <= number < tokens:
            raise InvalidDataset(f"{name} has {tokens} tokens, none with the number {number}")
        if number == END:
            break
        if number not in (BEGIN, PADDING):
            kept.append(number)
    return kept


def _library() -> Any:
    try:
        import tokenizers  # noqa: PLC0415 - only who encodes or learns parts of words
    except ImportError:
        raise InvalidDataset(
            "parts of words need the library `tokenizers`; install bespoke-nas[text] where this runs"
        ) from None
    return tokenizers
