"""Pairs of a source and its target as people have them on disk: two line-aligned files, tab-separated values,
JSON lines.

Nothing is guessed and nothing is dropped in silence: what cannot be used is counted with the first lines it
stands in, and what makes a whole file doubtful (another number of lines, another encoding) is refused.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from latency_tables import strict_json
from supernets.errors import InvalidDataset

Pair = tuple[str, str]  # source, target

MOST_PAIRS: Final = 5_000_000
MOST_BYTES: Final = 2 * 2**30
_EMPTY_SHARE: Final = 0.1
_SHOWN: Final = 5


@dataclass
class LeftOut:
    """Lines that were not used, by reason: how many, and the first of them as "file, line"."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[str]] = field(default_factory=dict)

    def note(self, reason: str, where: str) -> None:
        """One more."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        shown = self.first.setdefault(reason, [])
        if len(shown) < _SHOWN:
            shown.append(where)


@dataclass(frozen=True)
class Languages:
    """Names of the two sides: endings of two aligned files, or keys of JSON lines."""

    source: str
    target: str


def read_files(name: str, files: Sequence[Path], languages: Languages, left_out: LeftOut) -> list[Pair]:
    """Pairs of one split: two aligned files (source first), or one TSV or JSON lines file.

    Pairs with an empty side go to `left_out`. Raises InvalidDataset that names file and line.
    """
    if len(files) == 2:
        found = _aligned(name, *files)
    elif files[0].suffix == ".tsv":
        found = _of_lines(name, files[0], _tab_separated)
    else:
        found = _of_lines(name, files[0], lambda text: _json(text, languages))
    return _filled(name, files[0].name, found, left_out)


def lines_of(name: str, path: Path) -> list[str]:
    """Lines of a UTF-8 file, the last one ended or not; a line is what ends in a line feed, nothing else.

    Raises InvalidDataset for another encoding, with what it looks like, and for a file that is too large.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise InvalidDataset(
            f"data set {name!r}: {path.name} is larger than {MOST_BYTES // 2**30} GiB; split it"
        )
    raw = path.read_bytes()
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InvalidDataset(
            f"data set {name!r}: {path.name} is UTF-16; write it as UTF-8 (iconv -f UTF-16 -t UTF-8)"
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InvalidDataset(
            f"data set {name!r}: {path.name}, line {line}, is not UTF-8 (byte {raw[error.start]:#04x}); "
            "write the file as UTF-8, from Latin-1 with: iconv -f ISO-8859-1 -t UTF-8"
        ) from None
    # Not splitlines: it ends lines at U+2028 and form feeds too, which aligned files have inside sentences.
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    if len(lines) > MOST_PAIRS:
        raise InvalidDataset(
            f"data set {name!r}: {path.name} has over {MOST_PAIRS:,} lines; take a part of it"
        )
    return lines


def tidy(text: str) -> str:
    """In Unicode's composed form, blanks and control characters as single spaces: what is encoded and
    compared."""
    plain = unicodedata.normalize("NFC", text)
    return " ".join("".join(" " if unicodedata.category(c) == "Cc" else c for c in plain).split())


def _aligned(name: str, source: Path, target: Path) -> list[Pair]:
    sides = [lines_of(name, path) for path in (source, target)]
    if len(sides[0]) != len(sides[1]):
        raise InvalidDataset(
            f"data set {name!r}: {source.name} has {len(sides[0])} lines and {target.name} {len(sides[1])}; "
            "line n of one must translate line n of the other, so not even one may be missing"
        )
    return list(zip(*sides, strict=True))


def _of_lines(name: str, path: Path, read: Callable[[str], Pair]) -> list[Pair]:
    found = []
    for number, line in enumerate(lines_of(name, path), 1):
        if not line.strip():
            found.append(("", ""))
            continue
        try:
            found.append(read(line))
        except ValueError as error:
            raise InvalidDataset(f"data set {name!r}: {path.name}, line {number}: {error}") from None
    return found


def _tab_separated(line: str) -> Pair:
    parts = line.rstrip("\r").split("\t")
    if len(parts) != 2:
        raise ValueError(f"{len(parts)} columns, wanted the source, a tab and the target")
    return parts[0], parts[1]


def _json(line: str, languages: Languages) -> Pair:
    try:
        data = strict_json.loads(line)
    except ValueError:
        raise ValueError("no JSON") from None
    if isinstance(data, Mapping) and isinstance(data.get("translation"), Mapping):
        data = data["translation"]  # as Hugging Face's `datasets` writes translations
    for keys in ((languages.source, languages.target), ("source", "target")):
        if isinstance(data, Mapping) and all(isinstance(data.get(key), str) for key in keys):
            return data[keys[0]], data[keys[1]]
    raise ValueError(
        f'wanted an object with the texts "{languages.source}" and "{languages.target}", '
        'or "source" and "target"'
    )


def _filled(name: str, file: str, pairs: Iterable[Pair], left_out: LeftOut) -> list[Pair]:
    """Those with text on both sides, tidied."""
    found, lines, empty = [], 0, 0
    for lines, (source, target) in enumerate(pairs, 1):
        pair = tidy(source), tidy(target)
        if all(pair):
            found.append(pair)
        else:
            side = "the source" if pair[1] else "the target" if pair[0] else "both"
            left_out.note(f"empty: {side}", f"{file}, line {lines}")
            empty += any(pair)
    if not found:
        raise InvalidDataset(f"data set {name!r}: {file} has no line with a source and a target")
    if empty > _EMPTY_SHARE * lines:
        raise InvalidDataset(
            f"data set {name!r}: {empty} of {lines} lines of {file} are empty on one side, the first is line "
            f"{_first_empty(left_out)}; if the two sides do not belong together, align them again, "
            "else delete those lines"
        )
    return found


def _first_empty(left_out: LeftOut) -> str:
    shown = [
        where for reason, places in left_out.first.items() if reason != "empty: both" for where in places
    ]
    return shown[0].rpartition(" ")[2]


def read_settings(name: str, path: Path, keys: Mapping[str, type]) -> dict[str, Any]:
    """The entries of a JSON file beside the texts; all of `keys` and no others. Raises InvalidDataset."""
    try:
        data = strict_json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InvalidDataset(f"data set {name!r}: {path.name} cannot be read ({error})") from None
    if not isinstance(data, dict) or set(data) != set(keys):
        raise InvalidDataset(f"data set {name!r}: {path.name} must have the entries {', '.join(keys)}")
    for key, kind in keys.items():
        if type(data[key]) is not kind:
            raise InvalidDataset(f"data set {name!r}: {path.name}, {key} must be {kind.__name__}")
    return data
