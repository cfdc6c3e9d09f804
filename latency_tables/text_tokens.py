"""Between texts and the tokens of a delivered transformer, without torch.

What is read here is a `tokenizer.json` of words between spaces or of letters, as this project writes it for
vocabularies of words, parts of words and letters; any other is left to the package `tokenizers`, where that
is installed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from latency_tables.errors import InvalidTextNetwork
from latency_tables.generation import END, PADDING, UNKNOWN

_WORDS: Final = {"type": "WhitespaceSplit"}
_LETTERS: Final = {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": False}


class Tokenizer:
    """Words and parts of words with a number each. tokens: by number. Parts that end in `@@` are put together
    with what follows. letters: every letter is a token instead; lower: of small letters alone."""

    def __init__(self, tokens: Sequence[str], *, letters: bool = False, lower: bool = False) -> None:
        self.tokens, self.letters, self.lower = tuple(tokens), letters, lower
        self._numbers = {token: number for number, token in enumerate(self.tokens)}

    def encode(self, text: str) -> list[int]:
        """Numbers of the words between spaces, END last. Raises InvalidTextNetwork for a text without."""
        text = text.lower() if self.lower else text
        words = list(text.strip()) if self.letters else text.split()
        if not words:
            raise InvalidTextNetwork("the text has no words")
        return [*(self._numbers.get(word, UNKNOWN) for word in words), END]

    def decode(self, numbers: Sequence[int]) -> str:
        """The text up to END."""
        words = []
        for number in numbers:
            if number == END:
                break
            if number != PADDING:
                words.append(self.tokens[number])
        if self.letters:
            return "".join(words)
        return f"{' '.join(words)} ".replace("@@ ", "").strip()

    def to_json(self) -> dict[str, Any]:
        """A `tokenizer.json` that the package `tokenizers` and transformers.js read."""
        special = [
            {
                "id": number,
                "content": self.tokens[number],
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for number in range(UNKNOWN + 1)
        ]
        end = {"SpecialToken": {"id": self.tokens[END], "type_id": 0}}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": special,
            "normalizer": {"type": "Lowercase"} if self.lower else None,
            "pre_tokenizer": _LETTERS if self.letters else _WORDS,
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"Sequence": {"id": "A", "type_id": 0}}, end],
                "pair": [
                    {"Sequence": {"id": "A", "type_id": 0}},
                    {"Sequence": {"id": "B", "type_id": 0}},
                    end,
                ],
                "special_tokens": {
                    self.tokens[END]: {"id": self.tokens[END], "ids": [END], "tokens": [self.tokens[END]]}
                },
            },
            "decoder": {"type": "Fuse"}
            if self.letters
            else {
                "type": "Sequence",
                "decoders": [
                    {"type": "Replace", "pattern": {"Regex": "(?<!@@)$"}, "content": " "},
                    {"type": "Replace", "pattern": {"Regex": "@@$"}, "content": ""},
                    {"type": "Fuse"},
                    {"type": "Strip", "content": " ", "start": 0, "stop": 1},
                ],
            },
            "model": {
                "type": "WordLevel",
                "vocab": {token: number for number, token in enumerate(self.tokens)},
                "unk_token": self.tokens[UNKNOWN],
            },
        }


class _Foreign(Tokenizer):
    """Any other tokenizer, read by the package `tokenizers`."""

    def __init__(self, data: bytes, name: str) -> None:
        try:
            import tokenizers  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415 - an extra
        except ImportError:
            raise InvalidTextNetwork(f"{name} needs the package tokenizers: pip install tokenizers") from None
        try:
            self._read = tokenizers.Tokenizer.from_str(data.decode())
        except Exception as error:  # the package raises plain Exception
            raise InvalidTextNetwork(f"{name} is no tokenizer that tokenizers can read") from error

    def encode(self, text: str) -> list[int]:
        found = list(self._read.encode(text).ids)
        if not text.strip():
            raise InvalidTextNetwork("the text has no words")
        return found if found and found[-1] == END else [*found, END]

    def decode(self, numbers: Sequence[int]) -> str:
        return str(self._read.decode([n for n in numbers if n not in (END, PADDING)]))


def tokenizer_of(files: Mapping[str, bytes], name: str) -> Tokenizer:
    """The tokenizer of that file: words between spaces are read here, others by the package `tokenizers`.
    Raises InvalidTextNetwork."""
    if name not in files:
        raise InvalidTextNetwork(f"there is no {name}; give tokens instead of text")
    data = read_json(files, name)
    model = data.get("model") or {}
    cut, lower = data.get("pre_tokenizer"), data.get("normalizer") == {"type": "Lowercase"}
    known = cut in (_WORDS, _LETTERS) and (lower or data.get("normalizer") is None)
    if model.get("type") != "WordLevel" or not known:
        return _Foreign(files[name], name)
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict) or sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise InvalidTextNetwork(f"{name}: its vocabulary has not every number once")
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    return Tokenizer(tokens, letters=cut == _LETTERS, lower=lower)


def read_json(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    """A file that is one JSON object. Raises InvalidTextNetwork."""
    try:
        found = json.loads(files[name])
    except ValueError:
        raise InvalidTextNetwork(f"{name} is not JSON") from None
    if not isinstance(found, dict):
        raise InvalidTextNetwork(f"{name} must be one object")
    return found
