"""Every case of docs/security.md has a test that is named after it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

CASES = {"a": 14, "b": 12, "c": 16, "d": 8, "e": 7}


def test_every_case_has_a_test() -> None:
    found = set()
    for file in Path(__file__).parent.glob("test_*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef) and (match := re.match(r"test_([a-e])(\d\d)_", node.name)):
                found.add((match[1], int(match[2])))
    wanted = {(group, number) for group, count in CASES.items() for number in range(1, count + 1)}
    assert found == wanted, f"missing: {sorted(wanted - found)}, unknown: {sorted(found - wanted)}"


def test_every_case_has_a_short_form() -> None:
    """At least one test of each case runs in `make test`."""
    short = set()
    for file in Path(__file__).parent.glob("test_*.py"):
        for node in ast.parse(file.read_text()).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            match = re.match(r"test_([a-e])(\d\d)_", node.name)
            if match and not any("slow" in ast.unparse(mark) for mark in node.decorator_list):
                short.add((match[1], int(match[2])))
    assert short == {(group, number) for group, count in CASES.items() for number in range(1, count + 1)}


def test_the_security_page_names_every_test_of_every_case() -> None:
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    written = set(re.findall(r"`(test_[a-e]\d\d_\w+)`", page))
    there = set()
    for file in Path(__file__).parent.glob("test_*.py"):
        there |= set(re.findall(r"^def (test_[a-e]\d\d_\w+)\(", file.read_text(), re.M))
    assert written == there, (
        f"docs/security.md lacks {sorted(there - written)} and names {sorted(written - there)}, which is "
        "not there"
    )
