"""Parallel text: a folder with two aligned files, tab-separated values or JSON lines, and its vocabularies.

Splitting and cutting into tokens take half a minute for a hundred thousand pairs; what came out is kept
beside other converted data, under the hash of all that it depends on.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from supernets.data.loaders.forms import Form, Shape, Wanted
from supernets.data.splits import SPLITS
from supernets.data.text.folder import (
    SETTINGS,
    looks_like_text,
    read_texts,
    settings_of,
    text_files,
    vocabularies,
    vocabulary_files,
)
from supernets.data.text.pairs import LeftOut
from supernets.data.text.sentences import Ragged, Sentences, Split, encoded
from supernets.data.text.writing import Parts
from supernets.tasks.info import TRANSLATION

VERSION: Final = 1  # of how texts become splits and tokens


def load(name: str, folder: Path, wanted: Wanted) -> Sentences:
    """The folder as a data set. Raises InvalidDataset that names file and line."""
    settings, writings = settings_of(name, folder), vocabularies(name, folder)
    kept = None if wanted.folder is None else wanted.folder / f"text-{_digest(name, folder)}.npz"
    if kept is not None and kept.is_file():
        return _read(kept, name, writings, settings.longest)
    texts = read_texts(name, folder, settings.languages)
    found = encoded(name, TRANSLATION, writings, texts.pairs, settings.longest, texts.left_out)
    if kept is not None:
        _write(kept, found)
    return found


def _digest(name: str, folder: Path) -> str:
    found = hashlib.sha256(str(VERSION).encode())
    for inside, path in _files(name, folder).items():
        found.update(f"{inside} {path.stat().st_size} ".encode() + path.read_bytes())
    return found.hexdigest()[:32]


def _files(name: str, folder: Path) -> dict[str, Path]:
    languages = settings_of(name, folder).languages
    texts = [path for group in text_files(name, folder, languages).values() for path in group]
    paths = [folder / SETTINGS, *dict.fromkeys(vocabulary_files(name, folder)), *texts]
    return {path.name: path for path in sorted(paths)}


def _shape(name: str, folder: Path) -> Shape:
    words = max(len(writing.tokens) for writing in vocabularies(name, folder))
    return Shape(words, 2, settings_of(name, folder).longest)


def _write(path: Path, data: Sentences) -> None:
    arrays: dict[str, Any] = {}
    for split in SPLITS:
        found = data.split(split)
        for side in ("source", "target"):
            rows: Ragged = getattr(found, side)
            arrays[f"{split}_{side}_tokens"], arrays[f"{split}_{side}_ends"] = rows.tokens, rows.ends
        text = json.dumps(found.texts, ensure_ascii=False).encode()
        arrays[f"{split}_texts"] = np.frombuffer(text, dtype=np.uint8)
    notes = json.dumps([data.left_out.counts, data.left_out.first]).encode()
    arrays["left_out"] = np.frombuffer(notes, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)


def _read(path: Path, name: str, writings: tuple[Parts, Parts], longest: int) -> Sentences:
    with np.load(path, allow_pickle=False) as arrays:
        splits = {}
        for split in SPLITS:
            source, target = (
                Ragged(arrays[f"{split}_{side}_tokens"], arrays[f"{split}_{side}_ends"])
                for side in ("source", "target")
            )
            texts = tuple((a, b) for a, b in json.loads(arrays[f"{split}_texts"].tobytes()))
            splits[split] = Split(source, target, texts)
        left_out = LeftOut(*json.loads(arrays["left_out"].tobytes()))
    return Sentences(name, TRANSLATION, *writings, splits, longest, left_out)


FORM: Final = Form(
    "parallel text",
    looks_like_text,
    _shape,
    lambda name, folder: vocabularies(name, folder)[1].tokens,
    _files,
    load,
    TRANSLATION,
)
