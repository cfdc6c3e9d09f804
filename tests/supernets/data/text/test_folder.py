"""Folders of parallel text: what is read, what is refused and by which name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from supernets.data.catalog import task_for
from supernets.data.fingerprint import facts_of
from supernets.data.loaders.catalog import load_registered
from supernets.data.loaders.forms import Wanted
from supernets.data.report import check_dataset
from supernets.data.splits import SPLITS
from supernets.data.text.folder import TextSettings, learn_vocabularies, read_texts
from supernets.data.text.number_words import english, spanish
from supernets.data.text.pairs import Languages
from supernets.data.text.sentences import Sentences
from supernets.errors import InvalidDataset

EN_ES = TextSettings(Languages("en", "es"), 40)
NUMBERS = [3 * n * n + 7 for n in range(240)]
PAIRS = [(english(n), spanish(n)) for n in NUMBERS]


def two_files(folder: Path, pairs=PAIRS, stem="text") -> Path:
    folder.mkdir(exist_ok=True)
    for side, ending in enumerate(("en", "es")):
        text = "".join(f"{pair[side]}\n" for pair in pairs)
        (folder / f"{stem}.{ending}").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = two_files(tmp_path_factory.mktemp("texts") / "numbers")
    learn_vocabularies("numbers", folder, EN_ES, 120, joined=False)
    return folder


def loaded(folder: Path, wanted: Wanted | None = None) -> Sentences:
    data = load_registered("numbers", folder, wanted)
    assert isinstance(data, Sentences)
    return data


def test_two_aligned_files_become_a_data_set(learnt: Path) -> None:
    data = loaded(learnt)
    assert (data.name, data.task, data.longest) == ("numbers", "translation", 40)
    assert task_for("numbers", {"numbers": str(learnt)}).name == "translation"
    found = [pair for split in SPLITS for pair in data.split(split).texts]
    assert sorted(found) == sorted(PAIRS)
    test = data.split("test")
    for row, (source, target) in enumerate(test.texts):
        rows = np.array([row])
        assert data.source.decode(test.source.padded(rows, 40)[0]) == source
        assert data.target.decode(test.target.padded(rows, 40)[0]) == target
    facts = facts_of("numbers", learnt)
    assert (facts.form, facts.classes, facts.shape.size) == ("parallel text", data.classes, 40)


def test_what_was_split_and_encoded_is_kept_and_read_again(learnt: Path, tmp_path: Path) -> None:
    first, again = (loaded(learnt, Wanted(folder=tmp_path)) for _ in range(2))
    assert len(list(tmp_path.glob("text-*.npz"))) == 1
    for split in SPLITS:
        assert first.split(split).texts == again.split(split).texts
        assert np.array_equal(first.split(split).source.tokens, again.split(split).source.tokens)


@pytest.mark.parametrize("form", ["tsv", "jsonl", "hugging-face"])
def test_one_file_of_pairs_says_the_same(form: str, learnt: Path, tmp_path: Path) -> None:
    if form == "tsv":
        lines = [f"{a}\t{b}" for a, b in PAIRS]
    elif form == "jsonl":
        lines = [json.dumps({"source": a, "target": b}) for a, b in PAIRS]
    else:
        lines = [json.dumps({"translation": {"en": a, "es": b}}) for a, b in PAIRS]
    path = tmp_path / f"pairs.{'tsv' if form == 'tsv' else 'jsonl'}"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    ours = read_texts("pairs", tmp_path, EN_ES.languages)
    assert ours.pairs == read_texts("numbers", learnt, EN_ES.languages).pairs


def test_a_joined_vocabulary_is_one_file(tmp_path: Path) -> None:
    folder = two_files(tmp_path / "joined")
    source, target = learn_vocabularies("joined", folder, EN_ES, 120, joined=True)
    assert source is target and (folder / "tokenizer.json").is_file()
    data = load_registered("joined", folder)
    assert data.source.tokens == data.target.tokens and len(data.classes) <= 120
    with pytest.raises(InvalidDataset, match="has text.json already|has tokenizer.json already"):
        learn_vocabularies("joined", folder, EN_ES, 120, joined=True)


def test_given_splits_lose_what_a_later_one_has(tmp_path: Path) -> None:
    folder = two_files(tmp_path / "split", PAIRS[:200], "train")
    two_files(folder, PAIRS[190:220], "valid")
    two_files(folder, PAIRS[210:], "test")
    texts = read_texts("split", folder, EN_ES.languages)
    sizes = [len(texts.pairs[split]) for split in SPLITS]
    assert 180 <= sizes[0] <= 190 and sizes[1:] == [20, 30] and texts.moved == 260 - sum(sizes)
    sources = [{source for source, _ in texts.pairs[split]} for split in SPLITS]
    assert not sources[0] & sources[1] and not sources[1] & sources[2] and not sources[0] & sources[2]


def with_text(folder: Path, learnt: Path) -> Path:
    """The folder with the vocabulary and the settings of the other one."""
    for path in learnt.glob("*.json"):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def refusal_of(folder: Path) -> str:
    report = check_dataset(folder.name, folder)
    assert report.refused is not None
    assert str(folder.parent) not in report.refused, "names no place"
    return report.refused


def test_files_of_different_length_are_named(tmp_path: Path, learnt: Path) -> None:
    folder = with_text(two_files(tmp_path / "short"), learnt)
    lines = (folder / "text.es").read_text(encoding="utf-8").split("\n")
    (folder / "text.es").write_text("\n".join(lines[:-2]), encoding="utf-8")
    assert "text.en has 240 lines and text.es 239" in refusal_of(folder)


def test_few_empty_lines_are_left_out_and_told_many_are_refused(tmp_path: Path, learnt: Path) -> None:
    few = [(a, "" if n == 17 else b) for n, (a, b) in enumerate(PAIRS)]
    folder = with_text(two_files(tmp_path / "few", few), learnt)
    report = check_dataset("few", folder)
    assert report.refused is None and sum(report.splits.values()) == 239
    assert [(one.reason, one.count, one.examples) for one in report.skipped] == [
        ("empty: the target", 1, ("text.en, line 18",))
    ]
    many = [("" if n % 3 == 0 else a, b) for n, (a, b) in enumerate(PAIRS)]
    two_files(folder, many)
    assert "80 of 240 lines of text.en are empty on one side, the first is line 1;" in refusal_of(folder)
    two_files(folder, [("", "")] * 100)
    assert "no line with a source and a target" in refusal_of(folder)


def test_endless_lines_are_left_out_and_told(tmp_path: Path, learnt: Path) -> None:
    folder = with_text(two_files(tmp_path / "long", [*PAIRS, ("one " * 10_000, "uno")]), learnt)
    report = check_dataset("long", folder)
    (skipped,) = report.skipped
    assert (
        report.refused is None
        and skipped.reason == "over 40 tokens"
        and "10001 tokens" in skipped.examples[0]
    )
    assert any("over 40 tokens" in warning for warning in report.warnings)
    two_files(folder, [(f"{a} " * 60, b) for a, b in PAIRS])
    assert "at most 40 tokens on each side" in refusal_of(folder)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        pytest.param("una\nañil\n".encode("latin-1"), r"line 2, is not UTF-8 (byte 0xf1)", id="latin-1"),
        pytest.param("una\n".encode("utf-16"), "is UTF-16", id="utf-16"),
    ],
)
def test_another_encoding_is_named(raw: bytes, said: str, tmp_path: Path, learnt: Path) -> None:
    folder = with_text(two_files(tmp_path / "coded"), learnt)
    (folder / "text.es").write_bytes(raw)
    assert said in refusal_of(folder) and "text.es" in refusal_of(folder)


def test_a_vocabulary_of_another_text_is_named(tmp_path: Path, learnt: Path) -> None:
    greek = str.maketrans("abcdefghijklmnopqrstuvwxyz", "αβγδεζηθικλμνξοπρστυφχψωάέ")
    folder = with_text(two_files(tmp_path / "greek", [(a.translate(greek), b) for a, b in PAIRS]), learnt)
    assert "source-tokenizer.json does not know" in refusal_of(folder)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        pytest.param("source-tokenizer.json", "{}", "is no tokenizer.json", id="no-tokenizer"),
        pytest.param(
            "source-tokenizer.json",
            json.dumps({"model": {"vocab": {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3}}}),
            "vocabulary of another kind of model",
            id="other-symbols",
        ),
        pytest.param(
            "text.json", '{"source": "en"}', "must have the entries source, target, longest", id="entries"
        ),
        pytest.param(
            "text.json", '{"source": "en", "target": "en", "longest": 9}', "need different names", id="same"
        ),
        pytest.param(
            "text.json", '{"source": "en", "target": "es", "longest": 2}', "longest must be", id="longest"
        ),
        pytest.param(
            "text.json", '{"source": "xx", "target": "es", "longest": 9}', "no texts", id="language"
        ),
        pytest.param("more.tsv", "a\tb\n", "are both its pool texts", id="two-pools"),
        pytest.param("tokenizer.json", "{}", "both tokenizer.json and", id="two-vocabularies"),
    ],
)
def test_what_does_not_fit_is_named(file: str, text: str, said: str, tmp_path: Path, learnt: Path) -> None:
    folder = with_text(two_files(tmp_path / "odd"), learnt)
    (folder / file).write_text(text, encoding="utf-8")
    assert said in refusal_of(folder)


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        pytest.param("a.tsv", "one\tuno\tun", "line 61: 3 columns", id="columns"),
        pytest.param("a.jsonl", "{", "line 61: no JSON", id="no-json"),
        pytest.param("a.jsonl", '{"en": "a", "es": 1}', "line 61: wanted an object", id="no-texts"),
    ],
)
def test_a_bad_line_is_named(name: str, line: str, said: str, tmp_path: Path) -> None:
    good = ["one\tuno" if name == "a.tsv" else '{"source": "one", "target": "uno"}'] * 60
    (tmp_path / name).write_text("\n".join([*good, line]), encoding="utf-8")
    with pytest.raises(InvalidDataset, match=said):
        read_texts("odd", tmp_path, EN_ES.languages)


def test_without_settings_the_command_is_named(tmp_path: Path) -> None:
    assert "bespoke datasets vocabulary" in refusal_of(two_files(tmp_path / "bare"))


@pytest.mark.parametrize("size", [50, 200_000])
def test_a_vocabulary_of_an_impossible_size_is_refused(size: int, tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match="100 to 100000 tokens"):
        learn_vocabularies("x", two_files(tmp_path), EN_ES, size, joined=False)


def test_pairs_that_are_alike_or_few_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match="too few"):
        read_texts("x", two_files(tmp_path, PAIRS[:20]), EN_ES.languages)
    same = [(f"the price is {n} euros", f"el precio es {n} euros") for n in range(100)]
    with pytest.raises(InvalidDataset, match="near-duplicates of each other"):
        read_texts("x", two_files(tmp_path, same), EN_ES.languages)


def test_the_report_tells_lengths_ratios_and_unknown_rates(learnt: Path) -> None:
    report = check_dataset("numbers", learnt)
    assert report.form == "parallel text" and report.refused is None
    least, half, usual, most = report.lengths["source"]
    assert 0 < least <= half <= usual <= most < 40
    assert report.ratio[0] <= 1 <= report.ratio[3]
    assert set(report.unknown) == {"source", "target"} and report.unknown["source"] < 0.2
    odd = check_dataset("numbers", learnt).to_json()
    assert json.loads(json.dumps(odd))["lengths"]["target"][0] > 0
