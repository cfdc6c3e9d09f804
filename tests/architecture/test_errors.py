"""Every error of the packages is drawn in the tree of its room, and each that can reach a caller has a problem code."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TREES = (
    "latency_tables/errors.py",
    "latency_tables/agent/errors.py",
    "supernets/errors.py",
    "service/errors.py",
    "service/client/errors.py",
    "worker/errors.py",
)
BUILT_IN = ("Exception", "HTTPException")


def drawn(place: str) -> Iterator[tuple[str, str, str | None]]:
    """(error, its parent, the module it is said to be in) for every line of a tree."""
    above: dict[int, tuple[str, str | None]] = {}
    for line in (ast.get_docstring(ast.parse((ROOT / place).read_text())) or "").splitlines():
        root = re.fullmatch(r"(\w+)(?: \(([\w/]+\.py)\))?", line)
        if root:
            above = {0: (root[1], None)}
            if root[1] == "BespokeError" and root[2] is None:
                yield root[1], "Exception", None
        found = re.match(r"((?:│   |    )*)[├└]── (\w+)(?:\s|$)", line)
        if found:
            depth = len(found[1]) // 4 + 1
            parent, place_of_parent = above[depth - 1]
            said = re.search(r"\(([\w/]+\.py)\)$", line)
            where = said[1] if said else place_of_parent  # what is not said is as the parent's
            above[depth] = (found[2], where)
            yield found[2], parent, where


def defined() -> dict[str, tuple[str, str]]:
    """Error -> (its first base that is an error, its module), of all rooms; those of one module alone begin with `_`."""
    classes = {}
    for room in ("latency_tables", "supernets", "service", "worker"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    classes[node.name] = [b.id for b in node.bases if isinstance(b, ast.Name)], path
    found: dict[str, tuple[str, str]] = {}
    while True:
        new = {
            name: (base, path.relative_to(ROOT).as_posix())
            for name, (bases, path) in classes.items()
            if name not in found and not name.startswith("_")
            for base in bases[:1]
            if base in found or base in BUILT_IN
        }
        if not new:
            return found
        found |= new


def test_every_error_is_in_the_tree_of_its_room_with_its_parent() -> None:
    trees = {name: (parent, where or place) for place in TREES for name, parent, where in drawn(place)}
    assert trees == defined()


@pytest.mark.parametrize("place", TREES)
def test_a_tree_names_each_error_once_and_says_what_it_is_for(place: str) -> None:
    names = [name for name, _, _ in drawn(place)]
    assert len(names) == len(set(names)) > 1
    text = ast.get_docstring(ast.parse((ROOT / place).read_text())) or ""
    bare = [line for line in text.splitlines() if re.fullmatch(r"[│ ]*[├└]── \w+", line)]
    assert bare == []


def test_no_error_is_raised_that_is_neither_ours_nor_pythons() -> None:
    """Other libraries' are raised through their module's name, so that the reader sees whose they are."""
    known = set(defined()) | set(dir(builtins))
    for room in ("latency_tables", "supernets", "service", "worker"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Raise) and node.exc is not None:
                    called = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                    if isinstance(called, ast.Name) and called.id[0].isupper():
                        assert called.id in known, f"{path}: {called.id}"
