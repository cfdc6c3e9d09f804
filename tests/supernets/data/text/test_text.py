"""Splits that do not leak, vocabularies, token batches, and the built-in sets of sentences."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supernets.data.catalog import DATASETS
from supernets.data.splits import SPLITS
from supernets.data.text.batching import token_batches
from supernets.data.text.number_words import english, load_number_words, spanish
from supernets.data.text.pairs import tidy
from supernets.data.text.pronunciations import LIST, load_pronunciations, read_list
from supernets.data.text.splitting import groups_by_key, near_duplicates, plain, spelling, three_splits
from supernets.data.text.writing import Letters, Words, learn_parts
from supernets.errors import InvalidDataset

LENGTHS = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=120)


@settings(max_examples=40)
@given(lengths=LENGTHS, tokens=st.integers(1, 200), seed=st.integers(0, 3))
def test_every_pair_is_in_one_batch_of_few_tokens(
    lengths: list[tuple[int, int]], tokens: int, seed: int
) -> None:
    source, target = np.array(lengths).T
    batches = token_batches(source, target, tokens, [seed])
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    longer = np.maximum(source, target)
    assert all(len(rows) == 1 or len(rows) * longer[rows].max() <= tokens for rows in batches)
    assert len(token_batches(source, target, tokens, [seed + 1])) == len(batches), "a training can resume"
    again = token_batches(source, target, tokens, [seed])
    assert all(np.array_equal(one, two) for one, two in zip(batches, again, strict=True))


def test_epochs_differ() -> None:
    lengths = np.full(50, 5)
    first, second = (np.concatenate(token_batches(lengths, lengths, 20, [0, epoch])) for epoch in (0, 1))
    assert not np.array_equal(first, second)


def test_near_duplicates_are_found() -> None:
    base = "the quick brown fox jumps over the lazy dog while the old cat sleeps in the warm sun"
    pairs = [
        (base, "a"),
        (base.replace("old", "young"), "b"),
        (base.upper() + "!", "c"),
        ("version 1 of the manual", "d"),
        ("Version 22 of the manual.", "e"),
        ("something else altogether", "f"),
        ("nothing alike", "f"),
        ("nothing", "g"),
    ]
    groups = near_duplicates(pairs).tolist()
    assert groups[0] == groups[1] == groups[2] and groups[3] == groups[4]
    assert groups[5] == groups[6], "the same target"
    assert len(set(groups)) == 4


def test_groups_stay_together_and_splits_do_not_depend_on_the_order() -> None:
    pairs = [(f"word{n}", str(n)) for n in range(400)]
    pairs += [(f"word{n}'s", str(n)) for n in range(400)]
    groups = groups_by_key([source for source, _ in pairs], spelling)
    parts = three_splits(pairs, groups)
    assert [len(part) for part in parts] == [720, 40, 40]
    assert all(not set(groups[a]) & set(groups[b]) for a, b in ((parts[0], parts[1]), (parts[1], parts[2])))
    order = np.random.default_rng(0).permutation(len(pairs))
    shuffled = [pairs[row] for row in order]
    again = three_splits(shuffled, groups_by_key([source for source, _ in shuffled], spelling))
    for one, two in zip(parts, again, strict=True):
        assert {pairs[row] for row in one} == {shuffled[row] for row in two}


def test_texts_are_tidied() -> None:
    assert tidy(" a\u00a0b\tc\x0bd  e\u0301 ") == "a b c d é"
    assert plain("Version 3.14, of 'X'!") == "version 0 0 of x"


def test_letters_and_words_come_back_and_strangers_are_unknown() -> None:
    letters, words = Letters("abc"), Words.of(("K", "AE"), "phonemes")
    assert letters.encode_all(["cab", "cxb"]) == [[6, 4, 5, 2], [6, 3, 5, 2]]
    assert letters.decode([6, 4, 5, 2, 1, 1]) == "cab" and words.decode([4, 5, 2, 4]) == "K AE"
    assert words.encode_all(["AE ZZ"]) == [[5, 3, 2]]
    for writing in (letters, words):
        with pytest.raises(InvalidDataset, match="none with the number"):
            writing.decode([99])


def test_parts_of_words_are_learnt_the_same_each_time() -> None:
    texts = [english(n) for n in range(1, 9000, 17)]
    first, again = (learn_parts(texts, 100, "numbers") for _ in range(2))
    assert first.text == again.text and 40 < len(first.tokens) <= 100
    encoded = first.encode_all(texts)
    assert [first.decode(row) for row in encoded] == texts
    assert first.decode(first.encode_all(["nine ☃"])[0]) == "nine <unk>"
    with pytest.raises(InvalidDataset, match="too small"):
        learn_parts(["".join(chr(0x4E00 + n) for n in range(300))] * 3, 100, "signs")


def test_pronunciations_are_the_published_list() -> None:
    pairs = read_list()
    assert len(pairs) == 124_926 and pairs == sorted(pairs)
    assert dict(pairs)["bespoke"] == "B UH S P OW K"
    assert len({letter for word, _ in pairs for letter in word}) == 27
    assert len({one for _, phonemes in pairs for one in phonemes.split()}) == 39
    license_ = LIST.with_name("pronunciations.LICENSE").read_text(encoding="utf-8")
    assert "Carnegie Mellon University" in license_ and "Redistributions in binary form" in license_


@pytest.mark.parametrize("load", [load_pronunciations, load_number_words], ids=lambda load: load.__name__)
def test_built_in_sentences_have_splits_of_their_own(load) -> None:
    data = load()
    sources = [{source for source, _ in data.split(split).texts} for split in SPLITS]
    assert not sources[0] & sources[1] and not sources[0] & sources[2] and not sources[1] & sources[2]
    stems = [{spelling(source) for source in found} for found in sources]
    assert not stems[0] & stems[2] and not stems[0] & stems[1]
    assert not data.left_out.counts
    info = DATASETS[data.name]
    assert info.class_names == data.classes and info.size == data.longest
    rows = np.arange(20)
    split = data.split("validation")
    found = [data.target.decode(row) for row in split.target.padded(rows, data.longest)]
    assert found == [target for _, target in split.texts[:20]]


def test_the_splits_of_pronunciations_are_those_that_figures_were_published_of() -> None:
    data = load_pronunciations()
    assert [len(data.split(split)) for split in SPLITS] == [116_926, 4000, 4000]
    words = "\n".join(source for source, _ in data.split("test").texts)
    assert hashlib.sha256(words.encode()).hexdigest()[:16] == "d5864df996c34505"


@pytest.mark.parametrize(
    ("number", "in_english", "in_spanish"),
    [
        (0, "zero", "cero"),
        (100, "one hundred", "cien"),
        (21_001, "twenty one thousand and one", "veintiún mil uno"),
        (1_131, "one thousand one hundred and thirty one", "mil ciento treinta y uno"),
        (531_000, "five hundred and thirty one thousand", "quinientos treinta y un mil"),
    ],
)
def test_numbers_in_words(number: int, in_english: str, in_spanish: str) -> None:
    assert (english(number), spanish(number)) == (in_english, in_spanish)
